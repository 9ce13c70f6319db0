//! The built `knock` from the outside: exit codes, output, datagrams.
//!
//! Linux only, for pseudo-terminals and `setsid`: the command must not find the terminal of whoever runs the tests.

#![cfg(target_os = "linux")]

mod addresses;
mod captures;
mod commands;
mod completions;
mod datagram;
mod errors;
mod format2;
mod forms;
mod habits;
mod harness;
mod ini;
mod json;
mod key_files;
mod keys;
mod packaging;
mod pair;
mod positional;
mod profiles;
mod prompt;
mod readme;
mod sequence;
mod verify;
