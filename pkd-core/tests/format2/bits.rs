//! A knock with any bit flipped is refused.

use pkd_core::{LENGTH, Port, Reason, UnixMillis, Verdict};

use crate::{Gateway, HERE, KNOCK, PORT, rule, seal};

fn flipped(bit: usize) -> [u8; LENGTH] {
    let mut payload = seal(&KNOCK);
    payload[bit / 8] ^= 1 << (bit % 8);
    payload
}

#[test]
fn a_fresh_knock_with_one_bit_flipped_is_ignored_and_does_not_change_the_cache() {
    let mut gateway = Gateway::new(rule(10));
    let mut filtered = 0;
    for bit in 0..8 * LENGTH {
        let Verdict::Ignore(reason) = gateway.check(&flipped(bit), PORT, &HERE) else {
            panic!("bit {bit} does not count");
        };
        let expected: &[Reason] = match bit / 8 {
            0..4 => &[Reason::Tag],
            // Another nonce is another mask, so any time comes of it.
            4..16 => &[Reason::Window, Reason::Filter],
            // The time's bits up to 8192 ms stay in the window.
            16..22 if bit - 128 <= 13 => &[Reason::Filter],
            16..22 => &[Reason::Window],
            22..32 => &[Reason::Filter],
            _ => &[Reason::Digest],
        };
        assert!(expected.contains(&reason), "bit {bit}: {reason}");
        filtered += u32::from(reason == Reason::Filter);
        assert!(gateway.cache.is_empty() && gateway.cache.floor() == UnixMillis(0), "bit {bit}");
    }
    assert!(filtered >= 14 + 16 + 64, "only {filtered} ended at the filter");
    assert_eq!(gateway.check(&seal(&KNOCK), PORT, &HERE), Verdict::Accept);
}

#[test]
fn an_accepted_knock_with_one_bit_flipped_is_ignored_and_costs_no_hash() {
    let mut gateway = Gateway::new(rule(10));
    assert_eq!(gateway.check(&seal(&KNOCK), PORT, &HERE), Verdict::Accept);
    let before = format!("{:?}", gateway.cache);
    for bit in 0..8 * LENGTH {
        let verdict = gateway.check(&flipped(bit), PORT, &HERE);
        // What differs only in the bytes that cost a hash is a replay before they are looked at.
        let expected = if bit >= 256 {
            verdict == Verdict::Ignore(Reason::Replay)
        } else {
            verdict != Verdict::Ignore(Reason::Digest)
        };
        assert!(expected && verdict != Verdict::Accept, "bit {bit}: {verdict}");
        assert_eq!(format!("{:?}", gateway.cache), before, "bit {bit}");
    }
}

#[test]
fn a_knock_to_a_port_with_one_bit_flipped_is_ignored() {
    let mut gateway = Gateway::new(rule(10));
    for bit in 0..16 {
        let verdict = gateway.check(&seal(&KNOCK), Port(PORT.0 ^ (1 << bit)), &HERE);
        assert_eq!(verdict, Verdict::Ignore(Reason::Filter), "bit {bit}");
    }
    assert_eq!(gateway.check(&seal(&KNOCK), PORT, &HERE), Verdict::Accept);
}

#[test]
fn a_knock_of_any_other_length_is_ignored() {
    let mut gateway = Gateway::new(rule(10));
    let longer = [&seal(&KNOCK)[..], &[0; 100]].concat();
    for length in (0..LENGTH).chain(LENGTH + 1..longer.len()) {
        let verdict = gateway.check(&longer[..length], PORT, &HERE);
        assert_eq!(verdict, Verdict::Ignore(Reason::Length), "{length} bytes");
    }
    assert_eq!(gateway.check(&longer[..LENGTH], PORT, &HERE), Verdict::Accept);
}
