//! The flow table. Flows are found quickly from either side.

use crate::{
    flow::{Flow, FlowKind, NewFlow, Origin, Peer, State, Tuple},
    instant::CoarseInstant,
    ip::Ip,
    prefixes::Prefixes,
};

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
    prefixes: Prefixes,
    /// The index of the first flow of each bucket, plus one. 0: none.
    buckets: [u16; N],
    /// Where the next search for a free slot begins.
    cursor: usize,
}

impl<const N: usize> Flows<N> {
    const TABLE_FITS: () = assert!(N > 0 && N <= NAT_PORT_COUNT as usize, "more flows than NAT ports");

    pub(crate) const fn new() -> Self {
        let () = Self::TABLE_FITS;
        Self { slots: [Flow::FREE; N], prefixes: Prefixes::new(), buckets: [0; N], cursor: 0 }
    }

    /// Returns the flow with this tuple, unless it has expired.
    #[inline(always)]
    #[allow(clippy::inline_always)] // saves each frame a call
    pub(crate) fn find(&mut self, now: CoarseInstant, tuple: &Tuple) -> Option<&mut Flow> {
        let index = self.index_of(tuple)?;
        self.slots.get_mut(index).filter(|flow| !flow.is_expired(now))
    }

    /// Returns the flow with this NAT port, and its tuple, unless it has expired.
    pub(crate) fn find_by_nat_port(
        &mut self,
        now: CoarseInstant,
        kind: FlowKind,
        port: u16,
    ) -> Option<(&mut Flow, Tuple)> {
        let index =
            usize::from(port.checked_sub(NAT_PORT_FIRST).filter(|offset| *offset < NAT_PORT_COUNT)?) % N;
        let flow = self.slots.get_mut(index)?;
        if flow.state == State::Free || flow.nat_port != port || flow.kind != kind || flow.is_expired(now) {
            return None;
        }
        let tuple = tuple(&self.prefixes, flow);
        Some((flow, tuple))
    }

    /// Puts a flow into a free slot, or evicts another flow. Returns `None` if no flow may be evicted.
    ///
    /// Flows are evicted in this order, and of each kind the longest idle first: expired, closed, unreplied, UDP, and TCP
    /// flows that an inside host has opened, and those of addresses without a grant. Established TCP flows of addresses with a
    /// grant are kept. A flow that an inside host opens evicts no established flow from outside.
    ///
    /// `is_granted` is called only if all slots hold established TCP flows.
    pub(crate) fn insert(
        &mut self,
        now: CoarseInstant,
        new: NewFlow,
        is_granted: &dyn Fn(Ip) -> bool,
    ) -> Option<&mut Flow> {
        // An expired flow with this tuple would shadow the new one.
        let stale = self.index_of(&new.tuple);
        let index = stale
            .or_else(|| self.free_slot(now))
            .or_else(|| self.evictable(new.origin, is_granted, false))?;
        self.remove(index);
        let prefixes = if let Some(prefixes) = self.prefixes.take(&new.tuple) {
            prefixes
        } else {
            let other = self.expired_v6(now).or_else(|| self.evictable(new.origin, is_granted, true))?;
            self.remove(other);
            self.prefixes.take(&new.tuple)?
        };
        let bucket = Self::bucket(&new.tuple);
        let head = self.buckets.get_mut(bucket)?;
        let flow = self.slots.get_mut(index)?;
        *flow = Flow::new(now, new, prefixes, Self::next_port(index, flow.nat_port)?, *head);
        *head = u16::try_from(index + 1).ok()?;
        Some(flow)
    }

    /// The port that a slot uses after `last`: another one each time, so that late packets of the old flow do not match.
    fn next_port(index: usize, last: u16) -> Option<u16> {
        let step = u16::try_from(N).ok()?;
        let next = last.checked_add(step).filter(|next| last != 0 && *next < NAT_PORT_FIRST + NAT_PORT_COUNT);
        next.or_else(|| NAT_PORT_FIRST.checked_add(u16::try_from(index).ok()?))
    }

