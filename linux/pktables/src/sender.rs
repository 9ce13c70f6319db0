//! Where packets come from.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType, netdevice::index_to_name, socket},
};

/// The source address of packets. For a link-local IPv6 address it may have the interface on which they arrive: the same
/// address belongs to another host on every link, and answers go back to the link that a packet came from.
///
/// ```
/// use std::num::NonZeroU32;
/// use pktables::Sender;
///
/// let interface = NonZeroU32::new(u32::MAX);
/// let local = Sender::new("fe80::1".parse()?, interface);
/// assert_eq!((local.interface(), local.to_string()), (interface, "fe80::1%4294967295".to_owned()));
/// // Other addresses are the same host everywhere.
/// assert_eq!(Sender::new("2001:db8::1".parse()?, interface).interface(), None);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    address: IpAddr,
    interface: Option<NonZeroU32>,
}

impl Sender {
    /// An address, and the kernel's index of the interface on which packets arrive. The index is kept only for link-local
    /// IPv6 addresses (`fe80::/10`).
    #[must_use]
    pub fn new(address: IpAddr, interface: Option<NonZeroU32>) -> Self {
        let address = address.to_canonical();
        Self { address, interface: interface.filter(|_| is_link_local(address)) }
    }

    /// The address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The interface of a link-local address; `None`: any.
    #[must_use]
    pub const fn interface(self) -> Option<NonZeroU32> {
        self.interface
    }

    /// Whether the address is of another host on every link.
    #[must_use]
    pub fn is_link_local(self) -> bool {
        is_link_local(self.address)
    }

    /// The name of the interface; `None`: it does not exist, or there is none.
    #[must_use]
    pub fn interface_name(self) -> Option<String> {
        name(self.interface?).ok()
    }

    /// As a key of an nftables set: the address, or `ipv6_addr . iface_index`.
    pub(crate) fn key(self) -> Vec<u8> {
        let mut key = match self.address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        // The kernel compares the index as it is in a register.
        key.extend(self.interface.into_iter().flat_map(|interface| interface.get().to_ne_bytes()));
        key
    }

    /// Parses what [`Self::key`] formats.
    pub(crate) fn of_key(key: &[u8]) -> Option<Self> {
        if let Ok(v4) = <[u8; 4]>::try_from(key) {
            return Some(Self { address: Ipv4Addr::from(v4).into(), interface: None });
        }
        let (v6, rest) = key.split_first_chunk::<16>()?;
        let interface = match rest {
            [] => None,
            rest => Some(NonZeroU32::new(u32::from_ne_bytes(rest.try_into().ok()?))?),
        };
        Some(Self { address: Ipv6Addr::from(*v6).into(), interface })
    }
}

impl From<IpAddr> for Sender {
    /// An address on any interface.
    fn from(address: IpAddr) -> Self {
        Self { address, interface: None }
    }
}

/// `192.0.2.7`, or `fe80::1%eth0`. An interface that is gone has its number.
impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        match self.interface {
            None => Ok(()),
            Some(interface) => match name(interface) {
                Ok(name) => write!(f, "%{name}"),
                Err(_) => write!(f, "%{interface}"),
            },
        }
    }
}

/// `fe80::/10`.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn name(interface: NonZeroU32) -> Result<String, Errno> {
    // Any socket will do.
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    index_to_name(socket, interface.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(address: &str, interface: u32) -> Sender {
        Sender::new(address.parse().expect("an address"), NonZeroU32::new(interface))
    }

    #[test]
    fn only_link_local_addresses_have_an_interface() {
        // address, interface, as text; the loopback interface is always the first
        let rows = [
            ("192.0.2.7", 1, "192.0.2.7"),
            ("169.254.0.7", 1, "169.254.0.7"),
            ("2001:db8::7", 1, "2001:db8::7"),
            ("::ffff:192.0.2.7", 1, "192.0.2.7"),
            ("fe7f::1", 1, "fe7f::1"),
            ("fe80::1", 0, "fe80::1"),
            ("fe80::1", 1, "fe80::1%lo"),
            ("febf:ffff::1", 1, "febf:ffff::1%lo"),
            ("fec0::1", 1, "fec0::1"),
            ("ff02::1", 1, "ff02::1"),
            ("fe80::1", u32::MAX, "fe80::1%4294967295"),
        ];
        for (address, interface, text) in rows {
            let found = sender(address, interface);
            assert_eq!(found.to_string(), text);
            assert_eq!(found.interface().is_some(), text.contains('%'), "{text}");
            assert_eq!(found.interface_name().is_some(), text.ends_with("%lo"), "{text}");
        }
    }

    #[test]
    fn a_sender_survives_as_a_key() {
        // address, interface, bytes of the key
        let rows = [("192.0.2.7", 3, 4), ("2001:db8::7", 3, 16), ("fe80::7", 0, 16), ("fe80::7", 3, 20)];
        for (address, interface, length) in rows {
            let (sender, key) = (sender(address, interface), sender(address, interface).key());
            assert_eq!((key.len(), Sender::of_key(&key)), (length, Some(sender)), "{address}");
        }
        for length in [0, 3, 5, 15, 17, 19, 21, 24] {
            assert_eq!(Sender::of_key(&vec![1; length]), None, "{length} bytes");
        }
        // No interface has the index 0.
        assert_eq!(Sender::of_key(&[0; 20]), None);
    }
}
