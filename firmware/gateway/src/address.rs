//! IPv4 addresses.

use core::net::Ipv4Addr;

/// Whether this can be the address of a host on a network.
pub(crate) fn is_unicast(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast() && !address.is_loopback()
}
