//! The LED and the watchdog.

use embassy_stm32::{
    Peri,
    gpio::Output,
    wdg::{IndependentWatchdog, Instance},
};
use pkd_runtime::Indicators;

/// Longer than erasing a sector takes: at most 4 s on an STM32H743 (data sheet DS12110, table 53).
const TIMEOUT_MICROSECONDS: u32 = 8_000_000;

/// The green LED and the independent watchdog.
pub struct LedAndWatchdog<W: Instance + 'static> {
    led: Output<'static>,
    watchdog: IndependentWatchdog<'static, W>,
}

impl<W: Instance + 'static> LedAndWatchdog<W> {
    /// Starts the watchdog.
    pub fn start(led: Output<'static>, watchdog: Peri<'static, W>) -> Self {
        let mut watchdog = IndependentWatchdog::new(watchdog, TIMEOUT_MICROSECONDS);
        watchdog.unleash();
        Self { led, watchdog }
    }
}

impl<W: Instance + 'static> Indicators for LedAndWatchdog<W> {
    fn set_led(&mut self, on: bool) {
        self.led.set_level(on.into());
    }

    fn feed_watchdog(&mut self) {
        self.watchdog.pet();
    }
}
