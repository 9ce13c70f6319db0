//! Grants: which addresses may open new flows, and for how long.

use core::net::IpAddr;

use heapless::Vec;

use crate::{config::Services, instant::CoarseInstant, ip::Ip};

/// Allows an address, or a network of IPv6, to open flows to the services of one rule.
#[derive(Clone, Copy, Debug)]
struct Grant {
    network: Ip,
    services: Services,
    rule: u8,
    /// Length of the prefix of an IPv6 network in bits.
    prefix: u8,
    until: CoarseInstant,
}

/// All grants. An empty table is all zeros.
#[derive(Debug)]
pub(crate) struct Grants<const N: usize>(Vec<Grant, N>);

impl<const N: usize> Grants<N> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a grant, or extends it. If the table is full, the grant that expires first is replaced. `prefix`: of an IPv6
    /// address, how many bits the grant is for.
    pub(crate) fn grant(&mut self, ip: Ip, prefix: u8, rule: u8, services: Services, until: CoarseInstant) {
        let network = ip.network(prefix);
        let new = Grant { network, services, rule, prefix, until };
        if let Some(grant) = self.0.iter_mut().find(|grant| grant.network == network && grant.rule == rule) {
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
    pub(crate) fn revoke(&mut self, ip: Ip, rule: u8) {
        self.0.retain(|grant| !grant.covers(ip) || grant.rule != rule);
    }

    /// Until when this address may open flows to this service. `None`: it may not.
    pub(crate) fn allows(&self, now: CoarseInstant, ip: Ip, service: u8) -> Option<CoarseInstant> {
        self.active(now, ip).filter(|grant| grant.services.contains(service)).map(|grant| grant.until).max()
    }

    /// Whether this address may open flows to any service.
    pub(crate) fn allows_any(&self, now: CoarseInstant, ip: Ip) -> bool {
        self.active(now, ip).next().is_some()
    }

    fn active(&self, now: CoarseInstant, ip: Ip) -> impl Iterator<Item = &Grant> {
        self.0.iter().filter(move |grant| grant.until > now && grant.covers(ip))
    }

    /// The address, the services and the remaining seconds of each grant that has not expired.
    pub(crate) fn remaining(&self, now: CoarseInstant) -> impl Iterator<Item = (IpAddr, Services, u32)> {
        let active = self.0.iter().filter(move |grant| grant.until > now);
        active.map(move |grant| (grant.network.into(), grant.services, grant.until.seconds_since(now)))
    }

    /// The number of grants that have not expired.
    pub(crate) fn len(&self, now: CoarseInstant) -> usize {
        self.0.iter().filter(|grant| grant.until > now).count()
    }
}

impl Grant {
    fn covers(&self, ip: Ip) -> bool {
        self.network == ip || (self.prefix < 128 && self.network == ip.network(self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;

    #[test]
    fn once_the_clock_saturates_no_grant_holds() {
        let ip = Ip::v4(7);
        for (now, expected) in
            [(Instant(20_000), true), (Instant(u64::MAX >> 1), false), (Instant(u64::MAX), false)]
        {
            let now = CoarseInstant::from(now);
            let mut grants = Grants::<4>::new();
            grants.grant(ip, 128, 0, Services::NONE.with(0), now.after(600));
            assert_eq!(grants.allows(now, ip, 0).is_some(), expected, "{now:?}");
            assert_eq!(grants.allows_any(now, ip), expected, "{now:?}");
        }
    }
}
