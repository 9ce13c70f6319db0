//! The memory of one key.

use pkd_core::{Digest, Mark, ReplayGuard, ReplayMemory, UnixSeconds, Window};

const WINDOW: Window = Window::from_secs(10);

/// A mark of a knock; `id` tells those of one second apart.
fn mark(time: u64, id: u8) -> Mark {
    Mark::new(UnixSeconds(time), &Digest([id; 32]))
}

fn guard<const N: usize>(floor: u64) -> ReplayGuard<N> {
    ReplayGuard::new(UnixSeconds(floor))
}

/// Floor, newest and entries.
fn state<const N: usize>(guard: &ReplayGuard<N>) -> (u64, Option<u64>, usize) {
    (guard.floor().0, guard.newest().map(|newest| newest.0), guard.len())
}

#[test]
fn a_new_guard_is_empty_and_has_the_floor_it_was_given() {
    for floor in [0, 100, u64::MAX] {
        let guard = guard::<4>(floor);
        assert_eq!(state(&guard), (floor, None, 0));
        assert!(guard.is_empty());
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
        let mut guard = guard::<4>(floor);
        assert_eq!(guard.refuses(mark(time, 1), WINDOW), !recorded, "row {row}");
        assert_eq!(guard.record(mark(time, 1), WINDOW), recorded, "row {row}");
        assert_eq!(guard.is_empty(), !recorded, "row {row}");
        assert!(guard.refuses(mark(time, 1), WINDOW), "row {row}");
    }
}

#[test]
fn a_guard_lets_the_smallest_time_go_when_it_is_full() {
    // time, id, recorded, floor afterwards, newest, entries
    let table = [
        (50, 1, true, 0, 50, 1),
        (70, 1, true, 0, 70, 2),
        (60, 1, true, 0, 70, 3),
        (60, 2, true, 0, 70, 4),
        (60, 2, false, 0, 70, 4),
        // Full: 50 leaves, then both of 60.
        (55, 1, true, 50, 70, 4),
        (50, 9, false, 50, 70, 4),
        (80, 1, true, 55, 80, 4),
        (65, 1, true, 60, 80, 4),
        (60, 3, false, 60, 80, 4),
        (61, 1, true, 60, 80, 4),
        // The new one itself has the smallest time.
        (61, 0, true, 61, 80, 4),
        (61, 3, false, 61, 80, 4),
        // What stays in the set at the floor is refused as well, and leaves first.
        (90, 1, true, 61, 90, 4),
        (75, 1, true, 65, 90, 4),
        (66, 1, true, 66, 90, 4),
    ];
    let mut guard = guard::<4>(0);
    for (row, (time, id, recorded, floor, newest, entries)) in table.into_iter().enumerate() {
        assert_eq!(guard.record(mark(time, id), WINDOW), recorded, "row {row}");
        assert_eq!(state(&guard), (floor, Some(newest), entries), "row {row}");
        for (earlier, (time, id, ..)) in table.into_iter().take(row + 1).enumerate() {
            assert!(guard.refuses(mark(time, id), WINDOW), "row {earlier} again after row {row}");
        }
    }
}

#[test]
fn a_full_guard_takes_the_knocks_of_one_second_in_any_order() {
    for step in [1, 3, 5, 7] {
        let mut guard = guard::<8>(0);
        for place in 0..8_u8 {
            assert!(guard.record(mark(50, place * step % 8), WINDOW), "step {step}, knock {place}");
        }
        assert_eq!(state(&guard), (0, Some(50), 8));
        // The ninth is accepted, and closes that second.
        assert!(guard.record(mark(50, 8), WINDOW), "step {step}");
        assert_eq!(state(&guard), (50, Some(50), 8), "step {step}");
        assert!((0..=9).all(|id| guard.refuses(mark(50, id), WINDOW)), "step {step}");
        assert!(guard.record(mark(51, 0), WINDOW), "step {step}");
    }
}

#[test]
fn a_guard_without_room_remembers_by_its_floor() {
    let mut guard = guard::<0>(0);
    assert!(guard.record(mark(50, 1), WINDOW));
    assert_eq!(state(&guard), (50, Some(50), 0));
    assert!(guard.refuses(mark(50, 1), WINDOW));
    assert!(guard.record(mark(51, 1), WINDOW));
}

