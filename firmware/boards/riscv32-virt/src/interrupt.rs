//! The board's interrupts: the timer's, and those of the NICs through the PLIC (SiFive FU540 manual, chapter 10).

use core::ptr;

use crate::{time, virtio_nic};

const PLIC: usize = 0x0c00_0000;
/// Enable bits of the first hart's machine mode.
const ENABLE: usize = PLIC + 0x2000;
const THRESHOLD: usize = PLIC + 0x0020_0000;
const CLAIM: usize = PLIC + 0x0020_0004;
/// The interrupts of the virtio slots are 1 to 8.
const VIRTIO: core::ops::Range<usize> = 1..9;

fn write(register: usize, value: u32) {
    // SAFETY: the PLIC is there on this board, and does not write to memory.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(register), value) }
}

/// Lets the interrupts through that have a handler.
pub(crate) fn enable() {
    for line in VIRTIO {
        write(PLIC + 4 * line, 1);
    }
    write(ENABLE, 0x1fe);
    write(THRESHOLD, 0);
    // SAFETY: no critical section relies on these masks, and the handlers are ready.
    unsafe { riscv::register::mie::set_mext() };
    // SAFETY: as above.
    unsafe { riscv::register::mie::set_mtimer() };
    // SAFETY: no critical section is open yet.
    unsafe { riscv::interrupt::machine::enable() };
}

/// Named by riscv-rt.
#[unsafe(no_mangle)]
extern "C" fn MachineTimer() {
    time::on_alarm();
}

/// Named by riscv-rt.
#[unsafe(no_mangle)]
extern "C" fn MachineExternal() {
    // SAFETY: the PLIC is there; reading claims the interrupt, which is completed below.
    let line = unsafe { ptr::read_volatile(ptr::with_exposed_provenance::<u32>(CLAIM)) };
    virtio_nic::on_interrupt(line);
    write(CLAIM, line);
}
