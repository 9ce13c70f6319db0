use std::path::Path;

use pkd_core::{Key, Tag};

use super::*;

const WINDOW: Window = Window::from_secs(10);
const NOW: UnixSeconds = UnixSeconds(1_000);

fn id(name: &str) -> CacheId {
    CacheId::classic(Tag::default(), &Key::parse(name).unwrap())
}

fn open(path: &Path, start: Entry) -> Caches {
    let mut caches = Caches::open(<Journal>::open(path).unwrap(), &[start], NOW, WINDOW).unwrap();
    caches.take_rules([(id("one"), WINDOW), (id("two"), WINDOW)]).unwrap();
    caches
}

fn sender() -> Sender {
    std::net::IpAddr::from([192, 0, 2, 7]).into()
}

fn record(caches: &mut Caches, name: &str, time: u64, number: u64) -> bool {
    let knock = KnockId::kept(UnixSeconds(time), number);
    caches.memory(id(name), sender(), Uptime(NOW.0)).record(knock, WINDOW)
}

const FIRST: Entry = Entry::Remembered(UnixSeconds(0));

#[test]
fn accepted_knocks_are_refused_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut caches = open(&path, FIRST);
    assert!(record(&mut caches, "one", 1_001, 1));
    assert!(record(&mut caches, "two", 1_001, 1), "another key has another cache");
    for restart in 0..3 {
        drop(caches);
        caches = open(&path, Entry::Unknown(NOW));
        assert!(!record(&mut caches, "one", 1_001, 1), "restart {restart}");
        assert!(record(&mut caches, "one", 1_001, 2 + restart), "restart {restart}");
        let greatest = Floor { time: UnixSeconds(1_001), is_exact: true };
        assert_eq!(
            caches.greatest(),
            [(id("one"), greatest), (id("two"), greatest)].into(),
            "restart {restart}"
        );
    }
    assert_eq!(caches.accepted().len(), 5);
}

#[test]
fn accepted_knocks_are_counted_for_their_key_since_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut caches = open(&path, FIRST);
    let counts = |caches: &Caches| {
        ["one", "two"].map(|name| caches.report(id(name), NOW).and_then(|report| report.accepted))
    };
    for number in [1, 2] {
        assert!(record(&mut caches, "one", 1_001, number));
    }
    assert!(
        !caches
            .memory(id("one"), sender(), Uptime(NOW.0))
            .refuses(KnockId::kept(UnixSeconds(1_001), 3), WINDOW)
    );
    assert_eq!(counts(&caches), [Some(2), Some(0)]);
    assert!(record(&mut caches, "two", 1_001, 1));
    assert_eq!(counts(&caches), [Some(2), Some(1)]);
    drop(caches);
    assert_eq!(counts(&open(&path, FIRST)), [Some(0), Some(0)]);
}

#[test]
fn a_sender_who_was_shut_out_stays_so_after_a_restart_and_knocks_stay_replays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut caches = open(&path, FIRST);
    assert!(record(&mut caches, "one", 1_001, 1));
    let other = std::net::IpAddr::from([192, 0, 2, 8]).into();
    let knock = KnockId::kept(UnixSeconds(1_001), 2);
    assert!(caches.memory(id("two"), other, Uptime(NOW.0)).record(knock, WINDOW));
    caches.close(|one| one == sender()).unwrap();
    for restart in 0..2 {
        let closed: Vec<_> = caches.accepted().iter().map(|one| (one.sender, one.closes)).collect();
        assert_eq!(closed, [(sender(), true), (other, false)], "restart {restart}");
        assert!(!record(&mut caches, "one", 1_001, 1), "restart {restart}");
        caches = open(&path, FIRST);
    }
    assert!(record(&mut caches, "one", 1_002, 3), "a new knock counts");
    assert!(!caches.accepted()[2].closes);
}

#[test]
fn only_the_first_process_of_a_boot_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut caches = open(&path, Entry::Unknown(NOW));
    assert!(!record(&mut caches, "one", 1_010, 1), "the first process waits for one window");
    assert!(record(&mut caches, "one", 1_011, 1));
    drop(caches);
    let mut caches = open(&path, Entry::Unknown(UnixSeconds(2_000)));
    assert!(record(&mut caches, "two", 1_012, 1), "the second process does not wait");
}

