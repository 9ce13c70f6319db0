//! Network namespaces for tests: isolated [`namespace`]s that end with the test, and in them a [`network`] of a gateway
//! and its client. Tests use this machine's kernel and its real programs.

#![forbid(unsafe_code)]

pub mod link;
pub mod namespace;
pub mod network;
pub mod probe;
pub mod process;
pub mod sshd;
pub mod stranger;
pub mod wire;
