//! Decisions about datagrams, and their counters.

use core::fmt;

/// The decision about one datagram. It is never called "reject": pkd does not answer.
///
/// The enum is exhaustive, so that every program that counts or explains verdicts has to name a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A fresh knock, made with the rule's key, seen for the first time.
    Accept,
    /// The same in format 2, with a request to end what was opened.
    Close,
    /// Anything else, with the first check that failed.
    Ignore(Reason),
}

impl Verdict {
    /// All verdicts: those of accepted knocks, and the reasons in the order of the checks.
    pub const ALL: [Self; 9] = [
        Self::Accept,
        Self::Close,
        Self::Ignore(Reason::Length),
        Self::Ignore(Reason::Tag),
        Self::Ignore(Reason::Window),
        Self::Ignore(Reason::Replay),
        Self::Ignore(Reason::Filter),
        Self::Ignore(Reason::Digest),
        Self::Ignore(Reason::Request),
    ];

    /// Those that a classic [`Rule`](crate::Rule) gives.
    pub const CLASSIC: [Self; 6] = [
        Self::Accept,
        Self::Ignore(Reason::Length),
        Self::Ignore(Reason::Tag),
        Self::Ignore(Reason::Window),
        Self::Ignore(Reason::Replay),
        Self::Ignore(Reason::Digest),
    ];

    /// The verdict's name in logs and metrics: `accept`, `close`, or the reason's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Close => "close",
            Self::Ignore(reason) => reason.as_str(),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The first check that a datagram failed. Ordered like the checks: a greater reason means that more checks passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The payload is not 56 bytes, or the datagram is incomplete.
    Length,
    /// The tag is not the rule's; in format 2, no knock of its key begins like this now.
    Tag,
    /// The time is outside the window.
    Window,
    /// The knock was accepted before, or is not later than the floor.
    Replay,
    /// The filter does not match: a forgery. Only in format 2.
    Filter,
    /// The digest does not match: another key, another port, another address that it is bound to, or altered bytes.
    Digest,
    /// A request or a flag of the future, or the rule wants a binding that the knock lacks. Only in format 2.
    Request,
}

impl Reason {
    /// All reasons in the order of the checks.
    pub const ALL: [Self; 7] =
        [Self::Length, Self::Tag, Self::Window, Self::Replay, Self::Filter, Self::Digest, Self::Request];

    /// The reason's name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Tag => "tag",
            Self::Window => "window",
            Self::Replay => "replay",
            Self::Filter => "filter",
            Self::Digest => "digest",
            Self::Request => "request",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Datagrams by verdict. Counts saturate at 2⁶⁴ − 1.
///
/// ```
/// use pkd_core::{Counters, Reason, Verdict};
///
/// let mut counters = Counters::default();
/// counters.count(Verdict::Ignore(Reason::Digest));
/// assert_eq!(counters.of(Verdict::Ignore(Reason::Digest)), 1);
/// assert_eq!(counters.of(Verdict::Accept), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    accepted: u64,
    closed: u64,
    length: u64,
    tag: u64,
    window: u64,
    replay: u64,
    filter: u64,
    digest: u64,
    request: u64,
}

impl Counters {
    /// Counts one datagram.
    pub fn count(&mut self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Accept => &mut self.accepted,
            Verdict::Close => &mut self.closed,
            Verdict::Ignore(Reason::Length) => &mut self.length,
            Verdict::Ignore(Reason::Tag) => &mut self.tag,
            Verdict::Ignore(Reason::Window) => &mut self.window,
            Verdict::Ignore(Reason::Replay) => &mut self.replay,
            Verdict::Ignore(Reason::Filter) => &mut self.filter,
            Verdict::Ignore(Reason::Digest) => &mut self.digest,
            Verdict::Ignore(Reason::Request) => &mut self.request,
        };
        *counter = counter.saturating_add(1);
    }

    /// Datagrams with this verdict so far.
    #[must_use]
    pub fn of(&self, verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Accept => self.accepted,
            Verdict::Close => self.closed,
            Verdict::Ignore(Reason::Length) => self.length,
            Verdict::Ignore(Reason::Tag) => self.tag,
            Verdict::Ignore(Reason::Window) => self.window,
            Verdict::Ignore(Reason::Replay) => self.replay,
            Verdict::Ignore(Reason::Filter) => self.filter,
            Verdict::Ignore(Reason::Digest) => self.digest,
            Verdict::Ignore(Reason::Request) => self.request,
        }
    }
}
