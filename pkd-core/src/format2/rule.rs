//! The rule that a knock is checked against, and the order of the checks.

use super::{
    Addresses, Bindings, Contents, Hints, Keys, Knock, Request,
    knock::{bound, hint},
};
use crate::{Key, KnockId, Packet, Port, Reason, ReplayStore, Tag, UnixMillis, Verdict, Window};

/// The derived keys, how far clocks may differ, what knocks have to be bound to, and what they may ask for.
#[derive(Clone, Debug)]
pub struct Rule {
    keys: Keys,
    window: Window,
    /// The window in milliseconds; a 32-bit processor does not multiply for each packet.
    width: u64,
    require: Bindings,
    /// `None`: any request.
    wanted: Option<Request>,
}

impl Rule {
    /// A rule for knocks that are made with this key and tag, and bound at least to what `require` says.
    #[must_use]
    pub fn new(key: &Key, tag: Tag, window: Window, require: Bindings) -> Self {
        Self { keys: Keys::new(key, tag), window, width: window.units::<UnixMillis>(), require, wanted: None }
    }

    /// The same rule for knocks with this request only. It ignores others with [`Reason::Request`] and does not record
    /// them, so that a rule for the other request, with the same store, still accepts them.
    #[must_use]
    pub fn only(mut self, request: Request) -> Self {
        self.wanted = Some(request);
        self
    }

    /// What knocks are made with.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// How far the sender's clock may differ.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// The hints for [`verify`](Self::verify) from now on.
    #[must_use]
    pub fn hints(&self, now: UnixMillis) -> Hints {
        Hints::new(&self.keys, self.window, self.width, now)
    }

    /// Makes the hints anew if `now` needs others; whether it did.
    pub fn refresh(&self, hints: &mut Hints, now: UnixMillis) -> bool {
        hints.refresh(&self.keys, self.window, self.width, now)
    }

    /// Whether [`refresh`](Self::refresh) would make these hints anew. For callers who keep two, one of them in use.
    #[must_use]
    pub fn are_due(&self, hints: &Hints, now: UnixMillis) -> bool {
        hints.are_due(self.window, self.width, now)
    }

    /// The reason for which [`verify`](Self::verify) refuses a datagram whatever time it is and whoever sent it:
    /// [`Reason::Length`] or [`Reason::Tag`]. `None`: it may be a knock. For callers to whom time and addresses cost more.
    #[must_use]
    pub fn noise(&self, hints: &Hints, packet: &Packet<'_>) -> Option<Reason> {
        match hint(packet.payload) {
            None => Some(Reason::Length),
            Some(hint) if hints.is_known(hint, self.window) => None,
            Some(_) => Some(Reason::Tag),
        }
    }

    /// Decides about a datagram at the time `now`; the first check that fails gives the reason.
    ///
    /// `hints` are this rule's. `store` must be the one that all rules with this tag and key share; a second one would
    /// accept the same knock again. `own` are addresses that the gateway is reached at from outside, for knocks that
    /// are bound to their destination and come through NAT; 4 or 16 bytes each. The caller must have filtered out
    /// fragments and datagrams with a wrong checksum.
    #[inline]
    pub fn verify<S: ReplayStore<UnixMillis>>(
        &self,
        hints: &Hints,
        store: &mut S,
        now: UnixMillis,
        packet: &Packet<'_>,
        addresses: &Addresses<'_>,
        own: &[&[u8]],
    ) -> Verdict {
        match self.noise(hints, packet) {
            Some(reason) => Verdict::Ignore(reason),
            None => self.verdict(hints, store, now, packet, addresses, own),
        }
    }

    /// The verdict about what is not noise. It has the arguments of [`verify`](Self::verify), so that this goes on here
    /// without a frame of its own, and noise does not pay for one.
    #[inline(never)]
    fn verdict<S: ReplayStore<UnixMillis>>(
        &self,
        hints: &Hints,
        store: &mut S,
        now: UnixMillis,
        packet: &Packet<'_>,
        addresses: &Addresses<'_>,
        own: &[&[u8]],
    ) -> Verdict {
        match self.request(hints, store, now, packet, addresses, own) {
            Ok(Request::Open) => Verdict::Accept,
            Ok(Request::Close) => Verdict::Close,
            Err(reason) => Verdict::Ignore(reason),
        }
    }

