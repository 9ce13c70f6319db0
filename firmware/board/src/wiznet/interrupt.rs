//! The interrupt's pin.

use embedded_hal::digital::ErrorType;
use embedded_hal_async::digital::Wait;

use super::chip::Chip;

/// The interrupt's pin, which counts as low while frames are waiting.
pub struct Interrupt<P> {
    pin: P,
    chip: &'static Chip,
}

impl<P: Wait> Interrupt<P> {
    /// `chip`: the same as the [`Bus`](super::Bus) has.
    pub const fn new(pin: P, chip: &'static Chip) -> Self {
        Self { pin, chip }
    }
}

impl<P: Wait> ErrorType for Interrupt<P> {
    type Error = P::Error;
}

impl<P: Wait> Wait for Interrupt<P> {
    async fn wait_for_high(&mut self) -> Result<(), P::Error> {
        self.pin.wait_for_high().await
    }

    /// What the driver waits for. The chip's interrupt is cleared only when it has frames, and from then on they count as
    /// waiting until it says that it has none. So one that arrives in between is not missed.
    async fn wait_for_low(&mut self) -> Result<(), P::Error> {
        if self.chip.is_waiting() { Ok(()) } else { self.pin.wait_for_low().await }
    }

    async fn wait_for_rising_edge(&mut self) -> Result<(), P::Error> {
        self.pin.wait_for_rising_edge().await
    }

    async fn wait_for_falling_edge(&mut self) -> Result<(), P::Error> {
        self.pin.wait_for_falling_edge().await
    }

    async fn wait_for_any_edge(&mut self) -> Result<(), P::Error> {
        self.pin.wait_for_any_edge().await
    }
}
