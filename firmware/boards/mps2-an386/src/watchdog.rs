//! The CMSDK watchdog (Arm DDI 0479, section 4.5): it calls for help when it has not been fed once, and resets after twice that.

use core::ptr;

use cortex_m_rt::exception;

const BASE: usize = 0x4000_8000;
/// What it counts in a second.
const HERTZ: u32 = 25_000_000;

/// Registers, as offsets.
mod register {
    pub(super) const LOAD: usize = 0x000;
    pub(super) const CONTROL: usize = 0x008;
    pub(super) const INTERRUPT_CLEAR: usize = 0x00c;
    pub(super) const LOCK: usize = 0xc00;
}

/// Opens the other registers; any other value closes them.
const UNLOCK: u32 = 0x1acc_e551;
/// Control: the interrupt, which is not maskable here, and the reset.
const ON: u32 = 1 << 1 | 1;

fn write(register: usize, value: u32) {
    // SAFETY: the watchdog is there on this board, and only this module writes to it.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(BASE + register), value) }
}

/// A watchdog that runs; nothing stops it any more.
pub(crate) struct Watchdog(());

impl Watchdog {
    /// Starts it; it waits for this long, at most 171 s.
    pub(crate) fn start(milliseconds: u32) -> Self {
        write(register::LOCK, UNLOCK);
        write(register::LOAD, milliseconds.saturating_mul(HERTZ / 1_000));
        write(register::CONTROL, ON);
        write(register::LOCK, 0);
        Self(())
    }

    /// Has it wait anew.
    #[allow(clippy::unused_self)] // who has one has started it
    pub(crate) fn feed(&mut self) {
        write(register::LOCK, UNLOCK);
        write(register::INTERRUPT_CLEAR, 1);
        write(register::LOCK, 0);
    }
}

// SAFETY: it is called by the core alone, and does not return to what it interrupted.
#[exception]
unsafe fn NonMaskableInt() -> ! {
    defmt::error!("the watchdog was not fed");
    cortex_m::peripheral::SCB::sys_reset()
}
