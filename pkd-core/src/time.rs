//! Time as the knock carries it, and the window it must fall into.

/// Seconds since 1970-01-01T00:00:00Z. Every 64-bit value is valid input: strangers choose it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// The end of `window` when it begins here; `u64::MAX` where that lies beyond 64 bits.
    #[must_use]
    pub const fn plus(self, window: Window) -> Self {
        // u64::from is not const.
        #[allow(clippy::as_conversions)]
        Self(self.0.saturating_add(window.0 as u64))
    }

    /// Seconds from `earlier` until here; 0 where `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// How far, in seconds, a knock's time may lie before or after the gateway's clock; both ends count.
///
/// 0 stands for a gateway without a clock, see [`Window::NO_CLOCK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Window(u32);

impl Window {
    /// The gateway has no clock: every time passes the window, and the cache accepts only times greater than its
    /// floor and than any it has accepted.
    ///
    /// A sender whose clock is ahead locks the others out until theirs have caught up; one who sends `u64::MAX`,
    /// permanently.
    pub const NO_CLOCK: Self = Self(0);

    /// A window of `seconds` to either side.
    #[must_use]
    pub const fn from_secs(seconds: u32) -> Self {
        Self(seconds)
    }

    /// The seconds to either side.
    #[must_use]
    pub const fn as_secs(self) -> u32 {
        self.0
    }

    /// Whether `time` lies within the window around `now`. Correct for every pair of 64-bit times.
    #[must_use]
    pub fn admits(self, now: UnixSeconds, time: UnixSeconds) -> bool {
        self == Self::NO_CLOCK || now.0.abs_diff(time.0) <= u64::from(self.0)
    }
}

impl Default for Window {
    /// 10 seconds, as in the original.
    fn default() -> Self {
        Self(10)
    }
}
