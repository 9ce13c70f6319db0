//! The UDP datagram that a knock is.

/// Length of a knock, the payload of the datagram, in bytes.
pub const LENGTH: usize = 56;
/// The length field of the UDP header: header and knock, in bytes.
pub const UDP_LENGTH: usize = 64;
/// Bytes before the digest, which are hashed: tag, time and nonce.
pub(crate) const HEAD_LENGTH: usize = 24;

/// A UDP port in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Port(pub u16);

/// A UDP datagram that may be a knock. It has no source port, because NAT rewrites it.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Covered by the digest.
    pub destination_port: Port,
    /// All bytes after the UDP header.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Parses a UDP header (RFC 768) and the payload after it. Does not verify the checksum; that is up to the caller.
    ///
    /// Returns `None` unless the header's length is [`UDP_LENGTH`] and that many bytes are present. Bytes after them,
    /// such as the padding of an Ethernet frame, are ignored.
    #[must_use]
    pub fn from_udp(datagram: &'a [u8]) -> Option<Self> {
        let (_source_port, rest) = datagram.split_first_chunk::<2>()?;
        let (destination_port, rest) = rest.split_first_chunk::<2>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (_checksum, rest) = rest.split_first_chunk::<2>()?;
        if usize::from(u16::from_be_bytes(*length)) != UDP_LENGTH {
            return None;
        }
        let (payload, _padding) = rest.split_first_chunk::<LENGTH>()?;
        Some(Self { destination_port: Port(u16::from_be_bytes(*destination_port)), payload })
    }
}
