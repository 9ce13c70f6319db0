//! Two places for a configuration, with a power cut at every byte.

use std::{cell::RefCell, rc::Rc};

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use pkd_board::{
    FlashLayout,
    slots::{self, SlotError},
};
use pkd_core::UnixSeconds;
use pkd_gateway::{CONFIG_LIMIT, Config, ConfigError, RULES, created};

const LAYOUT: FlashLayout =
    FlashLayout { base: 0, config: 0x4000, other_config: Some(0x1000), floor: 0x2000, floor_bytes: 0x2000 };

/// NOR flash: writing clears bits, erasing sets them. A clone refers to the same chip.
#[derive(Clone)]
struct Chip(Rc<RefCell<Inside>>);

struct Inside {
    bytes: Vec<u8>,
    /// How many more bytes are written or erased before the power fails.
    power: usize,
}

#[derive(Debug)]
struct NoPower;

impl NorFlashError for NoPower {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl Chip {
    /// With a configuration as a USB drive leaves it.
    fn with(config: &[u8]) -> Self {
        let mut bytes = vec![0xff; 0x5000];
        bytes[0x4000..0x4000 + config.len()].copy_from_slice(config);
        Self(Rc::new(RefCell::new(Inside { bytes, power: usize::MAX })))
    }

    fn power(&self, bytes: usize) {
        self.0.borrow_mut().power = bytes;
    }

    fn loaded(&self) -> Result<UnixSeconds, ConfigError> {
        let mut buffer = [0; CONFIG_LIMIT];
        slots::load(&mut self.clone(), LAYOUT, &mut buffer).unwrap();
        created(&buffer)
    }

    fn replace(&self, new: &[u8]) -> Result<(), SlotError> {
        slots::replace(&mut self.clone(), LAYOUT, new, &mut [0; CONFIG_LIMIT])
    }

    fn contains(&self, text: &[u8]) -> bool {
        self.0.borrow().bytes.windows(text.len()).any(|window| window == text)
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
    const WRITE_SIZE: usize = 1;
    const ERASE_SIZE: usize = 4_096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NoPower> {
        let inside = &mut *self.0.borrow_mut();
        for at in usize::try_from(from).unwrap()..usize::try_from(to).unwrap() {
            inside.power = inside.power.checked_sub(1).ok_or(NoPower)?;
            inside.bytes[at] = 0xff;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NoPower> {
        let inside = &mut *self.0.borrow_mut();
        for (at, byte) in (usize::try_from(offset).unwrap()..).zip(bytes) {
            inside.power = inside.power.checked_sub(1).ok_or(NoPower)?;
            inside.bytes[at] &= byte;
        }
        Ok(())
    }
}

const OLD: UnixSeconds = UnixSeconds(1_800_000_000);
const NEW: UnixSeconds = UnixSeconds(1_800_000_001);

fn config(created: UnixSeconds) -> Vec<u8> {
    let mut bytes = [0; CONFIG_LIMIT];
    let length = Config::<RULES> { created, ..Config::new() }.emit(&mut bytes).unwrap();
    bytes[..length].to_vec()
}

#[test]
fn whenever_the_power_fails_the_old_or_the_new_configuration_is_whole() {
    let (old, new) = (config(OLD), config(NEW));
    let mut outcomes = [0, 0];
    // Erasing one place, writing to it, and erasing the other.
    for power in 0..=3 * CONFIG_LIMIT {
        let chip = Chip::with(&old);
        chip.power(power);
        let result = chip.replace(&new);
        chip.power(usize::MAX);
        let loaded = chip.loaded().unwrap();
        assert!(loaded == OLD || loaded == NEW, "{power}");
        assert!(result.is_err() || loaded == NEW, "{power}: {result:?}");
        outcomes[usize::from(loaded == NEW)] += 1;
        // Later starts find the same, and it can be replaced.
        assert_eq!(chip.loaded(), Ok(loaded), "{power}");
        chip.replace(&config(UnixSeconds(NEW.0 + 1))).unwrap();
        assert_eq!(chip.loaded(), Ok(UnixSeconds(NEW.0 + 1)), "{power}");
    }
    assert!(outcomes.iter().all(|count| *count > 1_000), "{outcomes:?}");
}

#[test]
fn nothing_is_left_of_a_configuration_that_was_replaced() {
    let chip = Chip::with(&config(OLD));
    for turn in 1..5 {
        let before = OLD.0 + turn - 1;
        chip.replace(&config(UnixSeconds(before + 1))).unwrap();
        assert!(!chip.contains(&before.to_le_bytes()), "turn {turn}");
        assert_eq!(chip.loaded(), Ok(UnixSeconds(before + 1)));
    }
    // A newer one that a USB drive writes to its own place counts, and what it replaces goes when it is first loaded.
    let chip = Chip::with(&config(OLD));
    chip.replace(&config(NEW)).unwrap();
    let newest = config(UnixSeconds(NEW.0 + 1));
    chip.0.borrow_mut().bytes[0x4000..0x4000 + newest.len()].copy_from_slice(&newest);
    let load = || slots::load(&mut chip.clone(), LAYOUT, &mut [0; CONFIG_LIMIT]);
    assert_eq!((load(), load()), (Ok(true), Ok(false)), "one is erased, and says so");
    assert_eq!(chip.loaded(), Ok(UnixSeconds(NEW.0 + 1)));
    assert!(!chip.contains(&NEW.0.to_le_bytes()));
}

#[test]
fn what_is_not_whole_or_not_newer_changes_nothing() {
    let (old, new) = (config(OLD), config(NEW));
    let mut altered = new.clone();
    altered[20] ^= 1;
    let table = [
        ("the same again", &old[..], SlotError::Older),
        ("an older one", &config(UnixSeconds(1)), SlotError::Older),
        ("cut", &new[..new.len() - 1], SlotError::New(ConfigError::Length)),
        ("altered", &altered, SlotError::New(ConfigError::Crc)),
        ("nothing", &[], SlotError::New(ConfigError::Length)),
    ];
    let chip = Chip::with(&old);
    let before = chip.0.borrow().bytes.clone();
    for (name, bytes, expected) in table {
        assert_eq!(chip.replace(bytes), Err(expected), "{name}");
        assert!(chip.0.borrow().bytes == before, "{name}");
    }
    let one = FlashLayout { other_config: None, ..LAYOUT };
    let result = slots::replace(&mut chip.clone(), one, &new, &mut [0; CONFIG_LIMIT]);
    assert_eq!(result, Err(SlotError::OneSlot));
}

#[test]
fn a_board_without_a_configuration_gets_its_first_one() {
    let chip = Chip::with(&[]);
    assert_eq!(chip.loaded(), Err(ConfigError::Missing));
    chip.replace(&config(OLD)).unwrap();
    assert_eq!(chip.loaded(), Ok(OLD));
}
