//! The floor in flash: the time up to which knocks were accepted. It survives resets and power cuts.
//!
//! It is a log of 32-byte records over at least two sectors, written in turn for wear levelling. The floor only rises, so the
//! greatest valid record is the newest, and records need no sequence number. The CRC of a record that a power cut interrupted
//! is wrong, so it is skipped. A sector is erased only while another one holds the floor.

use embedded_storage::nor_flash::NorFlash;
use pkd_core::UnixSeconds;

use crate::checksum::Crc32;

/// Length of a record in bytes. It must be a multiple of the flash's write size (32 on an STM32H7).
const RECORD: usize = 32;
const MAGIC: [u8; 4] = *b"PKDf";
/// The contents of erased flash.
const ERASED: [u8; RECORD] = [0xff; RECORD];

/// Why the floor could not be read or saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FloorError {
    /// The region is smaller than two sectors, not aligned to sectors, or outside the flash.
    Region,
    /// Reading, writing or erasing failed.
    Flash,
    /// The flash is worn out: no slot keeps what is written to it.
    Worn,
}

/// The saved floor, and the flash that it is saved in.
#[derive(Debug)]
pub struct FlashFloor<S> {
    flash: S,
    start: u32,
    sectors: u32,
    floor: Option<UnixSeconds>,
    /// The sector with the greatest record.
    floor_sector: Option<u32>,
    /// The slot for the next record, counted from the start of the region.
    next_slot: u32,
}

/// `RECORD` as a flash offset.
#[allow(clippy::cast_possible_truncation)] // it is 32
const RECORD_BYTES: u32 = RECORD as u32;

impl<S: NorFlash> FlashFloor<S> {
    const RECORD_FITS: () = assert!(
        RECORD.is_multiple_of(S::WRITE_SIZE)
            && RECORD.is_multiple_of(S::READ_SIZE)
            && S::ERASE_SIZE.is_multiple_of(RECORD),
        "records of 32 bytes do not fit this flash"
    );
    #[allow(clippy::cast_possible_truncation)] // flash is addressed with 32 bits
    const SECTOR: u32 = S::ERASE_SIZE as u32;
    const PER_SECTOR: u32 = Self::SECTOR / RECORD_BYTES;

    /// Reads the floor from the `bytes` of flash at `start`, both multiples of a sector.
    ///
    /// # Errors
    /// [`FloorError::Region`], or [`FloorError::Flash`] if the flash cannot be read. In that case it is unknown which knocks
    /// were accepted, so the gateway must not forward anything.
    pub fn open(flash: S, start: u32, bytes: u32) -> Result<Self, FloorError> {
        let () = Self::RECORD_FITS;
        let end = start.checked_add(bytes).ok_or(FloorError::Region)?;
        let fits = usize::try_from(end).is_ok_and(|end| end <= flash.capacity());
        let sectors = bytes / Self::SECTOR;
        let whole = start.is_multiple_of(Self::SECTOR) && bytes.is_multiple_of(Self::SECTOR);
        if !fits || !whole || sectors < 2 {
            return Err(FloorError::Region);
        }
        let mut this = Self { flash, start, sectors, floor: None, floor_sector: None, next_slot: 0 };
        for record in 0..sectors * Self::PER_SECTOR {
            if let Some(floor) = parse(&this.read(record)?)
                && this.floor.is_none_or(|greatest| greatest < floor)
            {
                this.floor = Some(floor);
                this.floor_sector = Some(record / Self::PER_SECTOR);
            }
        }
        if let Some(floor_sector) = this.floor_sector {
            let first = floor_sector * Self::PER_SECTOR;
            for record in first..first + Self::PER_SECTOR {
                if this.read(record)? != ERASED {
                    this.next_slot = record + 1;
                }
            }
        }
        Ok(this)
    }

    /// The saved floor, or `None` if none was ever saved.
    #[must_use]
    pub fn floor(&self) -> Option<UnixSeconds> {
        self.floor
    }

    /// Saves a floor. Does nothing if the saved floor is at least as great. When this returns, the floor survives a reset.
    ///
    /// It may have to erase a sector first, which blocks for as long as the flash needs.
    ///
    /// # Errors
    /// [`FloorError::Flash`] or [`FloorError::Worn`]. The previous floor is still saved.
    pub fn save(&mut self, floor: UnixSeconds) -> Result<(), FloorError> {
        if self.floor.is_some_and(|saved| saved >= floor) {
            return Ok(());
        }
        let record = emit(floor);
        // Try each slot once.
        for _ in 0..self.sectors * Self::PER_SECTOR {
            let slot = self.next_slot % (self.sectors * Self::PER_SECTOR);
            let sector = slot / Self::PER_SECTOR;
            if slot.is_multiple_of(Self::PER_SECTOR) {
                if self.floor_sector == Some(sector) {
                    return Err(FloorError::Worn);
                }
                let from = self.start + sector * Self::SECTOR;
                self.flash.erase(from, from + Self::SECTOR).map_err(|_| FloorError::Flash)?;
            }
            self.next_slot = slot + 1;
            if self.read(slot)? != ERASED {
                continue;
            }
            self.flash.write(self.start + slot * RECORD_BYTES, &record).map_err(|_| FloorError::Flash)?;
            if self.read(slot)? == record {
                self.floor = Some(floor);
                self.floor_sector = Some(sector);
                return Ok(());
            }
        }
        Err(FloorError::Worn)
    }

    /// Returns the flash.
    pub fn into_flash(self) -> S {
        self.flash
    }

    fn read(&mut self, record: u32) -> Result<[u8; RECORD], FloorError> {
        let mut bytes = [0; RECORD];
        self.flash.read(self.start + record * RECORD_BYTES, &mut bytes).map_err(|_| FloorError::Flash)?;
        Ok(bytes)
    }
}

/// A record: magic number, floor, CRC of both, zeros.
fn emit(floor: UnixSeconds) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    let crc = Crc32::new().update(&MAGIC).update(&floor.0.to_le_bytes()).finish();
    let fields = MAGIC.into_iter().chain(floor.0.to_le_bytes()).chain(crc.to_le_bytes());
    record.iter_mut().zip(fields).for_each(|(slot, byte)| *slot = byte);
    record
}

fn parse(record: &[u8; RECORD]) -> Option<UnixSeconds> {
    let floor = UnixSeconds(u64::from_le_bytes(*record.split_first_chunk::<4>()?.1.first_chunk()?));
    (emit(floor) == *record).then_some(floor)
}
