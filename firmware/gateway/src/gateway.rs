//! The gateway: a frame and the time in, an action out.

use core::{
    fmt::{self, Write},
    net::Ipv4Addr,
};

use heapless::Vec;
use pkd_core::{Timestamp, UnixMillis, UnixSeconds};
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};

use crate::{
    Instant,
    action::Action,
    clock::{Clock, TimeError},
    config::{Address, Config, Inline, Interface, Mode, TimeSource, Vlans},
    counters::{Counters, increment},
    dhcp::{self, DhcpTimeServers},
    drop_reason::DropReason,
    floors::{Floors, millis, seconds},
    flow::{Direction, FlowKind, NewFlow, Origin, Peer, Segment, Tuple},
    instant::CoarseInstant,
    ip::Ip,
    light::Light,
    loop_guard::LoopGuard,
    own::Own,
    packet::{Header, Transport},
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

/// Why the address that the network stack got by DHCP is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// It is the address of an inside host.
    TakenByHost(Ipv4Addr),
    /// It is not a unicast address.
    NotUnicast(Ipv4Addr),
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakenByHost(address) => write!(f, "DHCP offers {address}, which a service's host has"),
            Self::NotUnicast(address) => write!(f, "DHCP offers {address}, which no host can have"),
        }
    }
}

/// What an ARP packet says.
pub(crate) struct Arp {
    pub(crate) is_reply: bool,
    pub(crate) hardware: EthernetAddress,
    pub(crate) sender: Ip,
    pub(crate) target: Ip,
}

