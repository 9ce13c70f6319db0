//! The headers of a packet, of either family.

use smoltcp::wire::EthernetAddress;

use crate::{
    checksum::Sum,
    drop_reason::DropReason,
    flow::{FlowKind, Peer, Segment},
    ip::Ip,
};

/// Length of an Ethernet header in bytes.
pub(crate) const ETHERNET_HEADER: usize = 14;
/// Length of an IPv4 header without options in bytes.
pub(crate) const IPV4_HEADER: usize = 20;
/// Length of an IPv6 header without extensions in bytes.
pub(crate) const IPV6_HEADER: usize = 40;
/// Length of an ICMP header in bytes. An ICMP error quotes a packet behind it.
pub(crate) const ICMP_HEADER: usize = 8;
/// Length of a UDP header in bytes.
const UDP_HEADER: usize = 8;
/// Length of a TCP header without options in bytes.
const TCP_HEADER: usize = 20;

/// The relevant headers of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) source: Ip,
    pub(crate) destination: Ip,
    pub(crate) transport: Transport,
    /// The time to live, or the hop limit.
    pub(crate) hop_limit: u8,
    /// Where the transport's header begins, in bytes from the start of the packet.
    pub(crate) start: usize,
    /// Where the packet ends. Behind it there is only padding.
    pub(crate) end: usize,
}

/// The transport layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport {
    /// TCP or UDP. For UDP, `segment` is all zeros.
    Flow { kind: FlowKind, source: u16, destination: u16, segment: Segment },
    /// An echo request or reply of either family, with its identifier.
    Echo { identifier: u16, is_reply: bool },
    /// Any other message of ICMP, with its type.
    Icmp(u8),
    /// Any other message of `ICMPv6`, with its type.
    Icmp6(u8),
    /// A fragment of any protocol.
    Fragment,
    /// Any other protocol, with its number.
    Other(u8),
}

impl Header {
    /// The source address and port. The port is 0 if the protocol has none.
    pub(crate) fn source_peer(&self) -> Peer {
        match self.transport {
            Transport::Flow { source, .. } => Peer { ip: self.source, port: source },
            _ => Peer { ip: self.source, port: 0 },
        }
    }

    /// The destination address and port. The port is 0 if the protocol has none.
    pub(crate) fn destination_peer(&self) -> Peer {
        match self.transport {
            Transport::Flow { destination, .. } => Peer { ip: self.destination, port: destination },
            _ => Peer { ip: self.destination, port: 0 },
        }
    }

    /// The transport's header and payload.
    pub(crate) fn body<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], DropReason> {
        bytes.get(self.start..self.end).ok_or(DropReason::Malformed)
    }

    /// The sum of the pseudo-header and the body. Valid if the body includes a correct checksum.
    pub(crate) fn sum(&self, protocol: u8, body: &[u8]) -> Sum {
        let length = u16::try_from(body.len()).unwrap_or(0);
        // Mapped addresses add the same to both, which the family's own pseudo-header does not have.
        let addresses = if self.source.is_v4() {
            Sum::default().words(&self.source.words()[3..]).words(&self.destination.words()[3..])
        } else {
            Sum::default().words(&self.source.words()).words(&self.destination.words())
        };
        addresses.word(protocol.into()).word(length).bytes(body)
    }
}

impl Transport {
    /// Parses TCP.
    #[inline(always)]
    #[allow(clippy::inline_always)] // saves each frame 80 instructions
    pub(super) fn tcp(body: &[u8]) -> Result<Self, DropReason> {
        let head = body.first_chunk::<TCP_HEADER>().ok_or(DropReason::Malformed)?;
        let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, flags, ..] = *head;
        let length = usize::from(offset >> 4) * 4;
        if length < TCP_HEADER || length > body.len() {
            return Err(DropReason::Malformed);
        }
        let (source, destination) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
        // No host has port 0 (RFC 6335, section 6).
        if source == 0 || destination == 0 {
            return Err(DropReason::Malformed);
        }
        Ok(Self::Flow {
            kind: FlowKind::Tcp,
            source,
            destination,
            segment: Segment {
                flags,
                sequence: u32::from_be_bytes([q0, q1, q2, q3]),
                acknowledgment: u32::from_be_bytes([a0, a1, a2, a3]),
            },
        })
    }

    /// Parses UDP.
    pub(super) fn udp(body: &[u8]) -> Result<Self, DropReason> {
        let head = body.first_chunk::<UDP_HEADER>().ok_or(DropReason::Malformed)?;
        let [s0, s1, d0, d1, l0, l1, ..] = *head;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let destination = u16::from_be_bytes([d0, d1]);
        if length < UDP_HEADER || length > body.len() || destination == 0 {
            return Err(DropReason::Malformed);
        }
        Ok(Self::Flow {
            kind: FlowKind::Udp,
            source: u16::from_be_bytes([s0, s1]),
            destination,
            segment: Segment::default(),
        })
    }

    /// Parses a message of ICMP (RFC 792) or of `ICMPv6` (RFC 4443).
    pub(super) fn icmp(body: &[u8], is_v6: bool) -> Result<Self, DropReason> {
        let [kind, code, _, _, i0, i1, ..] =
            *body.first_chunk::<ICMP_HEADER>().ok_or(DropReason::Malformed)?;
        let identifier = u16::from_be_bytes([i0, i1]);
        Ok(match (is_v6, kind, code) {
            (false, 8, 0) | (true, 128, 0) => Self::Echo { identifier, is_reply: false },
            (false, 0, 0) | (true, 129, 0) => Self::Echo { identifier, is_reply: true },
            (false, _, _) => Self::Icmp(kind),
            (true, _, _) => Self::Icmp6(kind),
        })
    }
}

/// The payload of the UDP datagram in a packet. Its checksum must be correct, or absent in IPv4 (RFC 768).
pub(crate) fn datagram<'a>(header: &Header, bytes: &'a [u8]) -> Result<&'a [u8], DropReason> {
    let body = header.body(bytes)?;
    let [_, _, _, _, l0, l1, c0, c1] = *body.first_chunk::<UDP_HEADER>().ok_or(DropReason::Malformed)?;
    let covered = body.get(..u16::from_be_bytes([l0, l1]).into()).ok_or(DropReason::Malformed)?;
    let is_absent = [c0, c1] == [0, 0] && header.source.is_v4();
    if !is_absent && !header.sum(17, covered).is_valid() {
        return Err(DropReason::Checksum);
    }
    covered.get(UDP_HEADER..).ok_or(DropReason::Malformed)
}

/// Whether this can be the MAC address of a single host.
pub(crate) fn is_unicast_host(hardware: EthernetAddress) -> bool {
    hardware.is_unicast() && hardware.0 != [0; 6]
}
