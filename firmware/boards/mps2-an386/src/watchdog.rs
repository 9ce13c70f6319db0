//! The CMSDK watchdog (Arm DDI 0479, section 4.5). It raises an NMI at the first timeout, and resets at the second.

use core::ptr;

use cortex_m_rt::exception;

const BASE: usize = 0x4000_8000;
/// Ticks per second.
const HERTZ: u32 = 25_000_000;

/// Register offsets.
mod register {
    pub(super) const LOAD: usize = 0x000;
    pub(super) const CONTROL: usize = 0x008;
    pub(super) const INTERRUPT_CLEAR: usize = 0x00c;
    pub(super) const LOCK: usize = 0xc00;
}

/// Unlocks the other registers. Any other value locks them.
const UNLOCK: u32 = 0x1acc_e551;
/// Control: enable the interrupt, which is an NMI here, and the reset.
const ON: u32 = 1 << 1 | 1;

fn write(register: usize, value: u32) {
    // SAFETY: the watchdog exists on this board, and only this module writes to it.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(BASE + register), value) }
}

/// A running watchdog. It cannot be stopped.
pub(crate) struct Watchdog(());

impl Watchdog {
    /// Starts it with this timeout, at most 171 s.
    pub(crate) fn start(milliseconds: u32) -> Self {
        write(register::LOCK, UNLOCK);
        write(register::LOAD, milliseconds.saturating_mul(HERTZ / 1_000));
        write(register::CONTROL, ON);
        write(register::LOCK, 0);
        Self(())
    }

    /// Restarts the timeout.
    #[allow(clippy::unused_self)] // having one proves that it was started
    pub(crate) fn feed(&mut self) {
        write(register::LOCK, UNLOCK);
        write(register::INTERRUPT_CLEAR, 1);
        write(register::LOCK, 0);
    }
}

// SAFETY: only the core calls it, and it does not return to the code that it interrupted.
#[exception]
unsafe fn NonMaskableInt() -> ! {
    defmt::error!("watchdog timeout");
    cortex_m::peripheral::SCB::sys_reset()
}
