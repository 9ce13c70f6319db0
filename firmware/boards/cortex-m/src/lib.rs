//! Panics and faults on Cortex-M: both are logged and reset the board. So does a stack overflow.
//!
//! A reset is safe: a gateway that is down forwards nothing, and the floor in flash keeps old knocks rejected. A board
//! links this by `use pkd_cortex_m as _;`.
//!
//! A board's `memory.x` puts the stack at the start of its RAM, so that an overflow faults instead of changing what is below it.

#![no_std]

use core::{arch::naked_asm, panic::PanicInfo, ptr};

use cortex_m::peripheral::SCB;
use cortex_m_rt::STACK_PAINT_VALUE;

unsafe extern "C" {
    /// The stack's lowest word. Only its address counts.
    static _stack_end: u32;
    /// The word after the stack.
    static _stack_start: u32;
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    defmt::error!("panic: {}", defmt::Display2Format(info));
    SCB::sys_reset()
}

/// The least that has been free of the stack since the start, in bytes: what still has its first value.
#[must_use]
pub fn free_stack() -> u32 {
    let (end, start) = (&raw const _stack_end, &raw const _stack_start);
    let mut free = end;
    // SAFETY: it is a word of the stack, and reading it has no side effects.
    while free < start && unsafe { ptr::read_volatile(free) } == STACK_PAINT_VALUE {
        free = free.wrapping_add(1);
    }
    u32::try_from(free.addr() - end.addr()).unwrap_or(u32::MAX)
}

/// Goes on with an empty stack: the one that faulted may have overflowed. cortex-m-rt finds it by its name.
///
/// # Safety
/// Only the core may call it.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn HardFault() -> ! {
    naked_asm!("mrs r0, msp", "ldr r1, ={top}", "msr msp, r1", "b {log}", top = sym _stack_start, log = sym on_hard_fault)
}

/// Logs a fault that left its registers at `frame`.
extern "C" fn on_hard_fault(frame: *const [u32; 8]) -> ! {
    if frame.addr() < (&raw const _stack_end).addr() {
        defmt::error!("stack overflow");
    } else {
        // SAFETY: the core has put eight words there, and nothing else uses them. The seventh is the program counter.
        let [.., pc, _] = unsafe { ptr::read_volatile(frame) };
        defmt::error!("hard fault at {:#010x}", pc);
    }
    SCB::sys_reset()
}
