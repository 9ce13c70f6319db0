//! The built `pktables` and its library against the system's own firewall, in network namespaces.
//!
//! [`room::Netns`] is the namespace of a test. Most tests are held three times: on nftables, on iptables over
//! nftables, and on iptables-legacy where the kernel has it.

#![forbid(unsafe_code)]

mod concurrency;
mod errors;
mod kill;
mod knockd;
mod netns;
mod original;
mod packets;
mod readme;
mod rules;
mod sets;
mod topology;
