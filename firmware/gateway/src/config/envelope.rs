//! What is around the fields of a configuration: magic number, version, length and CRC.

use pkd_core::UnixSeconds;

use super::{
    error::ConfigError,
    format::{CONFIG_LIMIT, HEADER_LENGTH, MAGIC, VERSION},
};
use crate::checksum::Crc32;

/// When the configuration at the start of `bytes` was created, if it was written completely and has not changed. Whether its
/// settings are valid is not checked.
///
/// # Errors
/// [`ConfigError`] if it was not, or has.
pub fn created(bytes: &[u8]) -> Result<UnixSeconds, ConfigError> {
    let (_version, body) = checked(bytes)?;
    body.first_chunk().copied().map(u64::from_le_bytes).map(UnixSeconds).ok_or(ConfigError::Length)
}

/// The version and the fields behind the header, if the CRC is right.
pub(super) fn checked(bytes: &[u8]) -> Result<(u16, &[u8]), ConfigError> {
    let head = bytes.first_chunk::<HEADER_LENGTH>().ok_or(ConfigError::Length)?;
    if head.iter().all(|byte| *byte == 0xff) || head.iter().all(|byte| *byte == 0) {
        return Err(ConfigError::Missing);
    }
    let [a, b, c, d, version_low, version_high, length_low, length_high, crc @ ..] = *head;
    if [a, b, c, d] != MAGIC {
        return Err(ConfigError::Magic);
    }
    let version = u16::from_le_bytes([version_low, version_high]);
    let length = usize::from(u16::from_le_bytes([length_low, length_high]));
    let crc = u32::from_le_bytes(crc);
    if version > VERSION {
        return Err(ConfigError::Newer(version));
    }
    if version == 0 || length > CONFIG_LIMIT {
        return Err(ConfigError::Length);
    }
    let body = bytes.get(HEADER_LENGTH..length).ok_or(ConfigError::Length)?;
    let begin = head.split_last_chunk::<4>().map(|(begin, _crc)| begin).unwrap_or_default();
    if Crc32::new().update(begin).update(body).finish() != crc {
        return Err(ConfigError::Crc);
    }
    Ok((version, body))
}
