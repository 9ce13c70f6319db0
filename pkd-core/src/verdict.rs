//! What a door decides about a datagram, and how often.

use core::fmt;

/// The decision about one datagram. Never "reject": nobody is ever answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A knock, fresh, made with the rule's key, seen for the first time.
    Accept,
    /// Anything else.
    Ignore(Reason),
}

/// The check that a datagram failed first. Each is cheaper than the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not 56 bytes of payload, or not all of the datagram.
    Length,
    /// Another tag than the rule's.
    Tag,
    /// A time outside the window.
    Window,
    /// Accepted before, or not later than the floor.
    Replay,
    /// Not made with the rule's key, or altered, or sent to another port.
    Digest,
}

impl Reason {
    /// All reasons in the order of the checks.
    pub const ALL: [Self; 5] = [Self::Length, Self::Tag, Self::Window, Self::Replay, Self::Digest];
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "length",
            Self::Tag => "tag",
            Self::Window => "window",
            Self::Replay => "replay",
            Self::Digest => "digest",
        })
    }
}

/// How many datagrams got which verdict. At 2⁶⁴ a count stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    accepted: u64,
    length: u64,
    tag: u64,
    window: u64,
    replay: u64,
    digest: u64,
}

impl Counters {
    /// Adds one datagram.
    pub fn count(&mut self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Accept => &mut self.accepted,
            Verdict::Ignore(Reason::Length) => &mut self.length,
            Verdict::Ignore(Reason::Tag) => &mut self.tag,
            Verdict::Ignore(Reason::Window) => &mut self.window,
            Verdict::Ignore(Reason::Replay) => &mut self.replay,
            Verdict::Ignore(Reason::Digest) => &mut self.digest,
        };
        *counter = counter.saturating_add(1);
    }

    /// Datagrams with this verdict so far.
    #[must_use]
    pub fn of(&self, verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Accept => self.accepted,
            Verdict::Ignore(Reason::Length) => self.length,
            Verdict::Ignore(Reason::Tag) => self.tag,
            Verdict::Ignore(Reason::Window) => self.window,
            Verdict::Ignore(Reason::Replay) => self.replay,
            Verdict::Ignore(Reason::Digest) => self.digest,
        }
    }
}
