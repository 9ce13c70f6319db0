//! pkdd's own rules on nftables or iptables, made with pktables.
//!
//! Services have the rules of pktables, so that `pktables list`, `add` and `delete` work with them. Beside these stands a
//! table that nobody else can change while pkdd runs, with the same guards and grants, and with the rules that pass knocks to
//! pkdd. A packet has to pass both, so neither `nft flush ruleset` nor `iptables -F` opens a port or makes pkdd deaf, while
//! what pkdd has to repair is repaired.

mod links;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ipnet::IpNet;
use pktables::{
    Backend, Capture, Change, Error, Firewall, Grant, Grants, HeldTable, Iptables, Nft, Protection, Sender,
    Service, ServiceName, TABLE, Watch,
};

use super::{ActiveGrant, FirewallBackend, Integrity, capture::capture};
use crate::{
    atomic_file::{self, PRIVATE},
    config::{Config, ServiceConfig},
    report::log,
};
use rules::Rules;

/// The held table.
pub(super) const HELD: &str = "pkdd";

/// Leases in memory before those that have ended are forgotten.
const MOST_LEASES: usize = 4_096;

/// How often rules are installed again if another program removes them at once.
const MOST_PASSES: usize = 5;

/// How long to wait for a program that holds a lock of the firewall. Knocks queue in the kernel meanwhile, so it is short;
/// what could not be done is tried again.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The tables of iptables-nft.
const IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// pktables' services, and the held table.
pub struct PktablesBackend {
    rules: Rules,
    /// `None`: the kernel has no nftables.
    held: Option<HeldTable>,
    watch: Option<Watch>,
    /// Whether the rules change without a notification: those of iptables-legacy.
    needs_polling: bool,
    /// What is installed.
    services: Vec<Service>,
    capture: Option<Capture>,
    /// What the datagrams begin with that are passed to pkdd.
    words: BTreeMap<[u8; 4], Option<Instant>>,
    fingerprints: Option<(u64, u64)>,
    /// When grants end that knocks have made.
    leases: BTreeMap<(ServiceName, IpNet), Instant>,
    /// Reported already.
    unknown: BTreeSet<String>,
}

impl PktablesBackend {
    /// Opens the firewall.
    ///
    /// # Errors
    /// The firewall is not available, or cannot be accessed.
    pub fn open(wanted: Backend) -> Result<Self> {
        let (rules, needs_polling) = match wanted.resolve()? {
            Backend::Iptables => {
                let iptables = Iptables::default().with_timeout(TIMEOUT);
                let is_nftables = iptables.is_nftables()?;
                (Rules::Iptables(iptables), !is_nftables)
            }
            _ => (Rules::Nft(Nft::open()?.with_timeout(TIMEOUT)), false),
        };
        let held = HeldTable::open(HELD)?;
        Ok(Self {
            rules,
            held: Some(held),
            watch: Watch::open().ok(),
            needs_polling,
            services: Vec::new(),
            capture: None,
            words: BTreeMap::new(),
            fingerprints: None,
            leases: BTreeMap::new(),
            unknown: BTreeSet::new(),
        })
    }

    /// Uses no better protection for the held table than this, as an older kernel.
    #[must_use]
    pub fn with_at_most(mut self, protection: Protection) -> Self {
        self.held = self.held.map(|held| held.with_at_most(protection));
        self
    }

    /// Uses no nftables, as on a kernel that only has iptables.
    #[must_use]
    pub fn without_nftables(mut self) -> Self {
        self.give_up_nftables();
        self
    }

    fn give_up_nftables(&mut self) {
        (self.held, self.watch, self.needs_polling) = (None, None, true);
    }

