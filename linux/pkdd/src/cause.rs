//! Why a datagram was ignored.

use std::fmt;

use pkd_core::Reason;

/// Why a datagram was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A check failed.
    Check(Reason),
    /// It could not be told from a replay: after a start without a complete memory, knocks wait for one window.
    Waiting,
}

impl Cause {
    /// All causes, in the order of the log.
    pub const ALL: [Self; Reason::ALL.len() + 1] = {
        let mut all = [Self::Waiting; Reason::ALL.len() + 1];
        let mut place = 0;
        while place < Reason::ALL.len() {
            all[place] = Self::Check(Reason::ALL[place]);
            place += 1;
        }
        all
    };

    /// The failed check.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Check(reason) => reason,
            Self::Waiting => Reason::Replay,
        }
    }

    /// The name in logs, metrics and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Check(reason) => reason.as_str(),
            Self::Waiting => "waiting",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
