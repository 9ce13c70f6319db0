//! The functions that C calls, declared in `linux/kmod/pkd_verify.h`.
//!
//! Every function may be called in softirq, neither sleeps nor allocates, and leaves locking to C.
//! All of them require that pointers are aligned and valid for the call, that the target of a `&`
//! does not change during the call, and that nothing else accesses the target of a `&mut`. So the
//! caller holds the cache's lock, or no rule uses the cache; for a baseline it holds the namespace's mutex.

use core::ffi::c_int;

use pkd_core::{
    Baseline, KnockId, Packet, Reason, ReplayCache, ReplayStore, Rule, UDP_LENGTH, UnixSeconds, Verdict,
    Window,
};

/// Knocks per cache: 4 KiB, and more knocks than a key's users send within a window.
const CACHE_CAPACITY: u32 = 256;

type Cache = ReplayCache<{ CACHE_CAPACITY as usize }>;

// Must match the C layouts: struct xt_pkd_mtinfo and struct pkd_baseline.
const _: () = assert!(size_of::<Rule>() == 48 && align_of::<Rule>() == 4);
const _: () = assert!(size_of::<Baseline>() <= 32 && align_of::<Baseline>() <= 8);
const _: () = assert!(align_of::<Cache>() <= 8);

/// Used by C to find and lock a rule's cache; opaque here.
#[repr(C)]
pub(crate) struct Lookup {
    opaque: [u8; 0],
}

/// `struct pkd_replay`: a [`Cache`], opaque to C.
#[repr(C)]
pub(crate) struct Replay {
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
    /// `lookup` must be the one that C passed to `pkd_verify`, and that call must not have returned.
    fn pkd_cache_lock(lookup: *mut Lookup) -> *mut Replay;
    /// Unlocks the cache.
    ///
    /// The last call of `pkd_cache_lock` with this lookup must have returned a cache.
    fn pkd_cache_unlock(lookup: *mut Lookup);
}

/// A cache that is shared with other CPUs.
struct SharedCache {
    lookup: *mut Lookup,
}

impl SharedCache {
    /// Calls `access` with the locked cache; returns `missing` if there is no cache.
    fn locked<R>(&mut self, missing: R, access: impl FnOnce(&mut Cache) -> R) -> R {
        // SAFETY: a SharedCache exists only inside pkd_verify(), with the lookup of that call.
        let cache = unsafe { pkd_cache_lock(self.lookup) };
        // SAFETY: C returns null or a cache initialized by pkd_replay_init(), which is ours until unlocked.
        let Some(cache) = (unsafe { cache.cast::<Cache>().as_mut() }) else {
            return missing;
        };
        let answer = access(cache);
        // SAFETY: locked above; `cache` is not used again.
        unsafe { pkd_cache_unlock(self.lookup) };
        answer
    }
}

/// Without a cache no replay can be detected, so everything is refused.
impl ReplayStore for SharedCache {
    fn refuses(&mut self, id: KnockId, window: Window) -> bool {
        self.locked(true, |cache| cache.refuses(id, window))
    }

    fn record(&mut self, id: KnockId, window: Window) -> bool {
        self.locked(false, |cache| cache.record(id, window))
    }
}

/// Checks one UDP datagram, including its header. Returns a value of `enum pkd_verdict`.
///
/// # Safety
/// `rule` and `datagram` must be readable for the call, and `lookup` valid for `pkd_cache_lock`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_verify(
    rule: &Rule,
    lookup: *mut Lookup,
    now: u64,
    datagram: &[u8; UDP_LENGTH],
) -> c_int {
    let verdict = match Packet::from_udp(datagram) {
        Some(packet) => rule.verify(&mut SharedCache { lookup }, UnixSeconds(now), &packet),
        None => Verdict::Ignore(Reason::Length),
    };
    match verdict {
        Verdict::Accept => 0,
        Verdict::Ignore(Reason::Length) => 1,
        Verdict::Ignore(Reason::Tag) => 2,
        Verdict::Ignore(Reason::Window) => 3,
        Verdict::Ignore(Reason::Replay) => 4,
        // A classic rule has none of the others; nothing is opened for them.
        Verdict::Ignore(Reason::Digest | Reason::Filter | Reason::Request) | Verdict::Close => 5,
    }
}

