//! Parsing of UDP datagrams.

use pkd_core::{Packet, Port, UDP_LENGTH};

/// Source port 4660, destination port 40000, a length, a checksum, and a payload that counts up from 1.
fn datagram(length: u16, payload: u8) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 0x9c, 0x40];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0xab, 0xcd]);
    bytes.extend(1..=payload);
    bytes
}

#[test]
fn a_datagram_is_split_into_destination_port_and_payload() {
    let datagram = datagram(64, 56);
    let packet = Packet::from_udp(&datagram).unwrap();
    assert_eq!(packet.destination_port, Port(40_000));
    assert_eq!(packet.payload, (1..=56).collect::<Vec<u8>>());
}

#[test]
fn bytes_after_the_datagram_are_ignored() {
    for padding in [1, 4, 100] {
        let datagram = datagram(64, 56 + padding);
        let packet = Packet::from_udp(&datagram).unwrap();
        assert_eq!(packet.payload, (1..=56).collect::<Vec<u8>>(), "{padding} bytes after it");
    }
}

#[test]
fn a_truncated_datagram_is_refused() {
    let whole = datagram(64, 56);
    for length in 0..UDP_LENGTH {
        assert!(Packet::from_udp(&whole[..length]).is_none(), "{length} bytes");
    }
}

#[test]
fn a_datagram_with_another_length_in_its_header_is_refused() {
    for length in [0, 7, 8, 56, 63, 65, 72, 0x4000, 0x0140, 0xff40, u16::MAX] {
        assert!(Packet::from_udp(&datagram(length, 200)).is_none(), "length {length}");
    }
}
