//! Grants of link-local addresses. pktables' leases are for every interface, and the held table binds them to one: a packet
//! has to pass both.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result};
use pktables::{Change, Error, HeldTable, LinkGrant, Protection, Sender, ServiceName};

use super::rules::Rules;

pub(super) fn grant(
    held: Option<&mut HeldTable>,
    rules: &mut Rules,
    name: &ServiceName,
    sender: Sender,
    ttl: Duration,
) -> Result<Change> {
    let held = held.context("without nftables, a link-local address cannot be bound to its interface")?;
    held.grant_on_link(name, sender, ttl)?;
    Ok(rules.lease(name, sender.address(), ttl)?)
}

pub(super) fn revoke(
    held: Option<&mut HeldTable>,
    rules: &mut Rules,
    name: &ServiceName,
    sender: Sender,
) -> Result<Change> {
    let mut others = Vec::new();
    if let Some(held) = held
        && sender.interface().is_some()
    {
        held.revoke_on_link(name, sender)?;
        others = held.link_grants()?;
    }
    // The same address may have knocked on another link.
    if others.iter().any(|other| is_of(other, name, sender.address())) {
        return Ok(Change::Made);
    }
    Ok(rules.release(name, sender.address())?)
}

/// Ends the leases that nothing will bind to an interface once this process has ended, because the held table vanishes
/// with it. They are made again at the next start.
pub(super) fn end_unbound(held: Option<&mut HeldTable>, rules: &mut Rules) -> Result<(), Error> {
    let Some(held) = held.filter(|held| held.protection() == Some(Protection::Owner)) else { return Ok(()) };
    for grant in held.link_grants()? {
        rules.release(&grant.service, grant.sender.address())?;
    }
    Ok(())
}

fn is_of(grant: &LinkGrant, name: &ServiceName, address: IpAddr) -> bool {
    grant.service == *name && grant.sender.address() == address
}
