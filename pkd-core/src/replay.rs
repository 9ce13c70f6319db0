//! The memory that makes a knock work once.
//!
//! The invariant that everything here keeps: *every accepted knock is either in the set or at or
//! below the floor.* An entry leaves the set only when it is full, and only together with raising the
//! floor to its time. So no step of any clock, forwards or back, brings an accepted knock back.

use core::cell::Cell;

use heapless::Vec;

use crate::{Digest, UnixSeconds, Window};

/// What the memory keeps of a knock: its time, and 8 digest bytes to tell those of one second apart.
///
/// Two knocks of one second share a mark with a chance of 2⁻⁶⁴; the later one is refused then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnockId {
    time: UnixSeconds,
    id: u64,
}

impl KnockId {
    /// The mark of a knock with this time and digest.
    #[must_use]
    pub fn new(time: UnixSeconds, digest: &Digest) -> Self {
        Self { time, id: digest.id() }
    }

    /// A mark that [`time`](Self::time) and [`id`](Self::id) were kept of; for doors that write down what
    /// they accepted.
    #[must_use]
    pub const fn kept(time: UnixSeconds, id: u64) -> Self {
        Self { time, id }
    }

    /// The knock's time.
    #[must_use]
    pub const fn time(&self) -> UnixSeconds {
        self.time
    }

    /// Tells knocks of one second apart.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }
}

/// What [`Verifier`](crate::Verifier) asks of a memory. A door whose memory is shared between
/// threads implements it with a lock around each call of a [`ReplayCache`].
///
/// A knock refused by mistake costs its sender a second knock; a replay that is not refused opens
/// the door to whoever recorded it. So a memory that is not sure refuses.
pub trait ReplayStore {
    /// First look: whether a knock is a replay. Changes nothing and costs no hash.
    ///
    /// With [`Window::NO_CLOCK`] every time up to the greatest accepted one is. The answer may be
    /// old by the time it is used; [`record`](Self::record) decides.
    fn refuses(&mut self, mark: KnockId, window: Window) -> bool;

    /// Second look, and record. `false`: a replay after all, nothing recorded.
    ///
    /// Only for knocks whose digest is good; else a stranger could raise the floor.
    #[must_use]
    fn record(&mut self, mark: KnockId, window: Window) -> bool;
}

/// The memory of one key: the `N` accepted knocks with the greatest times, and the floor. No knock
/// with a time at or below the floor is accepted.
///
/// When it is full, the knock with the smallest time leaves and raises the floor to it. The price:
/// an honest knock that more than `N` later ones overtook is refused, and its sender has to knock
/// again. So is one in a second of which `N` and one more were accepted already.
///
/// An entry takes 16 bytes. A look costs a binary search, a record moves at most `N` entries.
/// A clone is another memory: what one accepts, the other does not know.
#[derive(Clone, Debug)]
pub struct ReplayCache<const N: usize> {
    /// Sorted, smallest time first.
    set: Vec<KnockId, N>,
    /// What an earlier life may have accepted.
    baseline: UnixSeconds,
    /// What this life accepted and no longer holds in the set.
    evicted: UnixSeconds,
    /// The greatest time that this life accepted.
    newest: Option<UnixSeconds>,
}

impl<const N: usize> ReplayCache<N> {
    /// An empty cache. `baseline` is the floor it starts with, see [`Baseline::floor`].
    #[must_use]
    pub const fn new(baseline: UnixSeconds) -> Self {
        Self { set: Vec::new(), baseline, evicted: UnixSeconds(0), newest: None }
    }

    /// No knock at or before this time is accepted. 0, the least, says: nothing was accepted
    /// before; a knock with time 0 never is.
    #[must_use]
    pub fn floor(&self) -> UnixSeconds {
        self.baseline.max(self.evicted)
    }

    /// The greatest time that this cache accepted. Not all that has to be saved for the next life,
    /// see [`Baseline::with_memory`].
    #[must_use]
    pub fn newest(&self) -> Option<UnixSeconds> {
        self.newest
    }

    /// Knocks in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether no knock is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// The greatest time that this cache, or what it baseline, may have accepted. A cache may go
    /// only if those made later refuse all up to here, see [`Baseline::drop_cache`].
    #[must_use]
    pub fn high_water_mark(&self) -> UnixSeconds {
        self.floor().max(self.newest.unwrap_or_default())
    }

    /// Raises the floor by what caches of this life had accepted that are gone, see
    /// [`Baseline::dropped`]; for a cache that is new.
    pub fn raise_evicted(&mut self, dropped: UnixSeconds) {
        self.evicted = self.evicted.max(dropped);
    }

    /// Raises the baseline floor; for a rule that joins with a wider window than those before it,
    /// see [`Baseline::earlier`].
    pub fn raise_baseline(&mut self, floor: UnixSeconds) {
        self.baseline = self.baseline.max(floor);
    }

    /// Root says what earlier lives accepted at the latest; the floor may fall by it. What this life
    /// accepted stays refused.
    pub fn set_baseline(&mut self, floor: UnixSeconds) {
        self.baseline = floor;
    }

