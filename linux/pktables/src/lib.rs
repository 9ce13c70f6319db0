//! Decides which address may reach which service of a host.
//!
//! A [`Service`] guards ports. A grant lets an address or prefix reach it, for a time or without end. [`Nft`] keeps both
//! in nftables and [`Iptables`] in iptables, behind one trait, [`Firewall`]. [`Sets`] is what [`Nft`] makes grants with:
//! elements of nftables sets, changed over netlink. It also works with sets that another program created.
//!
//! No command goes through a shell, and the crate does not know why a grant is made.
//!
//! ```no_run
//! # #[cfg(feature = "rules")]
//! # fn example() -> Result<(), pktables::Error> {
//! use std::time::Duration;
//!
//! let mut firewall = pktables::Backend::Auto.open()?;
//! let address = pktables::address::parse("192.0.2.7")?;
//! firewall.grant(&"ssh".parse()?, address, Some(Duration::from_secs(30)))?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod address;
#[cfg(feature = "rules")]
mod backend;
mod conntrack;
mod error;
mod firewall;
mod forward;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "rules")]
mod held;
mod invalid;
#[cfg(feature = "rules")]
mod ipset;
#[cfg(feature = "rules")]
mod iptables;
mod lease_prefix;
#[cfg(feature = "rules")]
mod lock;
mod log;
mod message;
mod netlink;
#[cfg(feature = "rules")]
mod nft;
mod ports;
#[cfg(feature = "rules")]
mod program;
mod scope;
mod sender;
mod service;
mod service_name;
mod set_elements;
mod sets;
pub mod time;
#[cfg(feature = "rules")]
mod watch;

#[cfg(feature = "rules")]
pub use backend::Backend;
pub use conntrack::Connections;
pub use error::Error;
pub use firewall::{Change, Firewall, Grant, Grants, Listing, Listings};
pub use forward::Forward;
#[cfg(feature = "rules")]
pub use held::{Capture, HeldTable, LinkGrant, Protection};
pub use invalid::Invalid;
#[cfg(feature = "rules")]
pub use iptables::Iptables;
pub use lease_prefix::LeasePrefix;
#[cfg(feature = "rules")]
pub use lock::DEFAULT_PATH as LOCK;
pub use log::{Log, LogLevel, LogLimit, LogPrefix, LogUnit};
#[cfg(feature = "rules")]
pub use nft::{Nft, TABLE};
pub use ports::{Port, Ports};
pub use scope::{Exempt, Interface, Scope};
pub use sender::Sender;
pub use service::{Policy, Protocol, Service};
pub use service_name::ServiceName;
pub use sets::{Element, SetPath, Sets};
#[cfg(feature = "rules")]
pub use watch::Watch;
