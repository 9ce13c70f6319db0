//! The flows that pass, found in a few steps from either side.

use core::net::Ipv4Addr;

use smoltcp::wire::EthernetAddress;

use crate::instant::CoarseInstant;

/// What flows are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// IPv4 address.
    pub address: Ipv4Addr,
    /// TCP or UDP port.
    pub port: u16,
}

impl Endpoint {
    pub(crate) const NONE: Self = Self { address: Ipv4Addr::UNSPECIFIED, port: 0 };
}

/// How a client sees its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple {
    pub(crate) protocol: Protocol,
    pub(crate) client: Endpoint,
    /// The gateway's address and a service's port, or, inline, the host itself.
    pub(crate) server: Endpoint,
}

/// Which way a frame of a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the inside.
    Ingress,
    /// From the inside to the client.
    Egress,
}

/// What matters here of a TCP segment's header; nothing of it is set for UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // they are bits on the wire
pub(crate) struct Segment {
    pub(crate) syn: bool,
    pub(crate) ack: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    pub(crate) sequence: u32,
    /// Counts only with `ack`.
    pub(crate) acknowledgment: u32,
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No flow: the slot is free. The first, so that an empty table is all zeros.
    Free,
    /// The client has sent, and the inside has not answered yet.
    Unreplied,
    /// Both have sent.
    Established,
    /// TCP: the client has sent all it had. (No payload here: its niche would make `Free` something else than 0.)
    ClientClosed,
    /// TCP: the inside has.
    InsideClosed,
    /// TCP: both have, or one broke off.
    Closed,
}

/// Seconds without a frame after which a flow is forgotten.
mod timeout {
    /// Time for a SYN to be sent again, three times.
    pub(super) const UNREPLIED: u32 = 30;
    /// RFC 4787, section 4.3, recommends five minutes.
    pub(super) const UDP: u32 = 300;
    /// RFC 5382, section 5: not less than two hours and four minutes.
    pub(super) const TCP: u32 = 7_440;
    /// A side that has closed may take its time to read the rest.
    pub(super) const HALF_CLOSED: u32 = 600;
    /// The last acknowledgements, sent again where they were lost.
    pub(super) const CLOSED: u32 = 10;
}

/// Bytes that a client may have under way: how far the number of its FIN or RST may lie behind what the inside has
/// acknowledged. Who cannot see the flow hits that once in 4,096 tries.
const MAX_IN_FLIGHT: u32 = 1 << 20;

/// One flow, in 36 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    state: State,
    pub(crate) protocol: Protocol,
    pub(crate) service: u8,
    pub(crate) client_hardware: EthernetAddress,
    pub(crate) client: Endpoint,
    pub(crate) server: Endpoint,
    /// The port that the inside host sees as the client's; one-arm only.
    pub(crate) nat_port: u16,
    /// The next of the same bucket, plus one; 0: none.
    next: u16,
    last: CoarseInstant,
    /// TCP: the number of the client's byte that the inside waits for.
    receive_next: u32,
}

impl Flow {
    const FREE: Self = Self {
        state: State::Free,
        protocol: Protocol::Tcp,
        service: 0,
        client_hardware: EthernetAddress([0; 6]),
        client: Endpoint::NONE,
        server: Endpoint::NONE,
        nat_port: 0,
        next: 0,
        last: CoarseInstant::ZERO,
        receive_next: 0,
    };

    fn tuple(&self) -> Tuple {
        Tuple { protocol: self.protocol, client: self.client, server: self.server }
    }

    /// Seconds without a frame that it may take.
    fn idle_timeout(&self) -> u32 {
        match (self.state, self.protocol) {
            (State::Free, _) => 0,
            (State::Unreplied, _) => timeout::UNREPLIED,
            (State::Established, Protocol::Udp) => timeout::UDP,
            (State::Established, Protocol::Tcp) => timeout::TCP,
            (State::ClientClosed | State::InsideClosed, _) => timeout::HALF_CLOSED,
            (State::Closed, _) => timeout::CLOSED,
        }
    }

    fn is_expired(&self, now: CoarseInstant) -> bool {
        now.since(self.last) >= CoarseInstant::steps(self.idle_timeout())
    }

