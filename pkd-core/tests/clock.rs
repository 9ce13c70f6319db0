//! Clocks that step by hours, and the ends of the numbers that others count seconds in.

use pkd_core::{
    Baseline, Key, Knock, KnockParams, LENGTH, Packet, Port, Reason, ReplayCache, Rule, Tag, UnixSeconds,
    Verdict, Verifier, Window,
};

const PORT: Port = Port(40_000);
const HOUR: u64 = 3_600;

/// 2027, the ends of signed and unsigned 32 bits (2038, 2106), and the end of 64.
const TIMES: [u64; 4] = [1_800_000_000, (1 << 31) - 1, (1 << 32) - 1, u64::MAX - 2 * HOUR];

fn rule(window: u32) -> Rule {
    let key = Key::from_bytes([0x5e; Key::LENGTH]);
    Rule { key, tag: Tag::default(), window: Window::from_secs(window) }
}

fn knock(time: u64, nonce: u8) -> [u8; LENGTH] {
    let rule = rule(10);
    Knock::seal(
        &KnockParams { key: &rule.key, tag: rule.tag, time: UnixSeconds(time), nonce: [nonce; 12] },
        PORT,
    )
}

fn check(cache: &mut ReplayCache<8>, window: u32, now: u64, payload: &[u8]) -> Verdict {
    Verifier::new(&rule(window), cache).check(UnixSeconds(now), &Packet { destination_port: PORT, payload })
}

#[test]
fn knocks_pass_on_both_sides_of_the_end_of_32_bits() {
    for at in TIMES {
        let mut cache = ReplayCache::new(UnixSeconds(at - 100));
        for (nonce, time) in (0..).zip([at - 1, at, at + 1, at + 2]) {
            let payload = knock(time, nonce);
            assert_eq!(check(&mut cache, 10, time, &payload), Verdict::Accept, "{time}");
            assert_eq!(check(&mut cache, 10, time, &payload), Verdict::Ignore(Reason::Replay), "{time}");
        }
    }
}

#[test]
fn a_time_that_was_cut_to_32_bits_is_far_outside_of_the_window() {
    for at in [(1 << 32) + 5, (1 << 33) + 7] {
        let mut cache = ReplayCache::new(UnixSeconds(0));
        let cut = at & u64::from(u32::MAX);
        let given = check(&mut cache, 10, at, &knock(cut, 1));
        assert_eq!(given, Verdict::Ignore(Reason::Window), "{at}");
        assert_eq!(check(&mut cache, 10, at, &knock(at, 2)), Verdict::Accept, "{at}");
    }
}

#[test]
fn no_step_of_the_clock_brings_an_accepted_knock_back() {
    let replay = Verdict::Ignore(Reason::Replay);
    for at in TIMES {
        let mut cache = ReplayCache::new(UnixSeconds(at - 100 * HOUR));
        let mut accepted = Vec::new();
        // Hours forwards, back before the start, and forwards again; a knock of each moment.
        for (nonce, hours) in (0..).zip([0_i64, 1, -5, 2, -99, 0]) {
            let now = at.saturating_add_signed(hours * 3_600);
            let payload = knock(now, nonce);
            assert_eq!(check(&mut cache, 10, now, &payload), Verdict::Accept, "{at}, hour {hours}");
            accepted.push((now, payload));
            for (then, payload) in &accepted {
                let given = check(&mut cache, 10, *then, payload);
                assert_eq!(given, replay, "{at}, the clock is back at {then}");
            }
        }
    }
}

#[test]
fn a_step_back_waits_for_nothing_that_was_not_accepted() {
    // A clock that was ahead by hours when the verifier began: without memory it waits until it is there again.
    let at = TIMES[0];
    let start = Baseline::without_memory(UnixSeconds(at + 3 * HOUR));
    let mut cache = ReplayCache::<8>::new(start.floor(Window::from_secs(10)));
    assert_eq!(check(&mut cache, 10, at, &knock(at, 1)), Verdict::Ignore(Reason::Replay));
    assert_eq!(cache.wait(UnixSeconds(at)), 3 * HOUR + 11);
    // With memory it does not.
    let mut cache =
        ReplayCache::<8>::new(Baseline::with_memory(UnixSeconds(at - 1)).floor(Window::from_secs(10)));
    assert_eq!(check(&mut cache, 10, at, &knock(at, 1)), Verdict::Accept);
}

#[test]
fn the_greatest_time_of_all_shuts_nobody_out_but_where_there_is_no_clock() {
    let at = TIMES[0];
    let all_ones = knock(u64::MAX, 1);
    let mut cache = ReplayCache::new(UnixSeconds(0));
    for window in [1, 10, u32::MAX] {
        let given = check(&mut cache, window, at, &all_ones);
        assert_eq!(given, Verdict::Ignore(Reason::Window), "window {window}");
    }
    assert_eq!(check(&mut cache, 10, at, &knock(at, 2)), Verdict::Accept);
    // Its sender has the key, and `docs/protocol.md` says what it costs.
    assert_eq!(check(&mut cache, 0, at, &all_ones), Verdict::Accept);
    assert_eq!(check(&mut cache, 0, at, &knock(at + 1, 3)), Verdict::Ignore(Reason::Replay));
    assert_eq!(cache.floor(), UnixSeconds(u64::MAX));
}
