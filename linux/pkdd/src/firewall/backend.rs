//! What a firewall does for pkdd, whichever it is.

use std::{net::IpAddr, path::Path, time::Duration};

use anyhow::Result;
use ipnet::IpNet;
use pktables::{Change, ServiceName};

use crate::config::{Config, ServiceConfig};

/// An address that may pass a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveGrant {
    /// Which.
    pub service: ServiceName,
    /// Who.
    pub address: IpNet,
    /// How long still; `None`: without an end.
    pub left: Option<Duration>,
}

/// Rules and grants of one firewall.
pub trait FirewallBackend {
    /// Guards the services, stops guarding those that only an earlier configuration had, and has knocks delivered.
    /// `list` is the file that remembers which those are.
    ///
    /// # Errors
    /// The firewall refuses. What was changed before stays so; what is guarded stays guarded.
    fn install(&mut self, config: &Config, list: &Path) -> Result<()>;

    /// Takes all away that [`install`](Self::install) made.
    ///
    /// # Errors
    /// The firewall refuses.
    fn clear(&mut self, list: &Path) -> Result<()>;

    /// Whether the rules are there that [`install`](Self::install) made, as far as a cheap look tells.
    fn is_installed(&mut self, config: &Config) -> bool;

    /// Lets an address pass. One that may for longer already still may.
    ///
    /// # Errors
    /// The firewall refuses, or has lost its rules.
    fn grant(&mut self, service: &ServiceConfig, address: IpAddr, ttl: Duration) -> Result<Change>;

    /// Lets it pass no longer.
    ///
    /// # Errors
    /// The firewall refuses, or has lost its rules.
    fn revoke(&mut self, service: &ServiceConfig, address: IpAddr) -> Result<Change>;

    /// Who may pass now.
    ///
    /// # Errors
    /// The firewall refuses.
    fn list(&mut self, config: &Config) -> Result<Vec<ActiveGrant>>;

    /// Whether grants end only by [`sweep`](Self::sweep).
    fn needs_expiry(&self) -> bool;

    /// Ends what is over and the kernel does not end by itself.
    ///
    /// # Errors
    /// The firewall refuses.
    fn expire(&mut self) -> Result<()>;
}