/// A gateway: its configuration and its state.
#[derive(Debug)]
pub struct Gateway<'a, const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize> {
    pub(crate) tables: &'a mut Tables<FLOWS, GRANTS, RULES, KNOCKS>,
    pub(crate) config: &'a Config<RULES>,
    pub(crate) hardware: EthernetAddress,
    pub(crate) interface: Option<Interface>,
    pub(crate) loop_guard: LoopGuard,
    /// Inline: until when answers of DHCP to inside hosts are expected.
    pub(crate) dhcp_until: CoarseInstant,
    /// One-arm: another host has asked for the gateway's IPv6 address.
    pub(crate) announces: bool,
    /// Inline: the inside hosts that have sent frames to the network stack, newest first.
    pub(crate) inside_hosts: Vec<EthernetAddress, MAX_INSIDE_HOSTS>,
    pub(crate) clock: Clock,
    /// The server whose replies the network stack expects: a time server, or the DNS server that knows it.
    pub(crate) awaited: Option<Peer>,
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
    #[inline(never)]
    pub fn new(
        tables: &'a mut Tables<FLOWS, GRANTS, RULES, KNOCKS>,
        config: &'a Config<RULES>,
        hardware: EthernetAddress,
        saved_floors: Floors,
    ) -> Self {
        tables.hosts.set(config);
        tables.targets.set(config, &mut tables.neighbours);
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
            loop_guard: LoopGuard::default(),
            dhcp_until: CoarseInstant::ZERO,
            announces: false,
            inside_hosts: Vec::new(),
            clock: Clock::default(),
            awaited: match config.time {
                TimeSource::Sntp(server) => Some(server.at.into()),
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
        let config = self.config;
        let action = match &config.mode {
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
        match self.config.mode {
            Mode::OneArm => self.one_arm_tick(now, frame),
            Mode::Inline(Inline { vlans, .. }) => self.inline_tick(now, vlans, frame),
        }
    }

    /// Inline: sets what the probes contain that find a loop, a random number. Without it, none are sent.
    pub fn set_loop_cookie(&mut self, cookie: u64) {
        self.loop_guard.set_cookie(cookie);
    }

    /// Inline: whether a loop connects both sides. Nothing is forwarded until it is gone for ten seconds.
    #[must_use]
    pub fn is_looped(&self, now: Instant) -> bool {
        self.loop_guard.is_looped(now)
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
    ///
    /// # Errors
    /// [`LeaseError`] if the address must not be used. The gateway has none then.
    pub fn set_interface(&mut self, interface: Option<Interface>) -> Result<(), LeaseError> {
        self.interface = None;
        if let Some(Interface { network, .. }) = interface {
            let address = Ip::from(network.address);
            if self.tables.hosts.has_address(address) {
                return Err(LeaseError::TakenByHost(network.address));
            }
            if address.is_group_or_none() {
                return Err(LeaseError::NotUnicast(network.address));
            }
        }
        self.interface = interface;
        Ok(())
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
        let until = self.tables.grants.allows(now, tuple.client.ip, service).ok_or(DropReason::NoGrant)?;
        if tuple.kind == FlowKind::Tcp && !segment.opens() {
            return Err(DropReason::NoFlow);
        }
        let new = NewFlow { tuple, service, origin: Origin::Outside, client_hardware, segment, until };
        let Tables { flows, grants, .. } = &mut *self.tables;
        let has_grant = |address: Ip| grants.allows_any(now, address);
        let flow = flows.insert(now, new, &has_grant).ok_or(DropReason::TableFull)?;
        increment(Some(&mut self.counters.flows));
        Ok(flow.nat_port)
    }

    /// Records a frame from outside in its flow, and returns the flow's NAT port. Returns `None` if there is no such flow, or if
    /// the client opens a new one with the ports of a flow that is closing.
    ///
    /// A flow from outside is not a way in for ever: another connection needs a grant, and so does each datagram.
    pub(crate) fn continue_flow(
        &mut self,
        now: Instant,
        tuple: &Tuple,
        segment: Segment,
    ) -> Result<Option<u16>, DropReason> {
        let now = CoarseInstant::from(now);
        let Tables { flows, grants, .. } = &mut *self.tables;
        let Some(flow) = flows.find(now, tuple) else { return Ok(None) };
        let starts = segment.starts();
        match (flow.origin, flow.kind) {
            (Origin::Inside, _) if starts => return Err(DropReason::NoFlow),
            (Origin::Outside, FlowKind::Tcp) if starts && !flow.is_first(segment) => {
                if flow.is_closing() {
                    return Ok(None);
                }
                // The host may have forgotten the connection. If it has not, it ignores this.
                let granted = grants.allows(now, tuple.client.ip, flow.service);
                return granted.map(|_| Some(flow.nat_port)).ok_or(DropReason::NoGrant);
            }
            (Origin::Outside, FlowKind::Udp | FlowKind::Echo) if flow.until <= now => {
                let granted = grants.allows(now, tuple.client.ip, flow.service);
                flow.until = granted.ok_or(DropReason::NoGrant)?;
            }
            _ => {}
        }
        flow.update(now, Direction::Ingress, segment);
        Ok(Some(flow.nat_port))
    }

    /// Whether this is the gateway's own IPv4 address.
    pub(crate) fn is_own(&self, address: Ip) -> bool {
        self.interface.is_some_and(|interface| Ip::from(interface.network.address) == address)
    }

    /// The gateway's own addresses. `v6`: the one that it asks from.
    pub(crate) fn own(&self, v6: Ip) -> Own {
        let v4 = self.interface.map_or(Ipv4Addr::UNSPECIFIED, |interface| interface.network.address);
        Own { hardware: self.hardware, v4, v6 }
    }

    /// Checks whether the network stack expects this packet. `trusted`: it comes from the inside, as far as is known.
    #[inline(never)]
    pub(crate) fn check_local(&self, header: &Header, trusted: bool) -> Result<(), DropReason> {
        let may_read_counters = trusted
            && header.source.to_v4().is_some_and(|source| {
                self.config.counters_network.is_none_or(|network| network.contains(source))
            });
        let is_expected = match header.transport {
            // The network stack knows no IPv6.
            _ if !header.source.is_v4() => false,
            Transport::Flow { kind: FlowKind::Udp, source, destination, .. } => {
                let is_dhcp = self.config.address == Address::Dhcp
                    && source == dhcp::SERVER_PORT
                    && destination == dhcp::CLIENT_PORT;
                // DNS queries have random source ports, and the network stack knows them.
                let is_awaited = self.awaited == Some(header.source_peer())
                    && (destination == sntp::CLIENT_PORT || source == DNS_PORT);
                is_dhcp || is_awaited || (may_read_counters && destination == self.config.counters_port)
            }
            Transport::Flow { kind: FlowKind::Tcp, destination, .. } => {
                may_read_counters && destination == self.config.counters_port
            }
            Transport::Echo { is_reply, .. } => self.config.answer_ping && !is_reply,
            Transport::Flow { kind: FlowKind::Echo, .. } | Transport::Icmp(_) | Transport::Icmp6(_) => false,
            Transport::Fragment => return Err(DropReason::Fragment),
            Transport::Other(_) => return Err(DropReason::Protocol),
        };
        if is_expected { Ok(()) } else { Err(DropReason::Unsolicited) }
    }

    /// Reads an ARP packet.
    pub(crate) fn read_arp(bytes: &[u8]) -> Result<Arp, DropReason> {
        let packet = ArpPacket::new_checked(bytes).map_err(|_| DropReason::Malformed)?;
        match ArpRepr::parse(&packet).map_err(|_| DropReason::Malformed)? {
            ArpRepr::EthernetIpv4 {
                operation,
                source_hardware_addr,
                source_protocol_addr,
                target_protocol_addr,
                ..
            } => Ok(Arp {
                is_reply: operation == ArpOperation::Reply,
                hardware: source_hardware_addr,
                sender: source_protocol_addr.into(),
                target: target_protocol_addr.into(),
            }),
            _ => Err(DropReason::Protocol),
        }
    }
}
