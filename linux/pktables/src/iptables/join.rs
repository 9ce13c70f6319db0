//! One listing out of the rules of both address families.

use std::time::SystemTime;

use super::parsed::Parsed;
use crate::{
    error::Error,
    firewall::{Listing, join as join_grant},
    scope::Exempt,
    service::Service,
};

/// Joins what the families have of one service.
///
/// # Errors
/// They differ.
pub(super) fn join(families: Vec<Parsed>, now: SystemTime) -> Result<Option<Listing>, Error> {
    let mut joined: Option<Listing> = None;
    for found in families {
        let mut grants = Vec::new();
        found.grants().for_each(|grant| join_grant(&mut grants, grant.to_grant(now)));
        let Some(listing) = &mut joined else {
            grants.sort_by_key(|grant| grant.address);
            joined = Some(Listing {
                service: found.service,
                grants,
                default_packets: Some(found.default_packets),
            });
            continue;
        };
        let name = &found.service.name;
        let mut same = Service { forward: listing.service.forward.clone(), ..found.service.clone() };
        let networks = |exempt: &Exempt| matches!(exempt, Exempt::Network(_));
        let (own, others): (Vec<Exempt>, Vec<Exempt>) =
            found.service.scope.exempt.iter().cloned().partition(networks);
        let (theirs, interfaces): (Vec<Exempt>, Vec<Exempt>) =
            listing.service.scope.exempt.iter().cloned().partition(networks);
        same.scope.exempt.clone_from(&listing.service.scope.exempt);
        if listing.service != same || interfaces != others {
            let part = format!("chain pk-{name} differs in ip6tables; repair it with pktables init {name}");
            return Err(Error::Unparsable { program: "iptables", part });
        }
        listing.service.forward.extend(found.service.forward);
        listing.service.scope.exempt = [interfaces, theirs, own].concat();
        listing.grants.extend(grants);
        listing.grants.sort_by_key(|grant| grant.address);
        listing.default_packets =
            listing.default_packets.map(|packets| packets.saturating_add(found.default_packets));
    }
    Ok(joined)
}
