//! RAM that behaves like NOR flash.
//!
//! It keeps its contents through a reset. QEMU can back it with a file (`-machine memory-backend=…`), so that it also survives
//! a restart of QEMU. Both QEMU boards use it.

use core::{
    ptr, slice,
    sync::atomic::{AtomicBool, Ordering},
};

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use pkd_board::Board;

/// The size in bytes.
const BYTES: usize = 0x0010_0000;

/// The flash. There is only one.
pub(crate) struct EmulatedFlash {
    base: usize,
}

/// An invalid request by the caller. Nothing else can fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmulatedFlashError(NorFlashErrorKind);

impl NorFlashError for EmulatedFlashError {
    fn kind(&self) -> NorFlashErrorKind {
        self.0
    }
}

impl EmulatedFlash {
    /// Returns the flash on the first call, `None` later.
    pub(crate) fn take(board: &Board) -> Option<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let base = usize::try_from(board.flash.base).ok()?;
        (!TAKEN.swap(true, Ordering::Relaxed)).then_some(Self { base })
    }

    fn bytes(&mut self, offset: u32, length: usize) -> &mut [u8] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(BYTES);
        let length = length.min(BYTES - start);
        // SAFETY: the range is within the RAM, any bytes are valid, and this is the only reference to them.
        unsafe { slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(self.base + start), length) }
    }
}

impl ErrorType for EmulatedFlash {
    type Error = EmulatedFlashError;
}

impl ReadNorFlash for EmulatedFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), EmulatedFlashError> {
        check_read(self, offset, bytes.len()).map_err(EmulatedFlashError)?;
        bytes.copy_from_slice(self.bytes(offset, bytes.len()));
        Ok(())
    }

    fn capacity(&self) -> usize {
        BYTES
    }
}

impl NorFlash for EmulatedFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4_096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), EmulatedFlashError> {
        check_erase(self, from, to).map_err(EmulatedFlashError)?;
        let length = usize::try_from(to - from).unwrap_or(0);
        self.bytes(from, length).fill(0xff);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), EmulatedFlashError> {
        check_write(self, offset, bytes.len()).map_err(EmulatedFlashError)?;
        // Writing only clears bits.
        self.bytes(offset, bytes.len()).iter_mut().zip(bytes).for_each(|(slot, byte)| *slot &= byte);
        Ok(())
    }
}
