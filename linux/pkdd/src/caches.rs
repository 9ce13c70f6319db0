//! The memory of all keys: caches, and the journal that they outlive the process by.

use std::{collections::BTreeMap, io, net::IpAddr};

use pkd_core::{Baseline, KnockId, ReplayCache, ReplayStore, UnixSeconds, Window};

use crate::journal::{Accepted, CacheId, Entry, Journal, Opened};

/// Entries of a cache. In a second of which so many knocks and one more were accepted, one is refused.
pub const CAPACITY: usize = 256;

/// The journal is written anew when it has this many entries more than it needs: 256 KiB.
const SUPERFLUOUS: u64 = 4096;

struct Cache {
    memory: ReplayCache<CAPACITY>,
    widest: Window,
    has_rule: bool,
}

/// All caches of one life, which begins with the machine and outlasts restarts of the process.
pub struct Caches {
    start: Baseline,
    /// As in the journal.
    began: Entry,
    of_keys: BTreeMap<CacheId, Cache>,
    /// Those that a cache or a grant needs still.
    accepted: Vec<Accepted>,
    journal: Journal,
    /// Why the last knock that would have been accepted could not be written down.
    failure: Option<io::Error>,
}

/// What people want to know of a cache.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Knocks in its set.
    pub knocks: usize,
    /// No knock at or before this time is accepted.
    pub floor: UnixSeconds,
    /// The greatest time that was accepted.
    pub newest: Option<UnixSeconds>,
    /// Seconds until a knock can be later than the floor.
    pub wait: u64,
}

impl Caches {
    /// Takes up the life that the journal tells of. If it tells of none, one begins with `start`.
    ///
    /// A damaged journal lacks knocks that were accepted; `widest` is the widest window of all rules.
    /// Nothing counts then that is not later than now and this window.
    ///
    /// # Errors
    /// The journal cannot be written to.
    pub fn open(opened: Opened, start: Entry, now: UnixSeconds, widest: Window) -> io::Result<Self> {
        let Opened { journal, entries, damaged } = opened;
        let mut caches = Self {
            start: Baseline::with_memory(UnixSeconds(0)),
            began: start,
            of_keys: BTreeMap::new(),
            accepted: Vec::new(),
            journal,
            failure: None,
        };
        let has_begun = entries.iter().any(|entry| matches!(entry, Entry::Unknown(_) | Entry::Remembered(_)));
        if !has_begun {
            caches.take_up(&start);
        }
        for entry in &entries {
            caches.take_up(entry);
        }
        if damaged || !entries.is_empty() && !has_begun {
            let latest = now.plus(widest);
            caches.start.drop_cache(latest);
            caches.of_keys.values_mut().for_each(|cache| cache.memory.raise_evicted(latest));
        }
        caches.rewrite()?;
        Ok(caches)
    }

    fn take_up(&mut self, entry: &Entry) {
        match *entry {
            Entry::Unknown(start) => (self.start, self.began) = (Baseline::without_memory(start), *entry),
            Entry::Remembered(floor) => (self.start, self.began) = (Baseline::with_memory(floor), *entry),
            Entry::Dropped(high_water_mark) => self.start.drop_cache(high_water_mark),
            Entry::Cache { cache, floor, widest } => {
                let memory = ReplayCache::new(floor);
                self.of_keys.insert(cache, Cache { memory, widest, has_rule: false });
            }
            Entry::Accepted(accepted) => {
                self.join(accepted.cache, accepted.window);
                if let Some(cache) = self.of_keys.get_mut(&accepted.cache) {
                    cache.has_rule = false;
                    // Below the floor it is one that a grant needs, and that the cache has let go.
                    let _is_new = cache.memory.record(accepted.id, accepted.window);
                }
                self.accepted.push(accepted);
            }
        }
    }

    /// From now on these are the rules.
    ///
    /// # Errors
    /// There is no room to write down how wide their windows are.
    pub fn take_rules(&mut self, rules: impl IntoIterator<Item = (CacheId, Window)>) -> io::Result<()> {
        self.of_keys.values_mut().for_each(|cache| cache.has_rule = false);
        for (id, window) in rules {
            self.join(id, window);
        }
        self.rewrite()
    }

    /// A rule with this window uses the cache.
    fn join(&mut self, id: CacheId, window: Window) {
        let cache = self.of_keys.entry(id).or_insert_with(|| {
            let mut memory = ReplayCache::new(UnixSeconds(0));
            memory.raise_evicted(self.start.dropped());
            Cache { memory, widest: window, has_rule: true }
        });
        cache.memory.raise_baseline(self.start.earlier(window));
        cache.widest = cache.widest.max(window);
        cache.has_rule = true;
    }

