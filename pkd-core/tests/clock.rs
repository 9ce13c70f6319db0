//! Clocks that step by hours, and times at the limits of 32 and 64 bits.

use pkd_core::{
    Baseline, Key, Knock, KnockParams, LENGTH, Packet, Port, Reason, ReplayCache, Rule, Tag, UnixSeconds,
    Verdict, Window,
};

const PORT: Port = Port(40_000);
const HOUR: u64 = 3_600;

/// 2027, the limits of signed and unsigned 32 bits (2038, 2106), and the limit of 64 bits.
const TIMES: [u64; 4] = [1_800_000_000, (1 << 31) - 1, (1 << 32) - 1, u64::MAX - 2 * HOUR];

fn rule(window: u32) -> Rule {
    let key = Key::from_bytes([0x5e; Key::LENGTH]);
    Rule::new(key, Tag::default(), Window::from_secs(window))
}

fn knock(time: u64, nonce: u8) -> [u8; LENGTH] {
    let rule = rule(10);
    Knock::seal(
        &KnockParams { key: rule.key(), tag: rule.tag(), time: UnixSeconds(time), nonce: [nonce; 12] },
        PORT,
    )
}

fn check(cache: &mut ReplayCache<8>, window: u32, now: u64, payload: &[u8]) -> Verdict {
    rule(window).verify(cache, UnixSeconds(now), &Packet { destination_port: PORT, payload })
}

#[test]
fn knocks_are_accepted_on_both_sides_of_the_32_bit_limits() {
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
fn a_time_truncated_to_32_bits_is_outside_the_window() {
    for at in [(1 << 32) + 5, (1 << 33) + 7] {
        let mut cache = ReplayCache::new(UnixSeconds(0));
        let cut = at & u64::from(u32::MAX);
        let verdict = check(&mut cache, 10, at, &knock(cut, 1));
        assert_eq!(verdict, Verdict::Ignore(Reason::Window), "{at}");
        assert_eq!(check(&mut cache, 10, at, &knock(at, 2)), Verdict::Accept, "{at}");
    }
}

#[test]
fn no_clock_step_makes_an_accepted_knock_acceptable_again() {
    let replay = Verdict::Ignore(Reason::Replay);
    for at in TIMES {
        let mut cache = ReplayCache::new(UnixSeconds(at - 100 * HOUR));
        let mut accepted = Vec::new();
        // Hours forwards, back before the start, and forwards again, with a knock after each step.
        for (nonce, hours) in (0..).zip([0_i64, 1, -5, 2, -99, 0]) {
            let now = at.saturating_add_signed(hours * 3_600);
            let payload = knock(now, nonce);
            assert_eq!(check(&mut cache, 10, now, &payload), Verdict::Accept, "{at}, hour {hours}");
            accepted.push((now, payload));
            for (then, payload) in &accepted {
                let verdict = check(&mut cache, 10, *then, payload);
                assert_eq!(verdict, replay, "{at}, the clock was set back to {then}");
            }
        }
    }
}

#[test]
fn only_a_boot_without_memory_waits_after_the_clock_was_set_back() {
    // The clock was hours ahead at the start: without memory the verifier waits until it gets there again.
    let at = TIMES[0];
    let baseline = Baseline::without_memory(UnixSeconds(at + 3 * HOUR));
    let mut cache = ReplayCache::<8>::new(baseline.floor(Window::from_secs(10)));
    assert_eq!(check(&mut cache, 10, at, &knock(at, 1)), Verdict::Ignore(Reason::Replay));
    assert_eq!(cache.wait(UnixSeconds(at)), 3 * HOUR + 11);
    // With a saved floor it does not wait.
    let mut cache =
        ReplayCache::<8>::new(Baseline::with_memory(UnixSeconds(at - 1)).floor(Window::from_secs(10)));
    assert_eq!(check(&mut cache, 10, at, &knock(at, 1)), Verdict::Accept);
}

#[test]
fn the_greatest_time_locks_others_out_only_without_a_clock() {
    let at = TIMES[0];
    let all_ones = knock(u64::MAX, 1);
    let mut cache = ReplayCache::new(UnixSeconds(0));
    for window in [1, 10, u32::MAX] {
        let verdict = check(&mut cache, window, at, &all_ones);
        assert_eq!(verdict, Verdict::Ignore(Reason::Window), "window {window}");
    }
    assert_eq!(check(&mut cache, 10, at, &knock(at, 2)), Verdict::Accept);
    // Only a holder of the key can do this; see the known limits in `docs/protocol.md`.
    assert_eq!(check(&mut cache, 0, at, &all_ones), Verdict::Accept);
    assert_eq!(check(&mut cache, 0, at, &knock(at + 1, 3)), Verdict::Ignore(Reason::Replay));
    assert_eq!(cache.floor(), UnixSeconds(u64::MAX));
}
