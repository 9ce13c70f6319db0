//! Grants in the sets of OpenWrt's firewall4. The package `pkd` makes firewall4 create these sets, the rules that use
//! them, and the rules that pass knocks to pkdd. pkdd only fills the sets and starts no programs.

use std::{net::IpAddr, os::fd::BorrowedFd, path::Path, time::Duration};

use anyhow::Result;
use pktables::{Change, Error, ServiceName, SetPath, Sets};

use super::{ActiveGrant, FirewallBackend, Found};
use crate::config::{Config, ServiceConfig};

/// firewall4's table, of the family `inet`.
const TABLE: &str = "fw4";

/// The sets of firewall4.
pub struct Firewall4 {
    sets: Sets,
    /// Whether firewall4 was stopped at the last check.
    was_stopped: bool,
}

impl Firewall4 {
    /// Opens a netlink socket to nftables.
    ///
    /// # Errors
    /// The kernel has no nftables.
    pub fn open() -> Result<Self> {
        Ok(Self { sets: Sets::open()?, was_stopped: false })
    }
}

impl FirewallBackend for Firewall4 {
    fn install(&mut self, _: &Config, _: &Path) -> Result<Change> {
        Ok(Change::Made)
    }

    fn clear(&mut self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn notifications(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn was_notified(&mut self) -> Result<bool> {
        Ok(false)
    }

    fn needs_polling(&self) -> bool {
        false
    }

    fn check(&mut self, config: &Config) -> Result<Found> {
        let names = self.sets.names(TABLE)?;
        let is_running = config.services.keys().all(|service| names.contains(&set(service, true)));
        // There is nothing to do while firewall4 is stopped. After a start its sets are empty.
        let has_started = is_running && self.was_stopped;
        self.was_stopped = !is_running;
        Ok(if has_started { Found::Damaged } else { Found::Intact })
    }

    fn grant(&mut self, service: &ServiceConfig, address: IpAddr, ttl: Duration) -> Result<Change> {
        let set = set(&service.service.name, address.is_ipv4());
        Ok(self.sets.grant(SetPath { table: TABLE, set: &set }, address, Some(ttl))?)
    }

    fn revoke(&mut self, service: &ServiceConfig, address: IpAddr) -> Result<Change> {
        let set = set(&service.service.name, address.is_ipv4());
        match self.sets.revoke(SetPath { table: TABLE, set: &set }, address) {
            // While firewall4 is stopped, there are no grants to revoke.
            Err(Error::NoSet { .. }) => Ok(Change::AlreadySo),
            done => Ok(done?),
        }
    }

    fn list(&mut self, config: &Config) -> Result<Vec<ActiveGrant>> {
        let mut active = Vec::new();
        for service in config.services.keys() {
            for is_ipv4 in [true, false] {
                let set = set(service, is_ipv4);
                let elements = self.sets.list(SetPath { table: TABLE, set: &set })?;
                active.extend(elements.into_iter().map(|element| ActiveGrant {
                    service: service.clone(),
                    address: element.address.into(),
                    left: element.left,
                }));
            }
        }
        Ok(active)
    }

    fn needs_expiry(&self) -> bool {
        false
    }

    fn expire(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The name of a service's set. Names of the gate's own sets and chains have a dot after `pkd`.
pub(crate) fn set(service: &ServiceName, is_ipv4: bool) -> String {
    format!("pkd_{service}_{}", if is_ipv4 { 4 } else { 6 })
}
