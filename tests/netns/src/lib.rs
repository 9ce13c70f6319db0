//! Network namespaces for tests: [`room`]s that nobody else sees and that end with the test, and in them a
//! [`network`] of a gateway and its client. With this machine's kernel and its real programs.

#![forbid(unsafe_code)]

pub mod network;
pub mod probe;
pub mod process;
pub mod room;
pub mod sshd;