    /// Replaces the held table, or gives it up if the kernel only has iptables.
    fn install_held(&mut self) -> Result<()> {
        let Some(held) = &mut self.held else { return Ok(()) };
        let before = held.protection();
        match held.install(&self.services, self.capture.as_ref()) {
            Ok(()) => {
                if before.is_none() && held.protection() == Some(Protection::None) {
                    log(
                        "warning: before Linux 5.12 other programs can remove pkdd's rules; they are restored within a second",
                    );
                }
                Ok(())
            }
            Err(error @ Error::Kernel { .. })
                if before.is_none() && matches!(self.rules, Rules::Iptables(_)) =>
            {
                log(&format!(
                    "warning: without nftables, other programs can remove pkdd's rules: {:#}",
                    anyhow::Error::from(error)
                ));
                self.give_up_nftables();
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the rules that an earlier configuration had in the other kind of firewall: no knock would open them any more.
    fn leave_other(&mut self, list: &Path, names: &[ServiceName]) -> Result<()> {
        let kind = list.with_extension("firewall");
        let own = self.rules.kind();
        let mut other: Box<dyn Firewall> = match atomic_file::read_to_string(&kind).as_deref() {
            Ok(written) if written == own => return Ok(()),
            Ok(Rules::NFT) => Box::new(Nft::open()?.with_timeout(TIMEOUT)),
            Ok(Rules::IPTABLES) => {
                let mut iptables = Iptables::default().with_timeout(TIMEOUT);
                iptables.remove_capture()?;
                Box::new(iptables)
            }
            Ok(_) => anyhow::bail!("{}: pkdd did not write this file: remove it", kind.display()),
            // The first start.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return write(&kind, own);
            }
            Err(error) => anyhow::bail!("cannot read {}: {error}", kind.display()),
        };
        for name in names {
            other.remove(name).with_context(|| format!("service \"{name}\" of the firewall used before"))?;
        }
        write(&kind, own)
    }

    /// Makes a grant again, as what it was. Nobody knows that at the first start: what has an end may be from a knock, and a
    /// later configuration may revoke it.
    fn restore(&mut self, service: &ServiceName, grant: &Grant) -> Result<Change, Error> {
        let is_lease = self.fingerprints.is_none() || is_lease(&self.leases, service, grant);
        let of_service = self.services.iter().find(|known| known.name == *service);
        let is_whole = of_service
            .is_some_and(|service| service.scope.lease_prefix.network(grant.address.addr()) == grant.address);
        // A knock would have bound it to an interface.
        let is_by_hand = Sender::from(grant.address.addr()).is_link_local();
        let Some(left) = grant.left.filter(|_| is_lease && !is_by_hand) else {
            return self.rules.firewall().grant(service, grant.address, grant.left);
        };
        // Grants were for other networks. What knocks have opened is opened again as it is to be now.
        if !is_whole {
            return Ok(Change::AlreadySo);
        }
        self.rules.lease(service, grant.address, left)
    }

    /// Notes that a knock has made a grant.
    fn remember(&mut self, service: &ServiceName, address: IpNet, left: Duration) {
        let now = Instant::now();
        if self.leases.len() >= MOST_LEASES {
            self.leases.retain(|_, end| *end > now);
        }
        let end = self.leases.entry((service.clone(), address)).or_insert(now);
        *end = (now + left).max(*end);
    }

    /// Ends what knocks have opened to networks of another size than the configuration wants now.
    fn end_other_networks(&mut self, config: &Config) -> Result<()> {
        let (grants, _) = self.rules.grants()?;
        for (name, grants) in grants {
            let Some(service) = config.services.get(&name) else { continue };
            for address in grants.iter().map(|grant| grant.address) {
                if service.network(address.addr().into()) != address {
                    self.rules.release(&name, address)?;
                    self.leases.remove(&(name.clone(), address));
                }
            }
        }
        Ok(())
    }

    /// Makes the rules of pktables what they should be.
    fn install_services(&mut self, config: &Config, kept: &Grants) -> Result<Change> {
        let mut change = Change::AlreadySo;
        for (name, service) in &config.services {
            let in_service = || format!("service \"{name}\"");
            if self.rules.firewall().init(&service.service).with_context(in_service)? == Change::Made {
                change = Change::Made;
                // What the rules have lost, the held table still has.
                for grant in kept.get(name).into_iter().flatten() {
                    self.restore(name, grant).with_context(in_service)?;
                }
            }
        }
        Ok(change)
    }

    /// Reports each chain that cannot be parsed once. It is left alone, and does not affect services.
    fn report_unknown(&mut self, unknown: &[Error]) {
        let unknown: BTreeSet<String> = unknown.iter().map(ToString::to_string).collect();
        for text in unknown.difference(&self.unknown) {
            log(&format!("warning: {text}; pkdd ignores it"));
        }
        self.unknown = unknown;
    }

    /// Copies the grants to the held table, in which other programs cannot make them.
    fn mirror(&mut self) -> Result<()> {
        let (grants, unknown) = self.rules.grants()?;
        self.report_unknown(&unknown);
        if let Some(held) = &mut self.held {
            held.mirror(&self.services, self.capture.as_ref(), &grants)?;
        }
        Ok(())
    }

    fn fingerprints(&mut self) -> Result<(u64, u64)> {
        let held = self.held.as_mut().map_or(Ok(0), HeldTable::fingerprint)?;
        Ok((held, self.rules.fingerprint()?))
    }
}

impl FirewallBackend for PktablesBackend {
    fn install(&mut self, config: &Config, list: &Path) -> Result<Change> {
        let before = read_list(list)?;
        // New services enter the list before they get rules; old ones leave it after their rules are removed.
        write_list(list, before.iter().chain(config.services.keys()))?;
        let prefix = |services: &[Service]| services.first().map(|service| service.scope.lease_prefix);
        let installed = prefix(&self.services);
        self.services = config.services.values().map(|service| service.service.clone()).collect();
        self.capture = Some(capture(config, &self.words));
        // The held table comes first: it closes what nothing guards yet.
        self.install_held()?;
        let kept = self.held.as_mut().map_or_else(|| Ok(Grants::new()), HeldTable::grants)?;
        let mut change = Change::AlreadySo;
        // Another program may undo what was just done. What was seen before a pass without changes is what has to stay.
        let mut fingerprint = self.rules.fingerprint()?;
        for pass in 1.. {
            let made = match self.install_services(config, &kept) {
                // The rules may have changed between reading and changing them.
                Err(error) if pass < MOST_PASSES && is_refusal(&error) => continue,
                made => made?,
            };
            if made == Change::AlreadySo {
                break;
            }
            anyhow::ensure!(
                pass < MOST_PASSES,
                "another program keeps changing the rules: stop it, or its reloads"
            );
            (change, fingerprint) = (made, self.rules.fingerprint()?);
        }
        for name in before.iter().filter(|name| !config.services.contains_key(*name)) {
            self.rules.firewall().remove(name).with_context(|| format!("service \"{name}\""))?;
        }
        if installed != prefix(&self.services) {
            self.end_other_networks(config)?;
        }
        if self.fingerprints.is_none() {
            self.leave_other(list, &before)?;
        }
        write_list(list, config.services.keys())?;
        if let (Rules::Iptables(iptables), None, Some(capture)) = (&mut self.rules, &self.held, &self.capture)
        {
            iptables.install_capture(capture)?;
        }
        self.mirror()?;
        let held = self.held.as_mut().map_or(Ok(0), HeldTable::fingerprint)?;
        self.fingerprints = Some((held, fingerprint));
        Ok(change)
    }

    fn set_words(&mut self, words: &BTreeMap<[u8; 4], Option<Instant>>) -> Result<()> {
        let now = Instant::now();
        let before = std::mem::replace(&mut self.words, words.clone());
        // Not installed yet.
        let Some(capture) = &mut self.capture else { return Ok(()) };
        capture.words.clone_from(words);
        if let Some(held) = &mut self.held {
            let new = words.iter().filter(|(word, _)| !before.contains_key(*word));
            let timed =
                new.filter_map(|(word, until)| Some((*word, (*until)?.saturating_duration_since(now))));
            return Ok(held.add_words(&timed.collect::<Vec<_>>())?);
        }
        match &mut self.rules {
            Rules::Iptables(iptables) if before != *words => Ok(iptables.install_capture(capture)?),
            _ => Ok(()),
        }
    }

    fn clear(&mut self, list: &Path) -> Result<()> {
        let names = read_list(list)?;
        self.leave_other(list, &names)?;
        for name in names {
            self.rules.firewall().remove(&name).with_context(|| format!("service \"{name}\""))?;
        }
        if let Rules::Iptables(iptables) = &mut self.rules {
            iptables.remove_capture()?;
        }
        if let Some(held) = &mut self.held {
            match held.remove() {
                // A kernel that only has iptables.
                Err(Error::Kernel { .. }) if matches!(self.rules, Rules::Iptables(_)) => {}
                done => drop(done?),
            }
        }
        write_list(list, [])
    }

    fn notifications(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(|watch| watch.as_fd())
    }

    fn was_notified(&mut self) -> Result<bool> {
        let mut own = Vec::new();
        own.extend(self.held.as_ref().map(HeldTable::port).transpose()?);
        let is_nft = match &self.rules {
            Rules::Nft(nft) => {
                own.push(nft.port()?);
                true
            }
            Rules::Iptables(_) => false,
        };
        let Some(watch) = &mut self.watch else { return Ok(false) };
        let is_ours =
            |table: &str| table == HELD || if is_nft { table == TABLE } else { IPTABLES.contains(&table) };
        Ok(watch.changed(&own, is_ours)?)
    }

    fn needs_polling(&self) -> bool {
        self.needs_polling
    }

    fn check(&mut self, _: &Config) -> Result<Integrity> {
        let found = self.fingerprints()?;
        if self.fingerprints != Some(found) {
            return Ok(Integrity::Damaged);
        }
        // The grants of iptables are rules, which have not changed.
        if matches!(self.rules, Rules::Nft(_)) {
            self.mirror()?;
        }
        Ok(Integrity::Intact)
    }

    fn has_link_grants(&self) -> bool {
        self.held.is_some()
    }

    fn grant(&mut self, service: &ServiceConfig, sender: Sender, ttl: Duration) -> Result<Change> {
        let (name, address) = (&service.service.name, service.network(sender));
        if sender.is_link_local() {
            return links::grant(self.held.as_mut(), &mut self.rules, name, sender, ttl);
        }
        self.remember(name, address, ttl);
        if let Some(held) = &mut self.held {
            held.grant(name, address, Some(ttl))?;
        }
        Ok(self.rules.lease(name, address, ttl)?)
    }

    fn revoke(&mut self, service: &ServiceConfig, sender: Sender) -> Result<Change> {
        let (name, address) = (&service.service.name, service.network(sender));
        if sender.is_link_local() {
            return links::revoke(self.held.as_mut(), &mut self.rules, name, sender);
        }
        let change = self.rules.release(name, address)?;
        self.leases.remove(&(name.clone(), address));
        // A grant that was made by hand stays.
        if change == Change::Made {
            self.mirror()?;
        }
        Ok(change)
    }

    fn list(&mut self, config: &Config) -> Result<Vec<ActiveGrant>> {
        let mut active = Vec::new();
        let (grants, unknown) = self.rules.grants()?;
        self.report_unknown(&unknown);
        for (service, grants) in grants {
            if config.services.contains_key(&service) {
                active.extend(grants.into_iter().map(|grant| ActiveGrant {
                    service: service.clone(),
                    address: grant.address,
                    interface: None,
                    left: grant.left,
                }));
            }
        }
        let links = self.held.as_mut().map_or(Ok(Vec::new()), HeldTable::link_grants)?;
        active.extend(links.into_iter().map(|grant| ActiveGrant {
            service: grant.service,
            address: grant.sender.address().into(),
            interface: grant.sender.interface(),
            left: grant.left,
        }));
        Ok(active)
    }

    fn limited(&mut self) -> Result<u64> {
        Ok(match (&mut self.held, &mut self.rules) {
            (Some(held), _) => held.dropped()?,
            (None, Rules::Iptables(iptables)) => iptables.dropped()?,
            (None, Rules::Nft(_)) => 0,
        })
    }

    fn needs_expiry(&self) -> bool {
        matches!(&self.rules, Rules::Iptables(iptables) if iptables.needs_expiry())
    }

    fn expire(&mut self) -> Result<()> {
        Ok(self.rules.firewall().expire().map(drop)?)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(links::end_unbound(self.held.as_mut(), &mut self.rules)?)
    }
}

/// Whether knocks have made a grant. It is made again from the journal, so that it can still be revoked.
fn is_lease(leases: &BTreeMap<(ServiceName, IpNet), Instant>, service: &ServiceName, grant: &Grant) -> bool {
    let lease = leases.get(&(service.clone(), grant.address));
    let left = lease.map(|end| end.saturating_duration_since(Instant::now()) + Duration::from_secs(2));
    grant.left.zip(left).is_some_and(|(grant, lease)| grant <= lease)
}

/// Whether a program of the firewall refused a change.
fn is_refusal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::Refused { .. }))
}

fn read_list(path: &Path) -> Result<Vec<ServiceName>> {
    match atomic_file::read_to_string(path) {
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
    write(path, &lines.concat())
}

fn write(path: &Path, text: &str) -> Result<()> {
    let replaced = atomic_file::replace(path, PRIVATE, text.as_bytes());
    replaced.map(drop).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests;
