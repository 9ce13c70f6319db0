//! An executor that sleeps in WFI. The stock executor waits in WFE, which keeps QEMU at half a core while idle.

use core::sync::atomic::{AtomicBool, Ordering};

use embassy_executor::{Spawner, raw};
use static_cell::StaticCell;

static PENDING: AtomicBool = AtomicBool::new(false);

/// Requests another poll. Tasks and interrupts call it by its link name.
#[unsafe(export_name = "__pender")]
fn pend(_context: *mut ()) {
    PENDING.store(true, Ordering::Release);
}

/// Runs the tasks that `init` spawns, forever. Call it once.
pub(crate) fn run(init: impl FnOnce(Spawner)) -> ! {
    static EXECUTOR: StaticCell<raw::Executor> = StaticCell::new();
    let executor: &'static raw::Executor = EXECUTOR.init(raw::Executor::new(core::ptr::null_mut()));
    init(executor.spawner());
    loop {
        // SAFETY: this is the only call, so it is not re-entrant, and `pend` does not poll.
        unsafe { executor.poll() };
        // Interrupts are masked here, but one that arrives between the check and WFI still ends the sleep.
        cortex_m::interrupt::disable();
        if !PENDING.swap(false, Ordering::Acquire) {
            cortex_m::asm::wfi();
        }
        // SAFETY: they were enabled before, and no critical section is active here.
        unsafe { cortex_m::interrupt::enable() };
    }
}
