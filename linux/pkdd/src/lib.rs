//! The daemon: opens a port to the sender of a valid knock, on hosts without the kernel module.
//!
//! An nftables or iptables rule passes possible knocks to pkdd ([`nflog`]), pkd-core decides
//! ([`engine`]), and the firewall lets the sender in ([`firewall`]). A journal of accepted knocks outlives the process
//! ([`journal`], [`caches`]). Their greatest time is saved on disk ([`floor`]) and outlives a reboot.

#![forbid(unsafe_code)]

mod atomic_file;
mod by_hand;
pub mod caches;
pub mod cause;
pub mod config;
pub mod control;
pub mod daemon;
pub mod date;
pub mod engine;
pub mod events;
#[cfg_attr(not(feature = "events"), path = "no_feed.rs")]
mod feed;
pub mod firewall;
pub mod floor;
pub mod format;
#[cfg_attr(not(feature = "rules"), path = "no_guard.rs")]
pub mod guard;
mod health;
mod hints;
mod invitation;
pub mod journal;
mod knock;
#[cfg(feature = "manage")]
pub mod manage;
mod news;
pub mod nflog;
pub mod openwrt;
pub mod privileges;
#[cfg(feature = "replay")]
pub mod replay;
pub mod report;
pub mod run_folder;
mod signals;
pub mod source;
pub mod status;
mod stored;
pub mod uptime;
mod users;
