//! A table that nobody else can change while this process runs.
//!
//! The table repeats the guards of services, and may pass datagrams to an NFLOG group. It belongs to a netlink socket
//! (`NFT_TABLE_F_OWNER`, since Linux 5.12): `nft flush ruleset` of others skips it, and changing it gives them "Operation not
//! permitted". It stays when its owner ends (`NFT_TABLE_F_PERSIST`, since 6.9). On older kernels it vanishes with its owner,
//! or is a table as any other; so the rules of a [`Firewall`](crate::Firewall) have to stand beside it.
//!
//! A packet has to pass both, so the grants of one have to be in the other: see [`HeldTable::mirror`]. Therefore it is enough
//! that this table binds a link-local address to an interface: see [`HeldTable::grant_on_link`].

mod batch;
mod capture;
mod expression;
mod kept;
mod link;

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;
use netlink_packet_core::NLM_F_CREATE;
use rustix::io::Errno;

use crate::{
    address::canonical,
    error::Error,
    firewall::{Change, Grants},
    message::{attribute, kind, text},
    nft::set_name::SetName,
    sender::Sender,
    service::Service,
    service_name::ServiceName,
    sets::{SetPath, Sets, refused},
};
use batch::{Batch, operation};
pub use capture::Capture;
use capture::{BEYOND, WORDS};
use expression::number;
use kept::Kept;
pub use link::LinkGrant;

/// `NFT_TABLE_F_OWNER`.
const OWNER: u32 = 2;
/// `NFT_TABLE_F_PERSIST`.
const PERSIST: u32 = 4;

/// How well the kernel protects the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// Anyone with the privilege may change it (Linux before 5.12).
    None,
    /// Nobody else can change it while this process runs; then it vanishes (Linux before 6.9).
    Owner,
    /// Nobody else can change it while this process runs; then it stays, and can be changed.
    Persistent,
}

impl Protection {
    fn flags(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Owner => OWNER,
            Self::Persistent => OWNER | PERSIST,
        }
    }
}

/// A table of family `inet`, held by a netlink socket.
pub struct HeldTable {
    sets: Sets,
    table: String,
    /// Unknown until the first [`install`](Self::install).
    protection: Option<Protection>,
    best: Protection,
    /// What the tables before this one have dropped beyond the rate.
    dropped: u64,
}

impl HeldTable {
    /// Opens a netlink socket. The table is made by [`install`](Self::install).
    ///
    /// # Errors
    /// The kernel has no netfilter.
    pub fn open(table: &str) -> Result<Self, Error> {
        let best = Protection::Persistent;
        Ok(Self { sets: Sets::open()?, table: table.to_owned(), protection: None, best, dropped: 0 })
    }

    /// Uses no better protection than this, as an older kernel.
    #[must_use]
    pub fn with_at_most(self, best: Protection) -> Self {
        Self { best, ..self }
    }

    /// How well the kernel protects the table; `None`: it is not installed.
    #[must_use]
    pub fn protection(&self) -> Option<Protection> {
        self.protection
    }

