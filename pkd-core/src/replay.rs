//! The replay cache, which makes a knock work once.
//!
//! Its invariant: *every accepted knock is in the set, or at or below the floor.* An entry leaves the set only when
//! the set is full, and only in the step that raises the floor to its time. So no step of any clock, forwards or
//! back, makes an accepted knock acceptable again.

use heapless::Vec;

use crate::{Digest, Timestamp, UnixSeconds, Window};

/// What the cache stores of a knock: its time, and 8 bytes that distinguish knocks of that time. Classic: the digest's
/// first. Format 2: the filter.
///
/// Two knocks of one time share an ID with a probability of 2⁻⁶⁴; the later one is then refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnockId<T = UnixSeconds> {
    time: T,
    id: u64,
}

impl KnockId {
    /// The ID of a classic knock with this time and digest.
    #[must_use]
    pub fn new(time: UnixSeconds, digest: &Digest) -> Self {
        Self { time, id: digest.id() }
    }
}

impl<T: Timestamp> KnockId<T> {
    /// An ID whose [`time`](Self::time) and [`id`](Self::id) were stored, for programs that keep a journal of
    /// accepted knocks.
    #[must_use]
    pub const fn kept(time: T, id: u64) -> Self {
        Self { time, id }
    }

    /// The knock's time.
    #[must_use]
    pub const fn time(&self) -> T {
        self.time
    }

    /// Distinguishes knocks of one time.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }
}

/// Where [`Rule::verify`](crate::Rule::verify) looks knocks up. A program that shares a [`ReplayCache`] between threads
/// implements it with a lock around each call.
///
/// A false rejection costs the sender one more knock; a replay that is accepted opens the port for an attacker. So
/// a store that is in doubt refuses.
pub trait ReplayStore<T = UnixSeconds> {
    /// First look: whether a knock is a replay. Changes nothing and costs no hash.
    ///
    /// With [`Window::Monotonic`] every time up to the greatest accepted one is a replay. The answer may be outdated
    /// when it is used; [`record`](Self::record) decides.
    fn refuses(&mut self, id: KnockId<T>, window: Window) -> bool;

    /// Second look, and record. Returns `false` for a replay, and then records nothing.
    ///
    /// Call it only for knocks whose digest is valid; otherwise a stranger could raise the floor.
    #[must_use]
    fn record(&mut self, id: KnockId<T>, window: Window) -> bool;
}

/// The accepted knocks of one key: the `N` with the greatest times, and the floor. No knock with a time at or below
/// the floor is accepted.
///
/// When the cache is full, the knock with the smallest time leaves and raises the floor to its time. The price: an
/// honest knock that arrives after more than `N` later ones is refused, and its sender has to knock again. So is a
/// knock of a second of which `N` + 1 were accepted already.
///
/// ```
/// use pkd_core::{Digest, KnockId, ReplayCache, ReplayStore, UnixSeconds, Window};
///
/// let mut cache = ReplayCache::<2>::new(UnixSeconds(0));
/// let mut record = |time| {
///     cache.record(KnockId::new(UnixSeconds(time), &Digest::from_bytes([7; 32])), Window::default())
/// };
/// assert!(record(100) && record(102) && record(104));
/// assert!(!record(102), "it is in the set");
/// assert!(!record(100), "it left the set and raised the floor");
/// assert_eq!(cache.floor(), UnixSeconds(100));
/// ```
///
/// An entry takes 16 bytes. A lookup is a binary search; recording moves the entries with greater times. A clone is a
/// separate cache: it does not learn what the original accepts.
#[derive(Clone, Debug)]
pub struct ReplayCache<const N: usize, T = UnixSeconds> {
    /// Sorted, smallest time first, in a ring: the smallest is at `start`, and after the last comes the first.
    set: Vec<KnockId<T>, N>,
    /// 0 until the set is full.
    start: usize,
    /// What an earlier boot may have accepted.
    baseline: T,
    /// What this boot accepted and no longer holds in the set.
    evicted: T,
    /// The greatest time accepted since the start.
    newest: Option<T>,
}

impl<const N: usize, T: Timestamp> ReplayCache<N, T> {
    /// An empty cache. `baseline` is the floor it starts with, see [`Baseline::floor`].
    #[must_use]
    pub const fn new(baseline: T) -> Self {
        Self { set: Vec::new(), start: 0, baseline, evicted: T::ZERO, newest: None }
    }