#[test]
fn a_full_cache_evicts_the_same_knocks_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut caches = open(&path, FIRST);
    for time in 0..=CAPACITY as u64 {
        assert!(record(&mut caches, "one", 2_000 + time, 1), "{time}");
    }
    for restart in 0..2 {
        let report = caches.report(id("one"), NOW).unwrap();
        assert_eq!((report.knocks, report.floor), (CAPACITY, UnixSeconds(2_000)), "restart {restart}");
        assert_eq!(report.newest, Some(UnixSeconds(2_256)), "restart {restart}");
        assert!(!record(&mut caches, "one", 2_000, 7), "restart {restart}");
        caches.compact(NOW, |_| false).unwrap();
        drop(caches);
        caches = open(&path, FIRST);
    }
}

#[test]
fn after_a_damaged_journal_all_knocks_wait_for_one_window() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut caches = open(&path, FIRST);
    assert!(record(&mut caches, "one", 1_001, 1));
    drop(caches);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend([1; 64]);
    std::fs::write(&path, bytes).unwrap();
    let mut caches = open(&path, FIRST);
    for name in ["one", "two"] {
        assert!(!record(&mut caches, name, 1_010, 2), "{name}");
        assert!(record(&mut caches, name, 1_011, 2), "{name}");
    }
}

#[test]
fn a_knock_that_cannot_be_written_to_the_journal_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut caches = open(&folder.path().join("journal"), FIRST);
    let full = folder.path().join("full");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    assert!(caches.take_failure().is_none());
    caches.journal.write_to_for_tests(&full);
    assert!(!record(&mut caches, "one", 1_001, 1));
    assert!(caches.take_failure().is_some() && caches.accepted().is_empty());
    assert_eq!(caches.report(id("one"), NOW).unwrap().knocks, 0);
}

#[test]
fn one_key_fills_no_set_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut caches = open(&folder.path().join("journal"), FIRST);
    let mut knock = |name: &str, number: u32, time: u64, closes: bool| {
        let sender: Sender = std::net::IpAddr::from((0x0a00_0000 + number).to_be_bytes()).into();
        let memory = caches.memory(id(name), sender, Uptime(NOW.0));
        let mut memory = if closes { memory.to_close() } else { memory };
        let is_accepted = memory.record(KnockId::kept(UnixSeconds(time), number.into()), WINDOW);
        (is_accepted, caches.take_failure().map(|why| why.to_string()))
    };
    let most = u32::try_from(MOST_SENDERS).unwrap();
    for number in 0..most {
        assert_eq!(knock("one", number, 1_001 + u64::from(number), false), (true, None), "{number}");
    }
    let refused = "its key has opened something to 1024 other addresses; wait until grants end";
    assert_eq!(knock("one", most, 9_000, false), (false, Some(refused.to_owned())));
    assert_eq!(knock("two", most, 9_000, false), (true, None), "another key");
    assert_eq!(knock("one", 7, 9_001, false), (true, None), "an address that has a grant");
    assert_eq!(knock("one", 7, 9_002, true), (true, None), "it is closed");
    assert_eq!(knock("one", most, 9_003, false), (true, None), "there is room now");
}

#[test]
fn a_cache_without_a_rule_is_dropped_after_its_window_and_raises_the_floor_of_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut caches = open(&path, FIRST);
    assert!(record(&mut caches, "one", 1_005, 1));
    caches.take_rules([(id("two"), WINDOW)]).unwrap();
    // now, whether its grant is in use, whether the cache exists afterwards
    for (now, in_use, exists) in [(1_015, false, true), (1_016, true, true), (1_016, false, false)] {
        caches.compact(UnixSeconds(now), |_| in_use).unwrap();
        assert_eq!(caches.report(id("one"), NOW).is_some(), exists, "{now} {in_use}");
    }
    caches.take_rules([(id("one"), WINDOW), (id("two"), WINDOW)]).unwrap();
    assert!(!record(&mut caches, "one", 1_005, 1));
    assert!(record(&mut caches, "two", 1_005, 1), "an existing cache keeps its floor");
    drop(caches);
    assert!(!record(&mut open(&path, FIRST), "one", 1_005, 1));
}

