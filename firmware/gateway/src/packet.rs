//! IPv4 packets: parsed once, rewritten in place.

use core::net::Ipv4Addr;

use smoltcp::wire::{EthernetAddress, IpProtocol, Ipv4Packet, TcpPacket, UdpPacket};

use crate::{
    checksum::{ChecksumDelta, Sum},
    drop_reason::DropReason,
    flow::{Endpoint, Protocol, Segment},
};

/// Length of an IPv4 header without options in bytes.
pub(crate) const IPV4_HEADER: u8 = 20;
/// Length of an ICMP header in bytes. An ICMP error quotes a packet behind it.
pub(crate) const ICMP_HEADER: usize = 8;

/// The relevant headers of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) transport: Transport,
}

/// The transport layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport {
    /// TCP or UDP. For UDP, `segment` is all zeros.
    TcpOrUdp { protocol: Protocol, source: u16, destination: u16, segment: Segment },
    /// ICMP, with its type.
    Icmp(u8),
    /// A fragment of any protocol.
    Fragment,
    /// Any other protocol.
    Other,
}

impl Header {
    /// Parses a packet and checks its version, lengths and header checksum.
    #[inline(always)]
    #[allow(clippy::inline_always)] // saves each frame 80 instructions of 800
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let packet = Ipv4Packet::new_checked(bytes).map_err(|_| DropReason::Malformed)?;
        if packet.version() != 4 || packet.header_len() < IPV4_HEADER {
            return Err(DropReason::Malformed);
        }
        let header = bytes.get(..packet.header_len().into()).ok_or(DropReason::Malformed)?;
        if !Sum::default().bytes(header).is_valid() {
            return Err(DropReason::Checksum);
        }
        Ok(Self {
            source: packet.src_addr(),
            destination: packet.dst_addr(),
            transport: Transport::parse(&packet)?,
        })
    }

    /// The source address and port. The port is 0 if the protocol has none.
    pub(crate) fn source_endpoint(&self) -> Endpoint {
        match self.transport {
            Transport::TcpOrUdp { source, .. } => Endpoint { address: self.source, port: source },
            _ => Endpoint { address: self.source, port: 0 },
        }
    }

    /// The destination address and port. The port is 0 if the protocol has none.
    pub(crate) fn destination_endpoint(&self) -> Endpoint {
        match self.transport {
            Transport::TcpOrUdp { destination, .. } => {
                Endpoint { address: self.destination, port: destination }
            }
            _ => Endpoint { address: self.destination, port: 0 },
        }
    }
}

impl Transport {
    #[inline(always)]
    #[allow(clippy::inline_always)] // saves each frame 80 instructions of 800
    fn parse(packet: &Ipv4Packet<&[u8]>) -> Result<Self, DropReason> {
        if packet.more_frags() || packet.frag_offset() != 0 {
            return Ok(Self::Fragment);
        }
        let payload = packet.payload();
        Ok(match packet.next_header() {
            IpProtocol::Tcp => {
                let packet = TcpPacket::new_checked(payload).map_err(|_| DropReason::Malformed)?;
                let segment = Segment {
                    syn: packet.syn(),
                    ack: packet.ack(),
                    fin: packet.fin(),
                    rst: packet.rst(),
                    // smoltcp uses signed numbers with the same bits.
                    sequence: packet.seq_number().0.cast_unsigned(),
                    acknowledgment: packet.ack_number().0.cast_unsigned(),
                };
                Self::TcpOrUdp {
                    protocol: Protocol::Tcp,
                    source: packet.src_port(),
                    destination: packet.dst_port(),
                    segment,
                }
            }
            IpProtocol::Udp => {
                let datagram = UdpPacket::new_checked(payload).map_err(|_| DropReason::Malformed)?;
                Self::TcpOrUdp {
                    protocol: Protocol::Udp,
                    source: datagram.src_port(),
                    destination: datagram.dst_port(),
                    segment: Segment::default(),
                }
            }
            IpProtocol::Icmp if payload.len() >= ICMP_HEADER => {
                Self::Icmp(payload.first().copied().ok_or(DropReason::Malformed)?)
            }
            IpProtocol::Icmp => return Err(DropReason::Malformed),
            _ => Self::Other,
        })
    }
}

/// Whether the header has a source route option (RFC 791: options 131 and 137). Such a packet reaches another host than its
/// destination address says.
pub(crate) fn is_source_routed(bytes: &[u8]) -> bool {
    let Ok(packet) = Ipv4Packet::new_checked(bytes) else { return true };
    let mut options = bytes.get(IPV4_HEADER.into()..packet.header_len().into()).unwrap_or_default();
    while let Some((kind, rest)) = options.split_first() {
        options = match kind {
            0 => return false,
            1 => rest,
            131 | 137 => return true,
            _ => match rest.first() {
                Some(length) if *length >= 2 => options.get(usize::from(*length)..).unwrap_or_default(),
                // An impossible length. It is unknown how a host would parse the rest.
                _ => return true,
            },
        };
    }
    false
}

/// The new source and destination of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoints {
    pub(crate) source: Endpoint,
    pub(crate) destination: Endpoint,
}

