//! The floors in flash: the times up to which knocks of each format were accepted. They survive resets and power cuts.
//!
//! They are a log of 32-byte records over at least two sectors, written in turn for wear levelling. Every record has both
//! floors, so that erasing a sector loses neither, and floors only rise, so the greatest valid record is the newest, and records
//! need no sequence number. The CRC of a record that a power cut interrupted is wrong, so it is skipped. A sector is erased
//! only while another one holds the floors.
//!
//! ```text
//! offset  bytes  field (all numbers are little endian)
//!      0      4  "PKD2"
//!      4      8  floor of classic knocks in seconds
//!     12      8  floor of knocks of format 2 in milliseconds
//!     20      1  bit 0: there is a classic floor; bit 1: there is one of format 2
//!     21      4  CRC-32 of the above
//!     25      7  zeros
//! ```
//!
//! Records of releases before format 2 begin with `PKDf`, and have the classic floor, the CRC and zeros.

use core::fmt;

use embedded_storage::nor_flash::NorFlash;
use pkd_core::{UnixMillis, UnixSeconds};

use crate::{checksum::Crc32, floors::Floors};

/// Length of a record in bytes. It must be a multiple of the flash's write size (32 on an STM32H7).
const RECORD: usize = 32;
const MAGIC: [u8; 4] = *b"PKD2";
/// Of records with the classic floor alone.
const CLASSIC_MAGIC: [u8; 4] = *b"PKDf";
/// The contents of erased flash.
const ERASED: [u8; RECORD] = [0xff; RECORD];

/// Why the floors could not be read or saved.
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

impl fmt::Display for FloorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Region => "the region is smaller than two sectors, not aligned, or outside the flash",
            Self::Flash => "reading, writing or erasing flash failed",
            Self::Worn => "the flash is worn out",
        })
    }
}

/// The saved floors, and the flash that they are saved in.
#[derive(Debug)]
pub struct FlashFloors<S> {
    flash: S,
    start: u32,
    sectors: u32,
    floors: Floors,
    /// The sector with the newest record.
    newest_sector: Option<u32>,
    /// The slot for the next record, counted from the start of the region.
    next_slot: u32,
}

/// `RECORD` as a flash offset.
#[allow(clippy::cast_possible_truncation)] // it is 32
const RECORD_BYTES: u32 = RECORD as u32;

impl<S: NorFlash> FlashFloors<S> {
    const RECORD_FITS: () = assert!(
        RECORD.is_multiple_of(S::WRITE_SIZE)
            && RECORD.is_multiple_of(S::READ_SIZE)
            && S::ERASE_SIZE.is_multiple_of(RECORD),
        "records of 32 bytes do not fit this flash"
    );
    #[allow(clippy::cast_possible_truncation)] // flash is addressed with 32 bits
    const SECTOR: u32 = S::ERASE_SIZE as u32;
    const PER_SECTOR: u32 = Self::SECTOR / RECORD_BYTES;

    /// Reads the floors from the `bytes` of flash at `start`, both multiples of a sector.
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
        let mut this =
            Self { flash, start, sectors, floors: Floors::default(), newest_sector: None, next_slot: 0 };
        for record in 0..sectors * Self::PER_SECTOR {
            let Some(floors) = parse(&this.read(record)?) else { continue };
            // Each record covers all before it, unless an older release has written in between. Then no floor falls either.
            let all = this.floors.max(floors);
            if this.newest_sector.is_none() || all != this.floors {
                this.floors = all;
                this.newest_sector = Some(record / Self::PER_SECTOR);
            }
        }
        if let Some(newest_sector) = this.newest_sector {
            let first = newest_sector * Self::PER_SECTOR;
            for record in first..first + Self::PER_SECTOR {
                if this.read(record)? != ERASED {
                    this.next_slot = record + 1;
                }
            }
        }
        Ok(this)
    }

    /// The saved floors.
    #[must_use]
    pub fn floors(&self) -> Floors {
        self.floors
    }

    /// Raises the saved floors to these. Does nothing if they are at least as great. When this returns, the floors survive a
    /// reset.
    ///
    /// It may have to erase a sector first, which blocks for as long as the flash needs.
    ///
    /// # Errors
    /// [`FloorError::Flash`] or [`FloorError::Worn`]. The previous floors are still saved.
    pub fn save(&mut self, floors: Floors) -> Result<(), FloorError> {
        if self.floors.covers(floors) {
            return Ok(());
        }
        let floors = self.floors.max(floors);
        let record = emit(floors);
        // Try each slot once.
        for _ in 0..self.sectors * Self::PER_SECTOR {
            let slot = self.next_slot % (self.sectors * Self::PER_SECTOR);
            let sector = slot / Self::PER_SECTOR;
            if slot.is_multiple_of(Self::PER_SECTOR) {
                if self.newest_sector == Some(sector) {
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
                self.floors = floors;
                self.newest_sector = Some(sector);
                return Ok(());
            }
        }
        Err(FloorError::Worn)
    }

    /// The flash, for what is in it besides the floors.
    pub fn flash(&mut self) -> &mut S {
        &mut self.flash
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

/// A record of both floors.
fn emit(floors: Floors) -> [u8; RECORD] {
    let saved = u8::from(floors.classic.is_some()) | u8::from(floors.format2.is_some()) << 1;
    let classic = floors.classic.unwrap_or_default().0.to_le_bytes();
    let format2 = floors.format2.unwrap_or_default().0.to_le_bytes();
    record(&[&MAGIC, &classic, &format2, &[saved]])
}

/// Fields, their CRC, and zeros.
#[inline(never)]
fn record(fields: &[&[u8]]) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    let crc = fields.iter().fold(Crc32::new(), |crc, field| crc.update(field)).finish().to_le_bytes();
    let bytes = fields.iter().copied().flatten().chain(&crc);
    record.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = *byte);
    record
}

fn parse(bytes: &[u8; RECORD]) -> Option<Floors> {
    let (_magic, rest) = bytes.split_first_chunk::<4>()?;
    let (classic, rest) = rest.split_first_chunk::<8>()?;
    let (format2, rest) = rest.split_first_chunk::<8>()?;
    if record(&[&CLASSIC_MAGIC, classic]) == *bytes {
        return Some(Floors::from(UnixSeconds(u64::from_le_bytes(*classic))));
    }
    let saved = rest.first()?;
    let time = |field: &[u8; 8], bit: u8| (saved & bit != 0).then_some(u64::from_le_bytes(*field));
    let floors =
        Floors { classic: time(classic, 1).map(UnixSeconds), format2: time(format2, 2).map(UnixMillis) };
    (emit(floors) == *bytes).then_some(floors)
}
