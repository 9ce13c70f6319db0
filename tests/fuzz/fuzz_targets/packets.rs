//! What NFLOG hands to pkdd, and the IP and UDP headers in it, read once more byte by byte.

#![no_main]

use std::{net::IpAddr, num::NonZeroU32};

use libfuzzer_sys::fuzz_target;
use pkd_packet::Datagram;
use pkdd::nflog;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => messages(rest),
        1 => {
            // Behind a header that is right, so that the packet in it is reached.
            let whole = message(rest);
            messages(&whole);
            let mut found = Vec::new();
            nflog::packets(&whole, |logged| {
                found.push((logged.packet.to_vec(), logged.interface.map(NonZeroU32::get)))
            });
            assert_eq!(found, [(rest.to_vec(), Some(INTERFACE))], "the payload of a message");
        }
        2 => {
            if let Some(packet) = Datagram::from_ethernet(rest).and_then(|datagram| datagram.packet()) {
                assert_eq!(packet.payload.len(), 56);
            }
        }
        _ => ip(rest),
    }
});

fn messages(bytes: &[u8]) {
    let mut packets = 0;
    nflog::packets(bytes, |logged| {
        packets += 1;
        assert!(logged.packet.len() <= bytes.len());
        ip(logged.packet);
    });
    assert!(packets * 4 <= bytes.len(), "{packets} packets in {} bytes", bytes.len());
}

/// The interface in a message.
const INTERFACE: u32 = 0x0102_0304;

fn message(payload: &[u8]) -> Vec<u8> {
    let length = 4 + payload.len();
    let mut bytes = ((16 + 4 + 8 + length) as u32).to_ne_bytes().to_vec();
    bytes.extend((4_u16 << 8).to_ne_bytes());
    bytes.extend([0; 10 + 4]);
    bytes.extend([8_u16, 4].map(u16::to_ne_bytes).concat());
    bytes.extend(INTERFACE.to_be_bytes());
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(9_u16.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Where nothing but the plain headers is there, both have to see the same.
fn ip(bytes: &[u8]) {
    let found = Datagram::from_ip(bytes).and_then(|datagram| {
        Some((datagram.source, datagram.packet()?.destination_port.0, datagram.packet()?.payload.to_vec()))
    });
    if let Some(certain) = slow(bytes) {
        assert_eq!(found, certain, "of {bytes:02x?}");
    }
}

/// Source, port and payload of what a verifier looks at, `Some(None)` if it looks at none; `None` where this reader
/// does not know.
#[allow(clippy::type_complexity)]
fn slow(bytes: &[u8]) -> Option<Option<(IpAddr, u16, Vec<u8>)>> {
    let number = |at: usize| usize::from(bytes[at]) * 256 + usize::from(bytes[at + 1]);
    let (source, start, end): (IpAddr, usize, usize) = match bytes.first()? >> 4 {
        4 if bytes.len() >= 20 => {
            let header = usize::from(bytes[0] & 15) * 4;
            if header != 20 || number(2) < 28 {
                return None;
            }
            if bytes[9] != 17 || number(6) & 0x3fff != 0 {
                return Some(None);
            }
            ([bytes[12], bytes[13], bytes[14], bytes[15]].into(), header, number(2))
        }
        6 if bytes.len() >= 40 => {
            if bytes[6] != 17 || number(4) < 8 {
                return None;
            }
            let source: [u8; 16] = bytes[8..24].try_into().expect("16 bytes");
            (source.into(), 40, 40 + number(4))
        }
        _ => return None,
    };
    if bytes.len() < end || bytes.len() < start + 8 {
        // Cut off: whatever is seen of it, it is no whole datagram of 64 bytes.
        return None;
    }
    let (port, length) = (number(start + 2), number(start + 4));
    if length > end - start || length < 8 {
        return None;
    }
    Some((length == 64).then(|| (source, port as u16, bytes[start + 8..start + 64].to_vec())))
}