    /// Whether a side has closed or broken it off.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.state, State::ClientClosed | State::InsideClosed | State::Closed)
    }

    /// Notes a frame of this flow. An end from outside counts only if its number can be right: a stranger can write the
    /// client's address into a frame, and must not end its flow so. Such a frame passes; the inside host ignores it.
    pub(crate) fn update(&mut self, now: CoarseInstant, direction: Direction, segment: Segment) {
        match direction {
            Direction::Ingress if segment.rst || segment.fin => {
                if segment.sequence.wrapping_sub(self.receive_next) > MAX_IN_FLIGHT {
                    return;
                }
            }
            Direction::Egress if segment.ack => self.receive_next = segment.acknowledgment,
            Direction::Ingress | Direction::Egress => {}
        }
        self.state = match (self.state, direction) {
            // A closed flow does not come back, and only counts on.
            (State::Closed, _) => return,
            _ if segment.rst => State::Closed,
            (State::ClientClosed, Direction::Egress) | (State::InsideClosed, Direction::Ingress)
                if segment.fin =>
            {
                State::Closed
            }
            (state @ (State::ClientClosed | State::InsideClosed), _) => state,
            (_, Direction::Ingress) if segment.fin => State::ClientClosed,
            (_, Direction::Egress) if segment.fin => State::InsideClosed,
            (State::Unreplied, Direction::Egress) => State::Established,
            (state, _) => state,
        };
        self.last = now;
    }
}

/// What a new flow is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewFlow {
    pub(crate) tuple: Tuple,
    pub(crate) service: u8,
    pub(crate) client_hardware: EthernetAddress,
    /// TCP: the number that the client begins with.
    pub(crate) sequence: u32,
}

/// The first port that inside hosts see as a client's; below are those that the gateway's own stack uses.
pub(crate) const NAT_PORT_FIRST: u16 = 32_768;
/// How many there are; above are the ephemeral ports of the own stack.
pub(crate) const NAT_PORT_COUNT: u16 = 16_384;

/// All flows; `N` at most [`NAT_PORT_COUNT`]. Empty, it is all zeros.
///
/// A flow's slot is told by its NAT port, and found by its tuple through a hash and a chain.
#[derive(Debug)]
pub(crate) struct Flows<const N: usize> {
    slots: [Flow; N],
    /// The first of each bucket's chain, plus one; 0: none.
    buckets: [u16; N],
    /// Where the search for a free slot goes on.
    cursor: usize,
    /// Makes a slot's NAT port another one each time, so that an old flow's stragglers find nobody.
    generation: u16,
}

impl<const N: usize> Flows<N> {
    const TABLE_FITS: () = assert!(N > 0 && N <= NAT_PORT_COUNT as usize, "more flows than NAT ports");

    pub(crate) const fn new() -> Self {
        let () = Self::TABLE_FITS;
        Self { slots: [Flow::FREE; N], buckets: [0; N], cursor: 0, generation: 0 }
    }

    /// The flow of this tuple, if it is not over.
    pub(crate) fn find(&mut self, now: CoarseInstant, tuple: &Tuple) -> Option<&mut Flow> {
        let mut link = *self.buckets.get(Self::bucket(tuple))?;
        // A chain is no longer than the table.
        for _ in 0..N {
            let index = usize::from(link).checked_sub(1)?;
            let flow = self.slots.get(index)?;
            if flow.tuple() == *tuple {
                return self.slots.get_mut(index).filter(|flow| !flow.is_expired(now));
            }
            link = flow.next;
        }
        None
    }

    /// The flow whose client the inside host sees at this port of the gateway.
    pub(crate) fn find_by_nat_port(
        &mut self,
        now: CoarseInstant,
        protocol: Protocol,
        port: u16,
    ) -> Option<&mut Flow> {
        let index =
            usize::from(port.checked_sub(NAT_PORT_FIRST).filter(|offset| *offset < NAT_PORT_COUNT)?) % N;
        let flow = self.slots.get_mut(index)?;
        (flow.state != State::Free
            && flow.nat_port == port
            && flow.protocol == protocol
            && !flow.is_expired(now))
        .then_some(flow)
    }

