//! The time in a knock, and the window that it must fall into.

use core::{fmt, num::NonZeroU32};

/// A time since 1970-01-01T00:00:00Z, in the unit of a knock's format.
///
/// A replay cache holds times of one unit, so the caches and floors of the two formats cannot be mixed up.
pub trait Timestamp: Copy + Ord + fmt::Debug {
    /// Units in a second.
    const PER_SECOND: u32;
    /// 1970-01-01T00:00:00Z: no time at all. No knock of this time is accepted.
    const ZERO: Self;

    /// The time in its unit.
    #[must_use]
    fn units(self) -> u64;

    /// The time that is so many units after 1970.
    #[must_use]
    fn from_units(units: u64) -> Self;

    /// This time plus `window`; saturates at `u64::MAX` units.
    #[must_use]
    fn plus(self, window: Window) -> Self {
        Self::from_units(self.units().saturating_add(window.units::<Self>()))
    }

    /// Units since `earlier`; 0 if `earlier` is later than this time.
    #[must_use]
    fn since(self, earlier: Self) -> u64 {
        self.units().saturating_sub(earlier.units())
    }
}

/// Seconds since 1970-01-01T00:00:00Z. Every 64-bit value is valid: senders choose it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct UnixSeconds(pub u64);

impl Timestamp for UnixSeconds {
    const PER_SECOND: u32 = 1;
    const ZERO: Self = Self(0);

    fn units(self) -> u64 {
        self.0
    }

    fn from_units(units: u64) -> Self {
        Self(units)
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z, the time of format 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct UnixMillis(pub u64);

impl Timestamp for UnixMillis {
    const PER_SECOND: u32 = 1_000;
    const ZERO: Self = Self(0);

    fn units(self) -> u64 {
        self.0
    }

    fn from_units(units: u64) -> Self {
        Self(units)
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
    pub fn admits<T: Timestamp>(self, now: T, time: T) -> bool {
        match self {
            Self::Monotonic => true,
            Self::Skew(_) => now.units().abs_diff(time.units()) <= self.units::<T>(),
        }
    }

    /// The window in a format's unit; 0 for [`Monotonic`](Self::Monotonic).
    pub(crate) fn units<T: Timestamp>(self) -> u64 {
        // Both factors have 32 bits.
        u64::from(self.as_secs()).saturating_mul(T::PER_SECOND.into())
    }
}

impl Default for Window {
    /// 10 seconds, as in the original.
    fn default() -> Self {
        Self::from_secs(10)
    }
}
