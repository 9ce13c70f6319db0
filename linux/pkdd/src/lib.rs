//! The door for hosts without the kernel module: an nftables or iptables rule hands over what may be a knock
//! (`handover`, [`nflog`]), pkd-core decides ([`door`]), and pktables lets the sender pass ([`keeper`]).
//!
//! What was accepted is in a journal that outlives the process ([`journal`], [`caches`]), and the greatest time
//! of it on disk ([`floor`]).

#![forbid(unsafe_code)]

pub mod caches;
pub mod config;
pub mod control;
pub mod daemon;
pub mod day;
pub mod door;
pub mod firewall4;
pub mod floor;
#[cfg(feature = "rules")]
pub mod handover;
pub mod journal;
pub mod keeper;
pub mod nflog;
#[cfg(feature = "rules")]
pub mod own_rules;
pub mod privileges;
#[cfg(feature = "replay")]
pub mod replay;
pub mod report;
pub mod status;