#[test]
fn the_journal_is_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut caches = open(&path, FIRST);
    for time in 0..6_000 {
        assert!(record(&mut caches, "one", 2_000 + time, 1), "{time}");
        caches.compact(NOW, |_| false).unwrap();
    }
    assert!(caches.journal.len() < MAX_SURPLUS + 2 * CAPACITY as u64, "{}", caches.journal.len());
    drop(caches);
    let mut caches = open(&path, FIRST);
    assert!(!record(&mut caches, "one", 7_999, 1) && record(&mut caches, "one", 8_000, 1));
}

#[test]
fn after_a_journal_without_a_start_entry_all_knocks_wait_for_one_window() {
    let folder = tempfile::tempdir().unwrap();
    let old = Accepted {
        cache: id("one"),
        id: KnockId::kept(UnixSeconds(900), 1),
        window: WINDOW,
        sender: sender(),
        at: Uptime(900),
        closes: false,
    };
    let cache = Entry::Cache { cache: id("one"), floor: UnixSeconds(5), widest: WINDOW };
    // journal, the first time that is accepted
    let table: [(&str, &[Entry], u64); 5] = [
        ("empty", &[], 1),
        ("only a start entry", &[FIRST], 1),
        ("a start entry and a knock", &[FIRST, Entry::Accepted(old)], 1),
        ("only a knock", &[Entry::Accepted(old)], 1_011),
        ("dropped caches and a cache, but no start entry", &[Entry::Dropped(UnixSeconds(7)), cache], 1_011),
    ];
    for (row, (name, entries, first)) in table.into_iter().enumerate() {
        let path = folder.path().join(format!("journal-{row}"));
        <Journal>::open(&path).unwrap().journal.replace(entries.iter().copied()).unwrap();
        let mut caches = open(&path, FIRST);
        for key in ["one", "two"] {
            assert!(!record(&mut caches, key, first - 1, 2), "{name}: {key} at {}", first - 1);
            assert!(record(&mut caches, key, first, 2), "{name}: {key} at {first}");
        }
    }
}

#[test]
fn the_widest_window_of_a_cache_never_shrinks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (wide, narrow) = (Window::from_secs(100), WINDOW);
    let mut caches = open(&path, FIRST);
    caches.take_rules([(id("one"), wide), (id("two"), WINDOW)]).unwrap();
    assert!(record(&mut caches, "one", 1_001, 1));
    caches.take_rules([(id("one"), narrow), (id("two"), WINDOW)]).unwrap();
    for restart in 0..2 {
        caches.take_rules([(id("two"), WINDOW)]).unwrap();
        // The knock has left the narrow window, but not the wide one, whose rule may come back.
        caches.compact(UnixSeconds(1_101), |_| false).unwrap();
        assert!(caches.report(id("one"), NOW).is_some(), "restart {restart}");
        drop(caches);
        caches = open(&path, FIRST);
    }
    caches.take_rules([(id("two"), WINDOW)]).unwrap();
    caches.compact(UnixSeconds(1_102), |_| false).unwrap();
    assert!(caches.report(id("one"), NOW).is_none(), "the knock has left the wide window");
}

#[test]
fn a_knock_at_the_floor_is_forgotten_unless_its_grant_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let mut caches = open(&folder.path().join("journal"), FIRST);
    let knocks = MAX_SURPLUS + CAPACITY as u64 + 10;
    for number in 0..knocks {
        assert!(record(&mut caches, "one", 2_000 + number, 1), "{number}");
    }
    let floor = caches.report(id("one"), NOW).unwrap().floor;
    caches.compact(NOW, |knock| knock.id.time() == UnixSeconds(2_000)).unwrap();
    let kept: Vec<u64> = caches.accepted().iter().map(|knock| knock.id.time().0).collect();
    let above = floor.0 + 1..2_000 + knocks;
    assert_eq!(kept, [2_000].into_iter().chain(above).collect::<Vec<_>>());
}

