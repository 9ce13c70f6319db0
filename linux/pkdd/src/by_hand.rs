//! Grants that a person asks for, without a knock.

use std::{net::IpAddr, time::Duration};

use pktables::Sender;

use crate::{
    config::Config,
    control::{GRANTED, REVOKED},
    engine::Engine,
    firewall::FirewallBackend,
    report::log,
};

/// Opens all services to an address for so many seconds; returns the answer.
pub(crate) fn grant(
    firewall: &mut dyn FirewallBackend,
    config: &Config,
    address: IpAddr,
    seconds: u32,
) -> String {
    let sender = Sender::from(address);
    for service in config.services.values() {
        if let Err(error) = firewall.grant(service, sender, Duration::from_secs(seconds.into())) {
            return cannot(service.service.name.as_str(), sender, &error);
        }
    }
    log(&format!("by hand: all services are open to {sender} for {seconds} s"));
    GRANTED.to_owned()
}

/// Closes all services to an address until it knocks again; returns the answer. Whatever fails, the rest is closed.
pub(crate) fn revoke(firewall: &mut dyn FirewallBackend, engine: &mut Engine, address: IpAddr) -> String {
    let sender = Sender::from(address);
    let config = engine.config().clone();
    let granted = |sender| config.gate.granted(sender).address();
    let is_theirs = |other| granted(other) == granted(sender);
    // A link-local address is another sender on each interface.
    let mut senders = vec![sender];
    for effect in engine.effects() {
        if is_theirs(effect.sender) && !senders.contains(&effect.sender) {
            senders.push(effect.sender);
        }
    }
    let mut problem = None;
    for service in config.services.values() {
        for sender in &senders {
            if let Err(error) = firewall.revoke(service, *sender) {
                problem = Some(cannot(service.service.name.as_str(), *sender, &error));
            }
        }
    }
    let caches = engine.caches();
    for written in [caches.classic.close(is_theirs), caches.format2.close(is_theirs)] {
        if let Err(error) = written {
            let what = format!("a restart of pkdd opens it again, as the journal cannot be written: {error}");
            problem.get_or_insert(what);
        }
    }
    if let Some(problem) = problem {
        return problem;
    }
    log(&format!("by hand: all services are closed to {sender}"));
    REVOKED.to_owned()
}

fn cannot(service: &str, sender: Sender, error: &anyhow::Error) -> String {
    format!("cannot change {service} for {sender}: {error:#}")
}
