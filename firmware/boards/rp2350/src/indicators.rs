//! The LED and the watchdog.

use embassy_rp::{gpio::Output, watchdog::Watchdog};
use embassy_time::Duration;
use pkd_runtime::Indicators;

/// Longer than erasing a sector takes: at most 0.4 s (data sheet of the W25Q16).
const TIMEOUT: Duration = Duration::from_secs(4);

/// The LED and the watchdog.
pub struct LedAndWatchdog {
    led: Output<'static>,
    watchdog: Watchdog,
}

impl LedAndWatchdog {
    /// Starts the watchdog.
    #[must_use]
    pub fn start(led: Output<'static>, mut watchdog: Watchdog) -> Self {
        watchdog.start(TIMEOUT);
        Self { led, watchdog }
    }
}

impl Indicators for LedAndWatchdog {
    fn set_led(&mut self, on: bool) {
        self.led.set_level(on.into());
    }

    fn feed_watchdog(&mut self) {
        self.watchdog.feed(TIMEOUT);
    }
}
