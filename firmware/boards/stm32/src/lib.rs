//! What the boards with an STM32 share: LED, watchdog, random numbers, and the Ethernet PHY.

#![no_std]
#![forbid(unsafe_code)]

mod indicators;
mod phy;
mod random;

pub use indicators::LedAndWatchdog;
pub use phy::{LIFE, Nic, phy};
pub use random::{random, start_random};

/// A locally administered MAC address, derived from the chip's unique ID.
#[must_use]
pub fn hardware() -> [u8; 6] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = embassy_stm32::uid::uid();
    [0x02, a ^ f, b ^ g ^ k, c ^ h ^ l, d ^ i, e ^ j]
}
