//! The built `knock` before a real gateway: pkdd on nftables and sshd, in networks of their own.

#![cfg(target_os = "linux")]

mod doctor;
mod gateway;
mod ssh;