    /// The memory of one key, for a datagram that came from `source`.
    pub fn memory(&mut self, id: CacheId, source: IpAddr, now: UnixSeconds) -> Memory<'_> {
        Memory { caches: self, id, source, now }
    }

    /// Why a knock that was good has been refused, if that was because it could not be written down.
    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// The greatest time that this life may have accepted: what the next one has to know.
    #[must_use]
    pub fn high_water_mark(&self) -> UnixSeconds {
        let caches = self.of_keys.values();
        let greatest = caches.map(|cache| cache.memory.high_water_mark()).max().unwrap_or_default();
        let widest = self.of_keys.values().map(|cache| cache.widest).max().unwrap_or(Window::from_secs(0));
        greatest.max(self.start.floor(widest))
    }

    /// What was accepted and is not forgotten yet, oldest first.
    #[must_use]
    pub fn accepted(&self) -> &[Accepted] {
        &self.accepted
    }

    /// What there is to tell of a cache.
    #[must_use]
    pub fn report(&self, id: CacheId, now: UnixSeconds) -> Option<Report> {
        let memory = &self.of_keys.get(&id)?.memory;
        Some(Report {
            knocks: memory.len(),
            floor: memory.floor(),
            newest: memory.newest(),
            wait: memory.wait(now),
        })
    }

    /// Forgets what nobody needs: knocks below their floor for which `grants` says that nobody passes for
    /// them any more, and caches without a rule whose knocks have all left the window.
    ///
    /// # Errors
    /// There is no room to write the journal anew; the old one is there still, and nothing is forgotten in it.
    pub fn tidy(&mut self, now: UnixSeconds, grants: impl Fn(&Accepted) -> bool) -> io::Result<()> {
        let over: Vec<CacheId> = self
            .of_keys
            .iter()
            .filter(|(_, cache)| !cache.has_rule && cache.memory.is_past(now, cache.widest))
            .map(|(id, _)| *id)
            .collect();
        let of_the_gone = |accepted: &Accepted| over.contains(&accepted.cache);
        let floor_of = |id: &CacheId| self.of_keys.get(id).map(|cache| cache.memory.floor());
        let needed: Vec<Accepted> = self
            .accepted
            .iter()
            .filter(|accepted| {
                let in_its_set = floor_of(&accepted.cache).is_some_and(|floor| accepted.id.time() > floor);
                grants(accepted) || in_its_set && !of_the_gone(accepted)
            })
            .copied()
            .collect();
        let superfluous = self.journal.len() > needed.len() as u64 + SUPERFLUOUS;
        if over.is_empty() && !superfluous {
            return Ok(());
        }
        for id in over {
            // One that a grant needs still would come back with its knock.
            if !needed.iter().any(|accepted| accepted.cache == id)
                && let Some(cache) = self.of_keys.remove(&id)
            {
                self.start.drop_cache(cache.memory.high_water_mark());
            }
        }
        self.accepted = needed;
        self.rewrite()
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let caches = self.of_keys.iter().map(|(id, cache)| Entry::Cache {
            cache: *id,
            floor: cache.memory.floor(),
            widest: cache.widest,
        });
        let head = [self.began, Entry::Dropped(self.start.dropped())];
        let knocks = self.accepted.iter().map(|accepted| Entry::Accepted(*accepted));
        self.journal.replace(head.into_iter().chain(caches).chain(knocks))
    }
}

/// One cache, and what is written down when it accepts.
pub struct Memory<'a> {
    caches: &'a mut Caches,
    id: CacheId,
    source: IpAddr,
    now: UnixSeconds,
}

