//! Starts the gateway on WIZnet's W5500-EVB-Pico2: swaps the slots if the gateway has received an image, and swaps them back if that
//! image was not confirmed. Built in CI, but never run: nobody in the project has a board.

#![no_std]
#![no_main]

use core::{cell::RefCell, panic::PanicInfo};

use cortex_m::peripheral::SCB;
use cortex_m_rt::entry;
use embassy_boot_rp::{BootLoader, BootLoaderConfig, WatchdogFlash};
use embassy_rp::flash::FLASH_BASE;
use embassy_sync::blocking_mutex::{Mutex, raw::NoopRawMutex};
use embassy_time::Duration;

/// The size of the flash in bytes.
const FLASH_BYTES: usize = 2 << 20;
/// Longer than erasing a sector takes. Swapping feeds the watchdog, and goes on after a reset where it was.
const WATCHDOG: Duration = Duration::from_secs(4);

#[entry]
fn main() -> ! {
    let p = embassy_rp::init(embassy_rp::config::Config::default());
    let flash = WatchdogFlash::<FLASH_BYTES>::start(p.FLASH, p.WATCHDOG, WATCHDOG);
    let flash = Mutex::<NoopRawMutex, _>::new(RefCell::new(flash));
    let config = BootLoaderConfig::from_linkerfile_blocking(&flash, &flash, &flash);
    let active = config.active.offset();
    let loader: BootLoader = BootLoader::prepare(config);
    let start = FLASH_BASE.addr() + usize::try_from(active).unwrap_or(0);
    // SAFETY: the slot begins with the vector table of a gateway, see its `update.x`.
    unsafe { loader.load(u32::try_from(start).unwrap_or(0)) }
}

/// The next boot tries again.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    SCB::sys_reset()
}
