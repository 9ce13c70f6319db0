//! What every configuration in flash begins with.

/// The format version that this library writes. It also reads the versions before it.
pub const VERSION: u16 = 3;
/// The version whose rules are all classic.
pub(super) const CLASSIC_VERSION: u16 = 1;
/// The last version without IPv6.
pub(super) const IPV4_VERSION: u16 = 2;
/// The greatest length of a configuration in bytes.
pub const CONFIG_LIMIT: usize = 4_096;

pub(super) const MAGIC: [u8; 4] = *b"PKDg";
/// Length of the magic number, version, length and CRC in bytes.
pub(super) const HEADER_LENGTH: usize = 12;
pub(super) const NAME_LENGTH: usize = 16;