    /// Seconds until a knock from a sender with the same clock is later than the floor; 0: none.
    ///
    /// For people to read. It means nothing where `now` is from no real clock
    /// ([`Window::NO_CLOCK`]): there only the senders' times count.
    #[must_use]
    pub fn wait(&self, now: UnixSeconds) -> u64 {
        let floor = self.floor();
        if now > floor || floor == UnixSeconds(0) { 0 } else { floor.since(now).saturating_add(1) }
    }

    /// Whether all up to the [`high_water_mark`](Self::high_water_mark) has left `window`, the widest of all rules
    /// that ever used this cache: a cache without rules may
    /// then go, and the floor that it leaves behind refuses only what the window refuses anyway.
    #[must_use]
    pub fn is_past(&self, now: UnixSeconds, window: Window) -> bool {
        self.high_water_mark().plus(window) < now
    }
}

impl<const N: usize> ReplayStore for ReplayCache<N> {
    fn refuses(&mut self, mark: KnockId, window: Window) -> bool {
        let accepted_later = || self.newest.is_some_and(|newest| mark.time <= newest);
        mark.time <= self.floor()
            || (window == Window::NO_CLOCK && accepted_later())
            || self.set.binary_search(&mark).is_ok()
    }

    fn record(&mut self, mark: KnockId, window: Window) -> bool {
        if self.refuses(mark, window) {
            return false;
        }
        self.newest = self.newest.max(Some(mark.time));
        if window == Window::NO_CLOCK {
            self.evicted = self.evicted.max(mark.time);
            return true;
        }
        let place = self.set.partition_point(|entry| *entry < mark);
        if self.set.is_full() {
            // The smallest leaves, which may be the new one; those up to the place of the new one move by one.
            let moved = cells(self.set.get_mut(..place));
            let leaves = moved.first().map_or(mark, Cell::get);
            for pair in moved.windows(2) {
                if let [to, from] = pair {
                    to.set(from.get());
                }
            }
            if let Some(last) = moved.last() {
                last.set(mark);
            }
            self.evicted = self.evicted.max(leaves.time);
        } else if self.set.push(mark).is_ok() {
            let moved = cells(self.set.get_mut(place..));
            for pair in moved.windows(2).rev() {
                if let [from, to] = pair {
                    to.set(from.get());
                }
            }
            if let Some(first) = moved.first() {
                first.set(mark);
            }
        }
        true
    }
}

/// Entries, so that one can be copied over its neighbour. Slices can do that too, by ways that may panic, which no
/// kernel forgives.
fn cells(entries: Option<&mut [KnockId]>) -> &[Cell<KnockId>] {
    Cell::from_mut(entries.unwrap_or_default()).as_slice_of_cells()
}

/// What a verifier knows, at its start, of what earlier lives accepted. All its caches begin with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline {
    earlier: Earlier,
    /// The greatest high_water_mark of the caches of this life that went.
    dropped: UnixSeconds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Earlier {
    Unknown { start: UnixSeconds },
    Remembered { floor: UnixSeconds },
}

impl Baseline {
    /// Module load, boot, first run: earlier lives may have accepted anything that `now` and the
    /// window allowed. So the floor is `now` and a window, and caches wait that long before they
    /// accept; honest knocks until then are refused.
    ///
    /// No knock of an earlier life is accepted again, if these hold:
    ///
    /// - `now` is no earlier than the clock was at any earlier acceptance;
    /// - no window was wider then than that of any rule with the same key is now;
    /// - neither then nor now a rule had [`Window::NO_CLOCK`], which accepts any time and waits
    ///   for nothing.
    ///
    /// Otherwise only memory helps.
    #[must_use]
    pub const fn without_memory(now: UnixSeconds) -> Self {
        Self { earlier: Earlier::Unknown { start: now }, dropped: UnixSeconds(0) }
    }

    /// Earlier lives accepted nothing later than `floor`; 0 for a first installation. Their clocks
    /// and windows do not matter, and nobody waits.
    ///
    /// What a life has to save for this is the greatest of the [`high_water_mark`](ReplayCache::high_water_mark) of
    /// each of its caches, and its own [`Baseline::floor`] for the widest window that any rule had in
    /// it. A `floor` that is too small lets replays in; one that is too great makes senders wait.
    #[must_use]
    pub const fn with_memory(floor: UnixSeconds) -> Self {
        Self { earlier: Earlier::Remembered { floor }, dropped: UnixSeconds(0) }
    }

    /// The floor of a cache that is made now, for a rule of this window.
    #[must_use]
    pub fn floor(&self, window: Window) -> UnixSeconds {
        self.earlier(window).max(self.dropped)
    }

    /// What earlier lives may have accepted at the latest with this window, and nothing of this life.
    #[must_use]
    pub fn earlier(&self, window: Window) -> UnixSeconds {
        match self.earlier {
            Earlier::Unknown { start } => start.plus(window),
            Earlier::Remembered { floor } => floor,
        }
    }

    /// What caches of this life that went may have accepted at the latest.
    #[must_use]
    pub fn dropped(&self) -> UnixSeconds {
        self.dropped
    }

    /// Root says what earlier lives accepted at the latest.
    pub fn set_baseline(&mut self, floor: UnixSeconds) {
        self.earlier = Earlier::Remembered { floor };
    }

    /// A cache of this life goes; this was its [`high_water_mark`](ReplayCache::high_water_mark).
    pub fn drop_cache(&mut self, high_water_mark: UnixSeconds) {
        self.dropped = self.dropped.max(high_water_mark);
    }
}
