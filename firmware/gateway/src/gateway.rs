//! The gateway's heart: a frame and the time in, an action out.

use core::{
    fmt::{self, Write},
    net::Ipv4Addr,
};

use heapless::Vec;
use pkd_core::{Baseline, Packet, Port as UdpPort, Reason, UnixSeconds, Verdict, Verifier};
use smoltcp::wire::{ArpPacket, ArpRepr, EthernetAddress};

use crate::{
    Instant,
    action::{Action, DropReason, Port},
    clock::{Clock, TimeError},
    config::{Address, Config, Inline, Interface, Mode, TimeSource, Vlans},
    counters::Counters,
    flow::{Direction, Endpoint, NewFlow, Protocol, Segment, Tuple},
    instant::CoarseInstant,
    neighbour::Neighbours,
    packet::{self, Header, Transport},
    sntp,
    tables::Tables,
};

/// An accepted knock, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedKnock {
    /// Who may pass now.
    pub address: Ipv4Addr,
    /// The rule that accepted, counted from 0.
    pub rule: u8,
}

/// A gateway: what it is reported by its configuration, and what it remembers.
#[derive(Debug)]
pub struct Gateway<'a, const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize> {
    pub(crate) tables: &'a mut Tables<FLOWS, GRANTS, RULES, KNOCKS>,
    pub(crate) config: &'a Config<RULES>,
    pub(crate) hardware: EthernetAddress,
    pub(crate) interface: Option<Interface>,
    pub(crate) neighbours: Neighbours,
    /// Inside hosts that the own stack has heard of, inline; the last one first.
    pub(crate) inside_hosts: Vec<EthernetAddress, MAX_INSIDE_HOSTS>,
    clock: Clock,
    /// What earlier lives accepted at the latest, as flash has it.
    saved_floor: Option<UnixSeconds>,
    /// The time that the caches began with, where nothing was saved.
    baseline: Option<UnixSeconds>,
    /// The greatest time of a knock that this life accepted.
    newest: Option<UnixSeconds>,
    /// A floor above the saved one, which is not in flash yet.
    unsaved: Option<UnixSeconds>,
    accepted: Option<AcceptedKnock>,
    counters: Counters,
}

