//! The floor in flash, with a power cut at every byte.

use std::{cell::RefCell, rc::Rc};

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use pkd_core::UnixSeconds;
use pkd_gateway::{FlashFloors, FloorError, Floors};

const SECTOR: usize = 256;
const SECTORS: usize = 3;
const START: u32 = 256;
const RECORDS: u64 = (SECTORS * SECTOR / 32) as u64;

/// NOR flash: writing clears bits, erasing sets them. A clone refers to the same chip.
#[derive(Clone, Debug)]
struct Chip(Rc<RefCell<Inside>>);

#[derive(Debug)]
struct Inside {
    bytes: Vec<u8>,
    /// How many more bytes are written or erased before the power fails.
    power: usize,
    erased: Vec<usize>,
    /// Bytes that no longer change.
    worn: std::ops::Range<usize>,
}

#[derive(Debug)]
struct NoPower;

impl NorFlashError for NoPower {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl Chip {
    fn new() -> Self {
        Self::with(0xff)
    }

    fn with(byte: u8) -> Self {
        let length = SECTOR * (SECTORS + 2);
        let inside =
            Inside { bytes: vec![byte; length], power: usize::MAX, erased: vec![0; SECTORS + 2], worn: 0..0 };
        Self(Rc::new(RefCell::new(inside)))
    }

    fn open(&self) -> Result<FlashFloors<Self>, FloorError> {
        FlashFloors::open(self.clone(), START, u32::try_from(SECTORS * SECTOR).unwrap())
    }

    fn power(&self, bytes: usize) {
        self.0.borrow_mut().power = bytes;
    }
}

impl ErrorType for Chip {
    type Error = NoPower;
}

impl ReadNorFlash for Chip {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NoPower> {
        let start = usize::try_from(offset).unwrap();
        bytes.copy_from_slice(&self.0.borrow().bytes[start..start + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.borrow().bytes.len()
    }
}

impl NorFlash for Chip {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NoPower> {
        let inside = &mut *self.0.borrow_mut();
        let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
        inside.erased[from / SECTOR] += 1;
        for at in from..to {
            inside.power = inside.power.checked_sub(1).ok_or(NoPower)?;
            inside.bytes[at] = 0xff;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NoPower> {
        let inside = &mut *self.0.borrow_mut();
        for (at, byte) in (usize::try_from(offset).unwrap()..).zip(bytes) {
            inside.power = inside.power.checked_sub(1).ok_or(NoPower)?;
            if !inside.worn.contains(&at) {
                inside.bytes[at] &= byte;
            }
        }
        Ok(())
    }
}

#[test]
fn the_floor_survives_a_reset_and_never_falls() {
    let chip = Chip::new();
    let mut floor = chip.open().unwrap();
    assert_eq!(floor.floors(), Floors::default());
    for (row, (save, expected)) in [(5, 5), (9, 9), (7, 9), (9, 9), (10, 10)].into_iter().enumerate() {
        floor.save(UnixSeconds(save).into()).unwrap();
        assert_eq!(floor.floors(), Floors::from(UnixSeconds(expected)), "row {row}");
        assert_eq!(
            chip.open().unwrap().floors(),
            Floors::from(UnixSeconds(expected)),
            "row {row}: after a reset"
        );
    }
}

#[test]
fn a_power_cut_at_any_byte_loses_at_most_the_last_save() {
    // Two rounds over all sectors, so that erases are interrupted too.
    for saves in 1..2 * RECORDS {
        for bytes in 0..SECTOR + 32 {
            let chip = Chip::new();
            let mut floor = chip.open().unwrap();
            for save in 1..saves {
                floor.save(UnixSeconds(save * 1_000).into()).unwrap();
            }
            let before = floor.floors();
            chip.power(bytes);
            let saved = floor.save(UnixSeconds(saves * 1_000).into());
            chip.power(usize::MAX);

            let mut after = chip.open().unwrap();
            let expected = if saved.is_ok() { Floors::from(UnixSeconds(saves * 1_000)) } else { before };
            // The last byte may have been written before the cut was noticed.
            let whole = after.floors() == Floors::from(UnixSeconds(saves * 1_000));
            assert!(
                after.floors() == expected || whole,
                "save {saves} cut after {bytes} bytes: {:?}",
                after.floors()
            );
            after.save(UnixSeconds(saves * 1_000 + 1).into()).unwrap();
            assert_eq!(
                chip.open().unwrap().floors(),
                Floors::from(UnixSeconds(saves * 1_000 + 1)),
                "{saves}, {bytes}"
            );
        }
    }
}

#[test]
fn all_sectors_wear_evenly_and_nothing_else_is_written() {
    let chip = Chip::new();
    let mut floor = chip.open().unwrap();
    let rounds = 10;
    for save in 1..=rounds * RECORDS {
        floor.save(UnixSeconds(save).into()).unwrap();
    }
    let rounds = usize::try_from(rounds).unwrap();
    assert_eq!(chip.0.borrow().erased, [0, rounds, rounds, rounds, 0]);
    let inside = chip.0.borrow();
    assert!(
        inside.bytes[..SECTOR]
            .iter()
            .chain(&inside.bytes[SECTOR * (SECTORS + 1)..])
            .all(|byte| *byte == 0xff)
    );
}

#[test]
fn worn_slots_are_skipped_until_none_is_left() {
    let chip = Chip::new();
    chip.0.borrow_mut().worn = 256 + 32..256 + 64;
    let mut floor = chip.open().unwrap();
    for save in 1..=3 {
        floor.save(UnixSeconds(save).into()).unwrap();
        assert_eq!(chip.open().unwrap().floors(), Floors::from(UnixSeconds(save)));
    }
    chip.0.borrow_mut().worn = 0..SECTOR * (SECTORS + 2);
    assert_eq!(floor.save(UnixSeconds(4).into()), Err(FloorError::Worn));
    assert_eq!(chip.open().unwrap().floors(), Floors::from(UnixSeconds(3)), "the last saved floor remains");
}

#[test]
fn flash_with_other_contents_has_no_floor_and_can_store_one() {
    for byte in [0, 0x5a] {
        let chip = Chip::with(byte);
        let mut floor = chip.open().unwrap();
        assert_eq!(floor.floors(), Floors::default(), "{byte:#x}");
        floor.save(UnixSeconds(1).into()).unwrap();
        assert_eq!(chip.open().unwrap().floors(), Floors::from(UnixSeconds(1)), "{byte:#x}");
    }
}

#[test]
fn an_invalid_region_is_rejected() {
    let sector = u32::try_from(SECTOR).unwrap();
    let table =
        [(0, sector), (1, 2 * sector), (0, 2 * sector + 1), (4 * sector, 2 * sector), (u32::MAX, 2 * sector)];
    for (row, (start, bytes)) in table.into_iter().enumerate() {
        assert_eq!(FlashFloors::open(Chip::new(), start, bytes).err(), Some(FloorError::Region), "row {row}");
    }
}