    /// The checks after [`noise`](Self::noise), cheapest first. Each step is a function of its own, because kernels have
    /// little stack for SHA-256 below it. There is a second look at the store because another CPU may have accepted the
    /// same bytes meanwhile.
    fn request<S: ReplayStore<UnixMillis>>(
        &self,
        hints: &Hints,
        store: &mut S,
        now: UnixMillis,
        packet: &Packet<'_>,
        addresses: &Addresses<'_>,
        own: &[&[u8]],
    ) -> Result<Request, Reason> {
        let knock = Knock::parse(packet.payload).ok_or(Reason::Length)?;
        let hint = u32::from_le_bytes(knock.hint());
        ensure(hints.admit(hint, self.window, self.width, now), Reason::Tag)?;
        let contents = self.first_look(store, now, knock, packet.destination_port)?;
        let contents = Contents::unpacked(contents);
        ensure(
            self.is_authentic(hints, knock, &contents, packet.destination_port, addresses, own),
            Reason::Digest,
        )?;
        self.second_look(store, knock, &contents)
    }

    /// What needs no SHA-256. The contents are packed, because small processors copy them otherwise.
    #[inline(never)]
    fn first_look<S: ReplayStore<UnixMillis>>(
        &self,
        store: &mut S,
        now: UnixMillis,
        knock: Knock<'_>,
        port: Port,
    ) -> Result<u64, Reason> {
        let packed = knock.unmasked(&self.keys);
        let Contents { time, .. } = Contents::unpacked(packed);
        let is_admitted = now.0.abs_diff(time.0) <= self.width || self.window == Window::Monotonic;
        ensure(is_admitted, Reason::Window)?;
        ensure(!store.refuses(KnockId::kept(time, knock.id()), self.window), Reason::Replay)?;
        ensure(knock.filter_matches(&self.keys, port), Reason::Filter)?;
        Ok(packed)
    }

    /// Whether a holder of the key made it for these addresses, or for one of our own. The packet's is tried first.
    fn is_authentic(
        &self,
        hints: &Hints,
        knock: Knock<'_>,
        contents: &Contents,
        port: Port,
        addresses: &Addresses<'_>,
        own: &[&[u8]],
    ) -> bool {
        let bindings = Bindings::known(contents.flags);
        let destination = addresses.destination();
        let is_for =
            |destination| knock.auth_matches(&self.keys, port, bound(bindings, addresses, destination));
        let mut is_for_us = is_for(destination);
        if bindings.contains(Bindings::DESTINATION) {
            for address in own.iter().filter(|address| address.len() == destination.len()) {
                is_for_us = is_for_us || is_for(address);
            }
        }
        is_for_us && knock.hint_matches(&self.keys, hints, contents.time)
    }

    /// What only a holder of the key can fail.
    #[inline(never)]
    fn second_look<S: ReplayStore<UnixMillis>>(
        &self,
        store: &mut S,
        knock: Knock<'_>,
        contents: &Contents,
    ) -> Result<Request, Reason> {
        let request = Request::from_byte(contents.request).ok_or(Reason::Request)?;
        let known = Bindings::from_bits(contents.flags).ok_or(Reason::Request)?;
        ensure(known.contains(self.require), Reason::Request)?;
        ensure(self.wanted.is_none_or(|wanted| wanted == request), Reason::Request)?;
        ensure(store.record(KnockId::kept(contents.time, knock.id()), self.window), Reason::Replay)?;
        Ok(request)
    }
}

fn ensure(holds: bool, otherwise: Reason) -> Result<(), Reason> {
    if holds { Ok(()) } else { Err(otherwise) }
}
