//! The daemon: opens a port for the sender of a valid knock, on hosts without the kernel module.
//!
//! A rule of nftables or iptables delivers what may be a knock ([`firewall::nflog_rules`], [`nflog`]), pkd-core decides
//! ([`engine`]), and the firewall lets the sender in ([`firewall`]). A journal that outlives the process has what was
//! accepted ([`journal`], [`caches`]); the greatest time of it is on disk ([`floor`]).

#![forbid(unsafe_code)]

pub mod caches;
pub mod config;
pub mod control;
pub mod daemon;
pub mod date;
pub mod engine;
pub mod firewall;
pub mod floor;
pub mod journal;
pub mod nflog;
pub mod privileges;
#[cfg(feature = "replay")]
pub mod replay;
pub mod report;
pub mod status;
