//! IPv6 headers and their extensions (RFC 8200).

use super::header::{Header, IPV6_HEADER, Transport};
use crate::{drop_reason::DropReason, ip::Ip};

/// How many extension headers a packet may have. Hosts send two at most.
const MAX_EXTENSIONS: usize = 4;

/// Parses an IPv6 packet and its extension headers, and checks its version and lengths.
pub(crate) fn parse(bytes: &[u8]) -> Result<Header, DropReason> {
    let head = bytes.first_chunk::<IPV6_HEADER>().ok_or(DropReason::Malformed)?;
    let (fixed, addresses) = head.split_first_chunk::<8>().ok_or(DropReason::Malformed)?;
    let [first, _, _, _, l0, l1, next, hop_limit] = *fixed;
    let end = IPV6_HEADER + usize::from(u16::from_be_bytes([l0, l1]));
    if first >> 4 != 6 || end > bytes.len() {
        return Err(DropReason::Malformed);
    }
    let (source, destination) = addresses.split_first_chunk::<16>().ok_or(DropReason::Malformed)?;
    let destination = destination.first_chunk::<16>().ok_or(DropReason::Malformed)?;
    let (source, destination) = (Ip::v6(*source), Ip::v6(*destination));
    // A mapped address on the wire would be taken for one of IPv4.
    if source.is_v4() || destination.is_v4() {
        return Err(DropReason::Malformed);
    }
    let (transport, start) = transport(bytes, next, end)?;
    Ok(Header { source, destination, transport, hop_limit, start, end })
}

/// Follows the chain of extension headers. Returns the transport, and where it begins.
fn transport(bytes: &[u8], mut next: u8, end: usize) -> Result<(Transport, usize), DropReason> {
    let mut start = IPV6_HEADER;
    for extensions in 0..=MAX_EXTENSIONS {
        let body = bytes.get(start..end).ok_or(DropReason::Malformed)?;
        let transport = match next {
            6 => Transport::tcp(body)?,
            17 => Transport::udp(body)?,
            58 => Transport::icmp(body, true)?,
            44 => Transport::Fragment,
            // Hop-by-hop options come first, or not at all.
            0 if extensions > 0 => return Err(DropReason::Malformed),
            // Hop-by-hop options, and options for the destination.
            0 | 60 => {
                let [following, length, ..] = *body.first_chunk::<8>().ok_or(DropReason::Malformed)?;
                next = following;
                start += 8 + usize::from(length) * 8;
                continue;
            }
            // A routing header: the packet reaches another host than its destination address says.
            43 => return Err(DropReason::Malformed),
            other => Transport::Other(other),
        };
        return Ok((transport, start));
    }
    Err(DropReason::Malformed)
}
