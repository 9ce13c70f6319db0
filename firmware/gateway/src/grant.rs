//! Grants: which addresses may open new flows, and for how long.

use core::net::Ipv4Addr;

use heapless::Vec;

use crate::{config::Services, instant::CoarseInstant};

/// Allows an address to open flows to the services of one rule.
#[derive(Clone, Copy, Debug)]
struct Grant {
    address: Ipv4Addr,
    services: Services,
    rule: u8,
    until: CoarseInstant,
}

/// All grants. An empty table is all zeros.
#[derive(Debug)]
pub(crate) struct Grants<const N: usize>(Vec<Grant, N>);

impl<const N: usize> Grants<N> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a grant, or extends it. If the table is full, the grant that expires first is replaced.
    pub(crate) fn grant(&mut self, address: Ipv4Addr, rule: u8, services: Services, until: CoarseInstant) {
        let new = Grant { address, services, rule, until };
        if let Some(grant) = self.0.iter_mut().find(|grant| grant.address == address && grant.rule == rule) {
            grant.until = grant.until.max(until);
            return;
        }
        if let Err(new) = self.0.push(new)
            && let Some(first) = self.0.iter_mut().min_by_key(|grant| grant.until)
        {
            *first = new;
        }
    }

    /// Ends the grant of a rule for an address, if there is one.
    pub(crate) fn revoke(&mut self, address: Ipv4Addr, rule: u8) {
        self.0.retain(|grant| grant.address != address || grant.rule != rule);
    }

    /// Whether this address may open flows to this service.
    pub(crate) fn allows(&self, now: CoarseInstant, address: Ipv4Addr, service: u8) -> bool {
        self.active(now, address).any(|grant| grant.services.contains(service))
    }

    /// Whether this address may open flows to any service.
    pub(crate) fn allows_any(&self, now: CoarseInstant, address: Ipv4Addr) -> bool {
        self.active(now, address).next().is_some()
    }

    fn active(&self, now: CoarseInstant, address: Ipv4Addr) -> impl Iterator<Item = &Grant> {
        self.0.iter().filter(move |grant| grant.address == address && grant.until > now)
    }

    /// The address, the services and the remaining seconds of each grant that has not expired.
    pub(crate) fn remaining(&self, now: CoarseInstant) -> impl Iterator<Item = (Ipv4Addr, Services, u32)> {
        let active = self.0.iter().filter(move |grant| grant.until > now);
        active.map(move |grant| (grant.address, grant.services, grant.until.seconds_since(now)))
    }

    /// The number of grants that have not expired.
    pub(crate) fn len(&self, now: CoarseInstant) -> usize {
        self.0.iter().filter(|grant| grant.until > now).count()
    }
}
