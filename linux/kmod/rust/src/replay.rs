//! The replay caches and baselines of both formats, and the calls about them.

use core::ffi::c_uint;

use pkd_core::{
    Baseline, CacheId, KnockId, ReplayCache, ReplayStore, Rule, Timestamp, UnixMillis, UnixSeconds, Window,
};

/// Knocks per cache: as many as fit into 4 KiB, and more than a key's users send within a window.
const CACHE_CAPACITY: u32 = 240;

type Cache<T> = ReplayCache<{ CACHE_CAPACITY as usize }, T>;

/// A cache, which knows its format, so that no other format's times get into it.
#[repr(u64)]
#[expect(dead_code, reason = "made by way of `Variant`")]
pub(crate) enum Replay {
    Classic(Cache<UnixSeconds>) = 0,
    Format2(Cache<UnixMillis>) = 1,
}

/// The layout that `repr(u64)` gives to one variant.
#[repr(C)]
struct Variant<T> {
    number: u64,
    cache: Cache<T>,
}

/// `struct pkd_baselines`: what a namespace knows about knocks accepted earlier.
pub(crate) struct Baselines {
    classic: Baseline<UnixSeconds>,
    format2: Baseline<UnixMillis>,
}

// Must match the C layouts.
const _: () = assert!(size_of::<Baselines>() <= 64 && align_of::<Baselines>() <= 8);
const _: () = assert!(align_of::<Replay>() <= 8);
// With `PKD_CACHE_HEAD`, what the kernel allocates for a cache. A byte more would take 8 KiB.
const _: () = assert!(size_of::<Replay>() + 192 <= 4096);

/// `PKD_CLASSIC` of `enum pkd_format`; anything else is format 2.
const CLASSIC: c_uint = 0;

/// Used by C to find and lock a rule's cache; opaque here.
#[repr(C)]
pub(crate) struct Lookup {
    opaque: [u8; 0],
}

/// `struct pkd_replay`, as C passes it: a [`Replay`].
#[repr(C)]
pub(crate) struct OpaqueReplay {
    opaque: [u8; 0],
}

/// `struct pkd_report`.
#[repr(C)]
pub(crate) struct Report {
    floor: u64,
    newest: u64,
    wait: u64,
    entries: u32,
    capacity: u32,
}

unsafe extern "C" {
    /// Locks and returns the lookup's cache; null, without a lock, if there is none.
    ///
    /// `lookup` must be the one that C passed to `pkd_verify` or `pkd_verify2`, and that call must not have returned.
    fn pkd_cache_lock(lookup: *mut Lookup) -> *mut OpaqueReplay;
    /// Unlocks the cache.
    ///
    /// The last call of `pkd_cache_lock` with this lookup must have returned a cache.
    fn pkd_cache_unlock(lookup: *mut Lookup);
}

/// The times of a format.
pub(crate) trait Unit: Timestamp {
    /// The cache; `None` if it is the other format's.
    fn cache(replay: &mut Replay) -> Option<&mut Cache<Self>>;
}

impl Unit for UnixSeconds {
    fn cache(replay: &mut Replay) -> Option<&mut Cache<Self>> {
        if let Replay::Classic(cache) = replay { Some(cache) } else { None }
    }
}

impl Unit for UnixMillis {
    fn cache(replay: &mut Replay) -> Option<&mut Cache<Self>> {
        if let Replay::Format2(cache) = replay { Some(cache) } else { None }
    }
}

/// A cache that is shared with other CPUs.
pub(crate) struct SharedCache {
    lookup: *mut Lookup,
}

impl SharedCache {
    /// The cache of a lookup.
    ///
    /// # Safety
    /// C must have passed `lookup` to the call that this cache is used in, and not beyond.
    pub(crate) unsafe fn new(lookup: *mut Lookup) -> Self {
        Self { lookup }
    }

