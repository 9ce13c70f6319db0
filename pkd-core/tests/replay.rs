//! The replay cache of one key.

use pkd_core::{Digest, KnockId, ReplayCache, ReplayStore, UnixSeconds, Window};

const WINDOW: Window = Window::from_secs(10);

/// The ID of a knock; `id` distinguishes knocks of one second.
fn knock(time: u64, id: u8) -> KnockId {
    KnockId::new(UnixSeconds(time), &Digest::from_bytes([id; 32]))
}

fn cache<const N: usize>(floor: u64) -> ReplayCache<N> {
    ReplayCache::new(UnixSeconds(floor))
}

/// Floor, newest and entries.
fn state<const N: usize>(cache: &ReplayCache<N>) -> (u64, Option<u64>, usize) {
    (cache.floor().0, cache.newest().map(|newest| newest.0), cache.len())
}

#[test]
fn a_new_cache_is_empty_and_starts_with_its_floor() {
    for floor in [0, 100, u64::MAX] {
        let cache = cache::<4>(floor);
        assert_eq!(state(&cache), (floor, None, 0));
        assert!(cache.is_empty());
    }
}

#[test]
fn a_knock_is_recorded_only_above_the_floor() {
    // floor, time, recorded
    let table = [
        (0, 0, false),
        (0, 1, true),
        (0, u64::MAX, true),
        (100, 99, false),
        (100, 100, false),
        (100, 101, true),
        (u64::MAX - 1, u64::MAX - 1, false),
        (u64::MAX - 1, u64::MAX, true),
        (u64::MAX, u64::MAX, false),
    ];
    for (row, (floor, time, recorded)) in table.into_iter().enumerate() {
        let mut cache = cache::<4>(floor);
        assert_eq!(cache.refuses(knock(time, 1), WINDOW), !recorded, "row {row}");
        assert_eq!(cache.record(knock(time, 1), WINDOW), recorded, "row {row}");
        assert_eq!(cache.is_empty(), !recorded, "row {row}");
        assert!(cache.refuses(knock(time, 1), WINDOW), "row {row}");
    }
}

#[test]
fn a_full_cache_evicts_the_smallest_time() {
    // time, id, recorded, floor afterwards, newest, entries
    let table = [
        (50, 1, true, 0, 50, 1),
        (70, 1, true, 0, 70, 2),
        (60, 1, true, 0, 70, 3),
        (60, 2, true, 0, 70, 4),
        (60, 2, false, 0, 70, 4),
        // Full: 50 is evicted, then both of 60.
        (55, 1, true, 50, 70, 4),
        (50, 9, false, 50, 70, 4),
        (80, 1, true, 55, 80, 4),
        (65, 1, true, 60, 80, 4),
        (60, 3, false, 60, 80, 4),
        (61, 1, true, 60, 80, 4),
        // The new knock itself has the smallest time.
        (61, 0, true, 61, 80, 4),
        (61, 3, false, 61, 80, 4),
        // Entries at the floor are refused too, and evicted first.
        (90, 1, true, 61, 90, 4),
        (75, 1, true, 65, 90, 4),
        (66, 1, true, 66, 90, 4),
    ];
    let mut cache = cache::<4>(0);
    for (row, (time, id, recorded, floor, newest, entries)) in table.into_iter().enumerate() {
        assert_eq!(cache.record(knock(time, id), WINDOW), recorded, "row {row}");
        assert_eq!(state(&cache), (floor, Some(newest), entries), "row {row}");
        for (earlier, (time, id, ..)) in table.into_iter().take(row + 1).enumerate() {
            assert!(cache.refuses(knock(time, id), WINDOW), "row {earlier} again after row {row}");
        }
    }
}

