//! The packet that an ICMP error quotes.

use super::header::{IPV4_HEADER, IPV6_HEADER};
use crate::{
    drop_reason::DropReason,
    flow::{FlowKind, Peer, Tuple},
    ip::Ip,
};

/// The protocol and endpoints of a quoted packet. Only its start may be there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quote {
    pub(crate) kind: FlowKind,
    pub(crate) source: Peer,
    pub(crate) destination: Peer,
    /// TCP: its sequence number. Otherwise 0.
    pub(crate) sequence: u32,
    /// Where its transport's header begins.
    pub(crate) start: usize,
}

impl Quote {
    /// An error quotes at least the header and 8 bytes behind it (RFC 792), or more (RFC 4443).
    pub(crate) fn parse(bytes: &[u8], is_v4: bool) -> Result<Self, DropReason> {
        let (protocol, source, destination, start) = if is_v4 { v4(bytes)? } else { v6(bytes)? };
        let transport = bytes.get(start..).and_then(|rest| rest.first_chunk::<8>());
        let [a, b, c, d, e, f, g, h] = *transport.ok_or(DropReason::Malformed)?;
        let (kind, ports, sequence) = match (protocol, is_v4) {
            (6, _) => (FlowKind::Tcp, ([a, b], [c, d]), u32::from_be_bytes([e, f, g, h])),
            (17, _) => (FlowKind::Udp, ([a, b], [c, d]), 0),
            (1, true) | (58, false) => (FlowKind::Echo, ([e, f], [e, f]), 0),
            _ => return Err(DropReason::Protocol),
        };
        Ok(Self {
            kind,
            source: Peer { ip: source, port: u16::from_be_bytes(ports.0) },
            destination: Peer { ip: destination, port: u16::from_be_bytes(ports.1) },
            sequence,
            start,
        })
    }

    /// The flow that it belongs to if it came from the inside.
    pub(crate) fn egress_tuple(&self) -> Tuple {
        Tuple { kind: self.kind, client: self.destination, server: self.source }
    }
}

type Addresses = (u8, Ip, Ip, usize);

fn v4(bytes: &[u8]) -> Result<Addresses, DropReason> {
    let head = bytes.first_chunk::<IPV4_HEADER>().ok_or(DropReason::Malformed)?;
    let [first, _, _, _, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *head;
    let start = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || start < IPV4_HEADER {
        return Err(DropReason::Malformed);
    }
    if u16::from_be_bytes([f0, f1]) & 0x1fff != 0 {
        return Err(DropReason::Fragment);
    }
    let (source, destination) = ([s0, s1, s2, s3], [d0, d1, d2, d3]);
    Ok((protocol, Ip::v4(u32::from_be_bytes(source)), Ip::v4(u32::from_be_bytes(destination)), start))
}

/// Packets with extension headers are not looked for: no flow has any.
fn v6(bytes: &[u8]) -> Result<Addresses, DropReason> {
    let head = bytes.first_chunk::<IPV6_HEADER>().ok_or(DropReason::Malformed)?;
    let (fixed, addresses) = head.split_first_chunk::<8>().ok_or(DropReason::Malformed)?;
    let (source, destination) = addresses.split_first_chunk::<16>().ok_or(DropReason::Malformed)?;
    let destination = destination.first_chunk::<16>().ok_or(DropReason::Malformed)?;
    let [first, _, _, _, _, _, next, _] = *fixed;
    if first >> 4 != 6 {
        return Err(DropReason::Malformed);
    }
    Ok((next, Ip::v6(*source), Ip::v6(*destination), IPV6_HEADER))
}
