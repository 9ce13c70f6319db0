//! Time since the gateway's start.

/// Milliseconds since the gateway's start; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub u64);

impl Instant {
    /// `seconds` later.
    #[must_use]
    pub const fn after(self, seconds: u32) -> Self {
        // u64::from is not const.
        Self(self.0.saturating_add(seconds as u64 * 1_000))
    }

    /// Milliseconds from `earlier` until here; 0 where `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// An [`Instant`] as the tables keep it: in 4 bytes, in steps of 64 ms.
///
/// It endpoints after 8.7 years without a restart: from then on nothing grows older.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CoarseInstant(u32);

impl CoarseInstant {
    pub(crate) const ZERO: Self = Self(0);

    pub(crate) fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }

    /// As many steps as `seconds` have, rounded up.
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