/// Rewrites both endpoints of a packet that [`Header::parse`] has accepted, decrements its time to live, and updates all
/// checksums.
pub(crate) fn rewrite(bytes: &mut [u8], protocol: Protocol, to: &Endpoints) -> Result<(), DropReason> {
    let mut packet = Ipv4Packet::new_checked(bytes).map_err(|_| DropReason::Malformed)?;
    let ttl = packet.hop_limit();
    if ttl <= 1 {
        return Err(DropReason::TtlExpired);
    }
    packet.set_hop_limit(ttl - 1);
    let ttl_change = ChecksumDelta::default().word(u16::from(ttl) << 8, u16::from(ttl - 1) << 8);
    let checksum = ttl_change.apply(packet.checksum());
    packet.set_checksum(checksum);
    let addresses = rewrite_addresses(&mut packet, to);
    rewrite_ports(packet.payload_mut(), protocol, to, addresses)
}

/// Rewrites both endpoints of a packet that an ICMP error quotes. Only its start may be there.
pub(crate) fn rewrite_quote(bytes: &mut [u8], protocol: Protocol, to: &Endpoints) -> Result<(), DropReason> {
    // Its total length is that of the complete packet.
    let mut packet = Ipv4Packet::new_unchecked(&mut *bytes);
    let header = usize::from(packet.header_len());
    let addresses = rewrite_addresses(&mut packet, to);
    let transport = bytes.get_mut(header..).ok_or(DropReason::Malformed)?;
    let (ports, rest) = transport.split_first_chunk_mut::<4>().ok_or(DropReason::Malformed)?;
    let [a, b, c, d] = *ports;
    let change = addresses
        .word(u16::from_be_bytes([a, b]), to.source.port)
        .word(u16::from_be_bytes([c, d]), to.destination.port);
    let ([a, b], [c, d]) = (to.source.port.to_be_bytes(), to.destination.port.to_be_bytes());
    *ports = [a, b, c, d];
    // After the ports, UDP has 2 bytes of length before the checksum, TCP has 12 other bytes.
    let behind = match protocol {
        Protocol::Udp => 2..4,
        Protocol::Tcp => 12..14,
    };
    if let Some(checksum) = rest.get_mut(behind).and_then(|bytes| bytes.first_chunk_mut::<2>()) {
        let old = u16::from_be_bytes(*checksum);
        *checksum = match protocol {
            Protocol::Udp => change.apply_udp(old),
            Protocol::Tcp => change.apply(old),
        }
        .to_be_bytes();
    }
    Ok(())
}

/// Rewrites both addresses and the header checksum. Returns the change for the transport's checksum.
fn rewrite_addresses(packet: &mut Ipv4Packet<&mut [u8]>, to: &Endpoints) -> ChecksumDelta {
    let change = ChecksumDelta::default()
        .address(packet.src_addr(), to.source.address)
        .address(packet.dst_addr(), to.destination.address);
    packet.set_src_addr(to.source.address);
    packet.set_dst_addr(to.destination.address);
    let checksum = change.apply(packet.checksum());
    packet.set_checksum(checksum);
    change
}

fn rewrite_ports(
    payload: &mut [u8],
    protocol: Protocol,
    to: &Endpoints,
    addresses: ChecksumDelta,
) -> Result<(), DropReason> {
    let (source, destination) = (to.source.port, to.destination.port);
    match protocol {
        Protocol::Tcp => {
            let mut segment = TcpPacket::new_checked(payload).map_err(|_| DropReason::Malformed)?;
            let change = addresses.word(segment.src_port(), source).word(segment.dst_port(), destination);
            segment.set_src_port(source);
            segment.set_dst_port(destination);
            let checksum = change.apply(segment.checksum());
            segment.set_checksum(checksum);
        }
        Protocol::Udp => {
            let mut datagram = UdpPacket::new_checked(payload).map_err(|_| DropReason::Malformed)?;
            let change = addresses.word(datagram.src_port(), source).word(datagram.dst_port(), destination);
            datagram.set_src_port(source);
            datagram.set_dst_port(destination);
            let checksum = change.apply_udp(datagram.checksum());
            datagram.set_checksum(checksum);
        }
    }
    Ok(())
}

/// The datagram in a packet that [`Header::parse`] has accepted. Its checksum must be correct or absent (RFC 768).
pub(crate) fn datagram<'a>(header: &Header, bytes: &'a [u8]) -> Result<UdpPacket<&'a [u8]>, DropReason> {
    let packet = Ipv4Packet::new_checked(bytes).map_err(|_| DropReason::Malformed)?;
    let payload = packet.payload();
    let datagram = UdpPacket::new_checked(payload).map_err(|_| DropReason::Malformed)?;
    let covered = payload.get(..datagram.len().into()).ok_or(DropReason::Malformed)?;
    let sum = Sum::default()
        .address(header.source)
        .address(header.destination)
        .word(u8::from(IpProtocol::Udp).into())
        .word(datagram.len())
        .bytes(covered);
    if datagram.checksum() != 0 && !sum.is_valid() {
        return Err(DropReason::Checksum);
    }
    Ok(datagram)
}

/// Whether this can be the MAC address of a single host.
pub(crate) fn is_unicast_host(hardware: EthernetAddress) -> bool {
    hardware.is_unicast() && hardware.0 != [0; 6]
}
