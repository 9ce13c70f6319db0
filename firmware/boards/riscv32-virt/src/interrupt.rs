//! The board's interrupts: the timer's, and the NICs' through the PLIC (SiFive FU540 manual, chapter 10).

use core::ptr;

use crate::{time, virtio_nic};

const PLIC: usize = 0x0c00_0000;
/// Enable bits of the first hart in machine mode.
const ENABLE: usize = PLIC + 0x2000;
const THRESHOLD: usize = PLIC + 0x0020_0000;
const CLAIM_COMPLETE: usize = PLIC + 0x0020_0004;
/// The interrupts of the virtio slots.
const VIRTIO: core::ops::Range<usize> = 1..9;

fn write(register: usize, value: u32) {
    // SAFETY: the PLIC exists on this board, and does not access memory.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(register), value) }
}

/// Unmasks the interrupts that have a handler.
pub(crate) fn enable() {
    for line in VIRTIO {
        write(PLIC + 4 * line, 1);
    }
    write(ENABLE, 0x1fe);
    write(THRESHOLD, 0);
    // SAFETY: no critical section depends on this mask, and the handlers are ready.
    unsafe { riscv::register::mie::set_mext() };
    // SAFETY: as above.
    unsafe { riscv::register::mie::set_mtimer() };
    // SAFETY: no critical section is active yet.
    unsafe { riscv::interrupt::machine::enable() };
}

/// riscv-rt requires this name.
#[unsafe(no_mangle)]
extern "C" fn MachineTimer() {
    time::on_alarm();
}

/// riscv-rt requires this name.
#[unsafe(no_mangle)]
extern "C" fn MachineExternal() {
    // SAFETY: the PLIC exists. Reading claims the interrupt, which is completed below.
    let line = unsafe { ptr::read_volatile(ptr::with_exposed_provenance::<u32>(CLAIM_COMPLETE)) };
    virtio_nic::on_interrupt(line);
    write(CLAIM_COMPLETE, line);
}