    /// No knock at or before this time is accepted. 0 means that nothing was accepted before; a knock with time 0
    /// is never accepted.
    #[must_use]
    pub fn floor(&self) -> T {
        self.baseline.max(self.evicted)
    }

    /// The greatest time that this cache accepted. More than that has to be saved for the next boot, see
    /// [`Baseline::with_memory`].
    #[must_use]
    pub fn newest(&self) -> Option<T> {
        self.newest
    }

    /// Knocks in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// The greatest time that may have been accepted, by this cache or before it. A cache may be dropped only if
    /// caches made later refuse every time up to here, see [`Baseline::drop_cache`].
    #[must_use]
    pub fn high_water_mark(&self) -> T {
        self.floor().max(self.newest.unwrap_or(T::ZERO))
    }

    /// Raises the floor to what caches that were dropped since the start had accepted, see [`Baseline::dropped`];
    /// for a new cache.
    pub fn raise_evicted(&mut self, dropped: T) {
        self.evicted = self.evicted.max(dropped);
    }

    /// Raises the floor that the cache started with; for a rule that joins with a wider window than those before
    /// it, see [`Baseline::earlier`].
    pub fn raise_baseline(&mut self, floor: T) {
        self.baseline = self.baseline.max(floor);
    }

    /// Replaces the floor that the cache started with, which may lower it. Knocks accepted since the start stay
    /// refused.
    pub fn set_baseline(&mut self, floor: T) {
        self.baseline = floor;
    }

    /// Units of `T` until a knock from a sender with the same clock is later than the floor; 0 if it is already.
    ///
    /// For people to read. It is meaningless without a real clock ([`Window::Monotonic`]), where only the senders'
    /// times count.
    #[must_use]
    pub fn wait(&self, now: T) -> u64 {
        let floor = self.floor();
        if now > floor || floor == T::ZERO { 0 } else { floor.since(now).saturating_add(1) }
    }

    /// Whether every time up to the [`high_water_mark`](Self::high_water_mark) has left `window`, the widest of all
    /// rules that ever used this cache. A cache without rules may then be dropped, and the floor that it leaves
    /// behind refuses only what the window refuses anyway.
    #[must_use]
    pub fn is_past(&self, now: T, window: Window) -> bool {
        self.high_water_mark().plus(window) < now
    }
}

impl<const N: usize, T: Timestamp> ReplayStore<T> for ReplayCache<N, T> {
    fn refuses(&mut self, id: KnockId<T>, window: Window) -> bool {
        self.place(id, window).is_none()
    }

    // Not inlined: one copy serves both formats, whose caches look the same to a compiler.
    #[inline(never)]
    fn record(&mut self, id: KnockId<T>, window: Window) -> bool {
        let Some(place) = self.place(id, window) else {
            return false;
        };
        self.newest = self.newest.max(Some(id.time));
        if window == Window::Monotonic {
            self.evicted = self.evicted.max(id.time);
            return true;
        }
        match self.set.push(id) {
            Ok(()) => self.put(place, id),
            // The smallest leaves, which may be the new one.
            Err(_) => match place.checked_sub(1) {
                None => self.evicted = self.evicted.max(id.time),
                Some(place) => {
                    self.evicted = self.evicted.max(self.entry(0).map_or(id.time, |smallest| smallest.time));
                    self.start = self.position(1);
                    self.put(place, id);
                }
            },
        }
        true
    }
}

/// The ring. The slice methods that sort or move entries can panic, which is fatal in a kernel.
impl<const N: usize, T: Timestamp> ReplayCache<N, T> {
    /// Where the entry of this rank is, the smallest's being 0.
    fn position(&self, rank: usize) -> usize {
        let position = self.start.wrapping_add(rank);
        if position < N { position } else { position.wrapping_sub(N) }
    }

    fn entry(&self, rank: usize) -> Option<KnockId<T>> {
        if rank < self.set.len() { self.set.get(self.position(rank)).copied() } else { None }
    }

