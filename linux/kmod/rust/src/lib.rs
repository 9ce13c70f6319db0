//! The decisions of `xt_pkd.ko`. The C shim beside this crate registers the match, copies the
//! datagram, locks and tells the time; every verdict, and all that is remembered, is made here.
//!
//! The functions below are called by `xt_pkd_main.c` alone and declared for it in `pkd_verify.h`.
#![no_std]

mod ffi;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        /// Defined nowhere: a panic that the optimizer did not prove impossible fails the build.
        safe fn pkd_panic_path_survived() -> !;
    }
    pkd_panic_path_survived()
}
