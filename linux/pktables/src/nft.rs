//! The nftables backend: rules with `nft`, grants over netlink.

pub(crate) mod ruleset;
pub(crate) mod schema;
pub(crate) mod set_name;

use std::{path::Path, time::Duration};

use ipnet::IpNet;

use crate::{
    address::canonical,
    error::Error,
    firewall::{Change, Firewall, Grants, Listing, Listings},
    lock::{Guard, Lock},
    program,
    sender::is_link_local,
    service::Service,
    service_name::ServiceName,
    sets::{SetPath, Sets, refused},
};

use ruleset::Ruleset;
pub use schema::TABLE;
use schema::{FORWARD, GUARD, INPUT, PREROUTING, Script};
use set_name::SetName;

const PROGRAM: &str = "nft";

/// `NFT_TABLE_F_DORMANT`: the table is switched off. Adding it without the flag switches it on.
const DORMANT: u32 = 1;

/// Services in the table `inet pktables` of the network namespace in which it was opened.
///
/// A grant for a single address is one netlink transaction in this process. `nft` runs only when rules change: for `init`,
/// `remove`, and the first prefix of each length.
pub struct Nft {
    sets: Sets,
    lock: Lock,
}

impl Nft {
    /// Opens a netlink socket.
    ///
    /// # Errors
    /// The kernel has no netfilter.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { sets: Sets::open()?, lock: Lock::default() })
    }

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

    /// Whether any service exists.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn is_in_use(&mut self) -> Result<bool, Error> {
        Ok(!self.sets.names(TABLE)?.is_empty())
    }

    /// The number by which [`Watch`](crate::Watch) recognizes changes of grants that this value makes.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn port(&self) -> Result<u32, Error> {
        self.sets.port()
    }

    /// A number that changes with the rules of all services, but not with grants and counters. `nft` is not run.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn fingerprint(&mut self) -> Result<u64, Error> {
        self.sets.fingerprint(TABLE)
    }

    /// Lets an address reach a service with [`Scope::leases`](crate::Scope::leases) for a time. A lease is never shortened.
    /// Leases are for a program that makes and ends them. They are kept apart from grants, which the program so neither
    /// shortens nor revokes. [`Firewall::revoke`] and [`Firewall::flush`] also end leases, and lists contain both.
    ///
    /// # Errors
    /// There is no such service, it has no leases for a prefix of this length, `ttl` is zero, or the kernel refuses.
    pub fn lease(
        &mut self,
        name: &ServiceName,
        address: impl Into<IpNet>,
        ttl: Duration,
    ) -> Result<Change, Error> {
        let address = canonical(address.into());
        let set = SetName::leases(name, address).text();
        match self.sets.grant(SetPath { table: TABLE, set: &set }, address.addr(), Some(ttl)) {
            Err(Error::NoSet { .. }) if self.sets_of(name)?.is_empty() => Err(Error::NoService(name.clone())),
            done => done,
        }
    }

    /// Ends a lease. A missing one is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn release(&mut self, name: &ServiceName, address: impl Into<IpNet>) -> Result<Change, Error> {
        let address = canonical(address.into());
        let set = SetName::leases(name, address).text();
        match self.sets.revoke(SetPath { table: TABLE, set: &set }, address.addr()) {
            Err(Error::NoSet { .. }) => Ok(Change::AlreadySo),
            done => done,
        }
    }

    /// The grants and leases of all services, without running `nft`, for [`HeldTable::mirror`](crate::HeldTable::mirror).
    /// Leases of link-local addresses are left out: they are not for every interface, as a mirrored grant is.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn grants(&mut self) -> Result<Grants, Error> {
        self.sets.grants(TABLE, |set, address| !(set.lease && is_link_local(address)))
    }

    /// The sets of a service; none if there is no such service.
    fn sets_of(&mut self, name: &ServiceName) -> Result<Vec<SetName>, Error> {
        let names = self.sets.names(TABLE)?;
        let sets = names.iter().filter_map(|set| SetName::parse(set));
        let mut sets: Vec<SetName> = sets.filter(|set| set.service == *name).collect();
        // The longest prefix first, for readers; nothing depends on it.
        sets.sort_unstable_by(|one, other| one.v6.cmp(&other.v6).then(other.length.cmp(&one.length)));
        Ok(sets)
    }

    /// Creates the missing set for an address, then grants. Reports why, if that is impossible.
    fn grant_with_new_set(
        &mut self,
        set: &SetName,
        address: IpNet,
        ttl: Option<Duration>,
    ) -> Result<Change, Error> {
        let guard = self.lock.acquire()?;
        let ruleset = ruleset()?;
        if !ruleset.has(&set.service) {
            return Err(Error::NoService(set.service.clone()));
        }
        let service = ruleset.service(&set.service)?.service;
        service.forward_for(address.addr())?;
        if !self.sets_of(&set.service)?.contains(set) {
            let mut script = Script::default();
            script.add_set(set)?;
            script.insert_grants(&service, set)?;
            run(&script, &guard)?;
        }
        let name = set.text();
        self.sets.grant(SetPath { table: TABLE, set: &name }, address.addr(), ttl)
    }
}

