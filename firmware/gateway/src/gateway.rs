//! The gateway: a frame and the time in, an action out.

use core::{
    fmt::{self, Write},
    net::Ipv4Addr,
};

use heapless::Vec;
use pkd_core::{Timestamp, UnixMillis, UnixSeconds};
use smoltcp::wire::{ArpPacket, ArpRepr, EthernetAddress};

use crate::{
    Instant,
    action::Action,
    clock::{Clock, TimeError},
    config::{Address, Config, Inline, Interface, Mode, TimeSource, Vlans},
    counters::{Counters, increment},
    dhcp::{self, DhcpTimeServers},
    drop_reason::DropReason,
    floors::{Floors, millis, seconds},
    flow::{Direction, Endpoint, NewFlow, Protocol, Segment, Tuple},
    instant::CoarseInstant,
    light::Light,
    neighbour::Neighbours,
    packet::{self, Header, Transport},
    port::Port,
    sntp,
    tables::Tables,
    verifier::Verifier,
    vlan,
};

/// How many inside hosts are remembered, to send them frames of the network stack.
const MAX_INSIDE_HOSTS: usize = 8;

/// The port of DNS servers.
pub const DNS_PORT: u16 = 53;

/// ICMP type of an echo request.
const ECHO_REQUEST: u8 = 8;

/// A gateway: its configuration and its state.
#[derive(Debug)]
pub struct Gateway<'a, const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize> {
    pub(crate) tables: &'a mut Tables<FLOWS, GRANTS, RULES, KNOCKS>,
    pub(crate) config: &'a Config<RULES>,
    pub(crate) hardware: EthernetAddress,
    pub(crate) interface: Option<Interface>,
    pub(crate) neighbours: Neighbours,
    /// Inline: the inside hosts that have sent frames to the network stack, newest first.
    pub(crate) inside_hosts: Vec<EthernetAddress, MAX_INSIDE_HOSTS>,
    pub(crate) clock: Clock,
    /// The server whose replies the network stack expects: a time server, or the DNS server that knows it.
    pub(crate) awaited: Option<Endpoint>,
    pub(crate) dhcp: DhcpTimeServers,
    /// The floors in flash.
    saved_floors: Floors,
    /// The earliest time that a server has reported. Formats without a saved floor wait from then on.
    earliest_reported: Option<UnixMillis>,
    /// The greatest times of knocks accepted since boot.
    pub(crate) newest: Floors,
    /// Floors above the saved ones that are not in flash yet.
    pub(crate) unsaved_floors: Option<Floors>,
    pub(crate) counters: Counters,
}

