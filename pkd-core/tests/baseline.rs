//! Reboots: what a verifier knows about knocks accepted before, and what senders can rely on.

use pkd_core::{
    Baseline, Key, Knock, KnockParams, LENGTH, Packet, Port, Reason, ReplayCache, Rule, Tag, UnixSeconds,
    Verdict, Window,
};

const PORT: Port = Port(40_000);
const NOW: u64 = 1_800_000_000;

fn window(seconds: u32) -> Window {
    Window::from_secs(seconds)
}

fn rule(window: u32) -> Rule {
    Rule::new(Key::from_bytes([1; Key::LENGTH]), Tag::default(), Window::from_secs(window))
}

fn knock(time: u64) -> [u8; LENGTH] {
    let rule = rule(0);
    Knock::seal(
        &KnockParams { key: rule.key(), tag: rule.tag(), time: UnixSeconds(time), nonce: [7; 12] },
        PORT,
    )
}

fn check(cache: &mut ReplayCache<4>, window: u32, now: u64, payload: &[u8]) -> Verdict {
    let packet = Packet { destination_port: PORT, payload };
    rule(window).verify(cache, UnixSeconds(now), &packet)
}

fn cache(baseline: &Baseline, window: u32) -> ReplayCache<4> {
    ReplayCache::new(baseline.floor(Window::from_secs(window)))
}

#[test]
fn a_baseline_sets_the_floor_of_each_cache() {
    let unknown = |now| Baseline::without_memory(UnixSeconds(now));
    let known = |floor| Baseline::with_memory(UnixSeconds(floor));
    let table = [
        (unknown(1_000), 10, 1_010),
        (unknown(1_000), 0, 1_000),
        (unknown(0), 0, 0),
        (unknown(0), u32::MAX, u64::from(u32::MAX)),
        (unknown(u64::MAX), 10, u64::MAX),
        (unknown(u64::MAX - 10), 10, u64::MAX),
        (unknown(u64::MAX - 11), 10, u64::MAX - 1),
        (known(0), 10, 0),
        (known(1_000), 10, 1_000),
        (known(1_000), u32::MAX, 1_000),
        (known(u64::MAX), 0, u64::MAX),
    ];
    for (row, (baseline, seconds, floor)) in table.into_iter().enumerate() {
        assert_eq!(baseline.floor(window(seconds)), UnixSeconds(floor), "row {row}");
        assert_eq!(baseline.earlier(window(seconds)), UnixSeconds(floor), "row {row}");
        assert_eq!(baseline.dropped(), UnixSeconds(0), "row {row}");
    }
}

#[test]
fn dropped_caches_raise_the_floor_of_new_ones() {
    let mut baseline = Baseline::with_memory(UnixSeconds(1_000));
    for (row, (high_water_mark, floor)) in
        [(999, 1_000), (1_200, 1_200), (1_100, 1_200)].into_iter().enumerate()
    {
        baseline.drop_cache(UnixSeconds(high_water_mark));
        assert_eq!(baseline.floor(window(10)), UnixSeconds(floor), "row {row}");
        assert_eq!(baseline.earlier(window(10)), UnixSeconds(1_000), "row {row}");
    }
    assert_eq!(baseline.dropped(), UnixSeconds(1_200));
    let mut baseline = Baseline::without_memory(UnixSeconds(1_195));
    baseline.drop_cache(UnixSeconds(1_200));
    assert_eq!(baseline.floor(window(10)), UnixSeconds(1_205));
    assert_eq!(baseline.floor(window(1)), UnixSeconds(1_200));
}

#[test]
fn a_restored_floor_replaces_the_wait_but_not_the_floor_of_dropped_caches() {
    let mut baseline = Baseline::without_memory(UnixSeconds(1_000));
    baseline.set_baseline(UnixSeconds(900));
    assert_eq!(baseline, Baseline::with_memory(UnixSeconds(900)));
    assert_eq!(baseline.floor(window(10)), UnixSeconds(900));
    baseline.drop_cache(UnixSeconds(950));
    baseline.set_baseline(UnixSeconds(0));
    assert_eq!(baseline.floor(window(10)), UnixSeconds(950));
}

#[test]
fn a_knock_at_the_edge_of_the_window_is_accepted() {
    // sender's clock, verdict
    let table = [
        (NOW - 11, Verdict::Ignore(Reason::Window)),
        (NOW - 10, Verdict::Accept),
        (NOW + 10, Verdict::Accept),
        (NOW + 11, Verdict::Ignore(Reason::Window)),
    ];
    for (row, (time, verdict)) in table.into_iter().enumerate() {
        let mut cache = cache(&Baseline::with_memory(UnixSeconds(0)), 10);
        assert_eq!(check(&mut cache, 10, NOW, &knock(time)), verdict, "row {row}");
    }
}

#[test]
fn a_verifier_without_memory_waits_one_window() {
    let baseline = Baseline::without_memory(UnixSeconds(NOW));
    let mut cache = cache(&baseline, 10);
    // clock, wait, verdict of a knock made in that second
    let table = [
        (NOW, 11, Verdict::Ignore(Reason::Replay)),
        (NOW + 10, 1, Verdict::Ignore(Reason::Replay)),
        (NOW + 11, 0, Verdict::Accept),
    ];
    for (row, (now, wait, verdict)) in table.into_iter().enumerate() {
        assert_eq!(cache.wait(UnixSeconds(now)), wait, "row {row}");
        assert_eq!(check(&mut cache, 10, now, &knock(now)), verdict, "row {row}");
    }
}

