//! The configuration in two places, so that it can be replaced while the board runs.
//!
//! The newer of two is the one in use: a configuration has the time of its creation. A new one is written where the one in use is
//! not, and read back; then the old one is erased, so that its keys cannot come back. Whenever the power fails, either the old or
//! the new one is whole.

use core::fmt;

use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};
use pkd_gateway::{CONFIG_LIMIT, ConfigError, created};

use crate::board::FlashLayout;

/// Why a configuration was not replaced. The old one is still in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotError {
    /// The new one was not received completely.
    New(ConfigError),
    /// The new one was created no later than the one in use.
    Older,
    /// The board keeps its configuration in one place only.
    OneSlot,
    /// The flash cannot be read, erased or written, or has other bytes afterwards.
    Flash,
}

impl fmt::Display for SlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New(why) => why.fmt(f),
            Self::Older => f.write_str("not newer than the one in use: make it again with gateway-config"),
            Self::OneSlot => f.write_str("this board cannot replace its configuration while it runs"),
            Self::Flash => f.write_str("the flash does not keep what is written to it"),
        }
    }
}

/// Room for a configuration.
pub type Buffer = [u8; CONFIG_LIMIT];

/// `CONFIG_LIMIT` as a flash offset.
#[allow(clippy::cast_possible_truncation)] // it is 4,096
const SLOT: u32 = CONFIG_LIMIT as u32;

/// Reads the configuration in use into `buffer`, and erases an older one, which an interrupted replacement has left,
/// or which a USB drive has written. What is read is not a valid configuration if there is none. Returns whether one was erased.
///
/// # Errors
/// [`SlotError::Flash`].
pub fn load(flash: &mut impl NorFlash, layout: FlashLayout, buffer: &mut Buffer) -> Result<bool, SlotError> {
    let (in_use, other) = ordered(flash, layout, buffer)?;
    let mut has_erased = false;
    if let Some(other) = other
        && read(flash, other, buffer).map(|()| created(buffer).is_ok())?
    {
        erase(flash, other)?;
        has_erased = true;
    }
    read(flash, in_use, buffer)?;
    Ok(has_erased)
}

/// Replaces the configuration in use by `new`. Afterwards, [`load`] finds the new one.
///
/// # Errors
/// [`SlotError`]; the old one is in use. Only if the last step fails, erasing the old one, the new one is.
pub fn replace(
    flash: &mut impl NorFlash,
    layout: FlashLayout,
    new: &[u8],
    buffer: &mut Buffer,
) -> Result<(), SlotError> {
    let time = created(new).map_err(SlotError::New)?;
    let (in_use, Some(other)) = ordered(flash, layout, buffer)? else { return Err(SlotError::OneSlot) };
    read(flash, in_use, buffer)?;
    // Without one in use, there is nothing to lose: either place will do.
    if created(buffer).is_ok_and(|in_use| time <= in_use) {
        return Err(SlotError::Older);
    }
    erase(flash, other)?;
    buffer.fill(0xff);
    let bytes = buffer.get_mut(..new.len()).ok_or(SlotError::New(ConfigError::Length))?;
    bytes.copy_from_slice(new);
    flash.write(other, buffer).map_err(|_| SlotError::Flash)?;
    read(flash, other, buffer)?;
    if !buffer.starts_with(new) {
        return Err(SlotError::Flash);
    }
    erase(flash, in_use)
}

/// The places of the configuration in use, and of the other one.
fn ordered(
    flash: &mut impl NorFlash,
    layout: FlashLayout,
    buffer: &mut Buffer,
) -> Result<(u32, Option<u32>), SlotError> {
    let Some(second) = layout.other_config else { return Ok((layout.config, None)) };
    let mut time_at = |place| read(flash, place, buffer).map(|()| created(buffer).ok());
    let (first_time, second_time) = (time_at(layout.config)?, time_at(second)?);
    // None is less than any time.
    let second_is_newer = second_time > first_time;
    Ok(if second_is_newer { (second, Some(layout.config)) } else { (layout.config, Some(second)) })
}

fn read(flash: &mut impl ReadNorFlash, place: u32, buffer: &mut Buffer) -> Result<(), SlotError> {
    flash.read(place, buffer).map_err(|_| SlotError::Flash)
}

fn erase(flash: &mut impl NorFlash, place: u32) -> Result<(), SlotError> {
    flash.erase(place, place + SLOT).map_err(|_| SlotError::Flash)
}
