//! Flash that is RAM, and behaves as NOR flash does.
//!
//! It keeps what it has through a reset, and QEMU can make it a file (`-machine memory-backend=…`), so that it is there in the
//! next life too. Both of QEMU's boards have it.

use core::{
    ptr, slice,
    sync::atomic::{AtomicBool, Ordering},
};

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use pkd_gateway::CONFIG_LIMIT;

use crate::FLASH as BASE;

/// Bytes used of it. The configuration is at the start.
const BYTES: usize = 0x0002_0000;
/// Where the floor begins.
pub(crate) const FLOOR_START: u32 = 0x0001_0000;
/// Bytes of the floor: two sectors.
pub(crate) const FLOOR_BYTES: u32 = 0x2000;

/// The only one who writes there.
pub(crate) struct EmulatedFlash {
    base: usize,
}

/// What can go wrong: nothing but the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmulatedFlashError(NorFlashErrorKind);

impl NorFlashError for EmulatedFlashError {
    fn kind(&self) -> NorFlashErrorKind {
        self.0
    }
}

impl EmulatedFlash {
    /// The flash, the first time.
    pub(crate) fn take() -> Option<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        (!TAKEN.swap(true, Ordering::Relaxed)).then_some(Self { base: BASE })
    }

    /// The bytes that the configuration lies in.
    pub(crate) fn config(&self) -> &[u8] {
        // SAFETY: that RAM is there, any bytes are bytes, and writing takes `&mut self`.
        unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(self.base), CONFIG_LIMIT) }
    }

    fn bytes(&mut self, offset: u32, length: usize) -> &mut [u8] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(BYTES);
        let length = length.min(BYTES - start);
        // SAFETY: it lies within that RAM, any bytes are bytes, and this is the only reference to them.
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
        // Writing only ever clears bits.
        self.bytes(offset, bytes.len()).iter_mut().zip(bytes).for_each(|(slot, byte)| *slot &= byte);
        Ok(())
    }
}
