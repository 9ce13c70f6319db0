//! Whether a packet matches an expression of nftables.

use std::collections::BTreeMap;

use pktables::Protocol;
use serde_json::Value;

use crate::firewall::conflicts::packet::{Family, Packet, Truth};

/// The elements of the sets and maps of a table, by name.
pub(super) type Sets = BTreeMap<String, Vec<Value>>;

/// What the left side of a comparison is about.
enum Subject {
    Port,
    Sender,
    Destination,
    L4Protocol,
    Network,
    Interface,
    State,
    Status,
    AddressType,
    Flags(Vec<String>),
    /// The packet has no such header.
    Absent,
    NotFollowed,
}

/// Whether a packet satisfies the statement `match`.
pub(super) fn matches(value: &Value, packet: &Packet<'_>, sets: &Sets) -> Truth {
    let (Some(left), Some(right)) = (value.get("left"), value.get("right")) else { return Truth::Unknown };
    let op = value.get("op").and_then(Value::as_str).unwrap_or("==");
    match op {
        "==" | "in" => is_one_of(left, right, packet, sets),
        // A packet without the header matches neither way.
        "!=" if is_absent(left, packet) => Truth::No,
        "!=" => is_one_of(left, right, packet, sets).not(),
        _ => ordered(left, op, right, packet),
    }
}

/// Whether the key of a map is this entry's.
pub(super) fn truth_of_entry(key: &Value, entry: &Value, packet: &Packet<'_>, sets: &Sets) -> Truth {
    is_one_of(key, entry, packet, sets)
}

fn is_absent(left: &Value, packet: &Packet<'_>) -> bool {
    matches!(subject(left, packet), Subject::Absent)
}

/// `tcp dport < 1024`.
fn ordered(left: &Value, op: &str, right: &Value, packet: &Packet<'_>) -> Truth {
    match (subject(left, packet), right.as_u64()) {
        (Subject::Absent, _) => Truth::No,
        (Subject::Port, Some(number)) => match op {
            "<" => packet.has_port(0..=number.saturating_sub(1)),
            "<=" => packet.has_port(0..=number),
            ">" => packet.has_port(number.saturating_add(1)..=u64::MAX),
            ">=" => packet.has_port(number..=u64::MAX),
            _ => Truth::Unknown,
        },
        _ => Truth::Unknown,
    }
}

fn is_one_of(left: &Value, right: &Value, packet: &Packet<'_>, sets: &Sets) -> Truth {
    if let Some(list) = right.as_array().or_else(|| right.get("set")?.as_array()) {
        return Truth::any(list.iter().map(|one| is_one_of(left, one, packet, sets)));
    }
    if let Some(name) = right.as_str().and_then(|text| text.strip_prefix('@')) {
        return match sets.get(name).filter(|list| !list.is_empty()) {
            _ if is_absent(left, packet) => Truth::No,
            Some(list) => Truth::any(list.iter().map(|one| is_one_of(left, one, packet, sets))),
            // A set that is empty now is there to be filled, with senders usually.
            None => Truth::Unknown,
        };
    }
    if let Some(element) = right.get("elem").and_then(|element| element.get("val")) {
        return is_one_of(left, element, packet, sets);
    }
    if let Some(parts) = left.get("concat").and_then(Value::as_array) {
        let Some(values) = right.get("concat").and_then(Value::as_array) else { return Truth::Unknown };
        return Truth::all(
            parts.iter().zip(values).map(|(part, value)| is_one_of(part, value, packet, sets)),
        );
    }
    if right == "*" {
        return Truth::Yes;
    }
    compare(&subject(left, packet), right, packet)
}

