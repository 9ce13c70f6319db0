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
    TooEarly {
        /// What it says.
        reported: UnixSeconds,
        /// The earliest that it can be.
        earliest: UnixSeconds,
    },
}

impl fmt::Display for TimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::TooEarly { reported, earliest } = self;
        write!(f, "it tells {}, and it is at least {}", reported.0, earliest.0)
    }
}

/// The time of day: unknown at first, then as reported last and counted on.
///
/// A time that is wrong by mistake or malice makes honest knocks fall out of the window. It brings no accepted knock
/// back: caches refuse by their floor, which no clock lowers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    reading: Option<(Instant, UnixSeconds)>,
}

impl Clock {
    /// The time of day; `None` until it was reported.
    #[must_use]
    pub fn time(&self, now: Instant) -> Option<UnixSeconds> {
        self.reading.map(|(at, time)| UnixSeconds(time.0.saturating_add(now.since(at) / 1_000)))
    }

    /// A time server tells the time. `earliest`: the least that it can be.
    ///
    /// # Errors
    /// [`TimeError`]; the clock goes on as before then.
    pub fn set(
        &mut self,
        now: Instant,
        reported: UnixSeconds,
        earliest: UnixSeconds,
    ) -> Result<(), TimeError> {
        if reported < earliest {
            return Err(TimeError::TooEarly { reported, earliest });
        }
        self.reading = Some((now, reported));
        Ok(())
    }
}
