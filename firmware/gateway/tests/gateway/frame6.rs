//! Frames of IPv6 for tests, built and parsed byte by byte. `tests/firmware` uses them too.

use std::net::Ipv6Addr;

use smoltcp::wire::EthernetAddress;

use crate::frame::Flags;

/// A host: its MAC and IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host6 {
    pub(crate) hardware: EthernetAddress,
    pub(crate) address: Ipv6Addr,
}

/// The hop limit of all packets built here, unless another is given.
pub(crate) const HOPS: u8 = 64;

/// A packet: its hop limit, the first next header, and what follows.
#[derive(Clone, Debug)]
pub(crate) struct Packet6 {
    pub(crate) hops: u8,
    pub(crate) next: u8,
    pub(crate) body: Vec<u8>,
}

impl Packet6 {
    /// In a frame.
    pub(crate) fn frame(&self, from: Host6, to: Host6) -> Vec<u8> {
        let length = u16::try_from(self.body.len()).unwrap();
        let mut frame = [to.hardware.0.as_slice(), &from.hardware.0, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
        frame.extend(length.to_be_bytes());
        frame.extend([self.next, self.hops]);
        frame.extend(from.address.octets());
        frame.extend(to.address.octets());
        frame.extend(&self.body);
        frame
    }

    /// The same behind an extension header of this kind, with options that mean nothing.
    pub(crate) fn behind(mut self, kind: u8) -> Self {
        let mut body = vec![self.next, 0, 1, 4, 0, 0, 0, 0];
        body.append(&mut self.body);
        Self { next: kind, body, ..self }
    }
}

/// The checksum of a body, over the pseudo-header.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, next: u8, body: &[u8]) -> u16 {
    let length = u16::try_from(body.len()).unwrap();
    let mut bytes = [from.octets(), to.octets()].concat();
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, next]);
    bytes.extend(body);
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn with_checksum(from: Host6, to: Host6, next: u8, at: usize, mut body: Vec<u8>) -> Packet6 {
    let checksum = checksum(from.address, to.address, next, &body);
    body[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    Packet6 { hops: HOPS, next, body }
}

/// A TCP segment, with the ports of the sender and the receiver.
pub(crate) fn tcp6(from: Host6, to: Host6, ports: (u16, u16), flags: Flags) -> Packet6 {
    let mut body = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    body.extend([0, 0, 0, 77, 0, 0, 0, 77, 0x50, flags.0, 4, 0, 0, 0, 0, 0]);
    with_checksum(from, to, 6, 16, body)
}

/// A UDP datagram.
pub(crate) fn udp6(from: Host6, to: Host6, ports: (u16, u16), payload: &[u8]) -> Packet6 {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut body = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), length.to_be_bytes(), [0; 2]].concat();
    body.extend(payload);
    with_checksum(from, to, 17, 6, body)
}

/// A message of `ICMPv6`: its type, and what follows the checksum.
pub(crate) fn icmp6(from: Host6, to: Host6, kind: u8, rest: &[u8]) -> Packet6 {
    with_checksum(from, to, 58, 2, [&[kind, 0, 0, 0], rest].concat())
}

/// A message of neighbour discovery about `target`: a solicitation, or the advertisement that answers one. `hardware` goes into
/// an option.
pub(crate) fn neighbour(
    from: Host6,
    to: Host6,
    kind: u8,
    target: Ipv6Addr,
    hardware: Option<EthernetAddress>,
) -> Packet6 {
    let flags = if kind == 136 { 0x60 } else { 0 };
    let mut rest = vec![flags, 0, 0, 0];
    rest.extend(target.octets());
    if let Some(hardware) = hardware {
        rest.extend([if kind == 135 { 1 } else { 2 }, 1]);
        rest.extend(hardware.0);
    }
    Packet6 { hops: 255, ..icmp6(from, to, kind, &rest) }
}

/// A parsed packet of TCP, UDP or `ICMPv6`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parsed6 {
    pub(crate) hardware: (EthernetAddress, EthernetAddress),
    pub(crate) from: (Ipv6Addr, u16),
    pub(crate) to: (Ipv6Addr, u16),
    pub(crate) hops: u8,
    pub(crate) next: u8,
    pub(crate) body: Vec<u8>,
}

/// Parses a frame of IPv6 without extension headers. The ports are those of TCP and UDP, and anything for `ICMPv6`.
///
/// # Panics
/// If it is none, or its checksum is wrong.
pub(crate) fn parse6(frame: &[u8]) -> Parsed6 {
    let hardware = |at: usize| EthernetAddress(frame[at..at + 6].try_into().unwrap());
    let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
    assert_eq!(frame[12..15], [0x86, 0xdd, 0x60]);
    let length = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
    let body = frame[54..54 + length].to_vec();
    let (from, to) = (address(22), address(38));
    assert_eq!(checksum(from, to, frame[20], &body), 0, "wrong checksum");
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    Parsed6 {
        hardware: (hardware(6), hardware(0)),
        from: (from, port(0)),
        to: (to, port(2)),
        hops: frame[21],
        next: frame[20],
        body,
    }
}
