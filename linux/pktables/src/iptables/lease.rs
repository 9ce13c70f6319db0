//! Leases: elements of ipsets, or rules that the kernel ends where it has no ipset.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use rustix::io::Errno;

use super::{
    Family, Iptables,
    grant::{GrantRule, UnixSeconds},
};
use crate::{
    address::{canonical, is_single},
    error::Error,
    firewall::{Change, Grant, join as join_grant},
    invalid::Invalid,
    ipset::IpSets,
    service_name::ServiceName,
    sets::{Element, refused},
};

impl Iptables {
    /// The connection to the ipsets, if the kernel has them.
    pub(super) fn sets(&mut self) -> Result<Option<&mut IpSets>, Error> {
        if self.without_ipset {
            return Ok(None);
        }
        if self.sets.is_none() {
            self.sets = Some(IpSets::open()?);
        }
        Ok(self.sets.as_mut())
    }

    /// Creates the ipsets of a service. Returns whether the kernel has them.
    pub(super) fn create_sets(&mut self, name: &ServiceName) -> Result<bool, Error> {
        let Some(sets) = self.sets()? else { return Ok(false) };
        for family in Family::all() {
            match sets.create(&family.set(name), *family == Family::V6) {
                Ok(()) => {}
                // No ip_set, or no hash:ip.
                Err(Errno::INVAL | Errno::NOENT | Errno::OPNOTSUPP) => return Ok(false),
                Err(errno) => return Err(refused("create an ipset", errno)),
            }
        }
        Ok(true)
    }

    /// Removes the ipsets of a service, to which no rule refers any more.
    pub(super) fn destroy_sets(&mut self, name: &ServiceName) -> Result<(), Error> {
        let Some(sets) = self.sets()? else { return Ok(()) };
        for family in Family::all() {
            sets.destroy(&family.set(name)).map_err(|errno| refused("remove an ipset", errno))?;
        }
        Ok(())
    }

    /// Lets an address reach a service with [`Scope::leases`](crate::Scope::leases) for a time. A lease is never shortened.
    /// Leases are for a program that makes and ends them. They are kept apart from grants, which the program so neither
    /// shortens nor revokes. [`Firewall::revoke`] and [`Firewall::flush`] also end leases, and lists contain both.
    ///
    /// A lease is an element of an ipset, added over netlink without starting a program. The kernel ends it. If the kernel has
    /// no ipset, or leases of the service are for networks, it is a rule with `-m time --datestop`.
    ///
    /// # Errors
    /// There is no such service, it has no leases, `ttl` is zero, or iptables refuses.
    pub fn lease(
        &mut self,
        name: &ServiceName,
        address: impl Into<IpNet>,
        ttl: Duration,
    ) -> Result<Change, Error> {
        if ttl.is_zero() {
            return Err(Invalid::new("time", "0", "must not be zero").into());
        }
        let network = canonical(address.into());
        let address = network.addr();
        let set = Family::of(network).set(name);
        if let Some(sets) = self.sets()?.filter(|_| is_single(network)) {
            let failed = |errno| refused("change an ipset", errno);
            let there = sets.list(&set).map_err(failed)?;
            if let Some(there) = there {
                let stays = |there: &Element| there.left.is_none_or(|left| left >= ttl);
                if there.iter().any(|element| element.address == address && stays(element)) {
                    return Ok(Change::AlreadySo);
                }
                sets.add(&set, address, ttl).map_err(failed)?;
                return Ok(Change::Made);
            }
        }
        let end = UnixSeconds::end((self.clock)(), ttl);
        self.change_grants(name, network, |found, grants| {
            if found.other_family_only {
                return Err(Error::no_forward(name, address));
            }
            let same = |grant: &GrantRule| grant.lease && grant.address == network;
            if grants.iter().any(|grant| same(grant) && grant.end >= Some(end)) {
                return Ok(());
            }
            grants.retain(|grant| !same(grant));
            grants.push(GrantRule::lease(network, end));
            Ok(())
        })
    }

    /// Ends a lease. A missing one is no error.
    ///
    /// # Errors
    /// iptables refuses.
    pub fn release(&mut self, name: &ServiceName, address: impl Into<IpNet>) -> Result<Change, Error> {
        let network = canonical(address.into());
        let set = Family::of(network).set(name);
        if let Some(sets) = self.sets()?.filter(|_| is_single(network)) {
            match sets.delete(&set, network.addr()) {
                Ok(()) => return Ok(Change::Made),
                Err(Errno::NOENT | Errno::INVAL) => {}
                Err(errno) => return Err(refused("change an ipset", errno)),
            }
        }
        let released = self.change_grants(name, network, |_, grants| {
            grants.retain(|grant| !grant.lease || grant.address != network);
            Ok(())
        });
        match released {
            Err(Error::NoService(_)) => Ok(Change::AlreadySo),
            released => released,
        }
    }

    /// Ends a lease that is in an ipset.
    pub(super) fn release_from_set(&mut self, name: &ServiceName, address: IpAddr) -> Result<Change, Error> {
        let set = Family::of(address.into()).set(name);
        let Some(sets) = self.sets()? else { return Ok(Change::AlreadySo) };
        let failed = |errno| refused("change an ipset", errno);
        let there = sets.list(&set).map_err(failed)?.unwrap_or_default();
        if there.iter().all(|element| element.address != address) {
            return Ok(Change::AlreadySo);
        }
        sets.delete(&set, address).map_err(failed)?;
        Ok(Change::Made)
    }

    /// Adds the leases of a service to its grants, for addresses that are wanted.
    pub(super) fn join_leases(
        &mut self,
        name: &ServiceName,
        grants: &mut Vec<Grant>,
        is_wanted: impl Fn(IpAddr) -> bool,
    ) -> Result<(), Error> {
        let Some(sets) = self.sets()? else { return Ok(()) };
        for family in Family::all() {
            let elements = sets.list(&family.set(name)).map_err(|errno| refused("list an ipset", errno))?;
            let elements = elements.into_iter().flatten();
            for Element { address, left, packets, .. } in elements.filter(|one| is_wanted(one.address)) {
                join_grant(grants, Grant { address: address.into(), left, packets });
            }
        }
        Ok(())
    }
}
