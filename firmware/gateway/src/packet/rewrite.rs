//! Rewriting packets in place, with their checksums.

use super::{header::Header, quote::Quote};
use crate::{
    checksum::ChecksumDelta,
    drop_reason::DropReason,
    flow::{FlowKind, Peer},
    ip::Ip,
};

/// The new source and destination of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoints {
    pub(crate) source: Peer,
    pub(crate) destination: Peer,
}

/// Rewrites both endpoints of a TCP or UDP packet that was parsed as `header`, decrements its hop limit, and updates all
/// checksums. The new addresses are of the same family.
pub(crate) fn rewrite(
    bytes: &mut [u8],
    header: &Header,
    kind: FlowKind,
    to: &Endpoints,
) -> Result<(), DropReason> {
    let addresses = rewrite_header(bytes, header, to)?;
    rewrite_ports(bytes, header.start, kind, to, addresses)
}

/// Rewrites both addresses of a packet and decrements its hop limit. Returns its new header.
pub(crate) fn readdress(bytes: &mut [u8], header: &Header, from: Ip, to: Ip) -> Result<Header, DropReason> {
    let peer = |ip| Peer { ip, port: 0 };
    rewrite_header(bytes, header, &Endpoints { source: peer(from), destination: peer(to) })?;
    Ok(Header { source: from, destination: to, hop_limit: header.hop_limit - 1, ..*header })
}

/// Rewrites both endpoints of a packet that an ICMP error quotes. Only its start may be there.
pub(crate) fn rewrite_quote(bytes: &mut [u8], quote: &Quote, to: &Endpoints) -> Result<(), DropReason> {
    let (source, destination) = (quote.source.ip, quote.destination.ip);
    let addresses = rewrite_addresses(bytes, (source, destination), to)?;
    if source.is_v4() {
        update(bytes, 10, |checksum| addresses.apply(checksum))?;
    }
    match rewrite_ports(bytes, quote.start, quote.kind, to, addresses) {
        // The checksum was not quoted.
        Err(DropReason::Malformed) => Ok(()),
        other => other,
    }
}

/// Rewrites both addresses, and decrements the hop limit. Returns the change of addresses for the transport's checksum.
fn rewrite_header(bytes: &mut [u8], header: &Header, to: &Endpoints) -> Result<ChecksumDelta, DropReason> {
    if header.hop_limit <= 1 {
        return Err(DropReason::TtlExpired);
    }
    let addresses = rewrite_addresses(bytes, (header.source, header.destination), to)?;
    if header.source.is_v4() {
        let ttl = ChecksumDelta::default()
            .word(u16::from(header.hop_limit) << 8, u16::from(header.hop_limit - 1) << 8);
        set_byte(bytes, 8, header.hop_limit - 1)?;
        update(bytes, 10, |checksum| addresses.and(ttl).apply(checksum))?;
    } else {
        set_byte(bytes, 7, header.hop_limit - 1)?;
    }
    Ok(addresses)
}

/// Rewrites both addresses. Returns the change for checksums.
fn rewrite_addresses(bytes: &mut [u8], from: (Ip, Ip), to: &Endpoints) -> Result<ChecksumDelta, DropReason> {
    let change = ChecksumDelta::default().ip(from.0, to.source.ip).ip(from.1, to.destination.ip);
    if let (Some(source), Some(destination)) = (to.source.ip.to_v4(), to.destination.ip.to_v4()) {
        put(bytes, 12, &source.octets())?;
        put(bytes, 16, &destination.octets())?;
    } else {
        put(bytes, 8, &to.source.ip.octets())?;
        put(bytes, 24, &to.destination.ip.octets())?;
    }
    Ok(change)
}

/// Rewrites both ports of TCP or UDP, and the checksum if it is there.
fn rewrite_ports(
    bytes: &mut [u8],
    start: usize,
    kind: FlowKind,
    to: &Endpoints,
    addresses: ChecksumDelta,
) -> Result<(), DropReason> {
    let body = bytes.get_mut(start..).ok_or(DropReason::Malformed)?;
    let ports = body.first_chunk_mut::<4>().ok_or(DropReason::Malformed)?;
    let [a, b, c, d] = *ports;
    let change = addresses
        .word(u16::from_be_bytes([a, b]), to.source.port)
        .word(u16::from_be_bytes([c, d]), to.destination.port);
    let ([a, b], [c, d]) = (to.source.port.to_be_bytes(), to.destination.port.to_be_bytes());
    *ports = [a, b, c, d];
    match kind {
        FlowKind::Tcp => update(body, 16, |checksum| change.apply(checksum)),
        FlowKind::Udp => update(body, 6, |checksum| change.apply_udp(checksum)),
        // No service is an echo.
        FlowKind::Echo => Err(DropReason::Protocol),
    }
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: &[u8; N]) -> Result<(), DropReason> {
    let slot = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<N>());
    *slot.ok_or(DropReason::Malformed)? = *value;
    Ok(())
}

fn set_byte(bytes: &mut [u8], at: usize, value: u8) -> Result<(), DropReason> {
    put(bytes, at, &[value])
}

/// Replaces a checksum.
fn update(bytes: &mut [u8], at: usize, new: impl FnOnce(u16) -> u16) -> Result<(), DropReason> {
    let slot = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>());
    let slot = slot.ok_or(DropReason::Malformed)?;
    *slot = new(u16::from_be_bytes(*slot)).to_be_bytes();
    Ok(())
}
