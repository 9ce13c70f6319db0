//! What C calls. Declared for it in `linux/kmod/pkd_verify.h`.
//!
//! Every function may be called in softirq, neither sleeps nor allocates, and leaves locking to C.
//! What all of them ask for: a pointer must be aligned and valid for the call; what one points to
//! as `&` does not change meanwhile, and what one points to as `&mut` nobody else uses. So a cache's
//! memory needs the cache's lock, or a cache that no rule uses, and a start the namespace's mutex.

use core::ffi::c_int;

use pkd_core::{
    Baseline, KnockId, Packet, Reason, ReplayCache, ReplayStore, Rule, UDP_LENGTH, UnixSeconds, Verdict,
    Verifier, Window,
};

/// Knocks that one cache holds: 4 KiB, and more knocks than people make in a window.
const CACHE_CAPACITY: u32 = 256;

type Cache = ReplayCache<{ CACHE_CAPACITY as usize }>;

// The layouts that C has for the same things: struct xt_pkd_mtinfo and struct pkd_baseline.
const _: () = assert!(size_of::<Rule>() == 48 && align_of::<Rule>() == 4);
const _: () = assert!(size_of::<Baseline>() <= 32 && align_of::<Baseline>() <= 8);
const _: () = assert!(align_of::<Cache>() <= 8);

/// How C finds and locks the cache of a rule; opaque here.
#[repr(C)]
pub(crate) struct Lookup {
    opaque: [u8; 0],
}

/// `struct pkd_replay`: a [`Cache`], as a pointer to it passes through C.
#[repr(C)]
pub(crate) struct Memory {
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
    /// Takes the lock of the lookup's cache; null, and nothing locked, if it has none.
    ///
    /// `lookup` must be one that C passed to `pkd_verify` and that call must not have returned.
    fn pkd_cache_lock(lookup: *mut Lookup) -> *mut Memory;
    /// Gives the lock back.
    ///
    /// The last call of `pkd_cache_lock` with this lookup must have returned a cache.
    fn pkd_cache_unlock(lookup: *mut Lookup);
}

/// A cache that other CPUs use too.
struct SharedCache {
    lookup: *mut Lookup,
}

impl SharedCache {
    /// What `look` says of the cache, under its lock; `missing` where there is no cache.
    fn locked<R>(&mut self, missing: R, look: impl FnOnce(&mut Cache) -> R) -> R {
        // SAFETY: a SharedCache lives inside pkd_verify() only, with the lookup of that call.
        let cache = unsafe { pkd_cache_lock(self.lookup) };
        // SAFETY: C returns null or a cache that pkd_replay_init() made, ours alone until unlocked.
        let Some(cache) = (unsafe { cache.cast::<Cache>().as_mut() }) else {
            return missing;
        };
        let answer = look(cache);
        // SAFETY: locked above; `cache` is not used again.
        unsafe { pkd_cache_unlock(self.lookup) };
        answer
    }
}

/// A rule without a cache cannot know a replay, so it accepts nothing.
impl ReplayStore for SharedCache {
    fn refuses(&mut self, mark: KnockId, window: Window) -> bool {
        self.locked(true, |cache| cache.refuses(mark, window))
    }

    fn record(&mut self, mark: KnockId, window: Window) -> bool {
        self.locked(false, |cache| cache.record(mark, window))
    }
}

/// Decides about one UDP datagram, header first. The answer is one of `enum pkd_verdict`.
///
/// # Safety
/// `rule` and `datagram` must be readable for the call, and `lookup` one that `pkd_cache_lock` takes.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_verify(
    rule: &Rule,
    lookup: *mut Lookup,
    now: u64,
    datagram: &[u8; UDP_LENGTH],
) -> c_int {
    let verdict = match Packet::from_udp(datagram) {
        Some(packet) => Verifier::new(rule, &mut SharedCache { lookup }).check(UnixSeconds(now), &packet),
        None => Verdict::Ignore(Reason::Length),
    };
    match verdict {
        Verdict::Accept => 0,
        Verdict::Ignore(Reason::Length) => 1,
        Verdict::Ignore(Reason::Tag) => 2,
        Verdict::Ignore(Reason::Window) => 3,
        Verdict::Ignore(Reason::Replay) => 4,
        Verdict::Ignore(Reason::Digest) => 5,
    }
}

/// A namespace starts at `now`, and remembers nothing of earlier ones.
///
/// # Safety
/// `start` must be writable, 32 bytes, aligned to 8.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_baseline_init(start: *mut Baseline, now: u64) {
    // SAFETY: as the caller promises.
    unsafe { start.write(Baseline::without_memory(UnixSeconds(now))) };
}

/// Root says that nothing later than `floor` was accepted before this namespace started.
#[unsafe(no_mangle)]
extern "C" fn pkd_baseline_restore(start: &mut Baseline, floor: u64) {
    start.set_baseline(UnixSeconds(floor));
}

/// The cache with this memory goes; those made later refuse all that it may have accepted.
#[unsafe(no_mangle)]
extern "C" fn pkd_baseline_drop(start: &mut Baseline, memory: &Cache) {
    start.drop_cache(memory.high_water_mark());
}

/// What was accepted at the latest so far, but for the caches that are there, where no rule had a
/// wider window than this.
#[unsafe(no_mangle)]
extern "C" fn pkd_baseline_floor(start: &Baseline, window: u32) -> u64 {
    start.floor(Window::from_secs(window)).0
}

/// Bytes that the memory of one cache takes; aligned to 8.
#[unsafe(no_mangle)]
extern "C" fn pkd_replay_size() -> usize {
    size_of::<Cache>()
}

/// Makes an empty memory that has yet to be joined by its first rule.
///
/// # Safety
/// `memory` must be writable, `pkd_replay_size()` bytes, aligned to 8, and nobody else's.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_replay_init(memory: *mut Cache, start: &Baseline) {
    // A constant goes straight there; a value would pass through 4 KiB of the kernel's stack.
    const EMPTY: Cache = Cache::new(UnixSeconds(0));
    // SAFETY: as the caller promises.
    unsafe { memory.write(EMPTY) };
    // SAFETY: written above.
    unsafe { &mut *memory }.raise_evicted(start.dropped());
}

/// A rule with this window uses the cache from now on.
#[unsafe(no_mangle)]
extern "C" fn pkd_replay_join(memory: &mut Cache, start: &Baseline, window: u32) {
    memory.raise_baseline(start.earlier(Window::from_secs(window)));
}

/// Root has restored `start`; this life's own knocks stay refused.
#[unsafe(no_mangle)]
extern "C" fn pkd_replay_restore(memory: &mut Cache, start: &Baseline) {
    // With memory it does not depend on a window.
    memory.set_baseline(start.earlier(Window::NO_CLOCK));
}

/// Whether nothing that was accepted still lies in the window, the widest of the cache's rules.
#[unsafe(no_mangle)]
extern "C" fn pkd_replay_past(memory: &Cache, now: u64, window: u32) -> bool {
    memory.is_past(UnixSeconds(now), Window::from_secs(window))
}

/// What the status file shows of a cache.
///
/// # Safety
/// `report` must be writable.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_replay_report(memory: &Cache, now: u64, report: *mut Report) {
    let shown = Report {
        floor: memory.floor().0,
        newest: memory.newest().map_or(0, |newest| newest.0),
        wait: memory.wait(UnixSeconds(now)),
        entries: u32::try_from(memory.len()).unwrap_or(u32::MAX),
        capacity: CACHE_CAPACITY,
    };
    // SAFETY: as the caller promises; C has not filled it before.
    unsafe { report.write(shown) };
}
