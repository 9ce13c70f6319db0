//! Rewriting packets in place, with their checksums.

use super::{
    header::{Header, IPV4_HEADER},
    quote::Quote,
};
use crate::{
    checksum::ChecksumDelta,
    drop_reason::DropReason,
    flow::{FlowKind, Peer},
    ip::Ip,
};

/// The new source and destination of a packet, each with its port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoints<'a> {
    pub(crate) source: (&'a Ip, u16),
    pub(crate) destination: (&'a Ip, u16),
}

impl<'a> Endpoints<'a> {
    pub(crate) fn new(source: &'a Peer, destination: &'a Peer) -> Self {
        Self { source: (&source.ip, source.port), destination: (&destination.ip, destination.port) }
    }
}

/// Rewrites both endpoints of a TCP or UDP packet that was parsed as `header`, decrements its hop limit, and updates all
/// checksums. The new addresses are of the same family.
#[inline(always)]
#[allow(clippy::inline_always)] // saves each frame 20 instructions
pub(crate) fn rewrite(
    bytes: &mut [u8],
    header: &Header,
    kind: FlowKind,
    to: &Endpoints<'_>,
) -> Result<(), DropReason> {
    if header.hop_limit <= 1 {
        return Err(DropReason::TtlExpired);
    }
    let addresses = rewrite_addresses(bytes, 1, to)?;
    rewrite_ports(bytes, header.start, kind, to, addresses)
}

/// Rewrites both addresses of a packet and decrements its hop limit. Returns its new header.
pub(crate) fn readdress(bytes: &mut [u8], header: &Header, from: Ip, to: Ip) -> Result<Header, DropReason> {
    if header.hop_limit <= 1 {
        return Err(DropReason::TtlExpired);
    }
    rewrite_addresses_seldom(bytes, 1, &Endpoints { source: (&from, 0), destination: (&to, 0) })?;
    Ok(Header { source: from, destination: to, hop_limit: header.hop_limit - 1, ..*header })
}

/// Rewrites both endpoints of a packet that an ICMP error quotes. Only its start may be there.
pub(crate) fn rewrite_quote(bytes: &mut [u8], quote: &Quote, to: &Endpoints<'_>) -> Result<(), DropReason> {
    let addresses = rewrite_addresses_seldom(bytes, 0, to)?;
    match rewrite_ports(bytes, quote.start, quote.kind, to, addresses) {
        // The checksum was not quoted.
        Err(DropReason::Malformed) => Ok(()),
        other => other,
    }
}

/// Rewrites both addresses, takes `hops` off the hop limit, and updates the checksum of an IPv4 header. Returns the change of
/// addresses for the transport's checksum.
#[inline(always)]
#[allow(clippy::inline_always)] // saves each frame 30 instructions
fn rewrite_addresses(bytes: &mut [u8], hops: u8, to: &Endpoints<'_>) -> Result<ChecksumDelta, DropReason> {
    let (source, destination) = (to.source.0.words(), to.destination.0.words());
    let change = ChecksumDelta::default();
    if to.source.0.is_v4() {
        // Of a known length, so that nothing below is checked again.
        let head = bytes.first_chunk_mut::<IPV4_HEADER>().ok_or(DropReason::Malformed)?;
        let ([.., source], [.., destination]) = (source, destination);
        let addresses = change.replace(at(head, 12)?, source).replace(at(head, 16)?, destination);
        let [ttl] = at(head, 8)?;
        let change = addresses.word(u16::from(*ttl) << 8, u16::from(ttl.saturating_sub(hops)) << 8);
        *ttl = ttl.saturating_sub(hops);
        let checksum = at(head, 10)?;
        *checksum = change.apply(u16::from_be_bytes(*checksum)).to_be_bytes();
        return Ok(addresses);
    }
    let [hop_limit] = at(bytes, 7)?;
    *hop_limit = hop_limit.saturating_sub(hops);
    let words = source.into_iter().chain(destination);
    words
        .zip((8..).step_by(4))
        .try_fold(change, |change, (word, place)| Ok(change.replace(at(bytes, place)?, word)))
}

/// The same for packets that are rare, and not worth a copy of it.
#[inline(never)]
fn rewrite_addresses_seldom(
    bytes: &mut [u8],
    hops: u8,
    to: &Endpoints<'_>,
) -> Result<ChecksumDelta, DropReason> {
    rewrite_addresses(bytes, hops, to)
}

/// Rewrites both ports of TCP or UDP, and the checksum if it is there.
#[inline(always)]
#[allow(clippy::inline_always)] // saves each frame 20 instructions
fn rewrite_ports(
    bytes: &mut [u8],
    start: usize,
    kind: FlowKind,
    to: &Endpoints<'_>,
    addresses: ChecksumDelta,
) -> Result<(), DropReason> {
    let body = bytes.get_mut(start..).ok_or(DropReason::Malformed)?;
    let ports = u32::from(to.source.1) << 16 | u32::from(to.destination.1);
    let change = addresses.replace(at(body, 0)?, ports);
    let place = match kind {
        FlowKind::Tcp => 16,
        FlowKind::Udp => 6,
        // No service is an echo.
        FlowKind::Echo => return Err(DropReason::Protocol),
    };
    let slot = at(body, place)?;
    let old = u16::from_be_bytes(*slot);
    let new = if kind == FlowKind::Udp { change.apply_udp(old) } else { change.apply(old) };
    *slot = new.to_be_bytes();
    Ok(())
}

/// The bytes at a place.
#[inline(always)]
#[allow(clippy::inline_always)] // saves each frame several calls
fn at<const N: usize>(bytes: &mut [u8], place: usize) -> Result<&mut [u8; N], DropReason> {
    bytes.get_mut(place..).and_then(|rest| rest.first_chunk_mut()).ok_or(DropReason::Malformed)
}
