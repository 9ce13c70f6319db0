//! A knock with any bit flipped is refused.

use pkd_core::{
    Key, Knock, KnockParams, LENGTH, Packet, Port, Reason, ReplayCache, Rule, Tag, UnixSeconds, Verdict,
    Window,
};

const PORT: Port = Port(40_000);
const TIME: UnixSeconds = UnixSeconds(1_800_000_000);
/// The gateway's clock, three seconds ahead of the sender's.
const NOW: UnixSeconds = UnixSeconds(1_800_000_003);

fn rule() -> Rule {
    Rule::new(Key::from_bytes([0xa5; Key::LENGTH]), Tag(*b"SSHK"), Window::from_secs(10))
}

fn knock() -> [u8; LENGTH] {
    let rule = rule();
    Knock::seal(&KnockParams { key: rule.key(), tag: rule.tag(), time: TIME, nonce: *b"twelve bytes" }, PORT)
}

fn flipped(bit: usize) -> [u8; LENGTH] {
    let mut payload = knock();
    payload[bit / 8] ^= 1 << (bit % 8);
    payload
}

fn check(cache: &mut ReplayCache<4>, payload: &[u8], port: Port) -> Verdict {
    rule().verify(cache, NOW, &Packet { destination_port: port, payload })
}

/// Whether the time stays in the window when this bit, counted from the lowest, is flipped.
fn is_still_in_window(bit: usize) -> bool {
    let flipped = i128::from(TIME.0 ^ (1 << bit));
    (flipped - i128::from(NOW.0)).abs() <= 10
}

#[test]
fn a_fresh_knock_with_one_bit_flipped_is_ignored_and_does_not_change_the_cache() {
    let mut cache = ReplayCache::<4>::new(UnixSeconds(0));
    let mut in_window = 0;
    for bit in 0..8 * LENGTH {
        let expected = match bit {
            0..32 => Reason::Tag,
            32..96 if is_still_in_window(bit - 32) => {
                in_window += 1;
                Reason::Digest
            }
            32..96 => Reason::Window,
            _ => Reason::Digest,
        };
        assert_eq!(check(&mut cache, &flipped(bit), PORT), Verdict::Ignore(expected), "bit {bit}");
        assert!(cache.is_empty() && cache.newest().is_none() && cache.floor().0 == 0, "bit {bit}");
    }
    assert_eq!(
        in_window, 4,
        "the time stays in the window if it moves by 1, 2, 4 or 8 seconds, but not by 16"
    );
    assert_eq!(check(&mut cache, &knock(), PORT), Verdict::Accept);
}

#[test]
fn a_fresh_knock_to_a_port_with_one_bit_flipped_is_ignored_and_does_not_change_the_cache() {
    let mut cache = ReplayCache::<4>::new(UnixSeconds(0));
    for bit in 0..16 {
        let verdict = check(&mut cache, &knock(), Port(PORT.0 ^ (1 << bit)));
        assert_eq!(verdict, Verdict::Ignore(Reason::Digest), "bit {bit}");
        assert!(cache.is_empty(), "bit {bit}");
    }
    assert_eq!(check(&mut cache, &knock(), PORT), Verdict::Accept);
}

#[test]
fn an_accepted_knock_with_one_bit_flipped_is_ignored_and_does_not_change_the_cache() {
    let mut cache = ReplayCache::<4>::new(UnixSeconds(0));
    assert_eq!(check(&mut cache, &knock(), PORT), Verdict::Accept);
    let before = format!("{cache:?}");
    for bit in 0..8 * LENGTH {
        let expected = match bit {
            0..32 => Reason::Tag,
            32..96 if is_still_in_window(bit - 32) => Reason::Digest,
            32..96 => Reason::Window,
            // The cache identifies a knock by its time and the first 8 bytes of the digest.
            96..192 | 256.. => Reason::Replay,
            192..256 => Reason::Digest,
        };
        assert_eq!(check(&mut cache, &flipped(bit), PORT), Verdict::Ignore(expected), "bit {bit}");
        assert_eq!(format!("{cache:?}"), before, "bit {bit}");
    }
}

#[test]
fn a_knock_of_any_other_length_is_ignored() {
    let mut cache = ReplayCache::<4>::new(UnixSeconds(0));
    let longer = [&knock()[..], &[0; 100]].concat();
    for length in (0..LENGTH).chain(LENGTH + 1..longer.len()) {
        let verdict = check(&mut cache, &longer[..length], PORT);
        assert_eq!(verdict, Verdict::Ignore(Reason::Length), "{length} bytes");
    }
    assert_eq!(check(&mut cache, &longer[..LENGTH], PORT), Verdict::Accept);
}

#[test]
fn a_knock_in_the_format_before_1_0_is_ignored() {
    let rule = rule();
    let params = KnockParams { key: rule.key(), tag: rule.tag(), time: TIME, nonce: [7; 12] };
    let mut cache = ReplayCache::<4>::new(UnixSeconds(0));
    let verdict = check(&mut cache, &Knock::seal_before_1_0(&params), PORT);
    assert_eq!(verdict, Verdict::Ignore(Reason::Digest));
}
