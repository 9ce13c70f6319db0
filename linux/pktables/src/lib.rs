//! Which address may pass which service of a host.
//!
//! A [`Service`] is a guarded port. A grant lets an address or prefix pass it, for a time or without end.
//! [`Nft`] keeps both in nftables, [`Iptables`] in iptables, behind one trait, [`Firewall`]. [`Sets`] is what
//! [`Nft`] grants with: elements of nftables sets over netlink, also of sets that others made.
//!
//! Nothing here is asked of a shell, and nothing is known of how somebody came to be granted.

#![forbid(unsafe_code)]

pub mod address;
#[cfg(feature = "rules")]
mod backend;
mod error;
mod firewall;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod invalid;
#[cfg(feature = "rules")]
mod iptables;
#[cfg(feature = "rules")]
mod lock;
mod log;
mod message;
mod netlink;
#[cfg(feature = "rules")]
mod nft;
#[cfg(feature = "rules")]
mod program;
mod service;
mod sets;
pub mod time;

#[cfg(feature = "rules")]
pub use backend::Backend;
pub use error::Error;
pub use firewall::{Change, Firewall, Grant, Listing};
pub use invalid::Invalid;
#[cfg(feature = "rules")]
pub use iptables::Iptables;
#[cfg(feature = "rules")]
pub use lock::DEFAULT_PATH as LOCK;
pub use log::{Log, LogLevel, LogLimit, LogPrefix, LogUnit};
#[cfg(feature = "rules")]
pub use nft::{Nft, TABLE};
pub use service::{Forward, Policy, Port, Protocol, Service, ServiceName};
pub use sets::{Element, SetPath, Sets};
