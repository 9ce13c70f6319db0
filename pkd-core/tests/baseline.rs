//! What lives of a verifier know of those before, and what their senders can rely on.

use pkd_core::{
    Baseline, Key, Knock, KnockParams, LENGTH, Packet, Port, Reason, ReplayCache, Rule, Tag, UnixSeconds,
    Verdict, Verifier, Window,
};

const PORT: Port = Port(40_000);
const NOW: u64 = 1_800_000_000;

fn window(seconds: u32) -> Window {
    Window::from_secs(seconds)
}

fn rule(window: u32) -> Rule {
    Rule { key: Key::from_bytes([1; Key::LENGTH]), tag: Tag::default(), window: Window::from_secs(window) }
}

fn knock(time: u64) -> [u8; LENGTH] {
    let rule = rule(0);
    Knock::seal(&KnockParams { key: &rule.key, tag: rule.tag, time: UnixSeconds(time), nonce: [7; 12] }, PORT)
}

fn check(cache: &mut ReplayCache<4>, window: u32, now: u64, payload: &[u8]) -> Verdict {
    let packet = Packet { destination_port: PORT, payload };
    Verifier::new(&rule(window), cache).check(UnixSeconds(now), &packet)
}

fn cache(start: &Baseline, window: u32) -> ReplayCache<4> {
    ReplayCache::new(start.floor(Window::from_secs(window)))
}

#[test]
fn a_start_gives_each_cache_its_floor() {
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
    for (row, (start, seconds, floor)) in table.into_iter().enumerate() {
        assert_eq!(start.floor(window(seconds)), UnixSeconds(floor), "row {row}");
        assert_eq!(start.earlier(window(seconds)), UnixSeconds(floor), "row {row}");
        assert_eq!(start.dropped(), UnixSeconds(0), "row {row}");
    }
}

#[test]
fn caches_that_went_raise_the_floor_of_new_ones() {
    let mut start = Baseline::with_memory(UnixSeconds(1_000));
    for (row, (high_water_mark, floor)) in
        [(999, 1_000), (1_200, 1_200), (1_100, 1_200)].into_iter().enumerate()
    {
        start.drop_cache(UnixSeconds(high_water_mark));
        assert_eq!(start.floor(window(10)), UnixSeconds(floor), "row {row}");
        assert_eq!(start.earlier(window(10)), UnixSeconds(1_000), "row {row}");
    }
    assert_eq!(start.dropped(), UnixSeconds(1_200));
    let mut start = Baseline::without_memory(UnixSeconds(1_195));
    start.drop_cache(UnixSeconds(1_200));
    assert_eq!(start.floor(window(10)), UnixSeconds(1_205));
    assert_eq!(start.floor(window(1)), UnixSeconds(1_200));
}

