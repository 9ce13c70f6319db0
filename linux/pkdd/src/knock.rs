//! What a datagram leads to: grants, the floor and the log.

use std::{net::IpAddr, time::Instant};

use anyhow::Result;
use pkd_packet::Datagram;

use crate::{
    config::ServiceConfig,
    date::now,
    engine::{Decision, Engine},
    firewall::FirewallBackend,
    floor::Saver,
    health::{Health, record_error},
    report::{Ignored, log},
};

/// Handles one datagram. After a valid knock the grants come first, then the floor and the log.
pub(crate) fn handle(
    engine: &mut Engine,
    firewall: &mut dyn FirewallBackend,
    saver: &Saver,
    ignored: &mut Ignored,
    health: &mut Health,
    datagram: &Datagram<'_>,
) {
    match engine.handle(now(), datagram) {
        Decision::Accept { user, services } => {
            let result = grant(firewall, &user, &services, datagram.source);
            if let Some(accepted) = engine.caches().accepted().last() {
                saver.save(accepted.cache, accepted.id.time());
            }
            record_error(&mut health.firewall, result);
        }
        Decision::Ignore(reason) => {
            if let Some(line) = ignored.add(Instant::now(), reason, datagram.source) {
                log(&line);
            }
        }
    }
    if let Some(error) = engine.caches().take_failure() {
        log(&format!(
            "refused a valid knock from {}: cannot write it to the journal: {error}",
            datagram.source
        ));
    }
}

/// Opens the services of a knock to its source; returns the last error.
fn grant(
    firewall: &mut dyn FirewallBackend,
    user: &str,
    services: &[ServiceConfig],
    source: IpAddr,
) -> Result<()> {
    let mut opened = Vec::new();
    let mut result = Ok(());
    for config in services {
        let name = &config.service.name;
        match firewall.grant(config, source, config.ttl) {
            Ok(_) => opened.push(format!("{name} for {} s", config.ttl.as_secs())),
            Err(error) => result = Err(error.context(format!("cannot open {name} to {source}"))),
        }
    }
    let opened = if opened.is_empty() { "nothing".to_owned() } else { opened.join(", ") };
    log(&format!("accepted: user {user} from {source} opened {opened}"));
    result
}
