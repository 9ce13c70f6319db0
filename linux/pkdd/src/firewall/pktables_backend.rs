//! pkdd's own rules on nftables or iptables, made with pktables.

use std::{fs, io, net::IpAddr, path::Path, time::Duration};

use anyhow::{Context, Result};
use pktables::{Backend, Change, Firewall, ServiceName, Sets};

use super::{
    ActiveGrant, FirewallBackend,
    nflog_rules::{self, NflogRules},
};
use crate::config::{Config, ServiceConfig};

/// pktables' services, and the rules that pass knocks to pkdd.
pub struct PktablesBackend {
    firewall: Box<dyn Firewall>,
    backend: Backend,
    /// For cheap checks of the nftables sets.
    sets: Sets,
}

impl PktablesBackend {
    /// Opens the firewall.
    ///
    /// # Errors
    /// The firewall is not available, or cannot be accessed.
    pub fn open(wanted: Backend) -> Result<Self> {
        let backend = wanted.resolve()?;
        Ok(Self { firewall: backend.open()?, backend, sets: Sets::open()? })
    }
}

impl FirewallBackend for PktablesBackend {
    fn install(&mut self, config: &Config, list: &Path) -> Result<()> {
        let before = read_list(list)?;
        // New services enter the list before they get rules; old ones leave it after their rules are removed.
        write_list(list, before.iter().chain(config.services.keys()))?;
        for (name, service) in &config.services {
            self.firewall.init(&service.service).with_context(|| format!("service \"{name}\""))?;
        }
        for name in before.iter().filter(|name| !config.services.contains_key(*name)) {
            self.firewall.remove(name).with_context(|| format!("service \"{name}\""))?;
        }
        write_list(list, config.services.keys())?;
        NflogRules::of(config).install(self.backend)
    }

    fn clear(&mut self, list: &Path) -> Result<()> {
        for name in read_list(list)? {
            self.firewall.remove(&name).with_context(|| format!("service \"{name}\""))?;
        }
        NflogRules::remove(self.backend)?;
        write_list(list, [])
    }

    fn is_installed(&mut self, config: &Config) -> bool {
        // A check of iptables rules would have to start programs.
        if self.backend != Backend::Nft {
            return true;
        }
        let mut names = |table| self.sets.names(table).ok();
        // If the sets cannot be listed, assume that they exist: the next grant fails otherwise.
        let (Some(own), Some(theirs)) = (names(nflog_rules::TABLE), names(pktables::TABLE)) else {
            return true;
        };
        let has = |name: &ServiceName| {
            let prefix = format!("{}-", name.chain());
            theirs.iter().any(|set| set.strip_prefix(&prefix).is_some_and(|rest| ["4", "6"].contains(&rest)))
        };
        !own.is_empty() && config.services.keys().all(has)
    }

    fn grant(&mut self, service: &ServiceConfig, address: IpAddr, ttl: Duration) -> Result<Change> {
        Ok(self.firewall.grant(&service.service.name, address.into(), Some(ttl))?)
    }

    fn revoke(&mut self, service: &ServiceConfig, address: IpAddr) -> Result<Change> {
        Ok(self.firewall.revoke(&service.service.name, address.into())?)
    }

    fn list(&mut self, config: &Config) -> Result<Vec<ActiveGrant>> {
        let mut active = Vec::new();
        for listing in self.firewall.list()? {
            let service = listing.service.name;
            if config.services.contains_key(&service) {
                active.extend(listing.grants.into_iter().map(|grant| ActiveGrant {
                    service: service.clone(),
                    address: grant.address,
                    left: grant.left,
                }));
            }
        }
        Ok(active)
    }

    fn needs_expiry(&self) -> bool {
        self.backend == Backend::Iptables
    }

    fn expire(&mut self) -> Result<()> {
        Ok(self.firewall.expire().map(drop)?)
    }
}

fn read_list(path: &Path) -> Result<Vec<ServiceName>> {
    match fs::read_to_string(path) {
        Ok(text) => text
            .lines()
            .map(|line| {
                line.parse().with_context(|| {
                    format!("{}: invalid service name: pkdd did not write this file", path.display())
                })
            })
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write_list<'a>(path: &Path, names: impl IntoIterator<Item = &'a ServiceName>) -> Result<()> {
    let mut lines: Vec<String> = names.into_iter().map(|name| format!("{name}\n")).collect();
    lines.sort_unstable();
    lines.dedup();
    let new = path.with_extension("new");
    fs::write(&new, lines.concat())
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_list_is_read_back_and_invalid_lists_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("services");
        assert!(read_list(&path).unwrap().is_empty());
        let names: Vec<ServiceName> =
            ["ssh", "a-b", "ssh"].iter().map(|name| name.parse().unwrap()).collect();
        write_list(&path, &names).unwrap();
        assert_eq!(read_list(&path).unwrap(), ["a-b".parse().unwrap(), "ssh".parse().unwrap()]);
        fs::write(&path, "ssh\n\n").unwrap();
        assert!(read_list(&path).is_err());
    }
}
