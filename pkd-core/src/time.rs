//! The time in a knock, and the window that it must fall into.

/// Seconds since 1970-01-01T00:00:00Z. Every 64-bit value is valid: senders choose it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// This time plus `window`; saturates at `u64::MAX`.
    #[must_use]
    pub const fn plus(self, window: Window) -> Self {
        // u64::from is not const.
        #[allow(clippy::as_conversions)]
        Self(self.0.saturating_add(window.0 as u64))
    }

    /// Seconds since `earlier`; 0 if `earlier` is later than this time.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// By how many seconds a knock's time may differ from the gateway's clock in either direction, inclusive.
///
/// 0 means a gateway without a clock, see [`Window::NO_CLOCK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Window(u32);

impl Window {
    /// The gateway has no clock: every time passes the window, and the cache accepts only times greater than the
    /// floor and than any that it has accepted.
    ///
    /// A sender whose clock is ahead locks the others out until their clocks have caught up. A knock with the time
    /// `u64::MAX` locks them out permanently.
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