    /// Calls `access` with the locked cache; returns `missing` if there is none of this format.
    fn locked<T: Unit>(&mut self, missing: bool, access: impl FnOnce(&mut Cache<T>) -> bool) -> bool {
        // SAFETY: as new() requires.
        let replay = unsafe { pkd_cache_lock(self.lookup) };
        // SAFETY: C returns null or a cache initialized by pkd_replay_init(), which is ours until unlocked.
        let Some(replay) = (unsafe { replay.cast::<Replay>().as_mut() }) else {
            return missing;
        };
        let answer = T::cache(replay).map_or(missing, access);
        // SAFETY: locked above; `replay` is not used again.
        unsafe { pkd_cache_unlock(self.lookup) };
        answer
    }
}

/// Without a cache no replay can be detected, so everything is refused.
impl<T: Unit> ReplayStore<T> for SharedCache {
    fn refuses(&mut self, id: KnockId<T>, window: Window) -> bool {
        self.locked(true, |cache: &mut Cache<T>| cache.refuses(id, window))
    }

    fn record(&mut self, id: KnockId<T>, window: Window) -> bool {
        self.locked(false, |cache: &mut Cache<T>| cache.record(id, window))
    }
}

/// Initializes the baselines of a namespace that starts without saved floors, at `seconds` or `millis`.
///
/// # Safety
/// `baselines` must be writable, 64 bytes, aligned to 8.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_baselines_init(baselines: *mut Baselines, seconds: u64, millis: u64) {
    let start = Baselines {
        classic: Baseline::without_memory(UnixSeconds(seconds)),
        format2: Baseline::without_memory(UnixMillis(millis)),
    };
    // SAFETY: as the caller promises.
    unsafe { baselines.write(start) };
}

/// Restores a format's saved floor: no knock later than `floor` was accepted before this namespace started.
#[unsafe(no_mangle)]
extern "C" fn pkd_baselines_restore(baselines: &mut Baselines, format: c_uint, floor: u64) {
    match format {
        CLASSIC => baselines.classic.set_baseline(UnixSeconds(floor)),
        _ => baselines.format2.set_baseline(UnixMillis(floor)),
    }
}

/// Forgets a cache or a key's floor: caches of its format made later refuse everything up to `floor`.
#[unsafe(no_mangle)]
extern "C" fn pkd_baselines_drop(baselines: &mut Baselines, format: c_uint, floor: u64) {
    match format {
        CLASSIC => baselines.classic.drop_cache(UnixSeconds(floor)),
        _ => baselines.format2.drop_cache(UnixMillis(floor)),
    }
}

/// The latest time that may have been accepted so far in a format, apart from existing caches, if no rule's window
/// was wider than `window`.
#[unsafe(no_mangle)]
extern "C" fn pkd_baselines_floor(baselines: &Baselines, format: c_uint, window: u32) -> u64 {
    let window = Window::from_secs(window);
    match format {
        CLASSIC => baselines.classic.floor(window).0,
        _ => baselines.format2.floor(window).0,
    }
}

/// The number that the rule's cache has in the status file.
#[unsafe(no_mangle)]
extern "C" fn pkd_cache_id(rule: &Rule, format: c_uint) -> u64 {
    let id = match format {
        CLASSIC => CacheId::classic(rule.tag(), rule.key()),
        _ => CacheId::format2(rule.tag(), rule.key()),
    };
    u64::from_be_bytes(*id.as_bytes())
}

/// Size of a cache in bytes; the alignment is 8.
#[unsafe(no_mangle)]
extern "C" fn pkd_replay_size() -> usize {
    size_of::<Replay>()
}

/// Initializes an empty cache, which its first rule must then join.
///
/// # Safety
/// `replay` must be writable, `pkd_replay_size()` bytes, aligned to 8, and not shared yet.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_replay_init(replay: *mut Replay, baselines: &Baselines, format: c_uint) {
    match format {
        // SAFETY: as the caller promises; 0 is the number of this variant.
        CLASSIC => unsafe { write_empty::<UnixSeconds>(replay, 0) },
        // SAFETY: as the caller promises; 1 is the number of this variant.
        _ => unsafe { write_empty::<UnixMillis>(replay, 1) },
    }
    // SAFETY: written above.
    match unsafe { &mut *replay } {
        Replay::Classic(cache) => cache.raise_evicted(baselines.classic.dropped()),
        Replay::Format2(cache) => cache.raise_evicted(baselines.format2.dropped()),
    }
}

