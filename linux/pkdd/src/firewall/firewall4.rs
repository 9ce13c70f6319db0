//! Grants in the sets of OpenWrt's firewall4. The package `pkd` makes firewall4 create these sets, the rules that use
//! them, and the rules that pass knocks to pkdd. pkdd only fills the sets and starts no programs.

use std::{
    collections::BTreeMap,
    os::fd::BorrowedFd,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use pktables::{Change, Error, Sender, ServiceName, SetPath, Sets};

use super::{
    ActiveGrant, FirewallBackend, Integrity,
    nflog_chain::{BEYOND, PREFIX},
};
use crate::config::{Config, ServiceConfig};

/// firewall4's table, of the family `inet`.
const TABLE: &str = "fw4";

/// The set of hints; see [`NflogChain`](super::nflog_chain::NflogChain).
const HINTS: &str = "pkd.hints";

/// The sets of firewall4.
pub struct Firewall4 {
    sets: Sets,
    /// Whether firewall4 was stopped at the last check.
    was_stopped: bool,
    /// The hints that count now.
    words: BTreeMap<[u8; 4], Instant>,
    /// What was dropped beyond the rate limit since the start, and what firewall4's counter last was; `None`: unknown yet.
    limited: (u64, Option<u64>),
}

impl Firewall4 {
    /// Opens a netlink socket to nftables.
    ///
    /// # Errors
    /// The kernel has no nftables.
    pub fn open() -> Result<Self> {
        Ok(Self { sets: Sets::open()?, was_stopped: false, words: BTreeMap::new(), limited: (0, None) })
    }

    fn add_words(&mut self, words: &[([u8; 4], Duration)]) -> Result<()> {
        match self.sets.add_words(SetPath { table: TABLE, set: HINTS }, words) {
            // While firewall4 is stopped. After its start, they are installed.
            Err(Error::NoSet { .. }) => Ok(()),
            done => Ok(done?),
        }
    }
}

impl FirewallBackend for Firewall4 {
    fn install(&mut self, _: &Config, _: &Path) -> Result<Change> {
        let now = Instant::now();
        let all = self.words.iter().map(|(word, until)| (*word, until.saturating_duration_since(now)));
        let all: Vec<_> = all.filter(|(_, left)| !left.is_zero()).collect();
        self.add_words(&all)?;
        Ok(Change::Made)
    }

    fn set_words(&mut self, words: &BTreeMap<[u8; 4], Option<Instant>>) -> Result<()> {
        let now = Instant::now();
        // Tags are in the rules.
        let mut timed: BTreeMap<[u8; 4], Instant> = BTreeMap::new();
        timed.extend(words.iter().filter_map(|(word, until)| until.map(|until| (*word, until))));
        let new = timed.iter().filter(|(word, _)| !self.words.contains_key(*word));
        let new: Vec<_> = new.map(|(word, until)| (*word, until.saturating_duration_since(now))).collect();
        self.words = timed;
        self.add_words(&new)
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

    fn check(&mut self, config: &Config) -> Result<Integrity> {
        self.limited()?;
        let names = self.sets.names(TABLE)?;
        let is_running = config.services.keys().all(|service| names.contains(&Kind::V4.set(service)));
        // There is nothing to do while firewall4 is stopped. After a start its sets are empty.
        let has_started = is_running && self.was_stopped;
        self.was_stopped = !is_running;
        Ok(if has_started { Integrity::Damaged } else { Integrity::Intact })
    }

    fn has_link_grants(&self) -> bool {
        true
    }

    fn grant(&mut self, service: &ServiceConfig, sender: Sender, ttl: Duration) -> Result<Change> {
        let set = Kind::of(sender).set(&service.service.name);
        let sender = Sender::new(service.network(sender).addr(), sender.interface());
        Ok(self.sets.grant(SetPath { table: TABLE, set: &set }, sender, Some(ttl))?)
    }

    fn revoke(&mut self, service: &ServiceConfig, sender: Sender) -> Result<Change> {
        if sender.is_link_local() && sender.interface().is_none() {
            // It never had one.
            return Ok(Change::AlreadySo);
        }
        let set = Kind::of(sender).set(&service.service.name);
        let sender = Sender::new(service.network(sender).addr(), sender.interface());
        match self.sets.revoke(SetPath { table: TABLE, set: &set }, sender) {
            // While firewall4 is stopped, there are no grants to revoke.
            Err(Error::NoSet { .. }) => Ok(Change::AlreadySo),
            done => Ok(done?),
        }
    }

    fn list(&mut self, config: &Config) -> Result<Vec<ActiveGrant>> {
        let mut active = Vec::new();
        for service in config.services.keys() {
            for kind in Kind::ALL {
                let set = kind.set(service);
                let elements = self.sets.list(SetPath { table: TABLE, set: &set })?;
                active.extend(elements.into_iter().map(|element| ActiveGrant {
                    service: service.clone(),
                    address: config.gate.prefix.network(element.address),
                    interface: element.interface,
                    left: element.left,
                }));
            }
        }
        Ok(active)
    }

    fn limited(&mut self) -> Result<u64> {
        let now = self.sets.counted(TABLE, &format!("{PREFIX}{BEYOND}"))?;
        let (all, last) = &mut self.limited;
        // A reload of firewall4 lets its counter begin anew. The first number is that of an earlier process.
        let before = last.map_or(now, |last| if now < last { 0 } else { last });
        *all = all.saturating_add(now - before);
        *last = Some(now);
        Ok(*all)
    }

    fn needs_expiry(&self) -> bool {
        false
    }

    fn expire(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What a service's set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// IPv4 addresses.
    V4,
    /// IPv6 addresses that are not link-local.
    V6,
    /// Link-local addresses, each with its interface.
    Link,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Link];

    fn of(sender: Sender) -> Self {
        match sender.is_link_local() {
            true => Self::Link,
            false if sender.address().is_ipv4() => Self::V4,
            false => Self::V6,
        }
    }

    /// The name of a service's set. Names of the gate's own sets and chains have a dot after `pkd`.
    pub(crate) fn set(self, service: &ServiceName) -> String {
        let end = match self {
            Self::V4 => "4",
            Self::V6 => "6",
            Self::Link => "link",
        };
        format!("pkd_{service}_{end}")
    }
}