    /// Has the next datagram of every flow from outside look for its grant, because one has ended before its time.
    pub(crate) fn ask_again(&mut self) {
        let datagrams = self.slots.iter_mut().filter(|flow| flow.kind != FlowKind::Tcp);
        datagrams.for_each(|flow| flow.until = CoarseInstant::ZERO);
    }

    /// The number of flows that have not expired.
    pub(crate) fn len(&self, now: CoarseInstant) -> usize {
        self.slots.iter().filter(|flow| flow.state != State::Free && !flow.is_expired(now)).count()
    }

    fn index_of(&self, tuple: &Tuple) -> Option<usize> {
        let mut link = *self.buckets.get(Self::bucket(tuple))?;
        // A chain is at most as long as the table.
        for _ in 0..N {
            let index = usize::from(link).checked_sub(1)?;
            let flow = self.slots.get(index)?;
            if flow.may_be(tuple) && self.prefixes.is(flow.prefixes, tuple) {
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

    fn expired_v6(&self, now: CoarseInstant) -> Option<usize> {
        self.slots.iter().position(|flow| flow.prefixes != 0 && flow.is_expired(now))
    }

    /// The flow to evict. `only_v6`: of those of IPv6.
    fn evictable(&self, origin: Origin, is_granted: &dyn Fn(Ip) -> bool, only_v6: bool) -> Option<usize> {
        let rank = |flow: &Flow| match (flow.state, flow.kind, flow.origin) {
            (State::Free | State::Closed, _, _) => Some(0),
            (State::Unreplied, _, _) => Some(1),
            (_, FlowKind::Udp | FlowKind::Echo, Origin::Inside) => Some(2),
            (_, FlowKind::Tcp, Origin::Inside) => Some(3),
            (_, FlowKind::Udp | FlowKind::Echo, Origin::Outside) if origin == Origin::Outside => Some(2),
            (_, _, Origin::Outside) => None,
        };
        let slots = || self.slots.iter().enumerate().filter(|(_, flow)| !only_v6 || flow.prefixes != 0);
        let cheap = slots().filter_map(|(index, flow)| Some((rank(flow)?, flow.last, index))).min();
        if let Some((_, _, index)) = cheap {
            return Some(index);
        }
        let mut oldest: Option<(CoarseInstant, usize)> = None;
        for (index, flow) in slots() {
            // Looking for the grant costs more, so it comes last.
            if oldest.is_none_or(|(last, _)| flow.last < last)
                && !is_granted(tuple(&self.prefixes, flow).client.ip)
            {
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
        if let Some(head) = self.buckets.get_mut(Self::bucket(&tuple(&self.prefixes, &flow))) {
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
            *slot = flow.freed();
        }
        self.prefixes.free(flow.prefixes);
    }

    /// Only addresses with a grant and inside hosts can create flows, so a simple hash suffices: strangers cannot cause
    /// collisions.
    #[inline(always)]
    #[allow(clippy::inline_always)] // saves each frame 30 instructions
    fn bucket(tuple: &Tuple) -> usize {
        let Tuple { kind, client, server } = tuple;
        let ports = u32::from(client.port) << 16 | u32::from(server.port);
        // The networks of IPv6 clients differ in their first words, or not at all.
        let ([a, b, _, c], [.., d]) = (client.ip.words(), server.ip.words());
        let mixed = (a ^ b ^ c ^ d.rotate_left(7) ^ u32::from(*kind == FlowKind::Udp))
            .wrapping_mul(0x9e37_79b1)
            .wrapping_add(ports)
            .wrapping_mul(0x85eb_ca6b);
        // The high bits depend on all of the input. A usize has at least 32 bits on all targets.
        usize::try_from(mixed ^ (mixed >> 15)).unwrap_or_default() % N
    }
}

/// A flow's tuple.
fn tuple(prefixes: &Prefixes, flow: &Flow) -> Tuple {
    let [client, server] = prefixes.join(flow.prefixes, [flow.client_low, flow.server_low]);
    Tuple {
        kind: flow.kind,
        client: Peer { ip: client, port: flow.client_port },
        server: Peer { ip: server, port: flow.server_port },
    }
}
