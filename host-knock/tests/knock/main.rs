//! The built `knock`, as people and gateways see it: exit codes, texts, datagrams.
//!
//! Linux only, for the terminals and for `setsid`: the command must not find the terminal of whoever
//! runs the tests.

#![cfg(target_os = "linux")]

mod commands;
mod datagram;
mod errors;
mod harness;
mod imports;
mod ini;
mod key_files;
mod keys;
mod packaging;
mod positional;
mod profiles;
mod prompt;
mod readme;
mod sequence;
mod verify;
