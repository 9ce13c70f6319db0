//! Where received frames end.

use pkd_board::{FCS, trimmed};

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
const TAG: [u8; 4] = [0x81, 0x00, 0x20, 0x02];

/// An IPv4 frame with this many bytes after its header.
pub(crate) fn ipv4(payload: usize) -> Vec<u8> {
    let total = u16::try_from(20 + payload).unwrap().to_be_bytes();
    [&MACS[..], &[0x08, 0x00, 0x45, 0, total[0], total[1]], &[0; 16], &vec![0xaa; payload]].concat()
}

/// An IPv6 frame with this many bytes after its header.
pub(crate) fn ipv6(payload: usize) -> Vec<u8> {
    let length = u16::try_from(payload).unwrap().to_be_bytes();
    [&MACS[..], &[0x86, 0xdd, 0x60, 0, 0, 0, length[0], length[1]], &[0; 34], &vec![0xaa; payload]].concat()
}

fn arp() -> Vec<u8> {
    [&MACS[..], &[0x08, 0x06], &[1; 28]].concat()
}

/// A frame with a length instead of an `EtherType`, as bridges send them.
fn llc(payload: usize) -> Vec<u8> {
    let length = u16::try_from(payload).unwrap().to_be_bytes();
    [&MACS[..], &length, &vec![0x42; payload]].concat()
}

fn unknown(payload: usize) -> Vec<u8> {
    [&MACS[..], &[0x88, 0xb5], &vec![0xaa; payload]].concat()
}

fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &TAG, &frame[12..]].concat()
}

fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(60), 0);
    frame
}

#[test]
fn a_frame_ends_where_its_headers_say_whatever_the_nic_left_behind_it() {
    let frames = [
        ("IPv4, full size", ipv4(1_480)),
        ("IPv4", ipv4(100)),
        ("IPv4, short", padded(ipv4(8))),
        ("IPv6, full size", ipv6(1_460)),
        ("IPv6", ipv6(64)),
        ("IPv6, short", padded(ipv6(0))),
        ("ARP", padded(arp())),
        ("a length, full size", llc(1_500)),
        ("a length, short", padded(llc(38))),
        ("an unknown type", unknown(200)),
        ("an unknown type, short", padded(unknown(1))),
        ("IPv4, tagged, full size", tagged(&ipv4(1_480))),
        ("IPv6, tagged", tagged(&ipv6(64))),
        ("ARP, tagged", padded(tagged(&arp()))),
        ("an unknown type, tagged", tagged(&unknown(200))),
    ];
    for (name, frame) in frames {
        assert_eq!(trimmed(&frame, false), frame.len(), "{name}");
        let with_fcs = [&frame[..], &[0xfc; FCS]].concat();
        assert_eq!(trimmed(&with_fcs, true), frame.len(), "{name}, with its FCS");
    }
}

#[test]
fn what_somebody_put_behind_a_packet_goes_too() {
    for (name, frame) in [("IPv4", ipv4(100)), ("IPv6", ipv6(64)), ("a length", llc(100))] {
        let with_trailer = [&frame[..], &[0x77; 300]].concat();
        for has_fcs in [false, true] {
            assert_eq!(trimmed(&with_trailer, has_fcs), frame.len(), "{name}, FCS: {has_fcs}");
        }
    }
}

#[test]
fn an_fcs_that_was_stripped_after_all_takes_no_byte_of_a_frame_whose_end_is_known() {
    for (name, frame) in [("IPv4", ipv4(100)), ("IPv6", ipv6(64)), ("a length", llc(100))] {
        assert_eq!(trimmed(&frame, true), frame.len(), "{name}");
    }
}

#[test]
fn a_length_that_is_a_lie_gives_no_more_than_is_there() {
    for mut frame in [ipv4(100), ipv6(100), arp(), llc(100), unknown(0), Vec::new()] {
        for byte in [0, 0x7f, 0xff] {
            // Wherever the length is.
            for at in [12, 13, 16, 17, 18, 19] {
                if let Some(slot) = frame.get_mut(at) {
                    *slot = byte;
                }
            }
            for length in 0..=frame.len() {
                for has_fcs in [false, true] {
                    let given = trimmed(&frame[..length], has_fcs);
                    assert!(given <= length, "{frame:02x?}: {given} of {length}");
                }
            }
        }
    }
}
