//! The verifier of `xt_pkd.ko`. The C shim beside this crate registers the match, copies the datagram,
//! provides locks and reads the clock; this crate decides and maintains the replay caches.
//!
//! Only `xt_pkd_main.c` calls these functions; `pkd_verify.h` declares them.
#![no_std]

mod ffi;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        /// Not defined anywhere: a panic that the optimizer could not rule out fails the build.
        safe fn pkd_panic_path_survived() -> !;
    }
    pkd_panic_path_survived()
}
