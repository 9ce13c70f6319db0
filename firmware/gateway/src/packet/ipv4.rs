//! IPv4 headers (RFC 791).

use super::header::{Header, IPV4_HEADER, Transport};
use crate::{checksum::Sum, drop_reason::DropReason, ip::Ip};

/// Parses an IPv4 packet and checks its version, lengths and header checksum.
#[inline(always)]
#[allow(clippy::inline_always)] // saves each frame 80 instructions
pub(crate) fn parse(bytes: &[u8]) -> Result<Header, DropReason> {
    let head = bytes.first_chunk::<IPV4_HEADER>().ok_or(DropReason::Malformed)?;
    let [first, _, l0, l1, _, _, f0, f1, hop_limit, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *head;
    let start = usize::from(first & 0x0f) * 4;
    let end = usize::from(u16::from_be_bytes([l0, l1]));
    if first >> 4 != 4 || start < IPV4_HEADER || start > end || end > bytes.len() {
        return Err(DropReason::Malformed);
    }
    let sum = if start == IPV4_HEADER {
        Sum::header(head)
    } else {
        Sum::default().bytes(bytes.get(..start).ok_or(DropReason::Malformed)?)
    };
    if !sum.is_valid() {
        return Err(DropReason::Checksum);
    }
    let body = bytes.get(start..end).ok_or(DropReason::Malformed)?;
    // More fragments, or an offset. The reserved bit is in no valid packet, but hosts ignore it.
    let is_fragment = u16::from_be_bytes([f0, f1]) & 0x3fff != 0;
    let transport = match protocol {
        _ if is_fragment => Transport::Fragment,
        6 => Transport::tcp(body)?,
        17 => Transport::udp(body)?,
        1 => Transport::icmp(body, false)?,
        other => Transport::Other(other),
    };
    Ok(Header {
        source: Ip::v4(u32::from_be_bytes([s0, s1, s2, s3])),
        destination: Ip::v4(u32::from_be_bytes([d0, d1, d2, d3])),
        transport,
        hop_limit,
        start,
        end,
    })
}

/// Whether the header has a source route option (options 131 and 137). Such a packet reaches another host than its
/// destination address says.
pub(crate) fn is_source_routed(bytes: &[u8], start: usize) -> bool {
    let mut options = bytes.get(IPV4_HEADER..start).unwrap_or_default();
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
