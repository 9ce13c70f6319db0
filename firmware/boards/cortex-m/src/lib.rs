//! Panics and faults on Cortex-M: both are logged and reset the board.
//!
//! A reset is safe: a gateway that is down forwards nothing, and the floor in flash keeps old knocks rejected. A board
//! links this by `use pkd_cortex_m as _;`.

#![no_std]

use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use cortex_m_rt::{ExceptionFrame, exception};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    defmt::error!("panic: {}", defmt::Display2Format(info));
    SCB::sys_reset()
}

// SAFETY: only the core calls it, and it does not return to the code that it interrupted.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    defmt::error!("hard fault at {:#010x}", frame.pc());
    SCB::sys_reset()
}
