//! The time of day, from a time server.

use core::fmt;

use pkd_core::UnixMillis;

use crate::Instant;

/// Seconds after which a clock that was not set again is stale. A crystal of 100 ppm is then up to 1.5 s off, which is part of every
/// window that is not 0. If the interval between requests is long, it is three intervals instead.
pub const STALE_AFTER: u32 = 4 * 3_600;

/// Why a time server's time was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeError {
    /// The time has already passed: it is earlier than the configuration, or than the latest accepted knock less the widest
    /// window.
    TooEarly {
        /// The time that the server reported.
        reported: UnixMillis,
        /// The earliest possible time.
        earliest: UnixMillis,
    },
}

impl fmt::Display for TimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::TooEarly { reported, earliest } = self;
        write!(f, "reported {}, but the time is at least {}", reported.0 / 1_000, earliest.0 / 1_000)
    }
}

/// The time of day. It is unknown until it is set for the first time.
///
/// A wrong time, by mistake or by intent, makes honest knocks fall outside the window. It cannot make an accepted knock work
/// again: the replay caches' floor rejects it, and no clock lowers the floor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    reading: Option<(Instant, UnixMillis)>,
}

impl Clock {
    /// The current time, or `None` if the clock was never set.
    #[must_use]
    pub fn time(&self, now: Instant) -> Option<UnixMillis> {
        self.reading.map(|(at, time)| UnixMillis(time.0.saturating_add(now.since(at))))
    }

    /// How long ago the clock was set, in seconds. `None` if it was never set.
    #[must_use]
    pub fn age(&self, now: Instant) -> Option<u64> {
        self.reading.map(|(at, _)| now.since(at) / 1_000)
    }

    /// Sets the clock. `earliest` is the earliest time to accept.
    ///
    /// # Errors
    /// [`TimeError`] if `reported` is too early. The clock does not change.
    pub fn set(&mut self, now: Instant, reported: UnixMillis, earliest: UnixMillis) -> Result<(), TimeError> {
        if reported < earliest {
            return Err(TimeError::TooEarly { reported, earliest });
        }
        self.reading = Some((now, reported));
        Ok(())
    }
}
