//! The replay caches of all keys, and the journal that restores them after a restart of the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
};

use pkd_core::{Baseline, CacheId, KnockId, ReplayCache, ReplayStore, UnixSeconds, Window};
use pktables::Sender;

use crate::{
    floor::Floor,
    format::{Unit, seconds},
    journal::{Accepted, Entry, Journal, Opened},
    uptime::Uptime,
};

/// Entries of a cache.
pub const CAPACITY: usize = 256;

/// The journal is rewritten when it has this many entries more than it needs (256 KiB).
const MAX_SURPLUS: u64 = 4096;

struct Cache<T> {
    /// Knocks accepted by this process.
    accepted: u64,
    memory: ReplayCache<CAPACITY, T>,
    widest: Window,
    has_rule: bool,
}

/// All caches of one format and boot. They survive restarts of the process.
pub struct Caches<T = UnixSeconds> {
    baseline: Baseline<T>,
    /// The journal's entry for `baseline`.
    first_entry: Entry<T>,
    /// Floors that earlier boots saved for single keys, which hold in place of those of `baseline`.
    known: BTreeMap<CacheId, T>,
    by_key: BTreeMap<CacheId, Cache<T>>,
    /// Accepted knocks that a cache or a grant still needs.
    accepted: Vec<Accepted<T>>,
    /// The greatest time of each key's knocks in the journal and of those accepted since.
    greatest: BTreeMap<CacheId, T>,
    journal: Journal<T>,
    /// What made the store refuse a valid knock.
    failure: Option<Refusal>,
    /// Whether a store has refused a knock because its time was not later than the floor.
    is_below_floor: bool,
}

/// Addresses that one key can have opened something to at a time. More would be no people: its holder can send valid knocks from
/// any address that a knock is not bound to, and each takes memory here and in the firewall's sets.
pub const MOST_SENDERS: usize = 1_024;

/// Why a valid knock was refused.
#[derive(Debug)]
pub enum Refusal {
    /// It could not be written to the journal.
    Journal(io::Error),
    /// The key has opened something to [`MOST_SENDERS`] other addresses.
    TooManySenders,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(error) => write!(f, "cannot write it to the journal: {error}"),
            Self::TooManySenders => {
                write!(
                    f,
                    "its key has opened something to {MOST_SENDERS} other addresses; wait until grants end"
                )
            }
        }
    }
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
    /// Seconds until knocks are later than the floor, rounded up.
    pub wait: u64,
    /// Knocks accepted since the process started; `None`: not counted.
    pub accepted: Option<u64>,
}

impl<T: Unit> Caches<T> {
    /// Restores the caches from the journal. If it is empty, this is a new boot, which begins with `start`.
    ///
    /// A damaged journal may lack accepted knocks. The floor is then `now` plus `widest`, the widest window of all
    /// rules.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn open(opened: Opened<T>, start: &[Entry<T>], now: T, widest: Window) -> io::Result<Self> {
        let Opened { journal, entries, damaged } = opened;
        let mut caches = Self {
            baseline: Baseline::with_memory(T::ZERO),
            first_entry: Entry::Unknown(now),
            known: BTreeMap::new(),
            by_key: BTreeMap::new(),
            accepted: Vec::new(),
            greatest: BTreeMap::new(),
            journal,
            failure: None,
            is_below_floor: false,
        };
        let has_start = entries.iter().any(|entry| matches!(entry, Entry::Unknown(_) | Entry::Remembered(_)));
        if !has_start {
            for entry in start {
                caches.apply(entry);
            }
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

    fn apply(&mut self, entry: &Entry<T>) {
        match *entry {
            Entry::Unknown(start) => {
                (self.baseline, self.first_entry) = (Baseline::without_memory(start), *entry);
            }
            Entry::Remembered(floor) => {
                (self.baseline, self.first_entry) = (Baseline::with_memory(floor), *entry);
            }
            Entry::Known { cache, floor } => drop(self.known.insert(cache, floor)),
            Entry::Dropped(high_water_mark) => self.baseline.drop_cache(high_water_mark),
            Entry::Cache { cache, floor, widest } => {
                let memory = ReplayCache::new(floor);
                self.by_key.insert(cache, Cache { accepted: 0, memory, widest, has_rule: false });
            }
            Entry::Accepted(accepted) => {
                self.join(accepted.cache, accepted.window);
                if let Some(cache) = self.by_key.get_mut(&accepted.cache) {
                    cache.has_rule = false;
                    // A knock below the floor was evicted; it is in the journal because a grant needs it.
                    let _is_new = cache.memory.record(accepted.id, accepted.window);
                }
                self.accepted.push(accepted);
                self.note(accepted.cache, accepted.id.time());
            }
        }
    }

    fn note(&mut self, cache: CacheId, time: T) {
        let greatest = self.greatest.entry(cache).or_default();
        *greatest = time.max(*greatest);
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
        let known = self.known.get(&id).copied();
        let cache = self.by_key.entry(id).or_insert_with(|| {
            let mut memory = ReplayCache::new(known.unwrap_or_default());
            memory.raise_evicted(self.baseline.dropped());
            Cache { accepted: 0, memory, widest: window, has_rule: true }
        });
        if known.is_none() {
            cache.memory.raise_baseline(self.baseline.earlier(window));
        }
        cache.widest = cache.widest.max(window);
        cache.has_rule = true;
    }

    /// The replay store of one key, for a datagram that came from `sender` at the time `uptime`.
    pub fn memory(&mut self, id: CacheId, sender: Sender, uptime: Uptime) -> Memory<'_, T> {
        Memory { caches: self, id, sender, uptime, closes: false }
    }

