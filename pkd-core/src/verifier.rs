//! The order of the checks.

use crate::{Knock, KnockId, Packet, Reason, ReplayStore, Rule, UnixSeconds, Verdict};

/// One rule and the memory of what it accepted, put together for a check.
#[derive(Debug)]
pub struct Verifier<'a, M> {
    rule: &'a Rule,
    memory: &'a mut M,
}

impl<'a, M: ReplayStore> Verifier<'a, M> {
    /// `memory` must be the one that all rules with this tag and key share; another one would accept
    /// the same knock once more.
    pub fn new(rule: &'a Rule, memory: &'a mut M) -> Self {
        Self { rule, memory }
    }

    /// Decides about a datagram at the time `now`; the first check that fails gives the reason.
    ///
    /// `now` is the gateway's clock; with [`Window::NO_CLOCK`](crate::Window::NO_CLOCK) it counts for
    /// nothing. The platform has to have left out fragments and datagrams with a wrong checksum.
    ///
    /// A knock that is refused by mistake costs its sender a second knock. One accepted by mistake
    /// opens the door: hence the second look, because between the first and the end of the hash
    /// another CPU may have accepted the same bytes.
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
        let mark = KnockId::new(knock.time(), &claimed);
        if self.memory.refuses(mark, *window) {
            return Some(Reason::Replay);
        }
        if !knock.expected_digest(key, packet.destination_port).matches(&claimed) {
            return Some(Reason::Digest);
        }
        if !self.memory.record(mark, *window) {
            return Some(Reason::Replay);
        }
        None
    }
}
