//! Ends the connections of grants that are over, for services that want it. The kernel ends most grants, and does not say so;
//! so it is asked at the time when one should be over, and whenever something has changed.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use ipnet::IpNet;
use pktables::{Connections, Error, Exempt, Sender, ServiceName};

use super::{ActiveGrant, FirewallBackend};
use crate::{
    config::{Config, ServiceConfig},
    journal::Effect,
    privileges,
    report::log,
    status::counted,
};

/// How long to wait after the kernel has refused.
const RETRY: Duration = Duration::from_secs(10);

/// The grants whose connections end with them. A list, as there are few: maps of another type take 8 KB of a router's flash.
#[derive(Default)]
pub(super) struct Ends {
    /// Opened for the first service that wants it.
    connections: Option<Connections>,
    followed: Vec<Followed>,
    /// Something may have changed meanwhile.
    is_due: bool,
}

/// A grant that was there when it was last looked at.
struct Followed {
    service: ServiceName,
    network: IpNet,
    /// When it may be over; `None`: it has no end.
    end: Option<Instant>,
}

impl Followed {
    fn is(&self, service: &ServiceName, network: IpNet) -> bool {
        self.network == network && self.service == *service
    }
}

impl Ends {
    /// Follows a grant that was made for so long.
    pub(super) fn granted(&mut self, service: &ServiceConfig, sender: Sender, ttl: Duration) {
        if service.end_connections {
            self.note(&service.service.name, network(service, sender), Some(Instant::now() + ttl));
        }
    }

    /// Has the next call of [`end`](Self::end) look at all grants.
    pub(super) fn look(&mut self) {
        self.is_due = true;
    }

    /// Follows what knocks have opened, perhaps before this process started. It may be over.
    pub(super) fn follow(&mut self, config: &Config, effects: &[Effect]) {
        self.look();
        let services = || config.services.values().filter(|service| service.end_connections);
        for effect in effects.iter().filter(|effect| !effect.closes) {
            let user = config.users.values().find(|user| user.cache == effect.cache);
            for service in services() {
                let name = &service.service.name;
                let may = |user| config.services_of(user).any(|one| one.service.name == *name);
                // A user who was removed may have opened any.
                if user.is_none_or(may) {
                    self.note(name, network(service, effect.sender), Some(Instant::now()));
                }
            }
        }
    }

    /// Of two ends, the later one counts.
    fn note(&mut self, service: &ServiceName, network: IpNet, end: Option<Instant>) {
        match self.followed.iter_mut().find(|one| one.is(service, network)) {
            Some(there) => there.end = there.end.zip(end).map(|(one, other)| one.max(other)),
            None => self.followed.push(Followed { service: service.clone(), network, end }),
        }
    }

    /// Ends the connections of grants that are over. `Some`: it was tried, with this result.
    pub(super) fn end(&mut self, firewall: &mut dyn FirewallBackend, config: &Config) -> Option<Result<()>> {
        if !is_wanted(config) {
            self.followed.clear();
            // What was wrong does not matter any more.
            return Some(Ok(()));
        }
        let now = Instant::now();
        let is_over = |one: &Followed| one.end.is_some_and(|end| end <= now);
        if !self.is_due && !self.followed.iter().any(is_over) {
            return None;
        }
        self.is_due = false;
        let mut open = match firewall.list(config) {
            Ok(grants) => grants,
            // While firewall4 is stopped, there are neither sets nor a guard. After its start, grants are made again.
            Err(error) => {
                self.retry(now);
                let is_stopped = matches!(error.downcast_ref(), Some(Error::NoSet { .. }));
                return (!is_stopped).then_some(Err(error));
            }
        };
        open.retain(|grant| grant.left.is_none_or(|left| !left.is_zero()));
        let mut gone = std::mem::take(&mut self.followed);
        for grant in &open {
            gone.retain(|one| !one.is(&grant.service, grant.address));
            self.note(&grant.service, grant.address, grant.left.map(|left| now + left));
        }
        let result = self.forget(config, &gone, &open);
        if result.is_err() {
            self.followed.append(&mut gone);
            self.retry(now);
        }
        Some(result)
    }

    /// Looks again some time later.
    fn retry(&mut self, now: Instant) {
        self.followed.iter_mut().for_each(|one| one.end = Some(now + RETRY));
    }

    fn forget(&mut self, config: &Config, gone: &[Followed], open: &[ActiveGrant]) -> Result<()> {
        let connections = match &mut self.connections {
            Some(connections) => connections,
            none => none.insert(probe()?),
        };
        for service in config.services.values().filter(|service| service.end_connections) {
            let service = &service.service;
            let mut networks: Vec<IpNet> = Vec::new();
            networks.extend(gone.iter().filter(|one| one.service == service.name).map(|one| one.network));
            let stays = |address: IpAddr| {
                let is_exempt = |one: &Exempt| matches!(one, Exempt::Network(all) if all.contains(&address));
                let has =
                    |grant: &ActiveGrant| grant.service == service.name && grant.address.contains(&address);
                open.iter().any(has) || service.scope.exempt.iter().any(is_exempt)
            };
            let ended = connections.forget(&networks, stays, service.protocol, &service.ports)?;
            if ended > 0 {
                let from: Vec<String> = networks.iter().map(|all| pktables::address::short(*all)).collect();
                log(&format!(
                    "ended: {} to {} from {}",
                    counted(ended, "connection"),
                    service.name,
                    from.join(", ")
                ));
            }
        }
        Ok(())
    }
}

fn is_wanted(config: &Config) -> bool {
    config.services.values().any(|service| service.end_connections)
}

/// A link-local address is never extended to its network.
fn network(service: &ServiceConfig, sender: Sender) -> IpNet {
    if sender.is_link_local() { sender.address().into() } else { service.network(sender) }
}

fn probe() -> Result<Connections> {
    let mut connections = Connections::open()?;
    match connections.probe() {
        Ok(()) => Ok(connections),
        Err(error) => Err(anyhow!("end_connections: grants end, and connections go on: {error}")),
    }
}

/// What keeps connections from being ended; `None`: nothing, no service wants it, or this process may not know.
#[must_use]
pub fn hindrance(config: &Config) -> Option<String> {
    let is_asked = is_wanted(config) && privileges::may_change_rules();
    is_asked.then(probe)?.err().map(|error| format!("{error:#}"))
}