/// A cache that is not there knows no replay, so it accepts nothing.
impl ReplayStore for Memory<'_> {
    fn refuses(&mut self, id: KnockId, window: Window) -> bool {
        self.caches.of_keys.get_mut(&self.id).is_none_or(|cache| cache.memory.refuses(id, window))
    }

    fn record(&mut self, id: KnockId, window: Window) -> bool {
        if self.refuses(id, window) {
            return false;
        }
        let accepted = Accepted { cache: self.id, id, window, source: self.source, at: self.now };
        // What cannot be written down could be replayed in the next life.
        if let Err(error) = self.caches.journal.write(&Entry::Accepted(accepted)) {
            self.caches.failure = Some(error);
            return false;
        }
        self.caches.accepted.push(accepted);
        self.caches.of_keys.get_mut(&self.id).is_some_and(|cache| cache.memory.record(id, window))
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
    fn what_was_accepted_is_refused_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut caches = open(&path, FIRST);
        assert!(record(&mut caches, "one", 1_001, 1));
        assert!(record(&mut caches, "two", 1_001, 1), "another key has another cache");
        for life in 0..3 {
            drop(caches);
            caches = open(&path, Entry::Unknown(NOW));
            assert!(!record(&mut caches, "one", 1_001, 1), "life {life}");
            assert!(record(&mut caches, "one", 1_001, 2 + life), "life {life}");
            assert_eq!(caches.high_water_mark(), UnixSeconds(1_001), "life {life}");
        }
        assert_eq!(caches.accepted().len(), 5);
    }

    #[test]
    fn a_life_begins_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut caches = open(&path, Entry::Unknown(NOW));
        assert!(!record(&mut caches, "one", 1_010, 1), "one window is waited for");
        assert!(record(&mut caches, "one", 1_011, 1));
        drop(caches);
        let mut caches = open(&path, Entry::Unknown(UnixSeconds(2_000)));
        assert!(record(&mut caches, "two", 1_012, 1), "and not again");
    }

    #[test]
    fn a_full_cache_lets_go_alike_before_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut caches = open(&path, FIRST);
        for time in 0..=CAPACITY as u64 {
            assert!(record(&mut caches, "one", 2_000 + time, 1), "{time}");
        }
        for life in 0..2 {
            let report = caches.report(id("one"), NOW).unwrap();
            assert_eq!((report.knocks, report.floor), (CAPACITY, UnixSeconds(2_000)), "life {life}");
            assert_eq!(report.newest, Some(UnixSeconds(2_256)), "life {life}");
            assert!(!record(&mut caches, "one", 2_000, 7), "life {life}");
            caches.tidy(NOW, |_| false).unwrap();
            drop(caches);
            caches = open(&path, FIRST);
        }
    }

    #[test]
    fn a_damaged_journal_makes_everybody_wait_one_window() {
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
    fn what_cannot_be_written_down_is_not_accepted() {
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
    fn a_cache_without_a_rule_goes_when_its_window_is_over_and_leaves_its_horizon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut caches = open(&path, FIRST);
        assert!(record(&mut caches, "one", 1_005, 1));
        caches.take_rules([(id("two"), WINDOW)]).unwrap();
        // now, whether its grant is in use, whether it is there still
        for (now, in_use, there) in [(1_015, false, true), (1_016, true, true), (1_016, false, false)] {
            caches.tidy(UnixSeconds(now), |_| in_use).unwrap();
            assert_eq!(caches.report(id("one"), NOW).is_some(), there, "{now} {in_use}");
        }
        caches.take_rules([(id("one"), WINDOW), (id("two"), WINDOW)]).unwrap();
        assert!(!record(&mut caches, "one", 1_005, 1));
        assert!(record(&mut caches, "two", 1_005, 1), "a cache that was there keeps its floor");
        drop(caches);
        assert!(!record(&mut open(&path, FIRST), "one", 1_005, 1));
    }

    #[test]
    fn the_journal_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut caches = open(&path, FIRST);
        for time in 0..6_000 {
            assert!(record(&mut caches, "one", 2_000 + time, 1), "{time}");
            caches.tidy(NOW, |_| false).unwrap();
        }
        assert!(caches.journal.len() < SUPERFLUOUS + 2 * CAPACITY as u64, "{}", caches.journal.len());
        drop(caches);
        let mut caches = open(&path, FIRST);
        assert!(!record(&mut caches, "one", 7_999, 1) && record(&mut caches, "one", 8_000, 1));
    }

    #[test]
    fn a_journal_without_a_beginning_makes_everybody_wait_one_window() {
        let folder = tempfile::tempdir().unwrap();
        // what the journal holds, the first time that counts
        let old = Accepted {
            cache: id("one"),
            id: KnockId::kept(UnixSeconds(900), 1),
            window: WINDOW,
            source: "192.0.2.7".parse().unwrap(),
            at: UnixSeconds(900),
        };
        let cache = Entry::Cache { cache: id("one"), floor: UnixSeconds(5), widest: WINDOW };
        let table: [(&str, &[Entry], u64); 5] = [
            ("nothing", &[], 1),
            ("its beginning alone", &[FIRST], 1),
            ("its beginning, and a knock", &[FIRST, Entry::Accepted(old)], 1),
            ("a knock alone", &[Entry::Accepted(old)], 1_011),
            ("a cache and what went, but no beginning", &[Entry::Dropped(UnixSeconds(7)), cache], 1_011),
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
        for life in 0..2 {
            caches.take_rules([(id("two"), WINDOW)]).unwrap();
            // The narrow window is over, the wide one is not: its rule may come back, and the knock with it.
            caches.tidy(UnixSeconds(1_101), |_| false).unwrap();
            assert!(caches.report(id("one"), NOW).is_some(), "life {life}");
            drop(caches);
            caches = open(&path, FIRST);
        }
        caches.take_rules([(id("two"), WINDOW)]).unwrap();
        caches.tidy(UnixSeconds(1_102), |_| false).unwrap();
        assert!(caches.report(id("one"), NOW).is_none(), "the wide one is over");
    }

    #[test]
    fn a_knock_at_the_floor_is_forgotten_unless_its_grant_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let mut caches = open(&folder.path().join("journal"), FIRST);
        let knocks = SUPERFLUOUS + CAPACITY as u64 + 10;
        for number in 0..knocks {
            assert!(record(&mut caches, "one", 2_000 + number, 1), "{number}");
        }
        let floor = caches.report(id("one"), NOW).unwrap().floor;
        caches.tidy(NOW, |knock| knock.id.time() == UnixSeconds(2_000)).unwrap();
        let kept: Vec<u64> = caches.accepted().iter().map(|knock| knock.id.time().0).collect();
        let above = floor.0 + 1..2_000 + knocks;
        assert_eq!(kept, [2_000].into_iter().chain(above).collect::<Vec<_>>());
    }
}
