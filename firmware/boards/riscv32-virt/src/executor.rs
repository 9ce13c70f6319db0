//! An executor that sleeps in WFI.

use core::sync::atomic::{AtomicBool, Ordering};

use embassy_executor::{Spawner, raw};
use static_cell::StaticCell;

static PENDING: AtomicBool = AtomicBool::new(false);

/// The executor asks to be polled again; it is called by name, from tasks and interrupts.
#[unsafe(export_name = "__pender")]
fn pend(_context: *mut ()) {
    PENDING.store(true, Ordering::Release);
}

/// Runs what `init` spawns, for ever. To be called once.
pub(crate) fn run(init: impl FnOnce(Spawner)) -> ! {
    static EXECUTOR: StaticCell<raw::Executor> = StaticCell::new();
    let executor: &'static raw::Executor = EXECUTOR.init(raw::Executor::new(core::ptr::null_mut()));
    crate::interrupt::enable();
    init(executor.spawner());
    loop {
        // SAFETY: this is the only call, so it is not made from within itself, and `pend` does not poll.
        unsafe { executor.poll() };
        // With interrupts masked, one that comes between the look and the sleep still ends the sleep.
        riscv::interrupt::machine::disable();
        if !PENDING.swap(false, Ordering::Acquire) {
            riscv::asm::wfi();
        }
        // SAFETY: they were enabled before, and no critical section is open here.
        unsafe { riscv::interrupt::machine::enable() };
    }
}
