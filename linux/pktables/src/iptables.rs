//! The iptables backend: each change is one input of `iptables-restore`.

mod capture;
pub(crate) mod chain;
mod family;
pub(crate) mod grant;
mod join;
mod lease;
pub(crate) mod parsed;
pub(crate) mod save;

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;

use crate::{
    address::canonical,
    error::Error,
    firewall::{Change, Firewall, Grant, Grants, Listings, join as join_grant},
    invalid::Invalid,
    ipset::IpSets,
    lease_prefix::LeasePrefix,
    lock::{Guard, Lock},
    program,
    sender::is_link_local,
    service::Service,
    service_name::ServiceName,
    sets::refused,
};
use chain::ServiceRules;
use family::Family;
use grant::{GrantRule, UnixSeconds};
use join::join;
use parsed::Parsed;

/// Services in chains `pk-NAME`, as the original `pktables` made them.
///
/// The kernel does not expire grants: the end is in the comment of the rule. [`Firewall::expire`] removes expired grants, and
/// so does every change of the same service.
pub struct Iptables {
    lock: Lock,
    clock: fn() -> SystemTime,
    /// Opened for the first lease; `None`: not yet, or the kernel has no ipset.
    sets: Option<IpSets>,
    without_ipset: bool,
    /// Whether rules had an end when they were last listed.
    has_ends: bool,
    /// Datagrams that earlier rules have dropped beyond their rates; `None`: this value has installed none.
    dropped: Option<u64>,
}

impl Default for Iptables {
    fn default() -> Self {
        Self {
            lock: Lock::default(),
            clock: SystemTime::now,
            sets: None,
            without_ipset: false,
            has_ends: false,
            dropped: None,
        }
    }
}

/// The current and the desired rules of a service in one family.
struct Plan {
    family: Family,
    from: ServiceRules,
    to: ServiceRules,
}

