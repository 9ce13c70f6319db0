//! The built `knock`, as people and gateways see it: exit codes, texts, datagrams.
//!
//! Linux only, for the terminals and for `setsid`: the command must not find the terminal of whoever
//! runs the tests.

#![cfg(target_os = "linux")]

mod datagram;
mod desk;
mod ini;
mod keys;
mod mistakes;
mod pages;
mod profiles;
mod prompt;
mod readme;
mod secrets;
mod sequence;
mod verbs;
mod verify;
mod words;
