//! What C calls. Declared for it in `openwrt/kmod/pkd_verify.h`.
//!
//! Every function may be called in softirq, neither sleeps nor allocates, and leaves locking to C.
//! What all of them ask for: a pointer must be aligned and valid for the call; what one points to
//! as `&` does not change meanwhile, and what one points to as `&mut` nobody else uses. So a guard's
//! memory needs the guard's lock, or a guard that no rule uses, and a start the namespace's mutex.

use core::ffi::c_int;

use pkd_core::{
    Mark, Packet, Reason, ReplayGuard, ReplayMemory, Rule, Start, UDP_LENGTH, UnixSeconds, Verdict, Verifier,
    Window,
};

/// Knocks that one guard holds: 4 KiB, and more knocks than people make in a window.
const GUARD_CAPACITY: u32 = 256;

type Guard = ReplayGuard<{ GUARD_CAPACITY as usize }>;

// The layouts that C has for the same things: struct xt_pkd_mtinfo and struct pkd_start.
const _: () = assert!(size_of::<Rule>() == 48 && align_of::<Rule>() == 4);
const _: () = assert!(size_of::<Start>() <= 32 && align_of::<Start>() <= 8);
const _: () = assert!(align_of::<Guard>() <= 8);

/// How C finds and locks the guard of a rule; opaque here.
#[repr(C)]
pub(crate) struct Door {
    opaque: [u8; 0],
}

/// `struct pkd_memory`: a [`Guard`], as a pointer to it passes through C.
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
    /// Takes the lock of the door's guard; null, and nothing locked, if it has none.
    ///
    /// `door` must be one that C passed to `pkd_verify` and that call must not have returned.
    fn pkd_guard_lock(door: *mut Door) -> *mut Memory;
    /// Gives the lock back.
    ///
    /// The last call of `pkd_guard_lock` with this door must have returned a guard.
    fn pkd_guard_unlock(door: *mut Door);
}

/// A guard that other CPUs use too.
struct SharedGuard {
    door: *mut Door,
}

impl SharedGuard {
    /// What `look` says of the guard, under its lock; `missing` where there is no guard.
    fn locked<R>(&mut self, missing: R, look: impl FnOnce(&mut Guard) -> R) -> R {
        // SAFETY: a SharedGuard lives inside pkd_verify() only, with the door of that call.
        let guard = unsafe { pkd_guard_lock(self.door) };
        // SAFETY: C returns null or a guard that pkd_memory_init() made, ours alone until unlocked.
        let Some(guard) = (unsafe { guard.cast::<Guard>().as_mut() }) else {
            return missing;
        };
        let answer = look(guard);
        // SAFETY: locked above; `guard` is not used again.
        unsafe { pkd_guard_unlock(self.door) };
        answer
    }
}

/// A rule without a guard cannot know a replay, so it accepts nothing.
impl ReplayMemory for SharedGuard {
    fn refuses(&mut self, mark: Mark, window: Window) -> bool {
        self.locked(true, |guard| guard.refuses(mark, window))
    }

    fn record(&mut self, mark: Mark, window: Window) -> bool {
        self.locked(false, |guard| guard.record(mark, window))
    }
}

/// Decides about one UDP datagram, header first. The answer is one of `enum pkd_verdict`.
///
/// # Safety
/// `rule` and `datagram` must be readable for the call, and `door` one that `pkd_guard_lock` takes.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_verify(
    rule: &Rule,
    door: *mut Door,
    now: u64,
    datagram: &[u8; UDP_LENGTH],
) -> c_int {
    let verdict = match Packet::from_udp(datagram) {
        Some(packet) => Verifier::new(rule, &mut SharedGuard { door }).check(UnixSeconds(now), &packet),
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
unsafe extern "C" fn pkd_start_init(start: *mut Start, now: u64) {
    // SAFETY: as the caller promises.
    unsafe { start.write(Start::without_memory(UnixSeconds(now))) };
}

/// Root says that nothing later than `floor` was accepted before this namespace started.
#[unsafe(no_mangle)]
extern "C" fn pkd_start_restore(start: &mut Start, floor: u64) {
    start.restore(UnixSeconds(floor));
}

/// The guard with this memory goes; those made later refuse all that it may have accepted.
#[unsafe(no_mangle)]
extern "C" fn pkd_start_drop(start: &mut Start, memory: &Guard) {
    start.drop_guard(memory.horizon());
}

/// What was accepted at the latest so far, but for the guards that are there, where no rule had a
/// wider window than this.
#[unsafe(no_mangle)]
extern "C" fn pkd_start_floor(start: &Start, window: u32) -> u64 {
    start.floor(Window::from_secs(window)).0
}

/// Bytes that the memory of one guard takes; aligned to 8.
#[unsafe(no_mangle)]
extern "C" fn pkd_memory_size() -> usize {
    size_of::<Guard>()
}

/// Makes an empty memory that has yet to be joined by its first rule.
///
/// # Safety
/// `memory` must be writable, `pkd_memory_size()` bytes, aligned to 8, and nobody else's.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_memory_init(memory: *mut Guard, start: &Start) {
    // A constant goes straight there; a value would pass through 4 KiB of the kernel's stack.
    const EMPTY: Guard = Guard::new(UnixSeconds(0));
    // SAFETY: as the caller promises.
    unsafe { memory.write(EMPTY) };
    // SAFETY: written above.
    unsafe { &mut *memory }.forget(start.dropped());
}

/// A rule with this window uses the guard from now on.
#[unsafe(no_mangle)]
extern "C" fn pkd_memory_join(memory: &mut Guard, start: &Start, window: u32) {
    memory.inherit(start.earlier(Window::from_secs(window)));
}

/// Root has restored `start`; this life's own knocks stay refused.
#[unsafe(no_mangle)]
extern "C" fn pkd_memory_restore(memory: &mut Guard, start: &Start) {
    // With memory it does not depend on a window.
    memory.restore(start.earlier(Window::NO_CLOCK));
}

/// Whether nothing that was accepted still lies in the window, the widest of the guard's rules.
#[unsafe(no_mangle)]
extern "C" fn pkd_memory_past(memory: &Guard, now: u64, window: u32) -> bool {
    memory.is_past(UnixSeconds(now), Window::from_secs(window))
}

/// What the status file shows of a guard.
///
/// # Safety
/// `report` must be writable.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_memory_report(memory: &Guard, now: u64, report: *mut Report) {
    let shown = Report {
        floor: memory.floor().0,
        newest: memory.newest().map_or(0, |newest| newest.0),
        wait: memory.wait(UnixSeconds(now)),
        entries: u32::try_from(memory.len()).unwrap_or(u32::MAX),
        capacity: GUARD_CAPACITY,
    };
    // SAFETY: as the caller promises; C has not filled it before.
    unsafe { report.write(shown) };
}