impl Iptables {
    /// Uses another lock file than `/run/pktables.lock`.
    #[must_use]
    pub fn with_lock(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.lock.path);
        self
    }

    /// Waits for other programs' changes of the firewall for this long, not for 30 seconds.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.lock.timeout = timeout;
        self
    }

    /// Uses another clock than the system's to decide when grants expire.
    #[must_use]
    pub fn with_clock(self, clock: fn() -> SystemTime) -> Self {
        Self { clock, ..self }
    }

    /// Makes leases as rules, as on a kernel that has no ipset.
    #[must_use]
    pub fn without_ipset(self) -> Self {
        Self { without_ipset: true, ..self }
    }

    /// Whether any service exists.
    ///
    /// # Errors
    /// iptables refuses.
    pub fn is_in_use(&self) -> Result<bool, Error> {
        for family in Family::all() {
            if parsed::services(&family.read()?).next().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A number that changes with the rules of all programs, but not with counters.
    ///
    /// # Errors
    /// iptables refuses.
    pub fn fingerprint(&self) -> Result<u64, Error> {
        let mut hasher = DefaultHasher::new();
        for family in Family::all() {
            family.text()?.lines().filter(|line| !line.starts_with('#')).for_each(|line| {
                // `:CHAIN POLICY [packets:bytes]` and `[packets:bytes] -A CHAIN …`
                let line = line.split_once("] -A ").map_or(line, |(_, rule)| rule);
                line.split(" [").next().hash(&mut hasher);
            });
        }
        Ok(hasher.finish())
    }

    /// The grants and leases of all services, for [`HeldTable::mirror`](crate::HeldTable::mirror), and what is wrong with
    /// chains that look like those of a service but cannot be parsed. Leases of link-local addresses are left out: they are
    /// not for every interface, as a mirrored grant is.
    ///
    /// # Errors
    /// iptables refuses.
    pub fn grants(&mut self) -> Result<(Grants, Vec<Error>), Error> {
        let now = (self.clock)();
        let (mut grants, mut unknown): (BTreeMap<ServiceName, Vec<Grant>>, Vec<Error>) = Default::default();
        self.has_ends = false;
        for family in Family::all() {
            let saved = family.read()?;
            for name in parsed::services(&saved) {
                match parsed::parse(&saved, &name) {
                    Ok(found) => {
                        let grants = grants.entry(name).or_default();
                        for rule in found.iter().flat_map(Parsed::grants) {
                            self.has_ends |= rule.end.is_some();
                            if !(rule.lease && is_link_local(rule.address.addr())) {
                                join_grant(grants, rule.to_grant(now));
                            }
                        }
                    }
                    Err(error) => unknown.push(error),
                }
            }
        }
        for (name, grants) in &mut grants {
            self.join_leases(name, grants, |address| !is_link_local(address))?;
        }
        Ok((grants, unknown))
    }

    /// Whether [`Firewall::expire`] has anything to do, sooner or later, according to the last [`grants`](Self::grants).
    #[must_use]
    pub fn needs_expiry(&self) -> bool {
        self.has_ends
    }

    /// Whether the programs use nftables, so that [`Watch`](crate::Watch) sees their changes.
    ///
    /// # Errors
    /// iptables cannot be run.
    pub fn is_nftables(&self) -> Result<bool, Error> {
        let version = program::output("iptables", &["--version"])?;
        Ok(String::from_utf8_lossy(&version).contains("nf_tables"))
    }

    /// Changes all families or none.
    fn change_all(name: &ServiceName, plans: &[Plan], guard: &Guard) -> Result<Change, Error> {
        let mut made = Change::AlreadySo;
        for (done, plan) in plans.iter().enumerate() {
            let script = ServiceRules::script(name, &plan.from, &plan.to);
            if let Err(cause) = plan.family.change(&script, guard) {
                // Including the one that failed: its tables are changed one after the other.
                let so_far = plans.iter().take(done.saturating_add(1));
                return Err(match so_far.rev().try_for_each(|plan| restore(name, plan, guard)) {
                    Ok(()) => cause,
                    Err(rollback) => Error::PartlyApplied { cause: cause.into(), rollback: rollback.into() },
                });
            }
            if !script.is_empty() {
                made = Change::Made;
            }
        }
        Ok(made)
    }

    fn now(&self) -> UnixSeconds {
        UnixSeconds::of((self.clock)())
    }

    /// Changes single grants of a service, and removes expired ones.
    fn change_grants(
        &self,
        name: &ServiceName,
        address: IpNet,
        decide: impl FnOnce(&Parsed, &mut Vec<GrantRule>) -> Result<(), Error>,
    ) -> Result<Change, Error> {
        let family = Family::of(address);
        let guard = self.lock.acquire()?;
        let found = parsed::parse(&family.read()?, name)?.ok_or_else(|| Error::NoService(name.clone()))?;
        let now = self.now();
        let valid: Vec<GrantRule> = found.grants().filter(|grant| !grant.has_expired(now)).cloned().collect();
        let mut wanted = valid.clone();
        decide(&found, &mut wanted)?;
        family.change(&found.script(&wanted), &guard)?;
        Ok(if wanted == valid { Change::AlreadySo } else { Change::Made })
    }
}

fn restore(name: &ServiceName, plan: &Plan, guard: &Guard) -> Result<(), Error> {
    let now = ServiceRules::of(&plan.family.read()?, name);
    plan.family.change(&ServiceRules::script(name, &now, &plan.from), guard)
}

impl Firewall for Iptables {
    fn init(&mut self, service: &Service) -> Result<Change, Error> {
        let mut service = service.checked()?;
        // An ipset would hold networks of one length, and the rules do not tell which.
        let is_single = std::mem::take(&mut service.scope.lease_prefix) == LeasePrefix::default();
        service.scope.leases = service.scope.leases && is_single && self.create_sets(&service.name)?;
        service.scope.tracked &= service.scope.before_nat;
        let service = &service;
        let now = self.now();
        let guard = self.lock.acquire()?;
        let mut plans = Vec::new();
        for family in Family::all().iter().copied() {
            let saved = family.read()?;
            let from = ServiceRules::of(&saved, &service.name);
            let forward = family.forward(service);
            let mut service = service.clone();
            service.scope.exempt.retain(|exempt| family.has(exempt));
            let wanted = Service { forward: forward.into_iter().collect(), ..service.clone() };
            let other_family_only = forward.is_none() && !service.forward.is_empty();
            // Rules that cannot be parsed are replaced.
            let found = parsed::parse(&saved, &service.name).ok().flatten();
            let fits = |found: Parsed| {
                found.is_complete && found.other_family_only == other_family_only && found.service == wanted
            };
            let mut grants = parsed::grants(&saved, &service.name);
            let over = grants.iter().any(|grant| grant.has_expired(now));
            grants.retain(|grant| !grant.has_expired(now));
            // Leases that were made without ipset go where they can be.
            grants.retain(|grant| !grant.lease || !service.scope.leases);
            grants.sort_by_key(|grant| grant.address);
            let is_unchanged = found.is_some_and(fits) && !over;
            let to = if is_unchanged {
                from.clone()
            } else {
                ServiceRules::new(&service, forward, family == Family::V6, &grants, &from)
            };
            plans.push(Plan { family, from, to });
        }
        let change = Self::change_all(&service.name, &plans, &guard)?;
        if !service.scope.leases {
            self.destroy_sets(&service.name)?;
        }
        Ok(change)
    }

    fn remove(&mut self, name: &ServiceName) -> Result<Change, Error> {
        let guard = self.lock.acquire()?;
        let mut plans = Vec::new();
        for family in Family::all().iter().copied() {
            let from = ServiceRules::of(&family.read()?, name);
            plans.push(Plan { family, from, to: ServiceRules::default() });
        }
        let is_missing = plans.iter().all(|plan| plan.from.is_empty());
        let change = if is_missing { Change::AlreadySo } else { Self::change_all(name, &plans, &guard)? };
        self.destroy_sets(name)?;
        Ok(change)
    }

    fn grant(&mut self, name: &ServiceName, address: IpNet, ttl: Option<Duration>) -> Result<Change, Error> {
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(Invalid::new("time", "0", "must not be zero").into());
        }
        let address = canonical(address);
        let end = ttl.map(|ttl| UnixSeconds::end((self.clock)(), ttl));
        self.change_grants(name, address, |found, grants| {
            if found.other_family_only {
                return Err(Error::no_forward(name, address.addr()));
            }
            let longer =
                |grant: &GrantRule| grant.end.is_none_or(|there| end.is_some_and(|end| there >= end));
            let same = |grant: &GrantRule| !grant.lease && grant.address == address;
            if grants.iter().any(|grant| same(grant) && longer(grant)) {
                return Ok(());
            }
            grants.retain(|grant| !same(grant));
            grants.push(GrantRule::new(address, end));
            Ok(())
        })
    }

    fn revoke(&mut self, name: &ServiceName, address: IpNet) -> Result<Change, Error> {
        let address = canonical(address);
        let is_single = crate::address::is_single(address);
        let released =
            if is_single { self.release_from_set(name, address.addr())? } else { Change::AlreadySo };
        let revoked = self.change_grants(name, address, |_, grants| {
            grants.retain(|grant| grant.address != address);
            Ok(())
        })?;
        Ok(if revoked == Change::Made { revoked } else { released })
    }

    fn flush(&mut self, name: &ServiceName) -> Result<Change, Error> {
        let guard = self.lock.acquire()?;
        let mut plans = Vec::new();
        for family in Family::all().iter().copied() {
            let saved = family.read()?;
            let (from, to) = (ServiceRules::of(&saved, name), ServiceRules::without_grants(&saved, name));
            plans.push(Plan { family, from, to });
        }
        if plans.iter().all(|plan| plan.from.is_empty()) {
            return Err(Error::NoService(name.clone()));
        }
        let mut leases = Vec::new();
        self.join_leases(name, &mut leases, |_| true)?;
        if let Some(sets) = self.sets()? {
            for family in Family::all() {
                sets.flush(&family.set(name)).map_err(|errno| refused("flush an ipset", errno))?;
            }
        }
        let change = Self::change_all(name, &plans, &guard)?;
        Ok(if leases.is_empty() { change } else { Change::Made })
    }

    fn list(&mut self) -> Result<Listings, Error> {
        let _guard = self.lock.acquire()?;
        let now = (self.clock)();
        let mut families: BTreeMap<ServiceName, Vec<Parsed>> = BTreeMap::new();
        let mut unknown: BTreeMap<ServiceName, Error> = BTreeMap::new();
        for family in Family::all() {
            let saved = family.read()?;
            for name in parsed::services(&saved) {
                match parsed::parse(&saved, &name) {
                    Ok(parsed) => families.entry(name).or_default().extend(parsed),
                    Err(error) => drop(unknown.entry(name).or_insert(error)),
                }
            }
        }
        let mut listings = Listings::default();
        for (name, parsed) in families {
            // Half of a service would look like a service of one family.
            if unknown.contains_key(&name) {
                continue;
            }
            match join(parsed, now) {
                Ok(joined) => listings.services.extend(joined),
                Err(error) => drop(unknown.insert(name, error)),
            }
        }
        for listing in &mut listings.services {
            self.join_leases(&listing.service.name, &mut listing.grants, |_| true)?;
            listing.grants.sort_by_key(|grant| grant.address);
        }
        listings.unknown = unknown.into_values().collect();
        Ok(listings)
    }

    fn expire(&mut self) -> Result<usize, Error> {
        let guard = self.lock.acquire()?;
        let now = self.now();
        let mut expired: usize = 0;
        for family in Family::all() {
            // Also in chains that cannot be parsed otherwise: one of them must not keep grants in others alive.
            let (script, number) = parsed::expire(&family.read()?, now);
            expired = expired.saturating_add(number);
            family.change(&script, &guard)?;
        }
        Ok(expired)
    }
}

#[cfg(test)]
mod tests;
