//! The replay caches of all keys, and the journal that restores them after a restart of the process.

use std::{collections::BTreeMap, io, net::IpAddr};

use pkd_core::{Baseline, KnockId, ReplayCache, ReplayStore, UnixSeconds, Window};

use crate::journal::{Accepted, CacheId, Entry, Journal, Opened};

/// Entries of a cache.
pub const CAPACITY: usize = 256;

/// The journal is rewritten when it has this many entries more than it needs (256 KiB).
const MAX_SURPLUS: u64 = 4096;

struct Cache {
    memory: ReplayCache<CAPACITY>,
    widest: Window,
    has_rule: bool,
}

/// All caches of one boot. They survive restarts of the process.
pub struct Caches {
    baseline: Baseline,
    /// The journal's entry for `baseline`.
    first_entry: Entry,
    by_key: BTreeMap<CacheId, Cache>,
    /// Accepted knocks that a cache or a grant still needs.
    accepted: Vec<Accepted>,
    journal: Journal,
    /// The error that made the store refuse a valid knock.
    failure: Option<io::Error>,
}

/// The state of a cache, for the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Knocks in the set.
    pub knocks: usize,
    /// Knocks that there is room for.
    pub capacity: usize,
    /// No knock at or before this time is accepted.
    pub floor: UnixSeconds,
    /// The greatest time that was accepted.
    pub newest: Option<UnixSeconds>,
    /// Seconds until knocks are later than the floor.
    pub wait: u64,
}

impl Caches {
    /// Restores the caches from the journal. If it is empty, this is a new boot, which begins with `start`.
    ///
    /// A damaged journal may lack accepted knocks. The floor is then `now` plus `widest`, the widest window of all
    /// rules.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn open(opened: Opened, start: Entry, now: UnixSeconds, widest: Window) -> io::Result<Self> {
        let Opened { journal, entries, damaged } = opened;
        let mut caches = Self {
            baseline: Baseline::with_memory(UnixSeconds(0)),
            first_entry: start,
            by_key: BTreeMap::new(),
            accepted: Vec::new(),
            journal,
            failure: None,
        };
        let has_start = entries.iter().any(|entry| matches!(entry, Entry::Unknown(_) | Entry::Remembered(_)));
        if !has_start {
            caches.apply(&start);
        }
        for entry in &entries {
            caches.apply(entry);
        }
        if damaged || !entries.is_empty() && !has_start {
            let latest = now.plus(widest);
            caches.baseline.drop_cache(latest);
            caches.by_key.values_mut().for_each(|cache| cache.memory.raise_evicted(latest));
        }
        caches.rewrite()?;
        Ok(caches)
    }

    fn apply(&mut self, entry: &Entry) {
        match *entry {
            Entry::Unknown(start) => {
                (self.baseline, self.first_entry) = (Baseline::without_memory(start), *entry);
            }
            Entry::Remembered(floor) => {
                (self.baseline, self.first_entry) = (Baseline::with_memory(floor), *entry);
            }
            Entry::Dropped(high_water_mark) => self.baseline.drop_cache(high_water_mark),
            Entry::Cache { cache, floor, widest } => {
                let memory = ReplayCache::new(floor);
                self.by_key.insert(cache, Cache { memory, widest, has_rule: false });
            }
            Entry::Accepted(accepted) => {
                self.join(accepted.cache, accepted.window);
                if let Some(cache) = self.by_key.get_mut(&accepted.cache) {
                    cache.has_rule = false;
                    // A knock below the floor was evicted; it is in the journal because a grant needs it.
                    let _is_new = cache.memory.record(accepted.id, accepted.window);
                }
                self.accepted.push(accepted);
            }
        }
    }

    /// Replaces the rules that use the caches.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn take_rules(&mut self, rules: impl IntoIterator<Item = (CacheId, Window)>) -> io::Result<()> {
        self.by_key.values_mut().for_each(|cache| cache.has_rule = false);
        for (id, window) in rules {
            self.join(id, window);
        }
        self.rewrite()
    }

    /// Adds a rule with this window to the cache, and creates the cache if there is none.
    fn join(&mut self, id: CacheId, window: Window) {
        let cache = self.by_key.entry(id).or_insert_with(|| {
            let mut memory = ReplayCache::new(UnixSeconds(0));
            memory.raise_evicted(self.baseline.dropped());
            Cache { memory, widest: window, has_rule: true }
        });
        cache.memory.raise_baseline(self.baseline.earlier(window));
        cache.widest = cache.widest.max(window);
        cache.has_rule = true;
    }

    /// The replay store of one key, for a datagram from `source`.
    pub fn memory(&mut self, id: CacheId, source: IpAddr, now: UnixSeconds) -> Memory<'_> {
        Memory { caches: self, id, source, now }
    }

    /// The error that made a store refuse a valid knock since the last call: it could not be written to the journal.
    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// The greatest time that may have been accepted so far: the floor of the next boot.
    #[must_use]
    pub fn high_water_mark(&self) -> UnixSeconds {
        let caches = self.by_key.values();
        let greatest = caches.map(|cache| cache.memory.high_water_mark()).max().unwrap_or_default();
        let widest = self.by_key.values().map(|cache| cache.widest).max().unwrap_or(Window::from_secs(0));
        greatest.max(self.baseline.floor(widest))
    }

    /// Accepted knocks that are still needed, oldest first.
    #[must_use]
    pub fn accepted(&self) -> &[Accepted] {
        &self.accepted
    }

    /// The state of a cache; `None` if there is none.
    #[must_use]
    pub fn report(&self, id: CacheId, now: UnixSeconds) -> Option<Report> {
        let memory = &self.by_key.get(&id)?.memory;
        Some(Report {
            knocks: memory.len(),
            capacity: CAPACITY,
            floor: memory.floor(),
            newest: memory.newest(),
            wait: memory.wait(now),
        })
    }

    /// Drops caches without a rule whose knocks have all left the window. Forgets evicted knocks for which `in_use`
    /// returns `false`: no grant depends on them.
    ///
    /// # Errors
    /// The journal cannot be rewritten. The old one stays, complete.
    pub fn compact(&mut self, now: UnixSeconds, in_use: impl Fn(&Accepted) -> bool) -> io::Result<()> {
        let past: Vec<CacheId> = self
            .by_key
            .iter()
            .filter(|(_, cache)| !cache.has_rule && cache.memory.is_past(now, cache.widest))
            .map(|(id, _)| *id)
            .collect();
        let is_past = |accepted: &Accepted| past.contains(&accepted.cache);
        let floor_of = |id: &CacheId| self.by_key.get(id).map(|cache| cache.memory.floor());
        let needed: Vec<Accepted> = self
            .accepted
            .iter()
            .filter(|accepted| {
                let in_set = floor_of(&accepted.cache).is_some_and(|floor| accepted.id.time() > floor);
                in_use(accepted) || in_set && !is_past(accepted)
            })
            .copied()
            .collect();
        let has_surplus = self.journal.len() > needed.len() as u64 + MAX_SURPLUS;
        if past.is_empty() && !has_surplus {
            return Ok(());
        }
        for id in past {
            // A knock that a grant still needs would recreate its cache.
            if !needed.iter().any(|accepted| accepted.cache == id)
                && let Some(cache) = self.by_key.remove(&id)
            {
                self.baseline.drop_cache(cache.memory.high_water_mark());
            }
        }
        self.accepted = needed;
        self.rewrite()
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let caches = self.by_key.iter().map(|(id, cache)| Entry::Cache {
            cache: *id,
            floor: cache.memory.floor(),
            widest: cache.widest,
        });
        let head = [self.first_entry, Entry::Dropped(self.baseline.dropped())];
        let knocks = self.accepted.iter().map(|accepted| Entry::Accepted(*accepted));
        self.journal.replace(head.into_iter().chain(caches).chain(knocks))
    }
}

