//! Flash that tolerates words that a power cut interrupted.
//!
//! Each flash word has an error correction code (RM0481, section 7.3.9). A word whose writing or erasing was interrupted may
//! have a double error. Reading it raises an NMI, and the core continues with the data it read. The flash reports the error in
//! `ECCDETR`.

use core::sync::atomic::{AtomicBool, Ordering};

use cortex_m_rt::exception;
use embassy_stm32::{
    flash::{Blocking, Error, FLASH_SIZE, Flash},
    pac::FLASH,
};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

/// Whether a word with a double error was read.
static DOUBLE_ERROR: AtomicBool = AtomicBool::new(false);

/// The whole flash.
pub(crate) struct EccFlash(Flash<'static, Blocking>);

impl EccFlash {
    pub(crate) fn new(flash: Flash<'static, Blocking>) -> Self {
        Self(flash)
    }
}

// SAFETY: only the core calls it. It touches an atomic and a register that nothing else uses.
#[exception]
unsafe fn NonMaskableInt() {
    let register = FLASH.eccdetr();
    if register.read().eccd() {
        // Writing 1 clears it; without this, the exception would be raised again.
        register.modify(|bits| bits.set_eccd(true));
        DOUBLE_ERROR.store(true, Ordering::Relaxed);
    } else {
        defmt::error!("NMI");
        cortex_m::peripheral::SCB::sys_reset();
    }
}

impl ErrorType for EccFlash {
    type Error = Error;
}

impl ReadNorFlash for EccFlash {
    const READ_SIZE: usize = 1;

    /// Returns zeros for words that cannot be read: neither a record, nor a configuration, nor erased flash.
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Error> {
        DOUBLE_ERROR.store(false, Ordering::Relaxed);
        self.0.blocking_read(offset, bytes)?;
        cortex_m::asm::dsb();
        if DOUBLE_ERROR.load(Ordering::Relaxed) {
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
