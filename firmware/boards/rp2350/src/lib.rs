//! What the boards with an RP2350 share: flash, LED, watchdog, random numbers, and WIZnet's chips.

#![no_std]
#![forbid(unsafe_code)]

mod indicators;
mod random;
mod usb;
mod wiznet;

use embassy_rp::{
    flash::{Blocking, Flash},
    peripherals::FLASH,
};

pub use indicators::LedAndWatchdog;
pub use random::{Interrupts, random, start_random};
pub use usb::start_usb;
pub use wiznet::{Pins, SPI_HERTZ, WiznetBus, WiznetInterrupt, WiznetRunner, start_wiznet};

/// The size of the flash in bytes.
pub const FLASH_BYTES: usize = 2 << 20;

/// The flash.
pub type BoardFlash = Flash<'static, FLASH, Blocking, FLASH_BYTES>;

/// A locally administered MAC address, derived from the chip's unique ID.
///
/// # Panics
/// If it has none.
#[must_use]
pub fn hardware() -> [u8; 6] {
    let Ok(number) = embassy_rp::otp::get_chipid() else { defmt::panic!("the chip has no unique ID") };
    let [.., a, b, c, d, e] = number.to_be_bytes();
    [0x02, a, b, c, d, e]
}
