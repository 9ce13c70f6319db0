//! Time since boot.

/// Milliseconds since boot. It never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub u64);

impl Instant {
    /// The instant `seconds` later.
    #[must_use]
    pub const fn after(self, seconds: u32) -> Self {
        // `u64::from` is not const.
        Self(self.0.saturating_add(seconds as u64 * 1_000))
    }

    /// Milliseconds since `earlier`, or 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// An [`Instant`] in 4 bytes, as the tables store it, in steps of 64 ms.
///
/// It saturates after 8.7 years without a reset. From then on no grant holds, and flows that are used do not expire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CoarseInstant(u32);

impl CoarseInstant {
    pub(crate) const ZERO: Self = Self(0);

    pub(crate) fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds since `earlier`.
    pub(crate) fn seconds_since(self, earlier: Self) -> u32 {
        // A step is 8/125 of a second.
        u32::try_from(u64::from(self.since(earlier)) * 8 / 125).unwrap_or(u32::MAX)
    }

    /// The number of steps in `seconds`, rounded up.
    pub(crate) const fn steps(seconds: u32) -> u32 {
        seconds.saturating_mul(125).div_ceil(8)
    }

    pub(crate) fn after(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(Self::steps(seconds)))
    }
}

impl From<Instant> for CoarseInstant {
    fn from(instant: Instant) -> Self {
        Self(u32::try_from(instant.0 >> 6).unwrap_or(u32::MAX))
    }
}
