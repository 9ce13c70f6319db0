//! What ends a life of the gateway on Cortex-M: a panic or a fault is logged, and the board begins anew.
//!
//! Nothing passes a gateway that is not there, so that is safe; its floor is in flash, so no knock comes back by it. A board
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

// SAFETY: it is called by the core alone, and does not return to what it interrupted.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    defmt::error!("hard fault at {:#010x}", frame.pc());
    SCB::sys_reset()
}
