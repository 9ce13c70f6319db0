//! The latest times of accepted knocks, which must survive a reset.

use pkd_core::{Timestamp, UnixMillis, UnixSeconds};

/// For each format, the time up to which knocks may have been accepted. A floor of one format says nothing about the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floors {
    /// Of classic knocks. `None` if none was ever accepted.
    pub classic: Option<UnixSeconds>,
    /// Of knocks of format 2. `None` if none was ever accepted.
    pub format2: Option<UnixMillis>,
}

impl Floors {
    /// The greater floor of each format.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { classic: self.classic.max(other.classic), format2: self.format2.max(other.format2) }
    }

    /// Whether each floor is at least as great as the other's.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.max(other) == self
    }

    /// The latest time of either format; 1970 if there is none.
    pub(crate) fn latest(self) -> UnixMillis {
        let classic = self.classic.map_or(UnixMillis::ZERO, millis);
        classic.max(self.format2.unwrap_or_default())
    }
}

impl From<UnixSeconds> for Floors {
    /// Only of classic knocks.
    fn from(classic: UnixSeconds) -> Self {
        Self { classic: Some(classic), format2: None }
    }
}

impl From<UnixMillis> for Floors {
    /// Only of knocks of format 2.
    fn from(format2: UnixMillis) -> Self {
        Self { classic: None, format2: Some(format2) }
    }
}

/// The start of a second.
pub(crate) fn millis(time: UnixSeconds) -> UnixMillis {
    UnixMillis(time.0.saturating_mul(1_000))
}

/// The second that a time is in.
pub(crate) fn seconds(time: UnixMillis) -> UnixSeconds {
    UnixSeconds(time.0 / 1_000)
}
