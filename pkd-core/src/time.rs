//! The time in a knock, and the window that it must fall into.

use core::num::NonZeroU32;

/// Seconds since 1970-01-01T00:00:00Z. Every 64-bit value is valid: senders choose it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// This time plus the seconds of `window`; saturates at `u64::MAX`.
    #[must_use]
    pub fn plus(self, window: Window) -> Self {
        Self(self.0.saturating_add(window.as_secs().into()))
    }

    /// Seconds since `earlier`; 0 if `earlier` is later than this time.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// How a knock's time is checked.
///
/// Configurations and wire formats have it as seconds, with 0 for a gateway without a clock; see
/// [`from_secs`](Self::from_secs). The variants are ordered by those seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Window {
    /// The gateway has no clock: every time passes, and the cache accepts only times greater than the floor and than
    /// any that it has accepted.
    ///
    /// A sender whose clock is ahead locks the others out until their clocks have caught up. A knock with the time
    /// `u64::MAX` locks them out permanently.
    Monotonic,
    /// By how many seconds a knock's time may differ from the gateway's clock in either direction, inclusive.
    Skew(NonZeroU32),
}

impl Window {
    /// A window of `seconds` to either side; 0 means [`Monotonic`](Self::Monotonic).
    #[must_use]
    pub const fn from_secs(seconds: u32) -> Self {
        match NonZeroU32::new(seconds) {
            Some(seconds) => Self::Skew(seconds),
            None => Self::Monotonic,
        }
    }

    /// The seconds to either side; 0 for [`Monotonic`](Self::Monotonic).
    #[must_use]
    pub const fn as_secs(self) -> u32 {
        match self {
            Self::Monotonic => 0,
            Self::Skew(seconds) => seconds.get(),
        }
    }

    /// Whether `time` passes at the time `now`. Correct for every pair of 64-bit times.
    #[must_use]
    pub fn admits(self, now: UnixSeconds, time: UnixSeconds) -> bool {
        match self {
            Self::Monotonic => true,
            Self::Skew(seconds) => now.0.abs_diff(time.0) <= u64::from(seconds.get()),
        }
    }
}

impl Default for Window {
    /// 10 seconds, as in the original.
    fn default() -> Self {
        Self::from_secs(10)
    }
}