fn subject(left: &Value, packet: &Packet<'_>) -> Subject {
    let text = |pointer: &str| left.pointer(pointer).and_then(Value::as_str);
    if let (Some(protocol), Some(field)) = (text("/payload/protocol"), text("/payload/field")) {
        let is_absent = match protocol {
            "tcp" => packet.protocol != Protocol::Tcp,
            "udp" => packet.protocol != Protocol::Udp,
            "ip" => packet.family != Family::V4,
            "ip6" => packet.family != Family::V6,
            "th" => false,
            "icmp" | "icmpv6" | "igmp" | "sctp" | "dccp" | "esp" | "ah" | "comp" | "udplite" | "arp" => true,
            _ => return Subject::NotFollowed,
        };
        return match field {
            _ if is_absent => Subject::Absent,
            "dport" => Subject::Port,
            "saddr" => Subject::Sender,
            "daddr" => Subject::Destination,
            "protocol" | "nexthdr" => Subject::L4Protocol,
            _ => Subject::NotFollowed,
        };
    }
    match (text("/meta/key"), text("/ct/key"), text("/fib/result")) {
        (Some("l4proto"), ..) => Subject::L4Protocol,
        (Some("nfproto" | "protocol"), ..) => Subject::Network,
        (Some("iif" | "iifname"), ..) => Subject::Interface,
        (_, Some("state"), _) => Subject::State,
        (_, Some("status"), _) => Subject::Status,
        (.., Some("type"))
            if left.pointer("/fib/flags/0").and_then(Value::as_str).or(text("/fib/flags"))
                == Some("daddr") =>
        {
            Subject::AddressType
        }
        _ => flags(left, packet),
    }
}

/// `tcp flags & (syn | ack)`.
fn flags(left: &Value, packet: &Packet<'_>) -> Subject {
    let Some(and) = left.get("&").and_then(Value::as_array) else { return Subject::NotFollowed };
    let is_flags = and.first().and_then(|field| field.pointer("/payload/field")?.as_str()) == Some("flags");
    match and.get(1) {
        Some(_) if is_flags && packet.protocol != Protocol::Tcp => Subject::Absent,
        Some(mask) if is_flags => Subject::Flags(names(mask)),
        _ => Subject::NotFollowed,
    }
}

/// The words in a value, such as `{"|": ["syn", "ack"]}`.
fn names(value: &Value) -> Vec<String> {
    match value {
        Value::String(name) => vec![name.clone()],
        Value::Array(list) => list.iter().flat_map(names).collect(),
        Value::Object(map) => map.values().flat_map(names).collect(),
        _ => Vec::new(),
    }
}

fn compare(subject: &Subject, right: &Value, packet: &Packet<'_>) -> Truth {
    let word = right.as_str();
    match (subject, word) {
        (Subject::Absent, _) => Truth::No,
        (Subject::Port, _) => port(right, packet),
        (Subject::Sender, _) => network(right).map_or(Truth::Unknown, |network| packet.comes_from(&network)),
        (Subject::Destination, _) => {
            network(right).map_or(Truth::Unknown, |network| packet.goes_to(&network))
        }
        (Subject::L4Protocol, Some(word)) => Truth::of(word == packet.protocol.as_str()),
        (Subject::L4Protocol, None) => {
            let number = if packet.protocol == Protocol::Tcp { 6 } else { 17 };
            right.as_u64().map_or(Truth::Unknown, |right| Truth::of(right == number))
        }
        (Subject::Network, Some(word)) => Truth::of(match packet.family {
            Family::V4 => ["ipv4", "ip"].contains(&word),
            Family::V6 => ["ipv6", "ip6"].contains(&word),
        }),
        (Subject::Interface, Some(name)) => packet.arrives_on(name, '*'),
        (Subject::State, Some(word)) => packet.has_state([word].into_iter()),
        (Subject::Status, Some("dnat")) => Truth::of(packet.forwarded.is_some()),
        (Subject::AddressType, Some(word)) if packet.forwarded.is_none() => Truth::of(word == "local"),
        (Subject::Flags(mask), _) => {
            // The first packet of a connection has this flag alone.
            let has = |list: &[String]| list.iter().any(|flag| flag == "syn");
            let set = names(right);
            Truth::of(set.iter().all(|flag| flag == "syn") && has(mask) == has(&set))
        }
        _ => Truth::Unknown,
    }
}

fn port(right: &Value, packet: &Packet<'_>) -> Truth {
    let range = right.get("range").and_then(|range| Some((range.get(0)?.as_u64()?, range.get(1)?.as_u64()?)));
    match right.as_u64().map(|port| (port, port)).or(range) {
        Some((from, to)) => packet.has_port(from..=to),
        None => Truth::Unknown,
    }
}

/// An address or prefix as text.
fn network(right: &Value) -> Option<String> {
    if let Some(address) = right.as_str() {
        return Some(address.to_owned());
    }
    let prefix = right.get("prefix")?;
    Some(format!("{}/{}", prefix.get("addr")?.as_str()?, prefix.get("len")?.as_u64()?))
}