/// A knock is accepted in one boot and replayed in the next.
struct Reboot {
    window: u32,
    now: u64,
    knock: u64,
    next_window: u32,
    next_start: u64,
    replayed_at: u64,
}

impl Reboot {
    fn replayed(&self, baseline: &Baseline) -> Verdict {
        let payload = knock(self.knock);
        let mut before = cache(&Baseline::with_memory(UnixSeconds(0)), self.window);
        assert_eq!(check(&mut before, self.window, self.now, &payload), Verdict::Accept);
        check(&mut cache(baseline, self.next_window), self.next_window, self.replayed_at, &payload)
    }

    fn without_memory(&self) -> Verdict {
        self.replayed(&Baseline::without_memory(UnixSeconds(self.next_start)))
    }

    fn with_memory(&self) -> Verdict {
        self.replayed(&Baseline::with_memory(UnixSeconds(self.knock)))
    }
}

#[test]
fn a_boot_without_memory_refuses_replays_unless_a_clock_was_set_back_or_a_window_was_wider() {
    let table = [
        // The sender is as far ahead as the window allows; the restart takes no time.
        Reboot { window: 10, now: NOW, knock: NOW + 10, next_window: 10, next_start: NOW, replayed_at: NOW },
        Reboot {
            window: 10,
            now: NOW,
            knock: NOW + 10,
            next_window: 10,
            next_start: NOW,
            replayed_at: NOW + 20,
        },
        Reboot {
            window: 10,
            now: NOW,
            knock: NOW + 10,
            next_window: 300,
            next_start: NOW,
            replayed_at: NOW + 10,
        },
        // Set back after the start: the floor stays.
        Reboot { window: 10, now: NOW, knock: NOW, next_window: 10, next_start: NOW, replayed_at: NOW - 5 },
    ];
    for (row, reboot) in table.iter().enumerate() {
        assert_eq!(reboot.without_memory(), Verdict::Ignore(Reason::Replay), "row {row}");
    }
}

/// Known limits, not goals: if you lift one, change this table.
#[test]
fn if_its_conditions_are_broken_a_boot_without_memory_accepts_a_replay_and_one_with_memory_does_not() {
    let table = [
        // The window was wider in the earlier boot.
        Reboot {
            window: 300,
            now: NOW,
            knock: NOW + 300,
            next_window: 10,
            next_start: NOW,
            replayed_at: NOW + 300,
        },
        Reboot {
            window: 11,
            now: NOW,
            knock: NOW + 11,
            next_window: 10,
            next_start: NOW,
            replayed_at: NOW + 1,
        },
        // The clock was set back across the restart, by the least that matters.
        Reboot {
            window: 10,
            now: NOW,
            knock: NOW + 10,
            next_window: 10,
            next_start: NOW - 1,
            replayed_at: NOW,
        },
        // A clock that starts in the past, as on a router without a battery-backed clock.
        Reboot { window: 10, now: NOW, knock: NOW, next_window: 10, next_start: 0, replayed_at: NOW },
        // The earlier boot had no clock and accepted any time: no window is that wide.
        Reboot {
            window: 0,
            now: NOW,
            knock: NOW + 9_999,
            next_window: 10,
            next_start: NOW,
            replayed_at: NOW + 9_999,
        },
        Reboot { window: 0, now: 0, knock: NOW, next_window: 0, next_start: 0, replayed_at: 0 },
        // The later boot has no clock, and does not wait.
        Reboot { window: 10, now: NOW, knock: NOW + 10, next_window: 0, next_start: NOW, replayed_at: NOW },
    ];
    for (row, reboot) in table.iter().enumerate() {
        assert_eq!(reboot.without_memory(), Verdict::Accept, "row {row}");
        assert_eq!(reboot.with_memory(), Verdict::Ignore(Reason::Replay), "row {row}");
    }
}

#[test]
fn a_boot_without_memory_must_save_its_own_baseline_too() {
    // An earlier boot accepted a knock from a sender ten seconds ahead. This boot accepts nothing.
    let accepted_before = knock(NOW + 10);
    let baseline = Baseline::without_memory(UnixSeconds(NOW));
    let cache_of_10 = cache(&baseline, 10);
    assert_eq!(cache_of_10.newest(), None);

    // the floor saved by this boot, the next boot's verdict on a replay of that knock
    let table = [
        // The newest time of its caches is 0, and its start without the window is too early.
        (UnixSeconds(0), Verdict::Accept),
        (baseline.floor(Window::Monotonic), Verdict::Accept),
        (cache_of_10.floor(), Verdict::Ignore(Reason::Replay)),
        (baseline.floor(window(10)), Verdict::Ignore(Reason::Replay)),
    ];
    for (row, (saved, verdict)) in table.into_iter().enumerate() {
        let mut next = cache(&Baseline::with_memory(saved), 10);
        assert_eq!(check(&mut next, 10, NOW + 5, &accepted_before), verdict, "row {row}");
    }
}