/// # Safety
/// As for [`pkd_replay_init`]; and `number` must be that of the variant with the times `T`.
unsafe fn write_empty<T: Timestamp>(replay: *mut Replay, number: u64) {
    let variant = replay.cast::<Variant<T>>();
    // SAFETY: as the caller promises.
    let to_number = unsafe { &raw mut (*variant).number };
    // SAFETY: likewise.
    let to_cache = unsafe { &raw mut (*variant).cache };
    // SAFETY: likewise.
    unsafe { to_number.write(number) };
    // A constant is written in place; a value would first take 4 KiB of the kernel's stack, and a constant of the whole
    // variant 4 KiB of its memory.
    // SAFETY: likewise.
    unsafe { to_cache.write(const { Cache::new(T::ZERO) }) };
}

/// Raises the floor of a cache to what its key may have accepted before the cache was made.
#[unsafe(no_mangle)]
extern "C" fn pkd_replay_raise(replay: &mut Replay, floor: u64) {
    match replay {
        Replay::Classic(cache) => cache.raise_evicted(UnixSeconds(floor)),
        Replay::Format2(cache) => cache.raise_evicted(UnixMillis(floor)),
    }
}

/// Adds a rule with this window to the cache's rules.
#[unsafe(no_mangle)]
extern "C" fn pkd_replay_join(replay: &mut Replay, baselines: &Baselines, window: u32) {
    let window = Window::from_secs(window);
    match replay {
        Replay::Classic(cache) => cache.raise_baseline(baselines.classic.earlier(window)),
        Replay::Format2(cache) => cache.raise_baseline(baselines.format2.earlier(window)),
    }
}

/// Applies a restored baseline to the cache; knocks accepted since the start stay refused.
#[unsafe(no_mangle)]
extern "C" fn pkd_replay_restore(replay: &mut Replay, baselines: &Baselines) {
    // A restored baseline does not depend on the window.
    match replay {
        Replay::Classic(cache) => cache.set_baseline(baselines.classic.earlier(Window::Monotonic)),
        Replay::Format2(cache) => cache.set_baseline(baselines.format2.earlier(Window::Monotonic)),
    }
}

/// Whether every accepted knock has left `window`, the widest of the cache's rules. `now` is in the format's unit.
#[unsafe(no_mangle)]
extern "C" fn pkd_replay_past(replay: &Replay, now: u64, window: u32) -> bool {
    let window = Window::from_secs(window);
    match replay {
        Replay::Classic(cache) => cache.is_past(UnixSeconds(now), window),
        Replay::Format2(cache) => cache.is_past(UnixMillis(now), window),
    }
}

/// Fills in what the status file shows about a cache. `now` and what is filled in are in the format's unit.
///
/// # Safety
/// `report` must be writable.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_replay_report(replay: &Replay, now: u64, report: *mut Report) {
    let shown = match replay {
        Replay::Classic(cache) => Report::of(cache, UnixSeconds(now)),
        Replay::Format2(cache) => Report::of(cache, UnixMillis(now)),
    };
    // SAFETY: as the caller promises; the old content needs no drop.
    unsafe { report.write(shown) };
}

impl Report {
    fn of<T: Timestamp>(cache: &Cache<T>, now: T) -> Self {
        Self {
            floor: cache.floor().units(),
            newest: cache.newest().map_or(0, T::units),
            wait: cache.wait(now),
            entries: u32::try_from(cache.len()).unwrap_or(u32::MAX),
            capacity: CACHE_CAPACITY,
        }
    }
}
