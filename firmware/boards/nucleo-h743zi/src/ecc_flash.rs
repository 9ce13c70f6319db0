//! The flash, read so that a word that a power cut tore does no harm.
//!
//! Flash words carry an error code (RM0433, section 4.3.9). One that was torn while it was written or erased may hold two
//! errors; reading it raises a bus fault, which would reset the board again and again. With faults masked and
//! `BFHFNMIGN` set, the core goes on with what it got (ARMv7-M, section B3.2.8), and the flash says in `DBECCERR` that it is wrong.

use core::{arch::asm, ptr};

use cortex_m::peripheral::SCB;
use embassy_stm32::flash::{Blocking, Error, FLASH_SIZE, Flash};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

/// Of each bank, the status register, and the one that clears what it says.
const BANKS: [(usize, usize); 2] = [(0x5200_2010, 0x5200_2014), (0x5200_2110, 0x5200_2114)];
/// In both: a word with two errors was read.
const TORN: u32 = 1 << 26;
/// In the core's configuration and control register: masked bus faults are ignored.
const IGNORE_FAULTS: u32 = 1 << 8;

/// All of the flash.
pub(crate) struct EccFlash(Flash<'static, Blocking>);

impl EccFlash {
    pub(crate) fn new(flash: Flash<'static, Blocking>) -> Self {
        Self(flash)
    }
}

/// Whether a torn word was read since this was asked last.
fn was_torn() -> bool {
    BANKS.into_iter().fold(false, |torn, (status, clear)| {
        // SAFETY: both registers are there on this chip, and reading the first changes nothing.
        let bits = unsafe { ptr::read_volatile(ptr::with_exposed_provenance::<u32>(status)) };
        // SAFETY: it clears that one bit; embassy's driver does not look at it.
        unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(clear), TORN) };
        torn || bits & TORN != 0
    })
}

/// Does `read` with bus faults ignored.
fn without_faults<R>(read: impl FnOnce() -> R) -> R {
    let set = |bits: u32, on: bool| {
        // SAFETY: the block is there, and its registers are made for being shared.
        let block = unsafe { &*SCB::PTR };
        // SAFETY: nobody else changes it meanwhile, as no interrupt runs now.
        unsafe { block.ccr.modify(|old| if on { old | bits } else { old & !bits }) };
    };
    // SAFETY: it masks all interrupts and faults, until below.
    unsafe { asm!("cpsid f", options(nostack)) };
    set(IGNORE_FAULTS, true);
    cortex_m::asm::dsb();
    let result = read();
    cortex_m::asm::dsb();
    set(IGNORE_FAULTS, false);
    // SAFETY: they were not masked before: this is called from a task.
    unsafe { asm!("cpsie f", options(nostack)) };
    result
}

impl ErrorType for EccFlash {
    type Error = Error;
}

impl ReadNorFlash for EccFlash {
    const READ_SIZE: usize = 1;

    /// What cannot be read is zeros: neither a record, nor a configuration, nor erased.
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Error> {
        was_torn();
        without_faults(|| self.0.blocking_read(offset, bytes))?;
        if was_torn() {
            defmt::warn!("a flash word was torn, at {:#x} or behind", offset);
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
