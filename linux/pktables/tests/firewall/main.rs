//! The built `pktables` and its library against the system's own firewall, in network namespaces.
//!
//! [`room::Room`] is the namespace of a test. Most tests are held three times: on nftables, on iptables over
//! nftables, and on iptables-legacy where the kernel has it.

#![forbid(unsafe_code)]

mod crowd;
mod killed;
mod knockd;
mod lab;
mod original;
mod packets;
mod readme;
mod room;
mod rules;
mod sets;
mod words;
