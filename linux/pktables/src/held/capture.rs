//! Datagrams that are passed to an NFLOG group.

use std::collections::BTreeSet;

/// UDP datagrams to this host that are passed to an NFLOG group and then dropped, so that nothing answers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The length in the UDP header.
    pub length: u16,
    /// The first four bytes of the payload must be one of these.
    pub words: BTreeSet<[u8; 4]>,
    /// The port; `None`: any.
    pub port: Option<u16>,
    /// The NFLOG group.
    pub group: u16,
    /// Bytes of each packet that are passed on.
    pub snaplen: u32,
    /// Datagrams per second and source (IPv4 address or IPv6 /64); others are dropped at once.
    pub rate: u32,
}