#[test]
fn the_greatest_accepted_time_is_exact_above_the_floor_of_its_key_only() {
    let (wide, exact, inexact) = (Window::from_secs(100), true, false);
    // start, key, times that are accepted, the greatest and whether it is exact
    let table = [
        (FIRST, "one", vec![], None),
        (FIRST, "one", vec![1_001], Some((1_001, exact))),
        (FIRST, "one", vec![1_005, 1_001], Some((1_005, exact))),
        // A start alone is no accepted knock, whatever the clock.
        (Entry::Remembered(UnixSeconds(u64::MAX)), "one", vec![], None),
        (Entry::Unknown(NOW), "one", vec![], None),
        // What may have been accepted before with the wide window was so with another key.
        (Entry::Unknown(NOW), "one", vec![1_011], Some((1_011, exact))),
        (Entry::Unknown(NOW), "wide", vec![1_101], Some((1_101, exact))),
        // A knock that raised nothing: its rule got the wide window later.
        (FIRST, "later", vec![1_050], Some((1_050, exact))),
        (Entry::Unknown(NOW), "later", vec![1_050], Some((1_050, inexact))),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (row, (start, key, times, expected)) in table.into_iter().enumerate() {
        let path = folder.path().join(format!("journal-{row}"));
        let rules = |later| [(id("one"), WINDOW), (id("wide"), wide), (id("later"), later)];
        let mut caches = open(&path, start);
        caches.take_rules(rules(WINDOW)).unwrap();
        for time in times {
            assert!(record(&mut caches, key, time, 1), "row {row}: {time}");
        }
        caches.take_rules(rules(wide)).unwrap();
        for process in 0..2 {
            let found =
                caches.greatest().into_iter().map(|(key, floor)| (key, (floor.time.0, floor.is_exact)));
            let expected = expected.map(|expected| (id(key), expected));
            assert_eq!(
                found.collect::<Vec<_>>(),
                expected.into_iter().collect::<Vec<_>>(),
                "row {row}, {process}"
            );
            drop(caches);
            caches = open(&path, FIRST);
            caches.take_rules(rules(wide)).unwrap();
        }
    }
}

#[test]
fn a_saved_floor_delays_its_own_key_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let far = UnixSeconds(2_000_000);
    let starts = [
        Entry::Remembered(UnixSeconds(900)),
        Entry::Known { cache: id("one"), floor: far },
        Entry::Known { cache: id("two"), floor: UnixSeconds(800) },
    ];
    let open = || Caches::open(<Journal>::open(&path).unwrap(), &starts, NOW, WINDOW).unwrap();
    let mut caches = open();
    // The second process finds the cache of the first key. Those of the others were dropped, and raise the floor of both.
    for (process, firsts) in [[far.0 + 1, 801, 901], [far.0 + 1, 902, 902]].into_iter().enumerate() {
        caches.take_rules(["one", "two", "new"].map(|name| (id(name), WINDOW))).unwrap();
        for (name, first) in ["one", "two", "new"].into_iter().zip(firsts) {
            assert!(!record(&mut caches, name, first - 1, process as u64), "{name}, process {process}");
            assert!(record(&mut caches, name, first, process as u64), "{name}, process {process}");
        }
        caches.take_rules([]).unwrap();
        caches.compact(UnixSeconds(1_500), |_| false).unwrap();
        drop(caches);
        caches = open();
    }
    caches.take_rules([(id("one"), WINDOW), (id("two"), WINDOW)]).unwrap();
    assert!(!record(&mut caches, "one", far.0, 99) && !record(&mut caches, "two", 801, 99));
}

#[test]
fn after_a_damaged_journal_the_greatest_time_is_exact_only_above_what_may_be_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut caches = open(&path, FIRST);
    assert!(record(&mut caches, "one", 1_001, 1));
    drop(caches);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend([1; 64]);
    std::fs::write(&path, bytes).unwrap();
    let mut caches = open(&path, FIRST);
    let floor = |time, is_exact| [(id("one"), Floor { time: UnixSeconds(time), is_exact })].into();
    assert_eq!(caches.greatest(), floor(1_001, false));
    assert!(record(&mut caches, "one", 1_011, 1));
    assert_eq!(caches.greatest(), floor(1_011, true));
}
