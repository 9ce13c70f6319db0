//! The built `knock` before a real door: pkdd on nftables and sshd, in networks of their own.

#![cfg(target_os = "linux")]

mod door;
mod ssh;
