//! The built `knock` before a real door: pkdd on nftables and sshd, in networks of their own.

#![cfg(target_os = "linux")]

mod doctor;
mod door;
mod ssh;
