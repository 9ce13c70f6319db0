//! The flow table. Flows are found quickly from either side.

use core::net::Ipv4Addr;

use smoltcp::wire::EthernetAddress;

use crate::instant::CoarseInstant;

/// The protocol of a flow.
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

/// A flow as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple {
    pub(crate) protocol: Protocol,
    pub(crate) client: Endpoint,
    /// One-arm: the gateway's address and a service's port. Inline: the inside host.
    pub(crate) server: Endpoint,
}

/// The direction of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the inside.
    Ingress,
    /// From the inside to the client.
    Egress,
}

/// The relevant fields of a TCP header. For UDP, all are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // they are bits on the wire
pub(crate) struct Segment {
    pub(crate) syn: bool,
    pub(crate) ack: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    pub(crate) sequence: u32,
    /// Valid only with `ack`.
    pub(crate) acknowledgment: u32,
}

/// The state of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The slot is free. This is the first variant, so that an empty table is all zeros.
    Free,
    /// The client has sent, but the inside host has not replied yet.
    Unreplied,
    /// Both sides have sent.
    Established,
    /// TCP: the client has sent a FIN. (Variants have no payload: its niche would give `Free` a value other than 0.)
    ClientClosed,
    /// TCP: the inside host has sent a FIN.
    InsideClosed,
    /// TCP: both have sent a FIN, or one has sent a RST.
    Closed,
}

/// Seconds without a frame after which a flow expires.
mod timeout {
    /// Long enough for three retransmissions of a SYN.
    pub(super) const UNREPLIED: u32 = 30;
    /// The recommendation of RFC 4787, section 4.3.
    pub(super) const UDP: u32 = 300;
    /// The minimum in RFC 5382, section 5: two hours and four minutes.
    pub(super) const TCP: u32 = 7_440;
    /// Long enough for the other side to finish sending.
    pub(super) const HALF_CLOSED: u32 = 600;
    /// Long enough to retransmit the last acknowledgements.
    pub(super) const CLOSED: u32 = 10;
}

/// How far the sequence number of a client's FIN or RST may be ahead of what the inside host has acknowledged, in bytes. A
/// sender that cannot see the flow guesses such a number once in 4,096 tries.
const MAX_IN_FLIGHT: u32 = 1 << 20;

/// A flow, in 36 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    state: State,
    pub(crate) protocol: Protocol,
    pub(crate) service: u8,
    pub(crate) client_hardware: EthernetAddress,
    pub(crate) client: Endpoint,
    pub(crate) server: Endpoint,
    /// One-arm: the port that the inside host sees as the client's.
    pub(crate) nat_port: u16,
    /// The index of the next flow in the same bucket, plus one. 0: none.
    next: u16,
    last: CoarseInstant,
    /// TCP: the client's next sequence number that the inside host expects.
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

    /// How many seconds it may stay idle.
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

    /// Whether a side has sent a FIN or a RST.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.state, State::ClientClosed | State::InsideClosed | State::Closed)
    }

    /// Records a frame of this flow. A FIN or RST from outside counts only if its sequence number is plausible, because anyone
    /// can forge the client's address. A frame that does not count is still forwarded; the inside host ignores it.
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
            // A closed flow never reopens, and its idle timeout keeps running.
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

/// The properties of a new flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewFlow {
    pub(crate) tuple: Tuple,
    pub(crate) service: u8,
    pub(crate) client_hardware: EthernetAddress,
    /// TCP: the client's first sequence number.
    pub(crate) sequence: u32,
}

/// The first NAT port. Lower ports belong to services and to the network stack.
pub(crate) const NAT_PORT_FIRST: u16 = 32_768;
/// The number of NAT ports. The network stack's ephemeral ports are above them.
pub(crate) const NAT_PORT_COUNT: u16 = 16_384;

/// The flow table. `N` is at most [`NAT_PORT_COUNT`]. An empty table is all zeros.
///
/// The NAT port of a flow determines its slot. Its tuple finds it through a hash table with chaining.
#[derive(Debug)]
pub(crate) struct Flows<const N: usize> {
    slots: [Flow; N],
    /// The index of the first flow of each bucket, plus one. 0: none.
    buckets: [u16; N],
    /// Where the next search for a free slot begins.
    cursor: usize,
    /// Changes the NAT port of a slot each time it is reused, so that late packets of the old flow do not match.
    generation: u16,
}

impl<const N: usize> Flows<N> {
    const TABLE_FITS: () = assert!(N > 0 && N <= NAT_PORT_COUNT as usize, "more flows than NAT ports");

    pub(crate) const fn new() -> Self {
        let () = Self::TABLE_FITS;
        Self { slots: [Flow::FREE; N], buckets: [0; N], cursor: 0, generation: 0 }
    }

    /// Returns the flow with this tuple, unless it has expired.
    pub(crate) fn find(&mut self, now: CoarseInstant, tuple: &Tuple) -> Option<&mut Flow> {
        let mut link = *self.buckets.get(Self::bucket(tuple))?;
        // A chain is at most as long as the table.
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

    /// Returns the flow with this NAT port, unless it has expired.
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

    /// Puts a flow into a free slot, or evicts another flow. Returns `None` if no flow may be evicted.
    ///
    /// Flows are evicted in this order, and of each kind the longest idle first: expired, closed, unreplied, UDP, and TCP
    /// flows of addresses without a grant. Established TCP flows of addresses with a grant are kept.
    ///
    /// `is_granted` is called only if all slots hold established TCP flows.
    pub(crate) fn insert(
        &mut self,
        now: CoarseInstant,
        new: NewFlow,
        is_granted: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<&mut Flow> {
        // An expired flow with this tuple would shadow the new one.
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

    /// The number of flows that have not expired.
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
            // Looking for the grant costs more, so it comes last.
            if oldest.is_none_or(|(last, _)| flow.last < last) && !is_granted(flow.client.address) {
                oldest = Some((flow.last, index));
            }
        }
        oldest.map(|(_, index)| index)
    }

    /// Removes a flow from its chain and frees its slot.
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

    /// Only addresses with a grant can create flows, so a simple hash suffices: strangers cannot cause collisions.
    fn bucket(tuple: &Tuple) -> usize {
        let Tuple { protocol, client, server } = tuple;
        let ports = u32::from(client.port) << 16 | u32::from(server.port);
        let mixed = (u32::from(client.address)
            ^ u32::from(server.address).rotate_left(7)
            ^ u32::from(*protocol == Protocol::Udp))
        .wrapping_mul(0x9e37_79b1)
        .wrapping_add(ports)
        .wrapping_mul(0x85eb_ca6b);
        // The high bits depend on all of the input. A usize has at least 32 bits on all targets.
        usize::try_from(mixed ^ (mixed >> 15)).unwrap_or_default() % N
    }
}
