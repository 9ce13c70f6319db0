//! Output of `list`: as a table and as JSON.

use std::fmt::Write as _;

use pktables::{Grant, Listing, Log, Policy, Service, address, time};
use serde_json::{Value, json};

const HEAD: [&str; 5] = ["SERVICE", "PORT", "ADDRESS", "LEFT", "PACKETS"];

/// A line for each grant, and one per service for the default policy; ends with a newline.
pub(crate) fn table(listings: &[Listing]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    for Listing { service, grants, default_packets, .. } in listings {
        let (name, port) = (service.name.to_string(), port(service));
        for Grant { address: who, left, packets, .. } in grants {
            let left = match left {
                None => "-".to_owned(),
                Some(left) if left.is_zero() => "expired".to_owned(),
                Some(left) => time::short(*left),
            };
            rows.push([name.clone(), port.clone(), address::short(*who), left, count(*packets)]);
        }
        rows.push([name, port, "default".to_owned(), policy(service).to_owned(), count(*default_packets)]);
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let [first, second, third, fourth, _] = [0, 1, 2, 3, 4].map(width);
    let mut text = String::new();
    for [name, port, who, left, packets] in &rows {
        let _ = writeln!(text, "{name:first$}  {port:second$}  {who:third$}  {left:fourth$}  {packets}");
    }
    text
}

/// An array with an object for each service; ends with a newline.
pub(crate) fn json(listings: &[Listing]) -> String {
    let services: Vec<Value> = listings.iter().map(object).collect();
    format!("{:#}\n", Value::Array(services))
}

fn object(listing: &Listing) -> Value {
    let Listing { service, grants, default_packets, .. } = listing;
    let grants: Vec<Value> = grants
        .iter()
        .map(|grant| {
            json!({
                "address": address::short(grant.address),
                "seconds_left": grant.left.map(|left| left.as_secs_f64()),
                "packets": grant.packets,
            })
        })
        .collect();
    json!({
        "service": service.name.as_str(),
        "protocol": service.protocol.as_str(),
        "port": service.ports.single(),
        "ports": service.ports.texts().collect::<Vec<_>>(),
        "only_new": service.only_new,
        "default_policy": policy(service),
        "default_packets": default_packets,
        "log": service.log.as_ref().map(log),
        "forward": service.forward.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "before_nat": service.scope.before_nat,
        "interfaces": service.scope.interfaces.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "exempt": service.scope.exempt.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "grants": grants,
    })
}

fn log(log: &Log) -> Value {
    json!({
        "prefix": log.prefix.as_str(),
        "level": log.level.as_str(),
        "limit": log.limit.map(|limit| limit.to_string()),
        "burst": log.limit.map(|limit| limit.burst()),
    })
}

fn port(service: &Service) -> String {
    let mut text = format!("{}/{}", service.protocol, service.ports);
    let mut sign = " > ";
    for forward in &service.forward {
        let _ = write!(text, "{sign}{forward}");
        sign = ", ";
    }
    text
}

fn policy(service: &Service) -> &'static str {
    match service.policy {
        Policy::Drop => "drop",
        Policy::Accept => "accept",
    }
}

fn count(packets: Option<u64>) -> String {
    packets.map_or_else(|| "-".to_owned(), |packets| packets.to_string())
}
