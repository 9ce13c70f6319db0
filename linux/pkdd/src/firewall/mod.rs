//! Rules and grants: with pktables, or in the sets of OpenWrt's firewall4.

mod backend;
#[cfg(feature = "rules")]
mod capture;
#[cfg(feature = "rules")]
pub mod conflicts;
mod ends;
pub mod firewall4;
mod look;
pub(crate) mod nflog_chain;
mod obstacle;
#[cfg(feature = "rules")]
pub mod pktables_backend;
pub(crate) mod ports;
pub mod reconcile;
mod recorded;

use std::path::Path;

use anyhow::Result;

pub use backend::{ActiveGrant, FirewallBackend, Integrity};
pub use ends::hindrance;
use firewall4::Firewall4;
pub use look::Look;
pub(crate) use obstacle::obstacle;
#[cfg(feature = "rules")]
use pktables_backend::PktablesBackend;
pub(crate) use recorded::Recorded;

use crate::config::Firewall;

/// Opens the configured firewall. Changes nothing.
///
/// # Errors
/// The firewall is not available on this machine.
pub fn open(firewall: Firewall) -> Result<Box<dyn FirewallBackend>> {
    Ok(match firewall {
        Firewall::Firewall4 => Box::new(Firewall4::open()?),
        #[cfg(feature = "rules")]
        Firewall::Pktables(backend) => Box::new(PktablesBackend::open(backend)?),
    })
}

/// Whether the firewall refused because another pkdd holds its table.
#[must_use]
pub fn is_held_by_another(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(pktables::Error::TableInUse { .. }))
}

/// The lock files that are held while rules change: pktables' own and, for iptables-legacy, that of xtables.
#[must_use]
pub fn locks(firewall: Firewall) -> Vec<&'static Path> {
    match firewall {
        Firewall::Firewall4 => Vec::new(),
        #[cfg(feature = "rules")]
        Firewall::Pktables(pktables::Backend::Nft) => vec![Path::new(pktables::LOCK)],
        #[cfg(feature = "rules")]
        Firewall::Pktables(_) => vec![Path::new(pktables::LOCK), Path::new("/run/xtables.lock")],
    }
}
