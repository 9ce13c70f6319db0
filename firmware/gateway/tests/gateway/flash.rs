//! The floor in flash, with a power cut at every byte.

use std::{cell::RefCell, rc::Rc};

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use pkd_core::{UnixMillis, UnixSeconds};
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

/// Floors of both formats; 0: none.
fn floors(classic: u64, format2: u64) -> Floors {
    let some = |time: u64| Some(time).filter(|time| *time != 0);
    Floors { classic: some(classic).map(UnixSeconds), format2: some(format2).map(UnixMillis) }
}

#[test]
fn each_format_has_its_floor_and_saving_one_keeps_the_other() {
    let chip = Chip::new();
    let mut saved = chip.open().unwrap();
    // what is saved, what is in flash then
    let table = [
        (floors(0, 5_000), floors(0, 5_000)),
        (floors(7, 0), floors(7, 5_000)),
        (floors(6, 4_000), floors(7, 5_000)),
        (floors(6, 5_001), floors(7, 5_001)),
        (floors(9, 9_000), floors(9, 9_000)),
    ];
    for (row, (save, expected)) in table.into_iter().enumerate() {
        saved.save(save).unwrap();
        assert_eq!(saved.floors(), expected, "row {row}");
        assert_eq!(chip.open().unwrap().floors(), expected, "row {row}: after a reset");
    }
    // A first installation accepted nothing, and says so, which is another thing than no floor.
    for first in [UnixSeconds(0).into(), UnixMillis(0).into()] {
        let chip = Chip::new();
        chip.open().unwrap().save(first).unwrap();
        assert_eq!(chip.open().unwrap().floors(), first);
    }
    // More than all sectors hold: the record with the classic floor is erased several times.
    for time in 9_001..9_001 + 3 * RECORDS {
        saved.save(floors(0, time)).unwrap();
        assert_eq!(chip.open().unwrap().floors(), floors(9, time));
    }
}

/// A record as releases before format 2 wrote it.
fn old_record(floor: u64) -> [u8; 32] {
    let fields = [&b"PKDf"[..], &floor.to_le_bytes()].concat();
    let crc = !fields.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    let mut record = [0; 32];
    record[..12].copy_from_slice(&fields);
    record[12..16].copy_from_slice(&crc.to_le_bytes());
    record
}

#[test]
fn records_of_releases_before_format_2_are_floors_of_classic_knocks() {
    let chip = Chip::new();
    let put = |slot: u32, record: [u8; 32]| {
        let at = START + 32 * slot;
        NorFlash::write(&mut chip.clone(), at, &record).unwrap();
    };
    for (slot, floor) in (0..).zip([100, 200, 300]) {
        put(slot, old_record(floor));
        assert_eq!(chip.open().unwrap().floors(), floors(floor, 0), "slot {slot}");
    }
    let mut cut = old_record(400);
    cut[15] ^= 1;
    put(3, cut);
    let mut saved = chip.open().unwrap();
    assert_eq!(saved.floors(), floors(300, 0), "a record that a power cut interrupted");
    saved.save(floors(0, 250_000)).unwrap();
    assert_eq!(chip.open().unwrap().floors(), floors(300, 250_000));
    // An older release was installed for a while, and wrote its own records behind.
    put(5, old_record(500));
    let mut saved = chip.open().unwrap();
    assert_eq!(saved.floors(), floors(500, 250_000));
    for time in 250_001..250_001 + 2 * RECORDS {
        saved.save(floors(0, time)).unwrap();
        assert_eq!(chip.open().unwrap().floors(), floors(500, time));
    }
}

#[test]
fn no_byte_of_a_record_can_change() {
    let chip = Chip::new();
    chip.open().unwrap().save(floors(1_800_000_000, 1_800_000_000_123)).unwrap();
    let start = usize::try_from(START).unwrap();
    for at in start..start + 32 {
        for bit in 0..8 {
            chip.0.borrow_mut().bytes[at] ^= 1 << bit;
            assert_eq!(chip.open().unwrap().floors(), Floors::default(), "byte {at}, bit {bit}");
            chip.0.borrow_mut().bytes[at] ^= 1 << bit;
        }
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
