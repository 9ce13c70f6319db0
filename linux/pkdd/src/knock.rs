//! What a datagram leads to: grants, the floor and the log.

use std::time::Instant;

use anyhow::Result;
use pkd_packet::Datagram;
use pktables::Sender;

use crate::{
    config::ServiceConfig,
    date::{now, now_millis},
    engine::{Decision, Engine},
    events::Event,
    feed::Feed,
    firewall::{FirewallBackend, obstacle, reconcile},
    floor::Savers,
    health::{Health, record_error},
    nflog::Logged,
    report::{Ignored, log},
    uptime::Uptime,
};

/// Handles one packet. After a valid knock the grants come first, then the floor and the log.
pub(crate) fn handle(
    engine: &mut Engine,
    firewall: &mut dyn FirewallBackend,
    savers: &Savers,
    ignored: &mut Ignored,
    health: &mut Health,
    feed: &mut Feed,
    logged: Logged<'_>,
) {
    let Some(datagram) = Datagram::from_ip(logged.packet) else { return };
    let sender = Sender::new(datagram.source, logged.interface);
    let time = now_millis();
    let offset_ms = if feed.has_readers() { engine.offset(time, &datagram) } else { None };
    match engine.handle(time, sender, &datagram) {
        Decision::Accept { user, services, floor } => {
            let (opened, result) = grant(firewall, &user, &services, sender);
            savers.save(floor);
            record_error(&mut health.firewall, result);
            let from = sender.to_string();
            feed.tell(&Event::Accepted { user: &user, from, services: Some(opened), offset_ms });
        }
        Decision::Close { user, floor } => {
            let (effects, times) = (engine.effects(), (now(), Uptime::now()));
            let closed = reconcile::close(firewall, engine.config(), &effects, sender, times);
            savers.save(floor);
            let result = closed.map(|services| {
                let closed = if services.is_empty() { "nothing".to_owned() } else { services.join(", ") };
                log(&format!("closed: user {user} from {sender} closed {closed}"));
                let from = sender.to_string();
                feed.tell(&Event::Closed { user: &user, from, services: Some(services) });
            });
            record_error(&mut health.firewall, result);
        }
        Decision::Ignore(cause) => {
            if let Some(line) = ignored.add(Instant::now(), cause, sender) {
                log(&line);
            }
            if feed.has_readers() {
                feed.tell(&Event::Ignored { reason: cause.as_str(), from: sender.to_string(), offset_ms });
            }
        }
    }
    let caches = engine.caches();
    if let Some(why) = caches.classic.take_failure().or(caches.format2.take_failure()) {
        log(&format!("refused a valid knock from {sender}: {why}"));
    }
}

/// Opens the services of a knock to its sender; returns their names, and the last error.
fn grant(
    firewall: &mut dyn FirewallBackend,
    user: &str,
    services: &[ServiceConfig],
    sender: Sender,
) -> (Vec<String>, Result<()>) {
    if let Some(why) = obstacle(firewall.has_link_grants(), sender) {
        log(&format!("accepted: user {user} from {sender} opened nothing: {why}"));
        return (Vec::new(), Ok(()));
    }
    let (mut names, mut opened) = (Vec::new(), Vec::new());
    let mut result = Ok(());
    for config in services {
        let name = &config.service.name;
        match firewall.grant(config, sender, config.ttl) {
            Ok(_) => {
                names.push(name.to_string());
                opened.push(format!("{name} for {} s", config.ttl.as_secs()));
            }
            Err(error) => result = Err(error.context(format!("cannot open {name} to {sender}"))),
        }
    }
    let opened = if opened.is_empty() { "nothing".to_owned() } else { opened.join(", ") };
    log(&format!("accepted: user {user} from {sender} opened {opened}"));
    (names, result)
}
