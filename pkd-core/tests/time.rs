//! Times and windows at their limits.

use pkd_core::{Timestamp, UnixSeconds, Window};

const MAX: u64 = u64::MAX;

#[test]
fn a_window_admits_both_of_its_ends_and_nothing_beyond() {
    // window, now, time, admitted
    let table = [
        (10, 1_000, 990, true),
        (10, 1_000, 989, false),
        (10, 1_000, 1_010, true),
        (10, 1_000, 1_011, false),
        (10, 1_000, 1_000, true),
        (1, 1_000, 999, true),
        (1, 1_000, 998, false),
        (1, 1_000, 1_001, true),
        (1, 1_000, 1_002, false),
        (10, 0, 0, true),
        (10, 0, 10, true),
        (10, 0, 11, false),
        (10, 10, 0, true),
        (10, 11, 0, false),
        (10, MAX, MAX, true),
        (10, MAX, MAX - 10, true),
        (10, MAX, MAX - 11, false),
        (10, MAX - 10, MAX, true),
        (10, MAX - 11, MAX, false),
        (10, 0, MAX, false),
        (10, MAX, 0, false),
        (10, MAX, 9, false),
        (10, 9, MAX, false),
        (u32::MAX, 0, u64::from(u32::MAX), true),
        (u32::MAX, 0, u64::from(u32::MAX) + 1, false),
        (u32::MAX, MAX, MAX - u64::from(u32::MAX), true),
        (u32::MAX, MAX, MAX - u64::from(u32::MAX) - 1, false),
        (u32::MAX, 0, MAX, false),
        (u32::MAX, MAX, 0, false),
        (0, 0, MAX, true),
        (0, MAX, 0, true),
        (0, 1_000, 1_000, true),
    ];
    for (row, (window, now, time, admitted)) in table.into_iter().enumerate() {
        let actual = Window::from_secs(window).admits(UnixSeconds(now), UnixSeconds(time));
        assert_eq!(actual, admitted, "row {row}: window {window}, now {now}, time {time}");
    }
}

#[test]
fn the_end_of_a_window_saturates() {
    let table = [
        (0, 0, 0),
        (5, 10, 15),
        (0, u32::MAX, u64::from(u32::MAX)),
        (MAX - 10, 10, MAX),
        (MAX - 9, 10, MAX),
        (MAX, 0, MAX),
        (MAX, u32::MAX, MAX),
    ];
    for (row, (time, window, end)) in table.into_iter().enumerate() {
        assert_eq!(UnixSeconds(time).plus(Window::from_secs(window)), UnixSeconds(end), "row {row}");
    }
}

#[test]
fn seconds_since_a_later_time_are_zero() {
    let table = [(5, 3, 2), (3, 5, 0), (5, 5, 0), (MAX, 0, MAX), (0, MAX, 0), (MAX, MAX - 1, 1)];
    for (row, (time, earlier, seconds)) in table.into_iter().enumerate() {
        assert_eq!(UnixSeconds(time).since(UnixSeconds(earlier)), seconds, "row {row}");
    }
}

#[test]
fn a_window_has_the_seconds_it_was_made_with() {
    for seconds in [0, 1, 10, u32::MAX] {
        assert_eq!(Window::from_secs(seconds).as_secs(), seconds);
    }
    assert_eq!(Window::Monotonic.as_secs(), 0);
    assert_eq!(Window::default().as_secs(), 10);
    assert_eq!(UnixSeconds::default(), UnixSeconds(0));
}

#[test]
fn windows_are_ordered_by_their_seconds() {
    let seconds = [0, 1, 10, u32::MAX];
    assert!(seconds.map(Window::from_secs).is_sorted());
    assert_eq!(Window::from_secs(0), Window::Monotonic);
}
