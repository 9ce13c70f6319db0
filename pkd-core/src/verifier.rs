//! The order of the checks.

use crate::{Knock, KnockId, Packet, Reason, ReplayStore, Rule, UnixSeconds, Verdict};

/// One rule and the store of its accepted knocks, put together for a check.
#[derive(Debug)]
pub struct Verifier<'a, M> {
    rule: &'a Rule,
    store: &'a mut M,
}

impl<'a, M: ReplayStore> Verifier<'a, M> {
    /// `store` must be the one that all rules with this tag and key share; a second one would accept the same knock
    /// again.
    pub fn new(rule: &'a Rule, store: &'a mut M) -> Self {
        Self { rule, store }
    }

    /// Decides about a datagram at the time `now`; the first check that fails gives the reason.
    ///
    /// `now` is the gateway's clock; it is ignored with [`Window::NO_CLOCK`](crate::Window::NO_CLOCK). The caller
    /// must have filtered out fragments and datagrams with a wrong checksum.
    ///
    /// There is a second look at the store because another CPU may have accepted the same bytes between the first
    /// look and the end of the hash.
    pub fn check(&mut self, now: UnixSeconds, packet: &Packet<'_>) -> Verdict {
        match self.first_failure(now, packet) {
            Some(reason) => Verdict::Ignore(reason),
            None => Verdict::Accept,
        }
    }

    fn first_failure(&mut self, now: UnixSeconds, packet: &Packet<'_>) -> Option<Reason> {
        let Rule { key, tag, window } = self.rule;
        let Some(knock) = Knock::parse(packet.payload) else {
            return Some(Reason::Length);
        };
        if knock.tag() != *tag {
            return Some(Reason::Tag);
        }
        if !window.admits(now, knock.time()) {
            return Some(Reason::Window);
        }
        let claimed = knock.digest();
        let id = KnockId::new(knock.time(), &claimed);
        if self.store.refuses(id, *window) {
            return Some(Reason::Replay);
        }
        if !knock.expected_digest(key, packet.destination_port).matches(&claimed) {
            return Some(Reason::Digest);
        }
        if !self.store.record(id, *window) {
            return Some(Reason::Replay);
        }
        None
    }
}
