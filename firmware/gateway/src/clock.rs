//! The time of day, as far as a time server can be believed.

use core::fmt;

use pkd_core::UnixSeconds;

use crate::Instant;

/// Why a time server was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeError {
    /// It tells a time that has been before: earlier than the configuration was made, or than the greatest time of an accepted
    /// knock less its window.
    Earlier {
        /// What it says.
        told: UnixSeconds,
        /// The earliest that it can be.
        earliest: UnixSeconds,
    },
}

impl fmt::Display for TimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Earlier { told, earliest } = self;
        write!(f, "it tells {}, and it is at least {}", told.0, earliest.0)
    }
}

/// The time of day: unknown at first, then as told last and counted on.
///
/// A time that is wrong by mistake or malice makes honest knocks fall out of the window. It brings no accepted knock
/// back: caches refuse by their floor, which no clock lowers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    told: Option<(Instant, UnixSeconds)>,
}

impl Clock {
    /// The time of day; `None` until it was told.
    #[must_use]
    pub fn time(&self, now: Instant) -> Option<UnixSeconds> {
        self.told.map(|(at, time)| UnixSeconds(time.0.saturating_add(now.since(at) / 1_000)))
    }

    /// A time server tells the time. `earliest`: the least that it can be.
    ///
    /// # Errors
    /// [`TimeError`]; the clock goes on as before then.
    pub fn tell(&mut self, now: Instant, told: UnixSeconds, earliest: UnixSeconds) -> Result<(), TimeError> {
        if told < earliest {
            return Err(TimeError::Earlier { told, earliest });
        }
        self.told = Some((now, told));
        Ok(())
    }
}
