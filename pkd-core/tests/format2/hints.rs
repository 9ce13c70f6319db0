//! Hints are made before their slot begins, and without them nothing is accepted.

use pkd_core::{
    Packet, Reason, ReplayCache, UnixMillis, Verdict,
    format2::{Hints, KnockParams},
};

use crate::{HERE, KNOCK, NOW, PORT, rule, seal};

const SLOT: u64 = 65_536;

/// The verdict about a knock made now, with these hints.
fn verdict(hints: &Hints, window: u32, now: u64) -> Verdict {
    let payload = seal(&KnockParams { time: UnixMillis(now), ..KNOCK });
    let packet = Packet { destination_port: PORT, payload: &payload };
    let mut cache = ReplayCache::<4, _>::new(UnixMillis(0));
    rule(window).verify(hints, &mut cache, UnixMillis(now), &packet, &HERE, &[])
}

#[test]
fn hints_last_for_a_slot_and_a_clock_that_left_them_is_refused() {
    for window in [1, 10, 60, 299, 300] {
        let rule = rule(window);
        let mut hints = rule.hints(NOW);
        let made = hints.iter().count();
        assert!(made <= 12, "{made} hints");
        // They are for the next slot, too.
        for later in [0, 1, SLOT / 2, SLOT] {
            assert_eq!(verdict(&hints, window, NOW.0 + later), Verdict::Accept, "{window}: {later} ms later");
        }
        let tag = Verdict::Ignore(Reason::Tag);
        let left = 2_000 * u64::from(window) + 2 * SLOT;
        for set_to in [NOW.0 + left, NOW.0 - left, 0, u64::MAX >> 16] {
            assert_eq!(verdict(&hints, window, set_to), tag, "{window}: the clock was set to {set_to}");
        }
        assert!(rule.refresh(&mut hints, UnixMillis(NOW.0 - left)), "the clock was set");
        assert_eq!(verdict(&hints, window, NOW.0 - left), Verdict::Accept, "{window}");
        assert!(!rule.refresh(&mut hints, UnixMillis(NOW.0 - left)), "they are there");
    }
}

#[test]
fn hints_that_were_never_made_let_nothing_in() {
    assert_eq!(verdict(&Hints::default(), 10, NOW.0), Verdict::Ignore(Reason::Tag));
}

#[test]
fn a_hint_counts_only_as_long_as_its_slot_is_in_the_window() {
    // 10 s after a slot's begin the slot before it is out of the window by a hair.
    let begin = NOW.0 / SLOT * SLOT;
    let rule = rule(10);
    let payload = seal(&KnockParams { time: UnixMillis(begin - 1), ..KNOCK });
    let packet = Packet { destination_port: PORT, payload: &payload };
    for (now, expected) in [
        (begin, Verdict::Accept),
        (begin + 9_999, Verdict::Accept),
        (begin + 10_000, Verdict::Ignore(Reason::Tag)),
        (begin + SLOT, Verdict::Ignore(Reason::Tag)),
    ] {
        let mut cache = ReplayCache::<4, _>::new(UnixMillis(0));
        let hints = rule.hints(UnixMillis(begin));
        assert_eq!(rule.verify(&hints, &mut cache, UnixMillis(now), &packet, &HERE, &[]), expected, "{now}");
    }
}

#[test]
fn without_a_clock_and_with_a_wide_window_no_hints_are_kept() {
    for window in [0, 301, u32::MAX] {
        assert_eq!(rule(window).hints(NOW).iter().count(), 0, "{window}");
        assert_eq!(verdict(&Hints::default(), window, NOW.0), Verdict::Accept, "{window}");
    }
}

#[test]
fn noise_is_what_no_hint_fits_whatever_time_it_is() {
    let knock = seal(&KNOCK);
    let mut other = knock;
    other[0] ^= 1;
    let (length, tag) = (Some(Reason::Length), Some(Reason::Tag));
    for (row, (window, payload, expected)) in [
        (10, &knock[..], None),
        (10, &other[..], tag),
        (10, &knock[..55], length),
        (0, &other[..], None),
        (301, &other[..], None),
        (301, &knock[..55], length),
    ]
    .into_iter()
    .enumerate()
    {
        let packet = Packet { destination_port: PORT, payload };
        let rule = rule(window);
        assert_eq!(rule.noise(&rule.hints(NOW), &packet), expected, "row {row}");
        // Hints that were never made fit nothing.
        let without = if window == 10 && payload.len() == 56 { tag } else { expected };
        assert_eq!(rule.noise(&Hints::default(), &packet), without, "row {row}");
    }
}
