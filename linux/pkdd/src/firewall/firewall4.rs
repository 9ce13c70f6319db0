//! Grants in the sets of OpenWrt's firewall4. The package `pkd` has it make them, with the rules that look at them and
//! that hand over the knocks; nothing is started here.

use std::{net::IpAddr, path::Path, time::Duration};

use anyhow::Result;
use pktables::{Change, Error, ServiceName, SetPath, Sets};

use super::{ActiveGrant, FirewallBackend};
use crate::config::{Config, ServiceConfig};

/// Its table, of the family `inet`.
const TABLE: &str = "fw4";

/// A way to its sets.
pub struct Firewall4 {
    sets: Sets,
    /// It was stopped when it was looked at.
    was_gone: bool,
}

impl Firewall4 {
    /// Finds the kernel's nftables.
    ///
    /// # Errors
    /// There are none.
    pub fn open() -> Result<Self> {
        Ok(Self { sets: Sets::open()?, was_gone: false })
    }
}

impl FirewallBackend for Firewall4 {
    fn install(&mut self, _: &Config, _: &Path) -> Result<()> {
        Ok(())
    }

    fn clear(&mut self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn is_installed(&mut self, config: &Config) -> bool {
        let names = self.sets.names(TABLE).unwrap_or_default();
        let is_there = config.services.keys().all(|service| names.contains(&set(service, true)));
        // While it is stopped there is nothing to do. When it comes back its sets are empty.
        let has_come_back = is_there && self.was_gone;
        self.was_gone = !is_there;
        !has_come_back
    }

    fn grant(&mut self, service: &ServiceConfig, address: IpAddr, ttl: Duration) -> Result<Change> {
        let set = set(&service.service.name, address.is_ipv4());
        Ok(self.sets.grant(SetPath { table: TABLE, set: &set }, address, Some(ttl))?)
    }

    fn revoke(&mut self, service: &ServiceConfig, address: IpAddr) -> Result<Change> {
        let set = set(&service.service.name, address.is_ipv4());
        match self.sets.revoke(SetPath { table: TABLE, set: &set }, address) {
            // A firewall that is stopped lets nobody pass by a set.
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

/// As the package `pkd` names it.
fn set(service: &ServiceName, is_ipv4: bool) -> String {
    format!("pkd_{service}_{}", if is_ipv4 { 4 } else { 6 })
}