    /// What made a store refuse a valid knock since the last call.
    pub fn take_failure(&mut self) -> Option<Refusal> {
        self.failure.take()
    }

    /// Whether a knock of this key that was just refused could not be told from a replay, because knocks have to wait. To be
    /// asked once after each refusal.
    pub fn take_wait(&mut self, id: CacheId, now: T) -> bool {
        let is_below = std::mem::take(&mut self.is_below_floor);
        // Without a clock, the last knock is the floor.
        let waits = |cache: &Cache<T>| cache.widest != Window::Monotonic && cache.memory.wait(now) > 0;
        is_below && self.by_key.get(&id).is_some_and(waits)
    }

    /// The greatest time that each key has accepted in this boot, as far as the journal knows.
    #[must_use]
    pub fn greatest(&self) -> BTreeMap<CacheId, Floor<T>> {
        // A floor that was only raised as a precaution is no accepted knock. One below it proves nothing about the
        // knocks for which it was raised.
        let is_exact = |(id, time): (&CacheId, &T)| {
            self.by_key.get(id).is_some_and(|cache| *time >= cache.memory.high_water_mark())
        };
        let floors = self.greatest.iter();
        let mut greatest = BTreeMap::new();
        greatest
            .extend(floors.map(|(id, time)| (*id, Floor { time: *time, is_exact: is_exact((id, time)) })));
        greatest
    }

    /// Whether a key was ever used, as far as this boot and the saved floors know.
    #[must_use]
    pub fn was_used(&self, id: CacheId) -> bool {
        self.greatest.contains_key(&id) || self.known.contains_key(&id)
    }

    /// Accepted knocks that are still needed, oldest first.
    #[must_use]
    pub fn accepted(&self) -> &[Accepted<T>] {
        &self.accepted
    }

    /// Ends what the knocks of these senders have opened, as if each had closed it since. They stay replays.
    ///
    /// # Errors
    /// The journal cannot be rewritten. The old one stays.
    pub fn close(&mut self, is_theirs: impl Fn(Sender) -> bool) -> io::Result<()> {
        self.accepted
            .iter_mut()
            .filter(|accepted| is_theirs(accepted.sender))
            .for_each(|one| one.closes = true);
        self.rewrite()
    }

    /// The state of a cache; `None` if there is none.
    #[must_use]
    pub fn report(&self, id: CacheId, now: T) -> Option<Report> {
        let Cache { memory, accepted, .. } = self.by_key.get(&id)?;
        Some(Report {
            accepted: Some(*accepted),
            knocks: memory.len(),
            capacity: CAPACITY,
            floor: seconds(memory.floor()),
            newest: memory.newest().map(seconds),
            wait: memory.wait(now).div_ceil(T::PER_SECOND.into()),
        })
    }