#[test]
fn a_restored_floor_takes_the_place_of_waiting_but_not_of_caches_that_went() {
    let mut start = Baseline::without_memory(UnixSeconds(1_000));
    start.set_baseline(UnixSeconds(900));
    assert_eq!(start, Baseline::with_memory(UnixSeconds(900)));
    assert_eq!(start.floor(window(10)), UnixSeconds(900));
    start.drop_cache(UnixSeconds(950));
    start.set_baseline(UnixSeconds(0));
    assert_eq!(start.floor(window(10)), UnixSeconds(950));
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
    let start = Baseline::without_memory(UnixSeconds(NOW));
    let mut cache = cache(&start, 10);
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

/// One knock, accepted in one life; what the next life says when somebody replays it.
struct Lives {
    window: u32,
    now: u64,
    knock: u64,
    next_window: u32,
    next_start: u64,
    replayed_at: u64,
}

impl Lives {
    fn replayed(&self, start: &Baseline) -> Verdict {
        let payload = knock(self.knock);
        let mut before = cache(&Baseline::with_memory(UnixSeconds(0)), self.window);
        assert_eq!(check(&mut before, self.window, self.now, &payload), Verdict::Accept);
        check(&mut cache(start, self.next_window), self.next_window, self.replayed_at, &payload)
    }

    fn without_memory(&self) -> Verdict {
        self.replayed(&Baseline::without_memory(UnixSeconds(self.next_start)))
    }

    fn with_memory(&self) -> Verdict {
        self.replayed(&Baseline::with_memory(UnixSeconds(self.knock)))
    }
}

#[test]
fn a_start_without_memory_holds_while_no_clock_is_set_back_and_no_window_was_wider() {
    let table = [
        // The sender is as far ahead as the window allows; the restart takes no time.
        Lives { window: 10, now: NOW, knock: NOW + 10, next_window: 10, next_start: NOW, replayed_at: NOW },
        Lives {
            window: 10,
            now: NOW,
            knock: NOW + 10,
            next_window: 10,
            next_start: NOW,
            replayed_at: NOW + 20,
        },
        Lives {
            window: 10,
            now: NOW,
            knock: NOW + 10,
            next_window: 300,
            next_start: NOW,
            replayed_at: NOW + 10,
        },
        // Set back after the start: the floor stays.
        Lives { window: 10, now: NOW, knock: NOW, next_window: 10, next_start: NOW, replayed_at: NOW - 5 },
    ];
    for (row, lives) in table.iter().enumerate() {
        assert_eq!(lives.without_memory(), Verdict::Ignore(Reason::Replay), "row {row}");
    }
}

/// These are no wishes but limits: whoever lifts one changes this table.
#[test]
fn a_start_without_memory_lets_a_replay_in_where_its_conditions_are_broken_and_memory_does_not() {
    let table = [
        // The window was wider in the earlier life.
        Lives {
            window: 300,
            now: NOW,
            knock: NOW + 300,
            next_window: 10,
            next_start: NOW,
            replayed_at: NOW + 300,
        },
        Lives {
            window: 11,
            now: NOW,
            knock: NOW + 11,
            next_window: 10,
            next_start: NOW,
            replayed_at: NOW + 1,
        },
        // The clock was set back across the restart, by the least that matters.
        Lives {
            window: 10,
            now: NOW,
            knock: NOW + 10,
            next_window: 10,
            next_start: NOW - 1,
            replayed_at: NOW,
        },
        // A clock that starts in the past, as in a router without a battery for it.
        Lives { window: 10, now: NOW, knock: NOW, next_window: 10, next_start: 0, replayed_at: NOW },
        // The earlier life had no clock, and accepted any time: no window is as wide.
        Lives {
            window: 0,
            now: NOW,
            knock: NOW + 9_999,
            next_window: 10,
            next_start: NOW,
            replayed_at: NOW + 9_999,
        },
        Lives { window: 0, now: 0, knock: NOW, next_window: 0, next_start: 0, replayed_at: 0 },
        // The later life has no clock, and does not wait.
        Lives { window: 10, now: NOW, knock: NOW + 10, next_window: 0, next_start: NOW, replayed_at: NOW },
    ];
    for (row, lives) in table.iter().enumerate() {
        assert_eq!(lives.without_memory(), Verdict::Accept, "row {row}");
        assert_eq!(lives.with_memory(), Verdict::Ignore(Reason::Replay), "row {row}");
    }
}

#[test]
fn a_life_without_memory_has_to_save_its_own_start_too() {
    // Before it, a knock from a sender ten seconds ahead was accepted. It accepts nothing itself.
    let accepted_before = knock(NOW + 10);
    let start = Baseline::without_memory(UnixSeconds(NOW));
    let cache_of_10 = cache(&start, 10);
    assert_eq!(cache_of_10.newest(), None);

    // floor that is saved, verdict of the next life when somebody replays that knock
    let table = [
        // Its caches' newest times alone would be 0, and its start without the window too little.
        (UnixSeconds(0), Verdict::Accept),
        (start.floor(Window::NO_CLOCK), Verdict::Accept),
        (cache_of_10.floor(), Verdict::Ignore(Reason::Replay)),
        (start.floor(window(10)), Verdict::Ignore(Reason::Replay)),
    ];
    for (row, (saved, verdict)) in table.into_iter().enumerate() {
        let mut next = cache(&Baseline::with_memory(saved), 10);
        assert_eq!(check(&mut next, 10, NOW + 5, &accepted_before), verdict, "row {row}");
    }
}
