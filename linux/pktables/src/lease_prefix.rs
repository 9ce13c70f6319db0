//! How much of a network a lease lets in.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::sender::is_link_local;

/// The prefix lengths of leases: a lease lets in the whole network of its address. By default 32 and 128, the address alone.
///
/// ```
/// let prefix = pktables::LeasePrefix { v6: 64, ..Default::default() };
/// assert_eq!(prefix.network("2001:db8::7".parse()?).to_string(), "2001:db8::/64");
/// assert_eq!(prefix.network("192.0.2.7".parse()?).to_string(), "192.0.2.7/32");
/// // Every host on the link has an address in the network of such an address.
/// assert_eq!(prefix.network("fe80::7".parse()?).to_string(), "fe80::7/128");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeasePrefix {
    /// Of IPv4, up to 32.
    pub v4: u8,
    /// Of IPv6, up to 128.
    pub v6: u8,
}

impl Default for LeasePrefix {
    fn default() -> Self {
        Self { v4: 32, v6: 128 }
    }
}

impl LeasePrefix {
    /// What a lease for this address lets in. A link-local address stays alone.
    #[must_use]
    pub fn network(self, address: IpAddr) -> IpNet {
        let address = address.to_canonical();
        if is_link_local(address) {
            return address.into();
        }
        let length = if address.is_ipv4() { self.v4 } else { self.v6 };
        IpNet::new(address, length).map_or(address.into(), |network| network.trunc())
    }

    /// The length in a family.
    #[cfg(feature = "rules")]
    pub(crate) fn length(self, v6: bool) -> u8 {
        if v6 { self.v6 } else { self.v4 }
    }
}
