//! The built `pktables` and its library on the system's own firewall, in network namespaces.
//!
//! [`netns::Netns`] is the namespace of a test. Most tests run three times: on nftables, on iptables over nftables, and on
//! iptables-legacy if the kernel has it.

#![forbid(unsafe_code)]

mod closed;
mod concurrency;
mod conntrack;
mod errors;
mod held;
mod kill;
mod knockd;
mod leases;
mod netns;
mod original;
mod packets;
mod ports;
mod readme;
mod rules;
mod sets;
mod topology;