    /// Drops caches without a rule whose knocks have all left the window. Forgets evicted knocks for which `in_use`
    /// returns `false`: no grant depends on them.
    ///
    /// # Errors
    /// The journal cannot be rewritten. The old one stays, complete.
    pub fn compact(&mut self, now: T, in_use: impl Fn(&Accepted<T>) -> bool) -> io::Result<()> {
        let past: Vec<CacheId> = self
            .by_key
            .iter()
            .filter(|(_, cache)| !cache.has_rule && cache.memory.is_past(now, cache.widest))
            .map(|(id, _)| *id)
            .collect();
        let is_past = |accepted: &Accepted<T>| past.contains(&accepted.cache);
        let floor_of = |id: &CacheId| self.by_key.get(id).map(|cache| cache.memory.floor());
        let needed: Vec<Accepted<T>> = self
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

    /// Whether a key has opened something to the most addresses, and this one is not among them.
    fn has_too_many(&self, id: CacheId, sender: Sender) -> bool {
        let mut senders = BTreeSet::new();
        for accepted in self.accepted.iter().filter(|accepted| accepted.cache == id) {
            if accepted.closes {
                senders.remove(&accepted.sender);
            } else {
                senders.insert(accepted.sender);
            }
        }
        senders.len() >= MOST_SENDERS && !senders.contains(&sender)
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let caches = self.by_key.iter().map(|(id, cache)| Entry::Cache {
            cache: *id,
            floor: cache.memory.floor(),
            widest: cache.widest,
        });
        let known = self.known.iter().map(|(cache, floor)| Entry::Known { cache: *cache, floor: *floor });
        let head = [self.first_entry, Entry::Dropped(self.baseline.dropped())];
        let knocks = self.accepted.iter().map(|accepted| Entry::Accepted(*accepted));
        self.journal.replace(head.into_iter().chain(known).chain(caches).chain(knocks))
    }
}

/// The cache of one key, with the journal that it writes to.
pub struct Memory<'a, T = UnixSeconds> {
    caches: &'a mut Caches<T>,
    id: CacheId,
    sender: Sender,
    uptime: Uptime,
    closes: bool,
}

impl<T> Memory<'_, T> {
    /// The same for a knock that closes.
    #[must_use]
    pub fn to_close(self) -> Self {
        Self { closes: true, ..self }
    }
}

/// A key without a cache is refused: nothing is known about its replays.
impl<T: Unit> ReplayStore<T> for Memory<'_, T> {
    fn refuses(&mut self, id: KnockId<T>, window: Window) -> bool {
        let Some(cache) = self.caches.by_key.get_mut(&self.id) else { return true };
        let is_refused = cache.memory.refuses(id, window);
        // What a complete memory knows is a replay, whatever the clocks say.
        let is_known = self.caches.known.get(&self.id).is_some_and(|known| id.time() <= *known);
        self.caches.is_below_floor = is_refused && !is_known && id.time() <= cache.memory.floor();
        is_refused
    }

    fn record(&mut self, id: KnockId<T>, window: Window) -> bool {
        if self.refuses(id, window) {
            return false;
        }
        let Self { sender, uptime: at, closes, .. } = *self;
        if !closes && self.caches.has_too_many(self.id, sender) {
            self.caches.failure = Some(Refusal::TooManySenders);
            return false;
        }
        let accepted = Accepted { cache: self.id, id, window, sender, at, closes };
        // A knock that is not in the journal could be replayed after a restart.
        if let Err(error) = self.caches.journal.write(&Entry::Accepted(accepted)) {
            self.caches.failure = Some(Refusal::Journal(error));
            return false;
        }
        self.caches.accepted.push(accepted);
        self.caches.note(self.id, id.time());
        self.caches.by_key.get_mut(&self.id).is_some_and(|cache| {
            cache.accepted += 1;
            cache.memory.record(id, window)
        })
    }
}

#[cfg(test)]
mod tests;