/// Initializes the baseline of a namespace that starts at `now` without a saved floor.
///
/// # Safety
/// `baseline` must be writable, 32 bytes, aligned to 8.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_baseline_init(baseline: *mut Baseline, now: u64) {
    // SAFETY: as the caller promises.
    unsafe { baseline.write(Baseline::without_memory(UnixSeconds(now))) };
}

/// Restores a saved floor: no knock later than `floor` was accepted before this namespace started.
#[unsafe(no_mangle)]
extern "C" fn pkd_baseline_restore(baseline: &mut Baseline, floor: u64) {
    baseline.set_baseline(UnixSeconds(floor));
}

/// Records that `cache` is dropped: caches made later refuse everything it may have accepted.
#[unsafe(no_mangle)]
extern "C" fn pkd_baseline_drop(baseline: &mut Baseline, cache: &Cache) {
    baseline.drop_cache(cache.high_water_mark());
}

/// The latest time that may have been accepted so far, apart from existing caches, if no rule's window was
/// wider than `window`.
#[unsafe(no_mangle)]
extern "C" fn pkd_baseline_floor(baseline: &Baseline, window: u32) -> u64 {
    baseline.floor(Window::from_secs(window)).0
}

/// Size of a cache in bytes; the alignment is 8.
#[unsafe(no_mangle)]
extern "C" fn pkd_replay_size() -> usize {
    size_of::<Cache>()
}

/// Initializes an empty cache, which its first rule must then join.
///
/// # Safety
/// `cache` must be writable, `pkd_replay_size()` bytes, aligned to 8, and not shared yet.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_replay_init(cache: *mut Cache, baseline: &Baseline) {
    // A constant is written in place; a value would first take 4 KiB of the kernel's stack.
    const EMPTY: Cache = Cache::new(UnixSeconds(0));
    // SAFETY: as the caller promises.
    unsafe { cache.write(EMPTY) };
    // SAFETY: written above.
    unsafe { &mut *cache }.raise_evicted(baseline.dropped());
}

/// Adds a rule with this window to the cache's rules.
#[unsafe(no_mangle)]
extern "C" fn pkd_replay_join(cache: &mut Cache, baseline: &Baseline, window: u32) {
    cache.raise_baseline(baseline.earlier(Window::from_secs(window)));
}

/// Applies a restored `baseline` to the cache; knocks accepted since the start stay refused.
#[unsafe(no_mangle)]
extern "C" fn pkd_replay_restore(cache: &mut Cache, baseline: &Baseline) {
    // A restored baseline does not depend on the window.
    cache.set_baseline(baseline.earlier(Window::Monotonic));
}

/// Whether every accepted knock has left `window`, the widest of the cache's rules.
#[unsafe(no_mangle)]
extern "C" fn pkd_replay_past(cache: &Cache, now: u64, window: u32) -> bool {
    cache.is_past(UnixSeconds(now), Window::from_secs(window))
}

/// Fills in what the status file shows about a cache.
///
/// # Safety
/// `report` must be writable.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_replay_report(cache: &Cache, now: u64, report: *mut Report) {
    let shown = Report {
        floor: cache.floor().0,
        newest: cache.newest().map_or(0, |newest| newest.0),
        wait: cache.wait(UnixSeconds(now)),
        entries: u32::try_from(cache.len()).unwrap_or(u32::MAX),
        capacity: CACHE_CAPACITY,
    };
    // SAFETY: as the caller promises; the old content needs no drop.
    unsafe { report.write(shown) };
}