/// The cache of one key, with the journal that it writes to.
pub struct Memory<'a> {
    caches: &'a mut Caches,
    id: CacheId,
    source: IpAddr,
    now: UnixSeconds,
}

/// A key without a cache is refused: nothing is known about its replays.
impl ReplayStore for Memory<'_> {
    fn refuses(&mut self, id: KnockId, window: Window) -> bool {
        self.caches.by_key.get_mut(&self.id).is_none_or(|cache| cache.memory.refuses(id, window))
    }

    fn record(&mut self, id: KnockId, window: Window) -> bool {
        if self.refuses(id, window) {
            return false;
        }
        let accepted = Accepted { cache: self.id, id, window, source: self.source, at: self.now };
        // A knock that is not in the journal could be replayed after a restart.
        if let Err(error) = self.caches.journal.write(&Entry::Accepted(accepted)) {
            self.caches.failure = Some(error);
            return false;
        }
        self.caches.accepted.push(accepted);
        self.caches.by_key.get_mut(&self.id).is_some_and(|cache| cache.memory.record(id, window))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pkd_core::{Key, Tag};

    use super::*;

    const WINDOW: Window = Window::from_secs(10);
    const NOW: UnixSeconds = UnixSeconds(1_000);

    fn id(name: &str) -> CacheId {
        CacheId::of(Tag::default(), &Key::parse(name).unwrap())
    }

    fn open(path: &Path, start: Entry) -> Caches {
        let mut caches = Caches::open(Journal::open(path).unwrap(), start, NOW, WINDOW).unwrap();
        caches.take_rules([(id("one"), WINDOW), (id("two"), WINDOW)]).unwrap();
        caches
    }

    fn record(caches: &mut Caches, name: &str, time: u64, number: u64) -> bool {
        let knock = KnockId::kept(UnixSeconds(time), number);
        caches.memory(id(name), "192.0.2.7".parse().unwrap(), NOW).record(knock, WINDOW)
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
            assert_eq!(caches.high_water_mark(), UnixSeconds(1_001), "restart {restart}");
        }
        assert_eq!(caches.accepted().len(), 5);
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
            source: "192.0.2.7".parse().unwrap(),
            at: UnixSeconds(900),
        };
        let cache = Entry::Cache { cache: id("one"), floor: UnixSeconds(5), widest: WINDOW };
        // journal, the first time that is accepted
        let table: [(&str, &[Entry], u64); 5] = [
            ("empty", &[], 1),
            ("only a start entry", &[FIRST], 1),
            ("a start entry and a knock", &[FIRST, Entry::Accepted(old)], 1),
            ("only a knock", &[Entry::Accepted(old)], 1_011),
            (
                "dropped caches and a cache, but no start entry",
                &[Entry::Dropped(UnixSeconds(7)), cache],
                1_011,
            ),
        ];
        for (row, (name, entries, first)) in table.into_iter().enumerate() {
            let path = folder.path().join(format!("journal-{row}"));
            Journal::open(&path).unwrap().journal.replace(entries.iter().copied()).unwrap();
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
}
