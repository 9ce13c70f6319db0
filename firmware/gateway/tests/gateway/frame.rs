//! Frames for tests: built with correct checksums, and parsed with all checksums verified. `tests/firmware` uses them too.

use std::net::Ipv4Addr;

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    Icmpv4Packet, IpAddress, IpProtocol, Ipv4Packet, TcpPacket, TcpSeqNumber, UdpPacket,
};

/// The time to live of all packets built here.
pub(crate) const TTL_SENT: u8 = 64;

/// The sequence and acknowledgement number of all segments built here.
pub(crate) const SEQUENCE: i32 = 77;

/// A host: its MAC and IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) hardware: EthernetAddress,
    pub(crate) address: Ipv4Addr,
}

impl Host {
    pub(crate) const fn new(last: u8, address: [u8; 4]) -> Self {
        let [a, b, c, d] = address;
        Self { hardware: EthernetAddress([2, 0, 0, 0, 0, last]), address: Ipv4Addr::new(a, b, c, d) }
    }
}

/// TCP flags, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u8);

pub(crate) const FIN: Flags = Flags(1);
pub(crate) const SYN: Flags = Flags(2);
pub(crate) const RST: Flags = Flags(4);
pub(crate) const ACK: Flags = Flags(16);
pub(crate) const SYN_ACK: Flags = Flags(18);
pub(crate) const FIN_ACK: Flags = Flags(17);

/// The transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp(Flags),
    Udp,
}

/// From a host's port to a host's port. `to.hardware` is the MAC address of the next hop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) from: Host,
    pub(crate) from_port: u16,
    pub(crate) to: Host,
    pub(crate) to_port: u16,
}

fn ethernet(from: EthernetAddress, to: EthernetAddress, kind: EthernetProtocol, payload: usize) -> Vec<u8> {
    let mut frame = vec![0; 14 + payload];
    EthernetRepr { src_addr: from, dst_addr: to, ethertype: kind }
        .emit(&mut EthernetFrame::new_unchecked(&mut frame));
    frame
}

/// A length as a header field.
///
/// # Panics
/// If it exceeds 65,535.
fn length_of(bytes: usize) -> u16 {
    let Ok(length) = u16::try_from(bytes) else { panic!("no packet has {bytes} bytes") };
    length
}

/// Builds an IPv4 packet in a frame. `fill` writes the payload.
pub(crate) fn ipv4(
    from: Host,
    to: Host,
    protocol: IpProtocol,
    length: usize,
    fill: impl FnOnce(&mut [u8], &IpAddress, &IpAddress),
) -> Vec<u8> {
    let mut frame = ethernet(from.hardware, to.hardware, EthernetProtocol::Ipv4, 20 + length);
    let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
    packet.set_version(4);
    packet.set_header_len(20);
    packet.set_total_len(length_of(20 + length));
    packet.set_ident(0x1234);
    packet.set_dont_frag(true);
    packet.set_hop_limit(TTL_SENT);
    packet.set_next_header(protocol);
    packet.set_src_addr(from.address);
    packet.set_dst_addr(to.address);
    packet.fill_checksum();
    fill(packet.payload_mut(), &from.address.into(), &to.address.into());
    frame
}

/// Builds a TCP segment or a UDP datagram.
pub(crate) fn segment(transport: Transport, path: Path, payload: &[u8]) -> Vec<u8> {
    let Path { from, from_port, to, to_port } = path;
    match transport {
        Transport::Tcp(flags) => {
            ipv4(from, to, IpProtocol::Tcp, 20 + payload.len(), |bytes, source, destination| {
                bytes[20..].copy_from_slice(payload);
                let mut segment = TcpPacket::new_unchecked(bytes);
                segment.set_src_port(from_port);
                segment.set_dst_port(to_port);
                segment.set_seq_number(TcpSeqNumber(SEQUENCE));
                segment.set_ack_number(TcpSeqNumber(SEQUENCE));
                segment.set_header_len(20);
                segment.clear_flags();
                segment.set_fin(flags.0 & FIN.0 != 0);
                segment.set_syn(flags.0 & SYN.0 != 0);
                segment.set_rst(flags.0 & RST.0 != 0);
                segment.set_ack(flags.0 & ACK.0 != 0);
                segment.set_window_len(1_000);
                segment.set_urgent_at(0);
                segment.fill_checksum(source, destination);
            })
        }
        Transport::Udp => ipv4(from, to, IpProtocol::Udp, 8 + payload.len(), |bytes, source, destination| {
            bytes[8..].copy_from_slice(payload);
            let length = length_of(bytes.len());
            let mut datagram = UdpPacket::new_unchecked(bytes);
            datagram.set_src_port(from_port);
            datagram.set_dst_port(to_port);
            datagram.set_len(length);
            datagram.fill_checksum(source, destination);
        }),
    }
}

