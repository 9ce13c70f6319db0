//! Which addresses may begin flows, and for how long.

use core::net::Ipv4Addr;

use heapless::Vec;

use crate::{config::Services, moment::Moment};

/// An address may begin flows to the services of one rule.
#[derive(Clone, Copy, Debug)]
struct Grant {
    address: Ipv4Addr,
    services: Services,
    rule: u8,
    until: Moment,
}

/// All grants. Empty, it is all zeros.
#[derive(Debug)]
pub(crate) struct Grants<const N: usize>(Vec<Grant, N>);

impl<const N: usize> Grants<N> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Grants, or prolongs. When all places are taken, the grant that ends first goes.
    pub(crate) fn grant(&mut self, address: Ipv4Addr, rule: u8, services: Services, until: Moment) {
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

    /// Whether this address may begin flows to the service.
    pub(crate) fn has(&self, now: Moment, address: Ipv4Addr, service: u8) -> bool {
        self.of(now, address).any(|grant| grant.services.has(service))
    }

    /// Whether this address may begin flows to any service.
    pub(crate) fn has_any(&self, now: Moment, address: Ipv4Addr) -> bool {
        self.of(now, address).next().is_some()
    }

    fn of(&self, now: Moment, address: Ipv4Addr) -> impl Iterator<Item = &Grant> {
        self.0.iter().filter(move |grant| grant.address == address && grant.until > now)
    }

    /// Grants that have not ended.
    pub(crate) fn len(&self, now: Moment) -> usize {
        self.0.iter().filter(|grant| grant.until > now).count()
    }
}