    /// Puts a flow in a free slot, or in that of the least of those that may go; `None`: all stay.
    ///
    /// First go flows that are over, then closed ones, those without an answer, UDP, and last established TCP flows of
    /// addresses without a grant; the longest idle first. Established TCP flows of granted addresses stay.
    ///
    /// `is_granted` is asked only where all slots are taken by established TCP flows.
    pub(crate) fn insert(
        &mut self,
        now: CoarseInstant,
        new: NewFlow,
        is_granted: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<&mut Flow> {
        // An old flow of this tuple that is over would be found in place of the new one.
        let stale = self.index_of(&new.tuple);
        let index = stale.or_else(|| self.free_slot(now)).or_else(|| self.evictable(is_granted))?;
        self.remove(index);
        let generations = NAT_PORT_COUNT / u16::try_from(N).unwrap_or(NAT_PORT_COUNT);
        self.generation = (self.generation + 1) % generations.max(1);
        let offset = usize::from(self.generation) * N + index;
        let bucket = Self::bucket(&new.tuple);
        let head = self.buckets.get_mut(bucket)?;
        let flow = self.slots.get_mut(index)?;
        *flow = Flow {
            state: State::Unreplied,
            protocol: new.tuple.protocol,
            service: new.service,
            client_hardware: new.client_hardware,
            client: new.tuple.client,
            server: new.tuple.server,
            nat_port: NAT_PORT_FIRST.checked_add(u16::try_from(offset).ok()?)?,
            next: *head,
            last: now,
            receive_next: new.sequence,
        };
        *head = u16::try_from(index + 1).ok()?;
        Some(flow)
    }

    /// Flows that are not over.
    pub(crate) fn len(&self, now: CoarseInstant) -> usize {
        self.slots.iter().filter(|flow| flow.state != State::Free && !flow.is_expired(now)).count()
    }

    fn index_of(&self, tuple: &Tuple) -> Option<usize> {
        let mut link = *self.buckets.get(Self::bucket(tuple))?;
        for _ in 0..N {
            let index = usize::from(link).checked_sub(1)?;
            let flow = self.slots.get(index)?;
            if flow.tuple() == *tuple {
                return Some(index);
            }
            link = flow.next;
        }
        None
    }

    fn free_slot(&mut self, now: CoarseInstant) -> Option<usize> {
        let is_free = |(_, flow): &(usize, &Flow)| flow.state == State::Free || flow.is_expired(now);
        let (index, _) = self
            .slots
            .iter()
            .enumerate()
            .skip(self.cursor)
            .find(is_free)
            .or_else(|| self.slots.iter().enumerate().take(self.cursor).find(is_free))?;
        self.cursor = (index + 1) % N;
        Some(index)
    }

    fn evictable(&self, is_granted: impl Fn(Ipv4Addr) -> bool) -> Option<usize> {
        let rank = |flow: &Flow| match (flow.state, flow.protocol) {
            (State::Free | State::Closed, _) => Some(0),
            (State::Unreplied, _) => Some(1),
            (_, Protocol::Udp) => Some(2),
            (_, Protocol::Tcp) => None,
        };
        let slots = || self.slots.iter().enumerate();
        let cheap = slots().filter_map(|(index, flow)| Some((rank(flow)?, flow.last, index))).min();
        if let Some((_, _, index)) = cheap {
            return Some(index);
        }
        let mut oldest: Option<(CoarseInstant, usize)> = None;
        for (index, flow) in slots() {
            // Whether there is a grant is the dearer question.
            if oldest.is_none_or(|(last, _)| flow.last < last) && !is_granted(flow.client.address) {
                oldest = Some((flow.last, index));
            }
        }
        oldest.map(|(_, index)| index)
    }

    /// Takes the flow out of its chain and frees the slot.
    fn remove(&mut self, index: usize) {
        let Some(flow) = self.slots.get(index).copied().filter(|flow| flow.state != State::Free) else {
            return;
        };
        let ours = u16::try_from(index + 1).unwrap_or_default();
        if let Some(head) = self.buckets.get_mut(Self::bucket(&flow.tuple())) {
            if *head == ours {
                *head = flow.next;
            } else {
                let mut link = *head;
                for _ in 0..N {
                    let Some(before) = usize::from(link).checked_sub(1).and_then(|at| self.slots.get_mut(at))
                    else {
                        break;
                    };
                    if before.next == ours {
                        before.next = flow.next;
                        break;
                    }
                    link = before.next;
                }
            }
        }
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Flow::FREE;
        }
    }

    /// Only addresses with a grant make flows, so nobody gains by choosing ports that collide.
    fn bucket(tuple: &Tuple) -> usize {
        let Tuple { protocol, client, server } = tuple;
        let ports = u32::from(client.port) << 16 | u32::from(server.port);
        let mixed = (u32::from(client.address)
            ^ u32::from(server.address).rotate_left(7)
            ^ u32::from(*protocol == Protocol::Udp))
        .wrapping_mul(0x9e37_79b1)
        .wrapping_add(ports)
        .wrapping_mul(0x85eb_ca6b);
        // The high bits depend on all of it. A usize has at least 32 bits on all targets.
        usize::try_from(mixed ^ (mixed >> 15)).unwrap_or_default() % N
    }
}