pub(crate) fn tcp(flags: Flags, path: Path, payload: &[u8]) -> Vec<u8> {
    segment(Transport::Tcp(flags), path, payload)
}

pub(crate) fn udp(path: Path, payload: &[u8]) -> Vec<u8> {
    segment(Transport::Udp, path, payload)
}

/// Builds an ICMP message: an echo with this payload, or an error that quotes the packet `about`.
pub(crate) fn icmp(from: Host, to: Host, kind: u8, about: &[u8]) -> Vec<u8> {
    ipv4(from, to, IpProtocol::Icmp, 8 + about.len(), |bytes, _, _| {
        bytes[0] = kind;
        bytes[8..].copy_from_slice(about);
        Icmpv4Packet::new_unchecked(bytes).fill_checksum();
    })
}

/// Builds an ARP packet. `to.hardware` is also the frame's destination.
pub(crate) fn arp(operation: ArpOperation, from: Host, to: Host) -> Vec<u8> {
    let mut frame = ethernet(from.hardware, to.hardware, EthernetProtocol::Arp, 28);
    ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: from.hardware,
        source_protocol_addr: from.address,
        target_hardware_addr: to.hardware,
        target_protocol_addr: to.address,
    }
    .emit(&mut ArpPacket::new_unchecked(&mut frame[14..]));
    frame
}

/// A parsed TCP or UDP frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) hardware: (EthernetAddress, EthernetAddress),
    pub(crate) from: (Ipv4Addr, u16),
    pub(crate) to: (Ipv4Addr, u16),
    pub(crate) ttl: u8,
    pub(crate) transport: Transport,
    pub(crate) payload: Vec<u8>,
}

/// Parses a frame. Returns `None` unless it is TCP or UDP over IPv4.
///
/// # Panics
/// If a checksum is wrong.
pub(crate) fn parse(frame: &[u8]) -> Option<Parsed> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    assert!(packet.verify_checksum(), "wrong IPv4 checksum");
    let (source, destination) = (IpAddress::from(packet.src_addr()), IpAddress::from(packet.dst_addr()));
    let (from_port, to_port, transport, payload) = match packet.next_header() {
        IpProtocol::Tcp => {
            let segment = TcpPacket::new_checked(packet.payload()).ok()?;
            assert!(segment.verify_checksum(&source, &destination), "wrong TCP checksum");
            let bits =
                [(segment.fin(), FIN), (segment.syn(), SYN), (segment.rst(), RST), (segment.ack(), ACK)];
            let flags = Flags(bits.iter().filter(|(set, _)| *set).map(|(_, flag)| flag.0).sum());
            (segment.src_port(), segment.dst_port(), Transport::Tcp(flags), segment.payload().to_vec())
        }
        IpProtocol::Udp => {
            let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
            assert!(datagram.verify_checksum(&source, &destination), "wrong UDP checksum");
            (datagram.src_port(), datagram.dst_port(), Transport::Udp, datagram.payload().to_vec())
        }
        _ => return None,
    };
    Some(Parsed {
        hardware: (ethernet.src_addr(), ethernet.dst_addr()),
        from: (packet.src_addr(), from_port),
        to: (packet.dst_addr(), to_port),
        ttl: packet.hop_limit(),
        transport,
        payload,
    })
}