    /// Replaces the table in one transaction: packets meet either the old or the new rules. Grants of services that it had
    /// stay.
    ///
    /// # Errors
    /// [`Error::TableInUse`] if another process holds it, or the kernel refuses.
    pub fn install(&mut self, services: &[Service], capture: Option<&Capture>) -> Result<(), Error> {
        let candidates = match self.protection {
            Some(known) => vec![known],
            None => [Protection::Persistent, Protection::Owner, Protection::None]
                .into_iter()
                .filter(|protection| *protection <= self.best)
                .collect(),
        };
        for (index, protection) in candidates.iter().copied().enumerate() {
            match self.replace(services, capture, protection) {
                // The kernel does not know the flags.
                Err(Errno::OPNOTSUPP | Errno::INVAL) if index + 1 < candidates.len() => {}
                Err(Errno::PERM) if self.is_held_by_another() => {
                    return Err(Error::TableInUse { table: self.table.clone() });
                }
                Err(errno) => return Err(refused("install the held table", errno)),
                Ok(()) => {
                    self.protection = Some(protection);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Removes the table.
    ///
    /// # Errors
    /// [`Error::TableInUse`] if another process holds it, or the kernel refuses.
    pub fn remove(&mut self) -> Result<Change, Error> {
        let table = self.table.clone();
        let result = self.sets.transaction(|sets| {
            if !sets.has_table(&table)? {
                return Ok(None);
            }
            Ok(Some(vec![operation(kind::DELETE_TABLE, &[text(attribute::TABLE, &table)], 0)]))
        });
        match result {
            Ok(change) => {
                self.protection = None;
                Ok(change)
            }
            Err(Errno::PERM) if self.is_held_by_another() => Err(Error::TableInUse { table }),
            Err(errno) => Err(refused("remove the held table", errno)),
        }
    }

    /// The number by which [`Watch`](crate::Watch) recognizes the changes of this value.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn port(&self) -> Result<u32, Error> {
        self.sets.port()
    }

    /// A number that changes with the rules of the table, but not with grants and counters. Without [`Protection::Owner`],
    /// others may change them.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn fingerprint(&mut self) -> Result<u64, Error> {
        let table = self.table.clone();
        self.sets.fingerprint(&table)
    }

    /// Whether the table exists. Without [`Protection::Owner`], others may have removed it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn exists(&mut self) -> Result<bool, Error> {
        let table = self.table.clone();
        self.sets.has_table(&table).map_err(|errno| refused("find a table", errno))
    }

    /// A table that this process may not change although it has the privilege.
    fn is_held_by_another(&mut self) -> bool {
        let table = self.table.clone();
        self.sets.has_table(&table).unwrap_or(false) && self.sets.may_change().unwrap_or(false)
    }

    /// Adds first words to those that the installed [`Capture`] has; each counts for its time. One that is there stays as it is.
    ///
    /// # Errors
    /// There is no capture, or the kernel refuses.
    pub fn add_words(&mut self, words: &[([u8; 4], Duration)]) -> Result<(), Error> {
        self.sets.add_words(SetPath { table: &self.table, set: WORDS }, words)
    }

    /// Datagrams that the [`Capture`] has dropped beyond its rates since this value first installed it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn dropped(&mut self) -> Result<u64, Error> {
        if self.protection.is_none() {
            return Ok(0);
        }
        let table = self.table.clone();
        Ok(self.dropped.saturating_add(self.sets.counted(&table, BEYOND)?))
    }

    /// Grants an address, as [`Firewall::grant`](crate::Firewall::grant) does. Prefixes come with [`mirror`](Self::mirror).
    ///
    /// # Errors
    /// There is no such service, or the kernel refuses.
    pub fn grant(
        &mut self,
        service: &ServiceName,
        address: IpNet,
        ttl: Option<Duration>,
    ) -> Result<Change, Error> {
        let address = canonical(address);
        let set = SetName::of(service, address).text();
        self.sets.grant(SetPath { table: &self.table, set: &set }, address.addr(), ttl)
    }

    /// Revokes the grant of exactly this address or prefix.
    ///
    /// # Errors
    /// The kernel refuses. A missing service is not an error.
    pub fn revoke(&mut self, service: &ServiceName, address: IpNet) -> Result<Change, Error> {
        let address = canonical(address);
        let set = SetName::of(service, address).text();
        match self.sets.revoke(SetPath { table: &self.table, set: &set }, address.addr()) {
            Err(Error::NoSet { .. }) => Ok(Change::AlreadySo),
            done => done,
        }
    }

    /// Grants a link-local address on its interface, for a time. [`mirror`](Self::mirror) leaves the grant alone. For a
    /// service with [`only_new`](Service::only_new), TCP connections outlive it; datagrams do not, as connection tracking
    /// knows no interface.
    ///
    /// # Errors
    /// The sender has no interface, there is no such service, or the kernel refuses.
    pub fn grant_on_link(
        &mut self,
        service: &ServiceName,
        sender: Sender,
        ttl: Duration,
    ) -> Result<Change, Error> {
        self.sets.grant(SetPath { table: &self.table, set: &link::set_name(service) }, sender, Some(ttl))
    }

    /// Revokes a grant that [`grant_on_link`](Self::grant_on_link) has made.
    ///
    /// # Errors
    /// The kernel refuses. A missing service is not an error.
    pub fn revoke_on_link(&mut self, service: &ServiceName, sender: Sender) -> Result<Change, Error> {
        match self.sets.revoke(SetPath { table: &self.table, set: &link::set_name(service) }, sender) {
            Err(Error::NoSet { .. }) => Ok(Change::AlreadySo),
            done => done,
        }
    }

