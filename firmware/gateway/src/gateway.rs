//! The gateway: a frame and the time in, an action out.

use core::{
    fmt::{self, Write},
    net::Ipv4Addr,
};

use heapless::Vec;
use pkd_core::{Baseline, Packet, Port as UdpPort, ReplayCache, UnixSeconds, Verdict, verify_any};
use smoltcp::wire::{ArpPacket, ArpRepr, EthernetAddress};

use crate::{
    Instant,
    action::{Action, KnockGrant, KnockOutcome},
    clock::{Clock, TimeError},
    config::{Address, Config, Inline, Interface, Mode, TimeSource, Vlans},
    counters::{Counters, increment},
    drop_reason::DropReason,
    flow::{Direction, Endpoint, NewFlow, Protocol, Segment, Tuple},
    instant::CoarseInstant,
    neighbour::Neighbours,
    packet::{self, Header, Transport},
    port::Port,
    sntp,
    tables::Tables,
    vlan,
};

/// How many inside hosts are remembered, to send them frames of the network stack.
const MAX_INSIDE_HOSTS: usize = 8;

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
    clock: Clock,
    /// The floor in flash.
    saved_floor: Option<UnixSeconds>,
    /// The time that the replay caches started with, if no floor was saved.
    baseline: Option<UnixSeconds>,
    /// The greatest time of a knock accepted since boot.
    newest: Option<UnixSeconds>,
    /// A floor above the saved one that is not in flash yet.
    unsaved_floor: Option<UnixSeconds>,
    counters: Counters,
}

