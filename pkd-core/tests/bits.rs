//! Every bit of a knock counts.

use pkd_core::{
    Key, Knock, KnockParams, LENGTH, Packet, Port, Reason, ReplayCache, Rule, Tag, UnixSeconds, Verdict,
    Verifier, Window,
};

const PORT: Port = Port(40_000);
const TIME: UnixSeconds = UnixSeconds(1_800_000_000);
/// The gateway's clock: three seconds past the sender's.
const NOW: UnixSeconds = UnixSeconds(1_800_000_003);

fn rule() -> Rule {
    Rule { key: Key::from_bytes([0xa5; Key::LENGTH]), tag: Tag(*b"SSHK"), window: Window::from_secs(10) }
}

fn knock() -> [u8; LENGTH] {
    let rule = rule();
    Knock::seal(&KnockParams { key: &rule.key, tag: rule.tag, time: TIME, nonce: *b"twelve bytes" }, PORT)
}

fn turned(bit: usize) -> [u8; LENGTH] {
    let mut payload = knock();
    payload[bit / 8] ^= 1 << (bit % 8);
    payload
}

fn check(cache: &mut ReplayCache<4>, payload: &[u8], port: Port) -> Verdict {
    Verifier::new(&rule(), cache).check(NOW, &Packet { destination_port: port, payload })
}

/// Whether the time is still in the window when this bit of it, counted from the lowest, is turned.
fn still_in_the_window(bit: usize) -> bool {
    let turned = i128::from(TIME.0 ^ (1 << bit));
    (turned - i128::from(NOW.0)).abs() <= 10
}

#[test]
fn a_fresh_knock_with_one_bit_turned_is_ignored_and_leaves_no_trace() {
    let mut cache = ReplayCache::<4>::new(UnixSeconds(0));
    let mut in_the_window = 0;
    for bit in 0..8 * LENGTH {
        let expected = match bit {
            0..32 => Reason::Tag,
            32..96 if still_in_the_window(bit - 32) => {
                in_the_window += 1;
                Reason::Digest
            }
            32..96 => Reason::Window,
            _ => Reason::Digest,
        };
        assert_eq!(check(&mut cache, &turned(bit), PORT), Verdict::Ignore(expected), "bit {bit}");
        assert!(cache.is_empty() && cache.newest().is_none() && cache.floor().0 == 0, "bit {bit}");
    }
    assert_eq!(in_the_window, 4, "1, 2, 4 and 8 seconds more stay in the window, 16 do not");
    assert_eq!(check(&mut cache, &knock(), PORT), Verdict::Accept);
}

#[test]
fn a_fresh_knock_to_a_port_with_one_bit_turned_is_ignored_and_leaves_no_trace() {
    let mut cache = ReplayCache::<4>::new(UnixSeconds(0));
    for bit in 0..16 {
        let verdict = check(&mut cache, &knock(), Port(PORT.0 ^ (1 << bit)));
        assert_eq!(verdict, Verdict::Ignore(Reason::Digest), "bit {bit}");
        assert!(cache.is_empty(), "bit {bit}");
    }
    assert_eq!(check(&mut cache, &knock(), PORT), Verdict::Accept);
}

#[test]
fn an_accepted_knock_with_one_bit_turned_is_ignored_and_leaves_no_trace() {
    let mut cache = ReplayCache::<4>::new(UnixSeconds(0));
    assert_eq!(check(&mut cache, &knock(), PORT), Verdict::Accept);
    let before = format!("{cache:?}");
    for bit in 0..8 * LENGTH {
        let expected = match bit {
            0..32 => Reason::Tag,
            32..96 if still_in_the_window(bit - 32) => Reason::Digest,
            32..96 => Reason::Window,
            // The cache knows a knock by its time and the first 8 bytes of the digest.
            96..192 | 256.. => Reason::Replay,
            192..256 => Reason::Digest,
        };
        assert_eq!(check(&mut cache, &turned(bit), PORT), Verdict::Ignore(expected), "bit {bit}");
        assert_eq!(format!("{cache:?}"), before, "bit {bit}");
    }
}

#[test]
fn a_knock_with_a_byte_more_or_less_is_ignored() {
    let mut cache = ReplayCache::<4>::new(UnixSeconds(0));
    let longer = [&knock()[..], &[0; 100]].concat();
    for length in (0..LENGTH).chain(LENGTH + 1..longer.len()) {
        let verdict = check(&mut cache, &longer[..length], PORT);
        assert_eq!(verdict, Verdict::Ignore(Reason::Length), "{length} bytes");
    }
    assert_eq!(check(&mut cache, &longer[..LENGTH], PORT), Verdict::Accept);
}

#[test]
fn a_knock_as_before_1_0_is_ignored() {
    let rule = rule();
    let seal = KnockParams { key: &rule.key, tag: rule.tag, time: TIME, nonce: [7; 12] };
    let mut cache = ReplayCache::<4>::new(UnixSeconds(0));
    let verdict = check(&mut cache, &Knock::seal_before_1_0(&seal), PORT);
    assert_eq!(verdict, Verdict::Ignore(Reason::Digest));
}
