//! The verifier of `xt_pkd.ko`. The C shim beside this crate registers the match, copies the datagram,
//! provides locks and reads the clock; this crate decides and maintains the replay caches.
//!
//! `pkd_verify.h` declares the functions that C calls. Every one may be called in softirq, neither sleeps nor
//! allocates, and leaves locking to C. All of them require that pointers are aligned and valid for the call, that the
//! target of a `&` does not change during the call, and that nothing else accesses the target of a `&mut`. So the
//! caller holds the cache's lock, or no rule uses the cache; for baselines it holds the namespace's mutex.
#![no_std]

mod replay;
mod verify;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        /// Not defined anywhere: a panic that the optimizer could not rule out fails the build.
        safe fn pkd_panic_path_survived() -> !;
    }
    pkd_panic_path_survived()
}