impl<'a, const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize>
    Gateway<'a, FLOWS, GRANTS, RULES, KNOCKS>
{
    /// A gateway that has just been switched on. `hardware`: its own address, of each NIC. `saved`: the floor in flash;
    /// `None` only if none was ever saved.
    ///
    /// `tables` must be empty ones: a life has no flows of another.
    pub fn new(
        tables: &'a mut Tables<FLOWS, GRANTS, RULES, KNOCKS>,
        config: &'a Config<RULES>,
        hardware: EthernetAddress,
        saved: Option<UnixSeconds>,
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
            saved_floor: saved,
            baseline: None,
            newest: None,
            unsaved: None,
            accepted: None,
            counters: Counters::default(),
        };
        match (saved, config.time) {
            (Some(floor), _) => gateway.reset_caches(Baseline::with_memory(floor)),
            // Without a clock, the configuration's making is the latest that is known to have been.
            (None, TimeSource::None) => gateway.reset_caches(Baseline::without_memory(config.created)),
            // The caches wait until the time is known.
            (None, TimeSource::Sntp(_)) => {}
        }
        gateway
    }

    /// Decides about a frame, and rewrites it in place if need be; its length stays. `frame` is without the FCS.
    ///
    /// After an accepted knock [`floor_to_save`](Self::floor_to_save) has a floor. It has to be in flash before the next
    /// frame is looked at, else a reset brings the knock back.
    pub fn on_frame(&mut self, now: Instant, port: Port, frame: &mut [u8]) -> Action {
        let action = match self.config.mode {
            Mode::OneArm => self.one_arm(now, frame),
            Mode::Inline(inline) => self.inline(now, port, inline, frame),
        };
        let counters = &mut self.counters;
        match action {
            Action::Drop(why) => counters.drop(why),
            Action::Forward(_) => counters.forwarded = counters.forwarded.saturating_add(1),
            Action::Local { .. } => counters.local = counters.local.saturating_add(1),
            Action::ForwardAndLocal(_) | Action::ForwardAndUntagged(_) => {
                counters.forwarded = counters.forwarded.saturating_add(1);
                counters.local = counters.local.saturating_add(1);
            }
        }
        action
    }

    /// What the gateway sends by itself: one frame, written to `frame`, and where it goes. To be asked again until there
    /// is none, about ten times a second.
    pub fn on_tick(&mut self, now: Instant, frame: &mut [u8]) -> Option<(Port, usize)> {
        let own_address = self.interface?.network.address;
        let length = self.neighbours.next_request(now, own_address, self.hardware, frame)?;
        Some((Port::Outside, length))
    }

    /// A frame of the own stack, as it goes out: the `copy`th of it, counted from 0, written to `out`. `None`: there are
    /// no more copies, or it does not fit.
    ///
    /// Of an inline gateway, what is for an inside host that has spoken to it stays inside: it may be counters. For all others
    /// it does not know the side, and sends to both, as a switch would.
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
        match (vlans, side) {
            (None, side) => plain(side, out),
            (Some(Vlans { outside, .. }), Port::Outside) => crate::inline::tag(frame, outside, out),
            (Some(Vlans { inside, .. }), Port::Inside) => crate::inline::tag(frame, inside, out),
        }
    }

    /// The own stack has got an address by DHCP, or lost it.
    pub fn set_interface(&mut self, interface: Option<Interface>) {
        self.interface = interface;
    }

    /// Its own address, once it has one.
    #[must_use]
    pub fn interface(&self) -> Option<Interface> {
        self.interface
    }

    /// What its owner decided.
    #[must_use]
    pub fn config(&self) -> &Config<RULES> {
        self.config
    }

    /// A time server tells the time. From the first time on that it is believed, knocks are accepted; a gateway that has
    /// nothing in flash waits for a window besides, as `docs/protocol.md` says.
    ///
    /// # Errors
    /// [`TimeError`], if it cannot be that early; the clock stays as it is.
    pub fn set_time(&mut self, now: Instant, reported: UnixSeconds) -> Result<(), TimeError> {
        let accepted = self.saved_floor.max(self.newest).unwrap_or_default();
        // A sender's clock may have been ahead of own_address by a window.
        let earliest = UnixSeconds(accepted.0.saturating_sub(self.config.widest_window().as_secs().into()));
        if let Err(error) = self.clock.set(now, reported, earliest.max(self.config.created)) {
            self.counters.time_refused = self.counters.time_refused.saturating_add(1);
            return Err(error);
        }
        // As long as no life has accepted anything, a time before the first is a start anew: a server that was ahead
        // at first must not shut the gateway for as long.
        let nothing_accepted = self.saved_floor.is_none() && self.newest.is_none();
        let is_first = self.baseline.is_none_or(|baseline| reported < baseline);
        if nothing_accepted && is_first && self.config.time != TimeSource::None {
            self.baseline = Some(reported);
            self.reset_caches(Baseline::without_memory(reported));
        }
        Ok(())
    }

    /// The time of day; `None`: nobody has reported it.
    #[must_use]
    pub fn time(&self, now: Instant) -> Option<UnixSeconds> {
        self.clock.time(now)
    }

    /// A floor that has to be saved now; `None`: what is saved holds.
    #[must_use]
    pub fn floor_to_save(&self) -> Option<UnixSeconds> {
        self.unsaved
    }

    /// The floor is in flash.
    pub fn floor_saved(&mut self, floor: UnixSeconds) {
        self.saved_floor = self.saved_floor.max(Some(floor));
        self.unsaved = self.unsaved.filter(|unsaved| *unsaved > floor);
    }

    /// The floor could not be saved. It is tried again with the next knock; until then a reset would forget it.
    pub fn floor_failed(&mut self) {
        self.counters.floor_failed = self.counters.floor_failed.saturating_add(1);
    }

    /// The knock that was accepted last, once.
    pub fn take_accepted(&mut self) -> Option<AcceptedKnock> {
        self.accepted.take()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// All figures as Prometheus reads them (text format 0.0.4); less than 2,048 bytes.
    ///
    /// # Errors
    /// If it does not fit `out`.
    pub fn write_metrics(&self, now: Instant, out: &mut impl Write) -> fmt::Result {
        self.counters.write(out)?;
        let moment = CoarseInstant::from(now);
        writeln!(out, "# TYPE pkd_flows gauge\npkd_flows {}", self.tables.flows.len(moment))?;
        writeln!(out, "# TYPE pkd_grants gauge\npkd_grants {}", self.tables.grants.len(moment))?;
        writeln!(
            out,
            "# TYPE pkd_clock_seconds gauge\npkd_clock_seconds {}",
            self.time(now).unwrap_or_default().0
        )?;
        writeln!(out, "# TYPE pkd_up_seconds counter\npkd_up_seconds {}", now.0 / 1_000)
    }

    fn reset_caches(&mut self, start: Baseline) {
        self.tables.caches.clear();
        for rule in &self.config.rules {
            // As many caches as rules fit.
            let _full = self.tables.caches.push(pkd_core::ReplayCache::new(start.floor(rule.window)));
        }
    }

    /// Holds a datagram to the knock port against every rule; the one that it came closest to tells the reason.
    pub(crate) fn check_knock(&mut self, now: Instant, header: &Header, bytes: &[u8]) -> DropReason {
        let datagram = match packet::datagram(header, bytes) {
            Ok(datagram) => datagram,
            Err(why) => return why,
        };
        let time = match (self.clock.time(now), self.config.time) {
            (Some(time), _) => time,
            // Every rule has the window 0, which looks at no clock.
            (None, TimeSource::None) => UnixSeconds(0),
            (None, TimeSource::Sntp(_)) => return DropReason::NoTime,
        };
        let knock = Packet { destination_port: UdpPort(datagram.dst_port()), payload: datagram.payload() };
        let mut furthest = Reason::Length;
        for ((rule, cache), index) in self.config.rules.iter().zip(&mut self.tables.caches).zip(0_u8..) {
            let core_rule = pkd_core::Rule { key: rule.key.clone(), tag: rule.tag, window: rule.window };
            match Verifier::new(&core_rule, cache).check(time, &knock) {
                Verdict::Ignore(reason) => {
                    if progress(reason) > progress(furthest) {
                        furthest = reason;
                    }
                }
                Verdict::Accept => {
                    self.newest = self.newest.max(cache.newest());
                    let until = CoarseInstant::from(now).after(rule.ttl);
                    self.tables.grants.grant(header.source, index, rule.services, until);
                    self.unsaved =
                        self.tables.caches.iter().map(pkd_core::ReplayCache::high_water_mark).max();
                    self.accepted = Some(AcceptedKnock { address: header.source, rule: index });
                    return DropReason::Knock(Verdict::Accept);
                }
            }
        }
        DropReason::Knock(Verdict::Ignore(furthest))
    }

    /// A new flow, if its address may begin one; `Ok` has the port that the inside sees as the client's.
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
        let begins = segment.syn && !segment.ack && !segment.rst && !segment.fin;
        if tuple.protocol == Protocol::Tcp && !begins {
            return Err(DropReason::NoFlow);
        }
        let new = NewFlow { tuple, service, client_hardware, sequence: segment.sequence };
        let Tables { flows, grants, .. } = &mut *self.tables;
        let flow =
            flows.insert(now, new, |address| grants.allows_any(now, address)).ok_or(DropReason::TableFull)?;
        self.counters.flows = self.counters.flows.saturating_add(1);
        Ok(flow.nat_port)
    }

    /// The NAT port of a known flow, which has one frame more from its client now; `None`: there is none, or a client
    /// begins a new one with the ports of one that has ended.
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

    /// The service at this end, and its number.
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

    /// What is for the gateway itself. `trusted`: the frame comes from the inside, as far as that is known.
    pub(crate) fn check_local(&self, header: &Header, trusted: bool) -> Result<(), DropReason> {
        let readable =
            trusted && self.config.counters_network.is_none_or(|network| network.contains(header.source));
        let wanted = match header.transport {
            Transport::TcpOrUdp { protocol: Protocol::Udp, source, destination, .. } => {
                let dhcp = self.config.address == Address::Dhcp && source == 67 && destination == 68;
                let time = matches!(self.config.time, TimeSource::Sntp(server) if server.at == header.source_endpoint())
                    && destination == sntp::CLIENT_PORT;
                dhcp || time || (readable && destination == self.config.counters_port)
            }
            Transport::TcpOrUdp { protocol: Protocol::Tcp, destination, .. } => {
                readable && destination == self.config.counters_port
            }
            Transport::Icmp(kind) => self.config.answer_ping && kind == ECHO_REQUEST,
            Transport::Fragment => return Err(DropReason::Fragment),
            Transport::Other => return Err(DropReason::Protocol),
        };
        if wanted { Ok(()) } else { Err(DropReason::Unsolicited) }
    }

    /// An ARP packet; whether the own stack has to see it.
    pub(crate) fn handle_arp(&mut self, now: Instant, bytes: &[u8]) -> Result<bool, DropReason> {
        let question = ArpPacket::new_checked(bytes).map_err(|_| DropReason::Malformed)?;
        let ArpRepr::EthernetIpv4 {
            source_hardware_addr, source_protocol_addr, target_protocol_addr, ..
        } = ArpRepr::parse(&question).map_err(|_| DropReason::Malformed)?
        else {
            return Err(DropReason::Protocol);
        };
        let own_address =
            self.interface.is_some_and(|interface| interface.network.address == target_protocol_addr);
        if own_address
            && packet::is_unicast_host(source_hardware_addr)
            && source_hardware_addr != self.hardware
        {
            self.neighbours.learn(now, source_protocol_addr, source_hardware_addr);
        }
        Ok(own_address)
    }
}

/// Inside hosts that are remembered as such, for what the own stack sends.
const MAX_INSIDE_HOSTS: usize = 8;

/// ICMP type of a ping.
const ECHO_REQUEST: u8 = 8;

/// How far the check came.
fn progress(reason: Reason) -> usize {
    Reason::ALL.iter().position(|known| *known == reason).unwrap_or(0)
}
