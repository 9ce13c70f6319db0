//! The addresses of a datagram, and which of them a knock is bound to.

use core::{net::IpAddr, ops::BitOr};

/// The addresses of a datagram, as they stand in the IP header that the gateway sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses<'a> {
    /// Of IPv4.
    V4 {
        /// The sender's.
        source: &'a [u8; 4],
        /// The gateway's, or what stands for it.
        destination: &'a [u8; 4],
    },
    /// Of IPv6.
    V6 {
        /// The sender's.
        source: &'a [u8; 16],
        /// The gateway's, or what stands for it.
        destination: &'a [u8; 16],
    },
}

impl Addresses<'_> {
    /// Calls `call` with these addresses; `None` if they are of different families.
    pub fn with<R>(source: IpAddr, destination: IpAddr, call: impl FnOnce(&Addresses<'_>) -> R) -> Option<R> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Some(call(&Addresses::V4 { source: &source.octets(), destination: &destination.octets() }))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Some(call(&Addresses::V6 { source: &source.octets(), destination: &destination.octets() }))
            }
            _ => None,
        }
    }
}

impl<'a> Addresses<'a> {
    pub(crate) fn source(&self) -> &'a [u8] {
        match self {
            Self::V4 { source, .. } => *source,
            Self::V6 { source, .. } => *source,
        }
    }

    pub(crate) fn destination(&self) -> &'a [u8] {
        match self {
            Self::V4 { destination, .. } => *destination,
            Self::V6 { destination, .. } => *destination,
        }
    }
}

/// Addresses that a knock is good for only, or that a rule wants it to be bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bindings(u8);

impl Bindings {
    /// Neither.
    pub const NONE: Self = Self(0);
    /// The sender's: the knock is of no use to another address.
    pub const SOURCE: Self = Self(1);
    /// The gateway's: the knock is of no use at another gateway with the same key.
    pub const DESTINATION: Self = Self(2);

    /// Whether all of `other` are among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// As the flags of a knock have them.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns `None` if a bit is set that has no meaning.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & !3 == 0 { Some(Self(bits)) } else { None }
    }

    /// Those of the bits that have a meaning.
    pub(crate) const fn known(bits: u8) -> Self {
        Self(bits & 3)
    }
}

impl BitOr for Bindings {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
