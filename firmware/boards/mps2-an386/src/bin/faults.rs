//! A test image that fails in a different way on each boot, to show that each failure is logged and resets the board.

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

/// A word of the PSRAM behind the flash. It survives resets, and QEMU initialises it to 0.
const BOOT_COUNT: usize = 0x2108_0000;
/// The watchdog's timeout in milliseconds.
const WATCHDOG_MS: u32 = 200;
/// The dual timer's first counter (Arm DDI 0479, section 4.4). It counts down at 25 MHz.
const LOAD: usize = 0x4000_2000;
const VALUE: usize = 0x4000_2004;
const CONTROL: usize = 0x4000_2008;
/// 32 bits, enabled.
const ON: u32 = 1 << 7 | 1 << 1;

/// No interrupt is unmasked, but cortex-m-rt requires a table.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
#[used]
static __INTERRUPTS: [usize; 1] = [0];

fn read(address: usize) -> u32 {
    // SAFETY: all addresses above exist on this board, and reading has no side effects.
    unsafe { ptr::read_volatile(ptr::with_exposed_provenance(address)) }
}

fn write(address: usize, value: u32) {
    // SAFETY: all addresses above exist on this board, and there are no references to them.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(address), value) }
}

/// Calls itself until the stack is full.
#[inline(never)]
#[expect(unconditional_recursion, reason = "that is the point")]
fn overflow(depth: u32) -> u32 {
    let frame = core::hint::black_box([depth; 64]);
    overflow(depth + 1) + frame[0]
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
            // A gateway that waits for an event that never happens.
            cortex_m::interrupt::disable();
            loop {
                core::hint::spin_loop();
            }
        }
        3 => {
            defmt::info!("{} deep", overflow(0));
            semihosting::process::exit(1)
        }
        _ => {
            let mut watchdog = Watchdog::start(WATCHDOG_MS);
            // Five times the timeout.
            while u32::MAX - read(VALUE) < WATCHDOG_MS * 5 * 25_000 {
                watchdog.feed();
            }
            defmt::info!("watchdog fed: no reset");
            semihosting::process::exit(0)
        }
    }
}