impl<'a, const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize>
    Gateway<'a, FLOWS, GRANTS, RULES, KNOCKS>
{
    /// A gateway that has just booted. All its NICs use the MAC address `hardware`. `saved_floor` is the floor in flash;
    /// pass `None` only if none was ever saved.
    ///
    /// `tables` must be empty, because flows and grants do not survive a boot.
    pub fn new(
        tables: &'a mut Tables<FLOWS, GRANTS, RULES, KNOCKS>,
        config: &'a Config<RULES>,
        hardware: EthernetAddress,
        saved_floor: Option<UnixSeconds>,
    ) -> Self {
        let mut neighbours = Neighbours::default();
        if config.mode == Mode::OneArm {
            config.services.iter().for_each(|service| neighbours.track(service.inside.address));
        }
        let interface = match config.address {
            Address::Dhcp => None,
            Address::Static(interface) => Some(interface),
        };
        let mut gateway = Self {
            tables,
            config,
            hardware,
            interface,
            neighbours,
            inside_hosts: Vec::new(),
            clock: Clock::default(),
            saved_floor,
            baseline: None,
            newest: None,
            unsaved_floor: None,
            counters: Counters::default(),
        };
        match (saved_floor, config.time) {
            (Some(floor), _) => gateway.reset_caches(Baseline::with_memory(floor)),
            // Without a clock, the configuration's creation is the latest time known to have passed.
            (None, TimeSource::None) => gateway.reset_caches(Baseline::without_memory(config.created)),
            // The caches are created when the time is known.
            (None, TimeSource::Sntp(_)) => {}
        }
        gateway
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
    /// ten times a second, each time until it returns `None`.
    pub fn on_tick(&mut self, now: Instant, frame: &mut [u8]) -> Option<(Port, usize)> {
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

    /// Sets the clock to a time server's time. Knocks are accepted after the first call that succeeds; without a saved
    /// floor, the gateway also waits for one window, as `docs/protocol.md` explains.
    ///
    /// # Errors
    /// [`TimeError`] if the time is impossibly early. The clock does not change.
    pub fn set_time(&mut self, now: Instant, reported: UnixSeconds) -> Result<(), TimeError> {
        let accepted = self.saved_floor.max(self.newest).unwrap_or_default();
        // The sender's clock may have been ahead of ours by one window.
        let earliest = UnixSeconds(accepted.0.saturating_sub(self.config.widest_window().as_secs().into()));
        if let Err(error) = self.clock.set(now, reported, earliest.max(self.config.created)) {
            increment(Some(&mut self.counters.time_rejected));
            return Err(error);
        }
        // While no knock was ever accepted, an earlier time restarts the wait. Otherwise a server that was ahead at first
        // would lock everyone out until its time has come.
        let nothing_accepted = self.saved_floor.is_none() && self.newest.is_none();
        let is_earlier = self.baseline.is_none_or(|baseline| reported < baseline);
        if nothing_accepted && is_earlier && self.config.time != TimeSource::None {
            self.baseline = Some(reported);
            self.reset_caches(Baseline::without_memory(reported));
        }
        Ok(())
    }

    /// The time of day, or `None` if it is not known.
    #[must_use]
    pub fn time(&self, now: Instant) -> Option<UnixSeconds> {
        self.clock.time(now)
    }

    /// The floor that is not in flash yet, or `None` if the saved floor is current.
    #[must_use]
    pub fn unsaved_floor(&self) -> Option<UnixSeconds> {
        self.unsaved_floor
    }

    /// Reports that `floor` is in flash.
    pub fn floor_saved(&mut self, floor: UnixSeconds) {
        self.saved_floor = self.saved_floor.max(Some(floor));
        self.unsaved_floor = self.unsaved_floor.filter(|unsaved| *unsaved > floor);
    }

    /// Reports that the floor could not be saved. The next knock requests it again. Until it is saved, a reset loses it.
    pub fn floor_failed(&mut self) {
        increment(Some(&mut self.counters.floor_failed));
    }

    /// The counters since boot.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Writes all metrics in the Prometheus text format 0.0.4, in less than 2,048 bytes.
    ///
    /// # Errors
    /// If `out` is too small.
    pub fn write_metrics(&self, now: Instant, out: &mut impl Write) -> fmt::Result {
        self.counters.write(out)?;
        let coarse_now = CoarseInstant::from(now);
        writeln!(out, "# TYPE pkd_flows gauge\npkd_flows {}", self.tables.flows.len(coarse_now))?;
        writeln!(out, "# TYPE pkd_grants gauge\npkd_grants {}", self.tables.grants.len(coarse_now))?;
        let time = self.time(now).unwrap_or_default().0;
        writeln!(out, "# TYPE pkd_clock_seconds gauge\npkd_clock_seconds {time}")?;
        writeln!(out, "# TYPE pkd_uptime_seconds counter\npkd_uptime_seconds {}", now.0 / 1_000)
    }

    fn reset_caches(&mut self, baseline: Baseline) {
        self.tables.caches.clear();
        for rule in &self.config.rules {
            // There is room for one cache for each rule.
            let _full = self.tables.caches.push(ReplayCache::new(baseline.floor(rule.knock.window())));
        }
    }

    /// Checks a datagram that was sent to the knock port against every rule.
    pub(crate) fn check_knock(
        &mut self,
        now: Instant,
        header: &Header,
        bytes: &[u8],
    ) -> Result<KnockOutcome, DropReason> {
        let datagram = packet::datagram(header, bytes)?;
        let time = match (self.clock.time(now), self.config.time) {
            (Some(time), _) => time,
            // Every rule has window 0, which does not use the clock.
            (None, TimeSource::None) => UnixSeconds(0),
            (None, TimeSource::Sntp(_)) => return Err(DropReason::NoTime),
        };
        let knock = Packet { destination_port: UdpPort(datagram.dst_port()), payload: datagram.payload() };
        let rules = self.config.rules.iter().zip(&mut self.tables.caches).zip(0_u8..);
        let accepted =
            verify_any(&knock, rules, |((rule, cache), _)| rule.knock.verify(*cache, time, &knock));
        let ((rule, cache), index) = match accepted {
            Ok(accepted) => accepted,
            Err(reason) => return Ok(self.outcome(Verdict::Ignore(reason), None)),
        };
        self.newest = self.newest.max(cache.newest());
        let until = CoarseInstant::from(now).after(rule.ttl);
        self.tables.grants.grant(header.source, index, rule.services, until);
        self.unsaved_floor = self.tables.caches.iter().map(ReplayCache::high_water_mark).max();
        let grant = KnockGrant { address: header.source, rule: index };
        Ok(self.outcome(Verdict::Accept, Some(grant)))
    }

    fn outcome(&self, verdict: Verdict, grant: Option<KnockGrant>) -> KnockOutcome {
        KnockOutcome { verdict, grant, save_floor: self.unsaved_floor }
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
                let dhcp = self.config.address == Address::Dhcp && source == 67 && destination == 68;
                let from_time_server = matches!(
                    self.config.time, TimeSource::Sntp(server) if server.at == header.source_endpoint()
                );
                dhcp || (from_time_server && destination == sntp::CLIENT_PORT)
                    || (may_read_counters && destination == self.config.counters_port)
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
