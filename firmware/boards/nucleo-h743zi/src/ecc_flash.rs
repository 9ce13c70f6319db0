//! Flash that tolerates words that a power cut interrupted.
//!
//! Each flash word has an error correction code (RM0433, section 4.3.9). A word whose writing or erasing was interrupted may
//! have a double error, and reading it raises a bus fault, which would reset the board again and again. With faults masked
//! and `BFHFNMIGN` set, the core continues with the data it read (ARMv7-M, section B3.2.8), and the flash reports the error in
//! `DBECCERR`.

use core::{arch::asm, ptr};

use cortex_m::peripheral::SCB;
use embassy_stm32::flash::{Blocking, Error, FLASH_SIZE, Flash};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

/// The status register of each bank, and the register that clears its bits.
const BANKS: [(usize, usize); 2] = [(0x5200_2010, 0x5200_2014), (0x5200_2110, 0x5200_2114)];
/// A word with a double error was read. The same bit in both registers.
const DOUBLE_ERROR: u32 = 1 << 26;
/// In the core's configuration and control register: ignore masked bus faults.
const IGNORE_FAULTS: u32 = 1 << 8;

/// The whole flash.
pub(crate) struct EccFlash(Flash<'static, Blocking>);

impl EccFlash {
    pub(crate) fn new(flash: Flash<'static, Blocking>) -> Self {
        Self(flash)
    }
}

/// Whether a word with a double error was read since the last call.
fn had_double_error() -> bool {
    BANKS.into_iter().fold(false, |found, (status, clear)| {
        // SAFETY: the register exists on this chip, and reading it has no side effects.
        let bits = unsafe { ptr::read_volatile(ptr::with_exposed_provenance::<u32>(status)) };
        // SAFETY: it clears only this bit, which embassy's driver does not use.
        unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(clear), DOUBLE_ERROR) };
        found || bits & DOUBLE_ERROR != 0
    })
}

/// Calls `read` with bus faults ignored.
fn without_faults<R>(read: impl FnOnce() -> R) -> R {
    let set = |bits: u32, on: bool| {
        // SAFETY: the block exists, and its registers may be shared.
        let block = unsafe { &*SCB::PTR };
        // SAFETY: nothing else changes it meanwhile, because no interrupt runs now.
        unsafe { block.ccr.modify(|old| if on { old | bits } else { old & !bits }) };
    };
    // SAFETY: it masks all interrupts and faults until the end of this function.
    unsafe { asm!("cpsid f", options(nostack)) };
    set(IGNORE_FAULTS, true);
    cortex_m::asm::dsb();
    let result = read();
    cortex_m::asm::dsb();
    set(IGNORE_FAULTS, false);
    // SAFETY: they were not masked before, because this is called from a task.
    unsafe { asm!("cpsie f", options(nostack)) };
    result
}

impl ErrorType for EccFlash {
    type Error = Error;
}

impl ReadNorFlash for EccFlash {
    const READ_SIZE: usize = 1;

    /// Returns zeros for words that cannot be read: neither a record, nor a configuration, nor erased flash.
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Error> {
        had_double_error();
        without_faults(|| self.0.blocking_read(offset, bytes))?;
        if had_double_error() {
            defmt::warn!("flash: double ECC error at or after {:#x}", offset);
            bytes.fill(0);
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        FLASH_SIZE
    }
}

impl NorFlash for EccFlash {
    const WRITE_SIZE: usize = <Flash<'static, Blocking> as NorFlash>::WRITE_SIZE;
    const ERASE_SIZE: usize = <Flash<'static, Blocking> as NorFlash>::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Error> {
        self.0.blocking_erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Error> {
        self.0.blocking_write(offset, bytes)
    }
}
