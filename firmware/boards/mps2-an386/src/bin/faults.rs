//! What becomes of a gateway that goes wrong: each boot of this image goes wrong in another way, and the next one tells of it.

#![no_std]
#![no_main]

// Its critical section is linked by name.
use cortex_m as _;
use defmt_semihosting as _;
use pkd_cortex_m as _;

#[path = "../watchdog.rs"]
mod watchdog;

use core::ptr;

use cortex_m_rt::entry;

use crate::watchdog::Watchdog;

/// A word of the PSRAM behind the flash: it outlives resets, and QEMU begins with 0 there.
const BOOT_COUNT: usize = 0x2108_0000;
/// Milliseconds that the watchdog waits here.
const WATCHDOG_MS: u32 = 200;
/// The dual timer's first counter (Arm DDI 0479, section 4.4), counting down at 25 MHz.
const LOAD: usize = 0x4000_2000;
const VALUE: usize = 0x4000_2004;
const CONTROL: usize = 0x4000_2008;
/// 32 bits wide, on.
const ON: u32 = 1 << 7 | 1 << 1;

/// No interrupt is unmasked; cortex-m-rt wants to see a table.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
#[used]
static __INTERRUPTS: [usize; 1] = [0];

fn read(address: usize) -> u32 {
    // SAFETY: all addresses above are there on this board, and reading changes nothing.
    unsafe { ptr::read_volatile(ptr::with_exposed_provenance(address)) }
}

fn write(address: usize, value: u32) {
    // SAFETY: all addresses above are there on this board, and no reference is to any of them.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(address), value) }
}

#[entry]
fn main() -> ! {
    write(LOAD, u32::MAX);
    write(CONTROL, ON);
    let boot = read(BOOT_COUNT);
    write(BOOT_COUNT, boot + 1);
    defmt::info!("boot {}", boot);
    match boot {
        0 => panic!("on purpose"),
        1 => cortex_m::asm::udf(),
        2 => {
            Watchdog::start(WATCHDOG_MS);
            // As a gateway that waits for what never comes.
            cortex_m::interrupt::disable();
            loop {
                core::hint::spin_loop();
            }
        }
        _ => {
            let mut watchdog = Watchdog::start(WATCHDOG_MS);
            // Five times as long as it waits.
            while u32::MAX - read(VALUE) < WATCHDOG_MS * 5 * 25_000 {
                watchdog.feed();
            }
            defmt::info!("watchdog fed: no reset");
            semihosting::process::exit(0)
        }
    }
}
