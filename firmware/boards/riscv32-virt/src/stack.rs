//! How much of the stack is used.

use core::ptr;

/// What unused words of the stack hold.
const PAINT: u32 = 0xcccc_cccc;
/// Bytes below a frame that a call may use before it returns.
const IN_USE: usize = 512;

unsafe extern "C" {
    /// The stack's lowest word. Only its address counts.
    static __estack: u32;
    /// The word after the stack.
    static _stack_start: u32;
}

/// Paints the part of the stack that is not in use. Call it once, from `main`.
pub(crate) fn paint() {
    let here = 0_u32;
    let used = (&raw const here).addr() - IN_USE;
    let mut word = (&raw const __estack).cast_mut();
    while word.addr() < used {
        // SAFETY: it is a word of the stack, below everything that the stack holds now.
        unsafe { ptr::write_volatile(word, PAINT) };
        word = word.wrapping_add(1);
    }
}

/// The least that has been free of the stack since [`paint`], in bytes.
pub(crate) fn free() -> u32 {
    let (end, start) = (&raw const __estack, &raw const _stack_start);
    let mut free = end;
    // SAFETY: it is a word of the stack, and reading it has no side effects.
    while free < start && unsafe { ptr::read_volatile(free) } == PAINT {
        free = free.wrapping_add(1);
    }
    u32::try_from(free.addr() - end.addr()).unwrap_or(u32::MAX)
}
