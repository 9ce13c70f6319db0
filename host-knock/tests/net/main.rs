//! The built `knock` against a real gateway, pkdd on nftables with sshd, in network namespaces.

#![cfg(target_os = "linux")]

mod doctor;
mod gateway;
mod outlet;
mod rules;
mod ssh;
