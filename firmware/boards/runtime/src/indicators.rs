//! What a board shows of itself, and what watches over it.

use embassy_time::{Duration, Timer};
use pkd_gateway::ConfigError;

/// A light and a watchdog. A board without one of them does nothing there.
pub trait Indicators {
    /// Turns the light on or off.
    fn set_led(&mut self, on: bool);

    /// Tells the watchdog that frames are looked at. It must wait for longer than an erase of a sector takes.
    fn feed_watchdog(&mut self);
}

/// What a gateway does that may pass nothing: it blinks five times a second, and says why every ten seconds.
pub async fn report_config_error(why: ConfigError, mut indicators: impl Indicators) -> ! {
    let mut turns = 0_u8;
    loop {
        if turns == 0 {
            defmt::error!("nothing passes: {}", defmt::Display2Format(&why));
        }
        turns = (turns + 1) % 100;
        indicators.set_led(turns.is_multiple_of(2));
        indicators.feed_watchdog();
        Timer::after(Duration::from_millis(100)).await;
    }
}