    /// The rank that a knock would have in the set; `None` if it is refused.
    ///
    /// Most knocks are later than all before. A forger's are not, so a step of the search takes no more than it has to:
    /// both halves of the ring are slices in order.
    fn place(&self, id: KnockId<T>, window: Window) -> Option<usize> {
        if id.time <= self.floor() {
            return None;
        }
        if self.newest.is_none_or(|newest| newest < id.time) {
            return Some(self.set.len());
        }
        if window == Window::Monotonic {
            return None;
        }
        let (later, earlier) = self.set.split_at_checked(self.start).unwrap_or_default();
        let is_later = later.first().is_some_and(|first| *first <= id);
        let (half, before) = if is_later { (later, earlier.len()) } else { (earlier, 0) };
        let place = half.partition_point(|entry| *entry < id);
        (half.get(place) != Some(&id)).then_some(before.wrapping_add(place))
    }

    /// Moves the entries from `place` on by one over the last, which is free, and puts `id` there.
    fn put(&mut self, place: usize, id: KnockId<T>) {
        for rank in (place..self.set.len().wrapping_sub(1)).rev() {
            if let Some(entry) = self.entry(rank) {
                self.set_entry(rank.wrapping_add(1), entry);
            }
        }
        self.set_entry(place, id);
    }

    fn set_entry(&mut self, rank: usize, entry: KnockId<T>) {
        let position = self.position(rank);
        if let Some(slot) = self.set.get_mut(position) {
            *slot = entry;
        }
    }
}

/// What is known at the start about knocks accepted before. All caches of one start begin with it.
///
/// ```
/// use pkd_core::{Baseline, UnixSeconds, Window};
///
/// let (now, window) = (UnixSeconds(1_800_000_000), Window::from_secs(10));
/// let waits = Baseline::without_memory(now);
/// assert_eq!(waits.floor(window), UnixSeconds(1_800_000_010));
/// let remembers = Baseline::with_memory(UnixSeconds(1_799_999_000)); // the floor that the last boot saved
/// assert_eq!(remembers.floor(window), UnixSeconds(1_799_999_000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline<T = UnixSeconds> {
    earlier: Earlier<T>,
    /// The greatest high-water mark of the caches dropped since the start.
    dropped: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Earlier<T> {
    Unknown { start: T },
    Remembered { floor: T },
}

impl<T: Timestamp> Baseline<T> {
    /// For a module load or a boot without a saved floor: anything that `now` and the window allow may have been
    /// accepted before. So the floor is `now` plus the window, and caches wait that long before they accept
    /// anything; honest knocks until then are refused.
    ///
    /// No knock of an earlier boot is accepted again, provided that:
    ///
    /// - `now` is no earlier than the clock was at any earlier acceptance;
    /// - no window was wider then than that of any rule with the same key is now;
    /// - no rule had or has [`Window::Monotonic`], which accepts any time and does not wait.
    ///
    /// Otherwise only a saved floor helps.
    #[must_use]
    pub const fn without_memory(now: T) -> Self {
        Self { earlier: Earlier::Unknown { start: now }, dropped: T::ZERO }
    }

    /// For a start with a saved floor: earlier boots accepted nothing later than `floor`; 0 for a first installation.
    /// Their clocks and windows do not matter, and there is no wait.
    ///
    /// The floor to save is the greatest of the [`high_water_mark`](ReplayCache::high_water_mark) of each cache and
    /// of [`Baseline::floor`] for the widest window that any rule had. A `floor` that is too small lets replays in;
    /// one that is too great makes senders wait.
    #[must_use]
    pub const fn with_memory(floor: T) -> Self {
        Self { earlier: Earlier::Remembered { floor }, dropped: T::ZERO }
    }

    /// The floor of a cache that is made now, for a rule of this window.
    #[must_use]
    pub fn floor(&self, window: Window) -> T {
        self.earlier(window).max(self.dropped)
    }

    /// The latest time that earlier boots may have accepted with this window.
    #[must_use]
    pub fn earlier(&self, window: Window) -> T {
        match self.earlier {
            Earlier::Unknown { start } => start.plus(window),
            Earlier::Remembered { floor } => floor,
        }
    }

    /// The latest time that caches dropped since the start may have accepted.
    #[must_use]
    pub fn dropped(&self) -> T {
        self.dropped
    }

    /// Sets the latest time that earlier boots accepted.
    pub fn set_baseline(&mut self, floor: T) {
        self.earlier = Earlier::Remembered { floor };
    }

    /// Records that a cache with this [`high_water_mark`](ReplayCache::high_water_mark) was dropped.
    pub fn drop_cache(&mut self, high_water_mark: T) {
        self.dropped = self.dropped.max(high_water_mark);
    }
}