#[test]
fn without_a_clock_times_must_grow() {
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
    let mut guard = guard::<4>(0);
    for (row, (time, recorded, floor)) in table.into_iter().enumerate() {
        let mark = mark(time, u8::try_from(row).unwrap());
        assert_eq!(guard.refuses(mark, Window::NO_CLOCK), !recorded, "row {row}");
        assert_eq!(guard.record(mark, Window::NO_CLOCK), recorded, "row {row}");
        assert_eq!((guard.floor().0, guard.len()), (floor, 0), "row {row}");
    }
}

#[test]
fn a_rule_without_a_clock_that_shares_a_guard_accepts_only_times_after_all_others() {
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
    let mut guard = guard::<4>(0);
    for (row, (window, time, recorded, floor)) in table.into_iter().enumerate() {
        let window = Window::from_secs(window);
        assert_eq!(guard.record(mark(time, u8::try_from(row).unwrap()), window), recorded, "row {row}");
        assert_eq!(guard.floor().0, floor, "row {row}");
    }
}

#[test]
fn a_joining_rule_raises_the_floor_and_never_lowers_it() {
    let mut guard = guard::<4>(100);
    for (row, (given, floor)) in [(99, 100), (100, 100), (150, 150), (120, 150)].into_iter().enumerate() {
        guard.inherit(UnixSeconds(given));
        assert_eq!(guard.floor().0, floor, "row {row}");
    }
}

#[test]
fn a_restored_floor_may_be_lower_but_what_this_life_accepted_stays_refused() {
    let mut guard = guard::<2>(100);
    for time in [110, 120, 130] {
        assert!(guard.record(mark(time, 1), WINDOW));
    }
    assert_eq!(state(&guard), (110, Some(130), 2));
    guard.restore(UnixSeconds(0));
    assert_eq!(state(&guard), (110, Some(130), 2));
    assert!([110, 120, 130].iter().all(|time| guard.refuses(mark(*time, 1), WINDOW)));
    guard.restore(UnixSeconds(200));
    assert_eq!(guard.floor().0, 200);
    guard.restore(UnixSeconds(115));
    assert_eq!(guard.floor().0, 115);
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
        assert_eq!(guard::<4>(floor).wait(UnixSeconds(now)), seconds, "row {row}");
    }
}

#[test]
fn a_guard_is_past_when_its_newest_knock_has_left_the_window() {
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
        let mut guard = guard::<4>(0);
        assert!(guard.record(mark(newest, 1), WINDOW), "row {row}");
        assert!(guard.record(mark(1, 1), WINDOW), "row {row}");
        assert_eq!(guard.is_past(UnixSeconds(now), Window::from_secs(window)), past, "row {row}");
    }
}

#[test]
fn a_guard_that_still_waits_is_not_past() {
    // floor, newest, horizon, clock when it is past first
    let table = [
        (0, None, 0, 11),
        (100, None, 100, 111),
        (100, Some(101), 101, 112),
        (u64::MAX - 11, None, u64::MAX - 11, u64::MAX),
    ];
    for (row, (floor, newest, horizon, past)) in table.into_iter().enumerate() {
        let mut guard = guard::<4>(floor);
        assert!(newest.is_none_or(|newest| guard.record(mark(newest, 1), WINDOW)), "row {row}");
        assert_eq!(guard.horizon(), UnixSeconds(horizon), "row {row}");
        assert!(!guard.is_past(UnixSeconds(past - 1), WINDOW), "row {row}");
        assert!(guard.is_past(UnixSeconds(past), WINDOW), "row {row}");
    }
    assert!(!guard::<4>(u64::MAX - 10).is_past(UnixSeconds(u64::MAX), WINDOW));
}

#[test]
fn a_horizon_is_the_newest_knock_or_the_floor() {
    let mut guard = guard::<1>(100);
    for (row, (time, horizon)) in [(150, 150), (130, 150), (200, 200)].into_iter().enumerate() {
        assert!(guard.record(mark(time, 1), WINDOW), "row {row}");
        assert_eq!(guard.horizon(), UnixSeconds(horizon), "row {row}");
    }
    guard.inherit(UnixSeconds(300));
    assert_eq!(guard.horizon(), UnixSeconds(300));
}

#[test]
fn what_guards_that_went_left_behind_is_never_lowered() {
    let mut guard = guard::<4>(0);
    for (row, (dropped, floor)) in [(100, 100), (150, 150), (120, 150)].into_iter().enumerate() {
        guard.forget(UnixSeconds(dropped));
        assert_eq!(guard.floor(), UnixSeconds(floor), "row {row}");
    }
    guard.restore(UnixSeconds(0));
    assert_eq!(guard.floor(), UnixSeconds(150));
    assert!(guard.is_empty() && guard.newest().is_none());
}
