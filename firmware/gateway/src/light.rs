//! What the board's LED shows.

/// The state of a gateway that works, as its LED shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Light {
    /// All is well: one blink in two seconds.
    Normal,
    /// The time is not known yet, so no knock is accepted: one blink a second.
    NoTime,
    /// A loop connects both sides, so nothing is forwarded: as fast as it goes.
    Loop,
    /// The time was set too long ago, so honest knocks may soon be outside of their window: two short flashes in two seconds.
    Stale,
}

impl Light {
    /// Whether the LED is on in this tick. Ticks are 100 ms.
    #[must_use]
    pub fn is_on(self, tick: u32) -> bool {
        match self {
            Self::Normal => tick % 20 < 10,
            Self::NoTime => tick % 10 < 5,
            Self::Loop => tick.is_multiple_of(2),
            Self::Stale => matches!(tick % 20, 0 | 1 | 4 | 5),
        }
    }

    /// For logs and the status page.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::NoTime => "waiting for the time",
            Self::Loop => "a loop connects both sides, so nothing is forwarded",
            Self::Stale => "the time is stale",
        }
    }
}