#[test]
fn a_cache_accepts_the_knocks_of_one_second_in_any_order() {
    for step in [1, 3, 5, 7] {
        let mut cache = cache::<8>(0);
        for place in 0..8_u8 {
            assert!(cache.record(knock(50, place * step % 8), WINDOW), "step {step}, knock {place}");
        }
        assert_eq!(state(&cache), (0, Some(50), 8));
        // The ninth is accepted, and closes that second.
        assert!(cache.record(knock(50, 8), WINDOW), "step {step}");
        assert_eq!(state(&cache), (50, Some(50), 8), "step {step}");
        assert!((0..=9).all(|id| cache.refuses(knock(50, id), WINDOW)), "step {step}");
        assert!(cache.record(knock(51, 0), WINDOW), "step {step}");
    }
}

#[test]
fn a_cache_without_entries_refuses_by_its_floor() {
    let mut cache = cache::<0>(0);
    assert!(cache.record(knock(50, 1), WINDOW));
    assert_eq!(state(&cache), (50, Some(50), 0));
    assert!(cache.refuses(knock(50, 1), WINDOW));
    assert!(cache.record(knock(51, 1), WINDOW));
}

#[test]
fn without_a_clock_times_must_increase() {
    // time, recorded, floor afterwards
    let table = [
        (0, false, 0),
        (5, true, 5),
        (5, false, 5),
        (4, false, 5),
        (6, true, 6),
        (u64::MAX, true, u64::MAX),
        (u64::MAX, false, u64::MAX),
    ];
    let mut cache = cache::<4>(0);
    for (row, (time, recorded, floor)) in table.into_iter().enumerate() {
        let knock = knock(time, u8::try_from(row).unwrap());
        assert_eq!(cache.refuses(knock, Window::Monotonic), !recorded, "row {row}");
        assert_eq!(cache.record(knock, Window::Monotonic), recorded, "row {row}");
        assert_eq!((cache.floor().0, cache.len()), (floor, 0), "row {row}");
    }
}

#[test]
fn a_rule_without_a_clock_that_shares_a_cache_accepts_only_times_after_all_others() {
    // window, time, recorded, floor afterwards
    let table = [
        (10, 50, true, 0),
        (10, 48, true, 0),
        (0, 49, false, 0),
        (0, 50, false, 0),
        (10, 49, true, 0),
        (0, 51, true, 51),
        (10, 51, false, 51),
        (10, 50, false, 51),
        (10, 52, true, 51),
    ];
    let mut cache = cache::<4>(0);
    for (row, (window, time, recorded, floor)) in table.into_iter().enumerate() {
        let window = Window::from_secs(window);
        assert_eq!(cache.record(knock(time, u8::try_from(row).unwrap()), window), recorded, "row {row}");
        assert_eq!(cache.floor().0, floor, "row {row}");
    }
}

#[test]
fn a_joining_rule_raises_the_floor_and_never_lowers_it() {
    let mut cache = cache::<4>(100);
    for (row, (raised_to, floor)) in [(99, 100), (100, 100), (150, 150), (120, 150)].into_iter().enumerate() {
        cache.raise_baseline(UnixSeconds(raised_to));
        assert_eq!(cache.floor().0, floor, "row {row}");
    }
}

#[test]
fn a_restored_floor_may_be_lower_but_knocks_accepted_since_the_start_stay_refused() {
    let mut cache = cache::<2>(100);
    for time in [110, 120, 130] {
        assert!(cache.record(knock(time, 1), WINDOW));
    }
    assert_eq!(state(&cache), (110, Some(130), 2));
    cache.set_baseline(UnixSeconds(0));
    assert_eq!(state(&cache), (110, Some(130), 2));
    assert!([110, 120, 130].iter().all(|time| cache.refuses(knock(*time, 1), WINDOW)));
    cache.set_baseline(UnixSeconds(200));
    assert_eq!(cache.floor().0, 200);
    cache.set_baseline(UnixSeconds(115));
    assert_eq!(cache.floor().0, 115);
}

