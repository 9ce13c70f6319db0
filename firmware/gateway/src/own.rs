//! The gateway's own addresses.

use core::net::Ipv4Addr;

use smoltcp::wire::EthernetAddress;

use crate::ip::Ip;

/// The addresses that the gateway's own frames come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) hardware: EthernetAddress,
    /// Unspecified while it has none: requests are ARP probes then (RFC 5227).
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ip,
}
