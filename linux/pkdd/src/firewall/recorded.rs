//! A firewall whose grants are followed, so that their beginning and end can be told. The kernel ends them, and does not say so.

use std::{
    collections::BTreeMap,
    os::fd::BorrowedFd,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use pktables::{Change, Sender, ServiceName};

use super::{ActiveGrant, FirewallBackend, Integrity, ends::Ends};
use crate::{
    config::{Config, ServiceConfig},
    journal::Effect,
};

/// Without events nobody is told, and the code for it would be flash of a router.
const IS_TOLD: bool = cfg!(feature = "events");

/// Ends that differ by less are equal: grants are made again for whole seconds.
const SAME: Duration = Duration::from_secs(2);

/// A firewall, and the grants that were made through it.
pub(crate) struct Recorded {
    firewall: Box<dyn FirewallBackend>,
    open: BTreeMap<(ServiceName, String), Instant>,
    changes: Vec<GrantChange>,
    ends: Ends,
}

/// What became of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantChange {
    pub(crate) service: ServiceName,
    /// The address or network, as text.
    pub(crate) address: String,
    /// For how long it was made; `None`: it has ended.
    pub(crate) ttl: Option<Duration>,
}

impl Recorded {
    pub(crate) fn new(firewall: Box<dyn FirewallBackend>) -> Self {
        Self { firewall, open: BTreeMap::new(), changes: Vec::new(), ends: Ends::default() }
    }

    /// Ends the connections of grants that are over. `Some`: it was tried, with this result.
    pub(crate) fn end_connections(&mut self, config: &Config) -> Option<Result<()>> {
        self.ends.end(self.firewall.as_mut(), config)
    }

    /// Follows what these knocks have opened, to end its connections.
    pub(crate) fn follow(&mut self, config: &Config, effects: &[Effect]) {
        self.ends.follow(config, effects);
    }

    /// What has changed since the last call, in this order.
    pub(crate) fn changes(&mut self) -> Vec<GrantChange> {
        std::mem::take(&mut self.changes)
    }

    /// Notes which grants have ended by `now`.
    pub(crate) fn end(&mut self, now: Instant) {
        if !IS_TOLD {
            return;
        }
        let Self { open, changes, .. } = self;
        open.retain(|(service, address), end| {
            let is_open = *end > now;
            if !is_open {
                changes.push(GrantChange { service: service.clone(), address: address.clone(), ttl: None });
            }
            is_open
        });
    }

    fn granted(&mut self, service: &ServiceConfig, sender: Sender, ttl: Duration) {
        if !IS_TOLD {
            return;
        }
        let now = Instant::now();
        let key = key(service, sender);
        let end = self.open.entry(key.clone()).or_insert(now);
        if now + ttl > *end + SAME || *end <= now {
            self.changes.push(GrantChange { service: key.0, address: key.1, ttl: Some(ttl) });
        }
        *end = (now + ttl).max(*end);
    }

    fn revoked(&mut self, service: &ServiceConfig, sender: Sender) {
        if !IS_TOLD {
            return;
        }
        let key = key(service, sender);
        if self.open.remove(&key).is_some() {
            self.changes.push(GrantChange { service: key.0, address: key.1, ttl: None });
        }
    }
}

fn key(service: &ServiceConfig, sender: Sender) -> (ServiceName, String) {
    let network = service.network(sender);
    let is_link = sender.is_link_local();
    let address = if is_link { sender.to_string() } else { pktables::address::short(network) };
    (service.service.name.clone(), address)
}

impl FirewallBackend for Recorded {
    fn grant(&mut self, service: &ServiceConfig, sender: Sender, ttl: Duration) -> Result<Change> {
        let change = self.firewall.grant(service, sender, ttl)?;
        self.granted(service, sender, ttl);
        self.ends.granted(service, sender, ttl);
        Ok(change)
    }

    fn revoke(&mut self, service: &ServiceConfig, sender: Sender) -> Result<Change> {
        let change = self.firewall.revoke(service, sender)?;
        self.revoked(service, sender);
        self.ends.look();
        Ok(change)
    }

    fn install(&mut self, config: &Config, list: &Path) -> Result<Change> {
        let change = self.firewall.install(config, list)?;
        if !IS_TOLD {
            return Ok(change);
        }
        let Self { open, changes, .. } = self;
        open.retain(|(service, address), _| {
            let is_service = config.services.contains_key(service);
            if !is_service {
                changes.push(GrantChange { service: service.clone(), address: address.clone(), ttl: None });
            }
            is_service
        });
        Ok(change)
    }

    fn set_words(&mut self, words: &BTreeMap<[u8; 4], Option<Instant>>) -> Result<()> {
        self.firewall.set_words(words)
    }

    fn clear(&mut self, list: &Path) -> Result<()> {
        self.firewall.clear(list)
    }

    fn notifications(&self) -> Option<BorrowedFd<'_>> {
        self.firewall.notifications()
    }

    fn was_notified(&mut self) -> Result<bool> {
        self.firewall.was_notified()
    }

    fn needs_polling(&self) -> bool {
        self.firewall.needs_polling()
    }

    fn check(&mut self, config: &Config) -> Result<Integrity> {
        // Another program may have revoked a grant.
        self.ends.look();
        self.firewall.check(config)
    }

    fn has_link_grants(&self) -> bool {
        self.firewall.has_link_grants()
    }

    fn list(&mut self, config: &Config) -> Result<Vec<ActiveGrant>> {
        self.firewall.list(config)
    }

    fn limited(&mut self) -> Result<u64> {
        self.firewall.limited()
    }

    fn needs_expiry(&self) -> bool {
        self.firewall.needs_expiry()
    }

    fn expire(&mut self) -> Result<()> {
        self.firewall.expire()
    }

    fn finish(&mut self) -> Result<()> {
        self.firewall.finish()
    }
}
