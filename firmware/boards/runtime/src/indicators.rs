//! A board's LED and watchdog.

use core::fmt;

use embassy_time::{Duration, Timer};

/// An LED and a watchdog. A board that lacks one of them leaves the method empty.
pub trait Indicators {
    /// Turns the LED on or off.
    fn set_led(&mut self, on: bool);

    /// Resets the watchdog's timer. Its timeout must be longer than erasing a flash sector takes.
    fn feed_watchdog(&mut self);
}

/// The loop of a gateway without a valid configuration. It forwards nothing, blinks five times a second, and logs the reason
/// every ten seconds. `each_turn` is called ten times a second.
pub(crate) async fn report(
    why: &impl fmt::Display,
    mut indicators: impl Indicators,
    mut each_turn: impl FnMut(),
) -> ! {
    let mut turns = 0_u8;
    loop {
        if turns == 0 {
            defmt::error!("configuration rejected, forwarding nothing: {}", defmt::Display2Format(why));
            say!("configuration rejected, forwarding nothing: {why}");
        }
        turns = (turns + 1) % 100;
        indicators.set_led(turns.is_multiple_of(2));
        indicators.feed_watchdog();
        each_turn();
        Timer::after(Duration::from_millis(100)).await;
    }
}