#[test]
fn the_wait_ends_when_the_clock_is_past_the_floor() {
    // floor, now, seconds
    let table = [
        (0, 0, 0),
        (0, u64::MAX, 0),
        (100, 0, 101),
        (100, 90, 11),
        (100, 99, 2),
        (100, 100, 1),
        (100, 101, 0),
        (100, u64::MAX, 0),
        (1, 0, 2),
        (u64::MAX, 0, u64::MAX),
        (u64::MAX, 1, u64::MAX),
        (u64::MAX, u64::MAX, 1),
    ];
    for (row, (floor, now, seconds)) in table.into_iter().enumerate() {
        assert_eq!(cache::<4>(floor).wait(UnixSeconds(now)), seconds, "row {row}");
    }
}

#[test]
fn a_cache_is_past_when_its_newest_knock_has_left_the_window() {
    // newest, window, now, past
    let table = [
        (100, 10, 109, false),
        (100, 10, 110, false),
        (100, 10, 111, true),
        (100, 10, 0, false),
        (100, 0, 100, false),
        (100, 0, 101, true),
        (100, u32::MAX, 100 + u64::from(u32::MAX), false),
        (100, u32::MAX, 101 + u64::from(u32::MAX), true),
        (u64::MAX, 10, u64::MAX, false),
        (u64::MAX - 11, 10, u64::MAX, true),
        (u64::MAX - 10, 10, u64::MAX, false),
    ];
    for (row, (newest, window, now, past)) in table.into_iter().enumerate() {
        let mut cache = cache::<4>(0);
        assert!(cache.record(knock(newest, 1), WINDOW), "row {row}");
        assert!(cache.record(knock(1, 1), WINDOW), "row {row}");
        assert_eq!(cache.is_past(UnixSeconds(now), Window::from_secs(window)), past, "row {row}");
    }
}

#[test]
fn a_cache_whose_floor_is_in_the_window_is_not_past() {
    // floor, newest, high_water_mark, first time at which it is past
    let table = [
        (0, None, 0, 11),
        (100, None, 100, 111),
        (100, Some(101), 101, 112),
        (u64::MAX - 11, None, u64::MAX - 11, u64::MAX),
    ];
    for (row, (floor, newest, high_water_mark, past)) in table.into_iter().enumerate() {
        let mut cache = cache::<4>(floor);
        assert!(newest.is_none_or(|newest| cache.record(knock(newest, 1), WINDOW)), "row {row}");
        assert_eq!(cache.high_water_mark(), UnixSeconds(high_water_mark), "row {row}");
        assert!(!cache.is_past(UnixSeconds(past - 1), WINDOW), "row {row}");
        assert!(cache.is_past(UnixSeconds(past), WINDOW), "row {row}");
    }
    assert!(!cache::<4>(u64::MAX - 10).is_past(UnixSeconds(u64::MAX), WINDOW));
}

#[test]
fn the_high_water_mark_is_the_later_of_newest_knock_and_floor() {
    let mut cache = cache::<1>(100);
    for (row, (time, high_water_mark)) in [(150, 150), (130, 150), (200, 200)].into_iter().enumerate() {
        assert!(cache.record(knock(time, 1), WINDOW), "row {row}");
        assert_eq!(cache.high_water_mark(), UnixSeconds(high_water_mark), "row {row}");
    }
    cache.raise_baseline(UnixSeconds(300));
    assert_eq!(cache.high_water_mark(), UnixSeconds(300));
}

#[test]
fn the_floor_of_dropped_caches_is_never_lowered() {
    let mut cache = cache::<4>(0);
    for (row, (dropped, floor)) in [(100, 100), (150, 150), (120, 150)].into_iter().enumerate() {
        cache.raise_evicted(UnixSeconds(dropped));
        assert_eq!(cache.floor(), UnixSeconds(floor), "row {row}");
    }
    cache.set_baseline(UnixSeconds(0));
    assert_eq!(cache.floor(), UnixSeconds(150));
    assert!(cache.is_empty() && cache.newest().is_none());
}