fn ruleset() -> Result<Ruleset, Error> {
    match program::output(PROGRAM, &["-j", "-t", "list", "table", "inet", TABLE]) {
        Err(Error::Refused { message, .. }) if message.contains("No such file or directory") => {
            Ok(Ruleset::default())
        }
        output => Ruleset::parse(&output?),
    }
}

fn run(script: &Script, guard: &Guard) -> Result<(), Error> {
    program::feed(PROGRAM, &["-j", "-f", "-"], &script.text(), guard)
}

impl Firewall for Nft {
    fn init(&mut self, service: &Service) -> Result<Change, Error> {
        let mut service = service.checked()?;
        service.scope.before_nat = true;
        let service = &service;
        let guard = self.lock.acquire()?;
        let ruleset = ruleset()?;
        let there = self.sets_of(&service.name)?;
        let wanted: Vec<SetName> = schema::sets(service).collect();
        let complete = wanted.iter().all(|set| there.contains(set));
        let matches = |found: ruleset::Parsed| found.service == *service;
        // nft before 1.0.8 does not list the flags as JSON.
        let flags = self.sets.table_flags(TABLE).map_err(|errno| refused("find a table", errno))?;
        let is_attached = ruleset.is_attached() && flags.is_none_or(|flags| flags & DORMANT == 0);
        if complete && is_attached && ruleset.service(&service.name).is_ok_and(matches) {
            return Ok(Change::AlreadySo);
        }
        let mut script = Script::default();
        let detached: Vec<&str> = ruleset.detached().collect();
        for chain in &detached {
            script.delete_base(chain)?;
        }
        script.add_table()?;
        let others = || ruleset.services().filter(|other| *other != service.name);
        for other in others().filter_map(|other| ruleset.service(&other).ok()) {
            detached.iter().try_for_each(|chain| script.jumps(&other.service, chain))?;
        }
        script.add_chain(&service.name)?;
        for rule in ruleset.shared_rules(&service.name) {
            if !detached.contains(&rule.chain.as_str()) {
                script.delete_rule(&rule.chain, rule.handle)?;
            }
        }
        script.flush_chain(&service.name)?;
        for set in &wanted {
            script.add_set(set)?;
        }
        let is_wanted = |set: &&SetName| {
            wanted.iter().any(|wanted| wanted.v6 == set.v6) && (!set.lease || wanted.contains(set))
        };
        for set in there.iter().filter(|set| !is_wanted(set)) {
            script.delete_set(set)?;
        }
        let mut kept: Vec<SetName> = there.iter().filter(is_wanted).cloned().collect();
        kept.extend(wanted.iter().filter(|set| !there.contains(set)).cloned());
        script.add_service(service, &kept)?;
        run(&script, &guard)?;
        Ok(Change::Made)
    }