    /// The grants that [`grant_on_link`](Self::grant_on_link) has made; none if the table does not exist.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn link_grants(&mut self) -> Result<Vec<LinkGrant>, Error> {
        let table = self.table.clone();
        link_grants(&mut self.sets, &table)
    }

    /// The grants in the table that count on every interface; none if it does not exist.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn grants(&mut self) -> Result<Grants, Error> {
        let table = self.table.clone();
        self.sets.grants(&table, |_, _| true)
    }

    /// Makes the grants equal to these, in one transaction. Grants whose ends differ by less than two seconds are equal, because
    /// iptables rounds them up.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mirror(
        &mut self,
        services: &[Service],
        capture: Option<&Capture>,
        grants: &Grants,
    ) -> Result<Change, Error> {
        let has_service = |name: &ServiceName| services.iter().any(|service| service.name == *name);
        let there = self.grants()?;
        let flat = |grants: &Grants| -> BTreeMap<(ServiceName, IpNet), Option<Duration>> {
            let all = grants.iter().filter(|(name, _)| has_service(name));
            all.flat_map(|(name, grants)| {
                grants.iter().map(|grant| ((name.clone(), grant.address), grant.left))
            })
            .collect()
        };
        let (there, wanted) = (flat(&there), flat(grants));
        let is_same = |one: &Option<Duration>, other: &Option<Duration>| match (one, other) {
            (Some(one), Some(other)) => one.abs_diff(*other) < Duration::from_secs(2),
            (one, other) => one == other,
        };
        let fits = |(key, left): &(&(ServiceName, IpNet), &Option<Duration>)| {
            there.get(*key).is_some_and(|there| is_same(there, left))
        };
        if there.len() == wanted.len() && wanted.iter().all(|pair| fits(&pair)) {
            return Ok(Change::AlreadySo);
        }
        let kept: Vec<_> = wanted
            .iter()
            .filter(|(_, left)| left.is_none_or(|left| !left.is_zero()))
            .map(|((name, address), left)| (SetName::of(name, *address), octets(*address), *left))
            .collect();
        let Some(protection) = self.protection else { return Ok(Change::AlreadySo) };
        match self.replace_with(services, capture, protection, |_| Ok(kept.clone())) {
            Ok(()) => Ok(Change::Made),
            Err(errno) => Err(refused("copy the grants to the held table", errno)),
        }
    }

    fn replace(
        &mut self,
        services: &[Service],
        capture: Option<&Capture>,
        protection: Protection,
    ) -> Result<(), Errno> {
        let table = self.table.clone();
        self.replace_with(services, capture, protection, |sets| {
            let mut kept = Vec::new();
            let there = sets.grants(&table, |_, _| true).map_err(|error| errno(&error))?;
            for (name, grants) in there {
                let has = services.iter().any(|service| service.name == name);
                for grant in grants.into_iter().filter(|_| has) {
                    kept.push((SetName::of(&name, grant.address), octets(grant.address), grant.left));
                }
            }
            Ok(kept)
        })
    }

    /// Replaces the table and its grants. Those of single interfaces stay.
    fn replace_with(
        &mut self,
        services: &[Service],
        capture: Option<&Capture>,
        protection: Protection,
        grants: impl Fn(&mut Sets) -> Result<Vec<(SetName, Vec<u8>, Option<Duration>)>, Errno>,
    ) -> Result<(), Errno> {
        let table = self.table.clone();
        // The counter begins anew.
        let dropped = self.dropped().map_err(|error| errno(&error))?;
        let change = self.sets.transaction(|sets| {
            let mut batch = Batch::new(&table);
            let kept = Kept {
                grants: grants(sets)?,
                links: link_grants(sets, &table).map_err(|error| errno(&error))?,
            };
            if sets.has_table(&table)? {
                batch.push(kind::DELETE_TABLE, &[], 0);
            }
            batch.push(kind::NEW_TABLE, &[number(attribute::TABLE_FLAGS, protection.flags())], NLM_F_CREATE);
            batch.fill(services, capture, &kept);
            Ok(Some(batch.operations))
        });
        change.map(|_| self.dropped = dropped)
    }
}

fn link_grants(sets: &mut Sets, table: &str) -> Result<Vec<LinkGrant>, Error> {
    let mut grants = Vec::new();
    for set in sets.names(table)? {
        let Some(service) = link::service_of(&set) else { continue };
        let elements = match sets.list(SetPath { table, set: &set }) {
            // Removed since its name was listed.
            Err(Error::NoSet { .. }) => Vec::new(),
            elements => elements?,
        };
        let all = elements.into_iter().map(|element| LinkGrant {
            service: service.clone(),
            sender: Sender::new(element.address, element.interface),
            left: element.left,
        });
        grants.extend(all.filter(|grant| grant.sender.interface().is_some()));
    }
    Ok(grants)
}

fn errno(error: &Error) -> Errno {
    error.errno().unwrap_or(Errno::IO)
}

fn octets(address: IpNet) -> Vec<u8> {
    match address.network() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    }
}