impl<'a, const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize>
    Gateway<'a, FLOWS, GRANTS, RULES, KNOCKS>
{
    /// A gateway that has just booted. All its NICs use the MAC address `hardware`. `saved_floors` are those in flash;
    /// one is `None` only if none was ever saved for its format.
    ///
    /// `tables` must be empty, because flows and grants do not survive a boot.
    pub fn new(
        tables: &'a mut Tables<FLOWS, GRANTS, RULES, KNOCKS>,
        config: &'a Config<RULES>,
        hardware: EthernetAddress,
        saved_floors: Floors,
    ) -> Self {
        let mut neighbours = Neighbours::default();
        if config.mode == Mode::OneArm {
            config.services.iter().for_each(|service| neighbours.track(service.inside.address));
        }
        let interface = match config.address {
            Address::Dhcp => None,
            Address::Static(interface) => Some(interface),
        };
        // Without a clock, the configuration's creation is the latest time known to have passed.
        let known_past = (config.time == TimeSource::None).then_some(config.created);
        tables.verifiers.clear();
        for rule in &config.rules {
            // There is room for as many as there are rules.
            let _full = tables.verifiers.push(Verifier::new(rule, saved_floors, known_past));
        }
        Self {
            tables,
            config,
            hardware,
            interface,
            neighbours,
            inside_hosts: Vec::new(),
            clock: Clock::default(),
            awaited: match config.time {
                TimeSource::Sntp(server) => Some(server.at),
                _ => None,
            },
            dhcp: DhcpTimeServers::default(),
            saved_floors,
            earliest_reported: None,
            newest: Floors::default(),
            unsaved_floors: None,
            counters: Counters::default(),
        }
    }

    /// Decides what to do with a frame, and rewrites it in place if necessary. Its length does not change. `frame` has no
    /// FCS.
    pub fn on_frame(&mut self, now: Instant, port: Port, frame: &mut [u8]) -> Action {
        let action = match self.config.mode {
            Mode::OneArm => self.one_arm(now, frame),
            Mode::Inline(inline) => self.inline(now, port, inline, frame),
        };
        self.counters.count(action);
        action
    }

    /// Writes the next frame that the gateway sends on its own to `frame`, and returns its port and length. Call this about
    /// ten times a second, each time until it returns `None`. Without these calls, knocks of format 2 are refused after two
    /// minutes.
    pub fn on_tick(&mut self, now: Instant, frame: &mut [u8]) -> Option<(Port, usize)> {
        self.refresh_hints(now);
        let own_address = self.interface?.network.address;
        let length = self.neighbours.next_request(now, own_address, self.hardware, frame)?;
        Some((Port::Outside, length))
    }

    /// Writes a frame of the network stack to `out` as it has to be sent, and returns its port and length. A frame may have
    /// to be sent several times: call this with `copy` = 0, 1, … until it returns `None`. It also returns `None` if the
    /// frame does not fit.
    ///
    /// An inline gateway sends frames for the inside hosts that it remembers to the inside only, because they may contain
    /// counters. For other destinations it does not know the side, so it floods both, like a switch.
    pub fn on_stack_frame(&self, frame: &[u8], copy: usize, out: &mut [u8]) -> Option<(Port, usize)> {
        let plain = |port, out: &mut [u8]| {
            out.get_mut(..frame.len())?.copy_from_slice(frame);
            Some((port, frame.len()))
        };
        let Mode::Inline(Inline { vlans, .. }) = self.config.mode else {
            return if copy == 0 { plain(Port::Outside, out) } else { None };
        };
        let to_inside =
            frame.first_chunk().is_some_and(|to| self.inside_hosts.contains(&EthernetAddress(*to)));
        let side = match (copy, to_inside) {
            (0, true) | (1, false) => Port::Inside,
            (0, false) => Port::Outside,
            _ => return None,
        };
        let vlan = match (vlans, side) {
            (None, side) => return plain(side, out),
            (Some(Vlans { outside, .. }), Port::Outside) => outside,
            (Some(Vlans { inside, .. }), Port::Inside) => inside,
        };
        vlan::tag(frame, vlan, out).map(|length| (Port::Outside, length))
    }

    /// Sets the address that the network stack got by DHCP, or `None` after it lost it.
    pub fn set_interface(&mut self, interface: Option<Interface>) {
        self.interface = interface;
    }

    /// The gateway's address, if it has one.
    #[must_use]
    pub fn interface(&self) -> Option<Interface> {
        self.interface
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config<RULES> {
        self.config
    }

    /// Sets the clock to a time server's time. Knocks are accepted after the first call that succeeds; rules of a format
    /// without a saved floor also wait for one window, as `docs/protocol.md` explains.
    ///
    /// # Errors
    /// [`TimeError`] if the time is impossibly early. The clock does not change.
    pub fn set_time(&mut self, now: Instant, reported: UnixMillis) -> Result<(), TimeError> {
        let accepted = self.saved_floors.max(self.newest);
        // The sender's clock may have been ahead of ours by one window.
        let widest = UnixMillis::ZERO.plus(self.config.widest_window());
        let earliest = UnixMillis(accepted.latest().since(widest));
        if let Err(error) = self.clock.set(now, reported, earliest.max(millis(self.config.created))) {
            increment(Some(&mut self.counters.time_rejected));
            return Err(error);
        }
        // While no knock of a format was ever accepted, an earlier time restarts its wait. Otherwise a server that was ahead
        // at first would lock everyone out until its time has come.
        let is_earlier = self.earliest_reported.is_none_or(|earliest| reported < earliest);
        if is_earlier && self.config.time != TimeSource::None {
            self.earliest_reported = Some(reported);
            for (rule, verifier) in self.config.rules.iter().zip(&mut self.tables.verifiers) {
                verifier.wait(accepted, reported, rule.knock.window());
            }
        }
        self.refresh_hints(now);
        Ok(())
    }

    /// The time of day, or `None` if it is not known.
    #[must_use]
    pub fn time(&self, now: Instant) -> Option<UnixSeconds> {
        self.clock.time(now).map(seconds)
    }

    /// The floors that are not in flash yet, or `None` if the saved ones are current.
    #[must_use]
    pub fn unsaved_floors(&self) -> Option<Floors> {
        self.unsaved_floors
    }

    /// Reports that `floors` are in flash.
    pub fn floors_saved(&mut self, floors: Floors) {
        self.saved_floors = self.saved_floors.max(floors);
        self.unsaved_floors = self.unsaved_floors.filter(|unsaved| !self.saved_floors.covers(*unsaved));
    }

    /// Reports that the floors could not be saved. The next knock requests it again. Until they are saved, a reset loses them.
    pub fn floors_failed(&mut self) {
        increment(Some(&mut self.counters.floor_failed));
    }

    /// The counters since boot.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Writes all metrics in the Prometheus text format 0.0.4, in less than 3,072 bytes.
    ///
    /// # Errors
    /// If `out` is too small.
    pub fn write_metrics(&self, now: Instant, out: &mut dyn Write) -> fmt::Result {
        self.counters.write(out)?;
        let coarse_now = CoarseInstant::from(now);
        writeln!(out, "# TYPE pkd_flows gauge\npkd_flows {}", self.tables.flows.len(coarse_now))?;
        writeln!(out, "# TYPE pkd_grants gauge\npkd_grants {}", self.tables.grants.len(coarse_now))?;
        let time = self.time(now).unwrap_or_default().0;
        writeln!(out, "# TYPE pkd_clock_seconds gauge\npkd_clock_seconds {time}")?;
        if let Some(age) = self.clock_age(now) {
            writeln!(out, "# TYPE pkd_clock_age_seconds gauge\npkd_clock_age_seconds {age}")?;
        }
        let is_stale = u8::from(self.light(now) == Light::Stale);
        writeln!(out, "# TYPE pkd_clock_stale gauge\npkd_clock_stale {is_stale}")?;
        writeln!(out, "# TYPE pkd_uptime_seconds counter\npkd_uptime_seconds {}", now.0 / 1_000)
    }

    /// Computes what knocks of the current slot begin with, for rules of format 2.
    fn refresh_hints(&mut self, now: Instant) {
        if let Some(time) = self.clock.time(now) {
            self.tables.verifiers.iter_mut().for_each(|verifier| verifier.refresh(time));
        }
    }

    /// Opens a new flow, if its client has a grant. Returns the port that the inside host sees as the client's.
    pub(crate) fn open_flow(
        &mut self,
        now: Instant,
        tuple: Tuple,
        service: u8,
        segment: Segment,
        client_hardware: EthernetAddress,
    ) -> Result<u16, DropReason> {
        let now = CoarseInstant::from(now);
        if !self.tables.grants.allows(now, tuple.client.address, service) {
            return Err(DropReason::NoGrant);
        }
        let is_first = segment.syn && !segment.ack && !segment.rst && !segment.fin;
        if tuple.protocol == Protocol::Tcp && !is_first {
            return Err(DropReason::NoFlow);
        }
        let new = NewFlow { tuple, service, client_hardware, sequence: segment.sequence };
        let Tables { flows, grants, .. } = &mut *self.tables;
        let has_grant = |address: Ipv4Addr| grants.allows_any(now, address);
        let flow = flows.insert(now, new, has_grant).ok_or(DropReason::TableFull)?;
        increment(Some(&mut self.counters.flows));
        Ok(flow.nat_port)
    }

    /// Records a client's frame in its flow, and returns the flow's NAT port. Returns `None` if there is no such flow, or if
    /// the client opens a new one with the ports of a flow that is closing.
    pub(crate) fn continue_flow(
        &mut self,
        now: Instant,
        tuple: &Tuple,
        segment: Segment,
        client_hardware: EthernetAddress,
    ) -> Option<u16> {
        let now = CoarseInstant::from(now);
        let flow = self.tables.flows.find(now, tuple)?;
        if segment.syn && !segment.ack && flow.is_closing() {
            return None;
        }
        flow.update(now, Direction::Ingress, segment);
        flow.client_hardware = client_hardware;
        Some(flow.nat_port)
    }

    /// The first service that matches: its index and its inside endpoint.
    pub(crate) fn find_service(
        &self,
        protocol: Protocol,
        matches: impl Fn(&crate::Service) -> bool,
    ) -> Option<(u8, Endpoint)> {
        (0_u8..)
            .zip(&self.config.services)
            .find(|(_, service)| service.protocol == protocol && matches(service))
            .map(|(index, service)| (index, service.inside))
    }

    /// Checks whether the network stack expects this packet. `trusted`: it comes from the inside, as far as is known.
    pub(crate) fn check_local(&self, header: &Header, trusted: bool) -> Result<(), DropReason> {
        let may_read_counters =
            trusted && self.config.counters_network.is_none_or(|network| network.contains(header.source));
        let is_expected = match header.transport {
            Transport::TcpOrUdp { protocol: Protocol::Udp, source, destination, .. } => {
                let is_dhcp = self.config.address == Address::Dhcp
                    && source == dhcp::SERVER_PORT
                    && destination == dhcp::CLIENT_PORT;
                // DNS queries have random source ports, and the network stack knows them.
                let is_awaited = self.awaited == Some(header.source_endpoint())
                    && (destination == sntp::CLIENT_PORT || source == DNS_PORT);
                is_dhcp || is_awaited || (may_read_counters && destination == self.config.counters_port)
            }
            Transport::TcpOrUdp { protocol: Protocol::Tcp, destination, .. } => {
                may_read_counters && destination == self.config.counters_port
            }
            Transport::Icmp(kind) => self.config.answer_ping && kind == ECHO_REQUEST,
            Transport::Fragment => return Err(DropReason::Fragment),
            Transport::Other => return Err(DropReason::Protocol),
        };
        if is_expected { Ok(()) } else { Err(DropReason::Unsolicited) }
    }

    /// Learns from an ARP packet. Returns whether it is about the gateway's address, so that the network stack needs it.
    pub(crate) fn handle_arp(&mut self, now: Instant, bytes: &[u8]) -> Result<bool, DropReason> {
        let packet = ArpPacket::new_checked(bytes).map_err(|_| DropReason::Malformed)?;
        let ArpRepr::EthernetIpv4 {
            source_hardware_addr, source_protocol_addr, target_protocol_addr, ..
        } = ArpRepr::parse(&packet).map_err(|_| DropReason::Malformed)?
        else {
            return Err(DropReason::Protocol);
        };
        let for_us =
            self.interface.is_some_and(|interface| interface.network.address == target_protocol_addr);
        if for_us && packet::is_unicast_host(source_hardware_addr) && source_hardware_addr != self.hardware {
            self.neighbours.learn(now, source_protocol_addr, source_hardware_addr);
        }
        Ok(for_us)
    }
}
