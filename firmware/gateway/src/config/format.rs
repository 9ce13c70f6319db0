//! What every configuration in flash begins with.

/// The format version that this library writes. It also reads all versions before it.
pub const VERSION: u16 = 3;
/// The version whose rules are all classic.
pub(super) const CLASSIC_VERSION: u16 = 1;
/// The last version without IPv6, and whose time servers all have addresses.
pub(super) const IPV4_VERSION: u16 = 2;
/// The greatest length of a configuration in bytes.
pub const CONFIG_LIMIT: usize = 4_096;

pub(super) const MAGIC: [u8; 4] = *b"PKDg";
/// Length of the magic number, version, length and CRC in bytes.
pub(super) const HEADER_LENGTH: usize = 12;
pub(super) const NAME_LENGTH: usize = 16;

/// Whether there is a key for updates.
pub(super) mod update {
    pub(crate) const NONE: u8 = 0;
    pub(crate) const NEWER: u8 = 1;
    pub(crate) const ANY: u8 = 2;
}

/// How a time server is given.
pub(super) mod server {
    use core::net::{Ipv4Addr, SocketAddrV4};

    pub(crate) const ADDRESS: u8 = 0;
    pub(crate) const DHCP: u8 = 1;
    pub(crate) const NAME: u8 = 2;
    /// What stands for no address.
    pub(crate) const NONE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
}
