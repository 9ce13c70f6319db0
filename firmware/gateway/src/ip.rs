//! Addresses of both families in one type, so that they share the tables.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The third word of a mapped address.
const MAPPED: u32 = 0xffff;

/// An IPv4 or IPv6 address. IPv4 addresses are mapped (RFC 4291, section 2.5.5.2). Empty tables are all zeros, so zero is no
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ip([u32; 4]);

impl Ip {
    pub(crate) const NONE: Self = Self([0; 4]);

    pub(crate) const fn v4(bits: u32) -> Self {
        Self([0, 0, MAPPED, bits])
    }

    pub(crate) fn v6(octets: [u8; 16]) -> Self {
        Self::from(Ipv6Addr::from(octets))
    }

    pub(crate) const fn from_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    pub(crate) const fn is_v4(self) -> bool {
        matches!(self, Self([0, 0, MAPPED, _]))
    }

    /// The IPv4 address, if it is one.
    pub(crate) const fn to_v4(self) -> Option<Ipv4Addr> {
        match self {
            Self([0, 0, MAPPED, bits]) => Some(Ipv4Addr::from_bits(bits)),
            Self(_) => None,
        }
    }

    /// As 16 bytes on the wire.
    pub(crate) fn octets(self) -> [u8; 16] {
        Ipv6Addr::from_bits(self.bits()).octets()
    }

    /// The words, for checksums and hashes. Those of an IPv4 address cancel out in a checksum's difference, except the last.
    pub(crate) const fn words(self) -> [u32; 4] {
        self.0
    }

    /// The network of an IPv6 address with this prefix length. An IPv4 address is its own.
    pub(crate) fn network(self, prefix: u8) -> Self {
        if self.is_v4() {
            return self;
        }
        let host_bits = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
        Self::from(Ipv6Addr::from_bits(self.bits() & !host_bits))
    }

    /// Whether this cannot be the address of a single host.
    pub(crate) fn is_group_or_none(self) -> bool {
        match IpAddr::from(self) {
            IpAddr::V4(address) => {
                address.is_unspecified() || address.is_broadcast() || address.is_multicast()
            }
            IpAddr::V6(address) => address.is_unspecified() || address.is_multicast(),
        }
    }

    fn bits(self) -> u128 {
        let [a, b, c, d] = self.0;
        u128::from(a) << 96 | u128::from(b) << 64 | u128::from(c) << 32 | u128::from(d)
    }
}

impl From<Ipv4Addr> for Ip {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address.to_bits())
    }
}

impl From<Ipv6Addr> for Ip {
    fn from(address: Ipv6Addr) -> Self {
        let [a, b, c, d, e, f, g, h] = address.segments().map(u32::from);
        Self([a << 16 | b, c << 16 | d, e << 16 | f, g << 16 | h])
    }
}

impl From<IpAddr> for Ip {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<Ip> for IpAddr {
    fn from(ip: Ip) -> Self {
        ip.to_v4().map_or_else(|| Self::V6(Ipv6Addr::from_bits(ip.bits())), Self::V4)
    }
}

/// Whether this can be the address of a host on a network.
pub(crate) fn is_unicast(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !address.is_unspecified() && !is_broadcast && !address.is_multicast() && !address.is_loopback()
}