    fn remove(&mut self, name: &ServiceName) -> Result<Change, Error> {
        let guard = self.lock.acquire()?;
        let ruleset = ruleset()?;
        let sets = self.sets_of(name)?;
        if !ruleset.has(name) && sets.is_empty() {
            return Ok(Change::AlreadySo);
        }
        let own: Vec<u32> = ruleset.shared_rules(name).map(|rule| rule.handle).collect();
        let base_chains = [GUARD, INPUT, PREROUTING, FORWARD];
        let foreign =
            |rule: &ruleset::Rule| base_chains.contains(&rule.chain.as_str()) && !own.contains(&rule.handle);
        let shared_table =
            ruleset.services().any(|other| other != *name) || ruleset.rules().iter().any(foreign);
        let mut script = Script::default();
        if shared_table {
            for rule in ruleset.shared_rules(name) {
                script.delete_rule(&rule.chain, rule.handle)?;
            }
            if ruleset.has(name) {
                script.flush_chain(name)?;
                script.delete_chain(name)?;
            }
            for set in &sets {
                script.delete_set(set)?;
            }
            let others = ruleset.services().any(|other| other != *name);
            let is_used = |rule: &ruleset::Rule| rule.chain == GUARD && foreign(rule);
            if !others && ruleset.has_chain(GUARD) && !ruleset.rules().iter().any(is_used) {
                script.delete_base(GUARD)?;
            }
        } else {
            script.delete_table()?;
        }
        run(&script, &guard)?;
        Ok(Change::Made)
    }

    fn grant(&mut self, name: &ServiceName, address: IpNet, ttl: Option<Duration>) -> Result<Change, Error> {
        let address = canonical(address);
        let set = SetName::of(name, address);
        let text = set.text();
        match self.sets.grant(SetPath { table: TABLE, set: &text }, address.addr(), ttl) {
            Err(Error::NoSet { .. }) => self.grant_with_new_set(&set, address, ttl),
            done => done,
        }
    }

    fn revoke(&mut self, name: &ServiceName, address: IpNet) -> Result<Change, Error> {
        let address = canonical(address);
        let set = SetName::of(name, address);
        let released = self.release(name, address)?;
        match self.sets.revoke(SetPath { table: TABLE, set: &set.text() }, address.addr()) {
            Err(Error::NoSet { .. }) if self.sets_of(name)?.is_empty() => Err(Error::NoService(name.clone())),
            Err(Error::NoSet { .. }) | Ok(Change::AlreadySo) => Ok(released),
            done => done,
        }
    }

    fn flush(&mut self, name: &ServiceName) -> Result<Change, Error> {
        let sets: Vec<String> = self.sets_of(name)?.iter().map(SetName::text).collect();
        if sets.is_empty() {
            return Err(Error::NoService(name.clone()));
        }
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        match self.sets.flush_all(TABLE, &sets) {
            Err(Error::NoSet { .. }) => Err(Error::NoService(name.clone())),
            done => done,
        }
    }

    fn list(&mut self) -> Result<Listings, Error> {
        let _guard = self.lock.acquire()?;
        let ruleset = ruleset()?;
        let mut grants = self.sets.grants(TABLE, |_, _| true)?;
        let mut listings = Listings::default();
        for name in ruleset.services() {
            let found = match ruleset.service(&name) {
                Ok(found) => found,
                Err(error) => {
                    listings.unknown.push(error);
                    continue;
                }
            };
            let mut grants = grants.remove(&name).unwrap_or_default();
            grants.sort_unstable_by_key(|grant| grant.address);
            let default_packets = found.default_packets;
            listings.services.push(Listing { service: found.service, grants, default_packets });
        }
        Ok(listings)
    }

    /// The kernel expires grants itself.
    fn expire(&mut self) -> Result<usize, Error> {
        Ok(0)
    }
}
