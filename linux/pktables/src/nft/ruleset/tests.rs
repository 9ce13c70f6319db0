use serde_json::json;

use super::*;

/// What nft lists, of these rules: each a chain, a comment and its parts.
fn listing(rules: &[(&str, &str, Value)]) -> Ruleset {
    let mut objects = vec![json!({ "metainfo": { "json_schema_version": 1 } })];
    for chain in ["input", "pk-ssh", "theirs"] {
        objects.push(json!({ "chain": { "family": "inet", "table": "pktables", "name": chain } }));
    }
    for (handle, (chain, comment, parts)) in (1..).zip(rules) {
        let mut rule = json!({ "chain": chain, "handle": handle, "expr": parts });
        if !comment.is_empty() {
            rule["comment"] = json!(comment);
        }
        objects.push(json!({ "rule": rule }));
    }
    Ruleset::parse(json!({ "nftables": objects }).to_string().as_bytes()).expect("it is understood")
}

fn name(text: &str) -> ServiceName {
    text.parse().expect("a name")
}

fn port(protocol: &str, port: u64) -> Value {
    let left = json!({ "payload": { "protocol": protocol, "field": "dport" } });
    json!({ "match": { "op": "==", "left": left, "right": port } })
}

fn jump() -> Value {
    json!({ "jump": { "target": "pk-ssh" } })
}

fn drop_all() -> (&'static str, &'static str, Value) {
    ("pk-ssh", "", json!([{ "counter": { "packets": 9, "bytes": 1 } }, { "drop": null }]))
}

fn good() -> [(&'static str, &'static str, Value); 2] {
    [("input", "", json!([port("tcp", 22), jump()])), drop_all()]
}

#[test]
fn a_service_is_parsed_from_its_jump_and_its_chain() {
    let new = json!({ "match": { "op": "in", "left": { "ct": { "key": "state" } }, "right": "new" } });
    let sent = |host: &str, port: u64| json!([{ "dnat": { "addr": host, "family": "ip", "port": port } }]);
    let accept = json!([{ "accept": null }]);
    let verdict_only = |verdict: Value| ("pk-ssh", "", verdict);
    let [entrance, end] = good();
    let plain = Service {
        name: name("ssh"),
        protocol: crate::service::Protocol::Tcp,
        port: "22".parse().expect("a port"),
        only_new: false,
        policy: Policy::Drop,
        log: None,
        forward: Vec::new(),
    };
    let rows = [
        ("plain", vec![entrance.clone(), end.clone()], plain.clone(), Some(9)),
        (
            "UDP",
            vec![("input", "", json!([port("udp", 22), jump()])), end.clone()],
            Service { protocol: crate::service::Protocol::Udp, ..plain.clone() },
            Some(9),
        ),
        (
            "only new",
            vec![("input", "", json!([port("tcp", 22), new, jump()])), end.clone()],
            Service { only_new: true, ..plain.clone() },
            Some(9),
        ),
        (
            "accept, and verdict_only counts",
            vec![entrance.clone(), verdict_only(accept)],
            Service { policy: Policy::Accept, ..plain.clone() },
            None,
        ),
        (
            "rules of others",
            vec![
                entrance.clone(),
                ("theirs", "pk-ssh", json!([{ "dnat": { "addr": "1.2.3.4", "port": 5 } }])),
                ("prerouting", "pk-other", sent("1.2.3.4", 5)),
                ("input", "", json!([port("tcp", 23), { "jump": { "target": "pk-other" } }])),
                end.clone(),
            ],
            plain.clone(),
            Some(9),
        ),
        (
            "behind the host, twice said and out of order",
            vec![
                entrance,
                end,
                ("prerouting", "pk-ssh", sent("fd00::10", 2222)),
                ("prerouting", "pk-ssh", sent("192.168.1.10", 22)),
                ("prerouting", "pk-ssh", sent("192.168.1.10", 22)),
                ("forward", "pk-ssh", json!([{ "accept": null }])),
            ],
            Service {
                forward: ["192.168.1.10:22", "[fd00::10]:2222"]
                    .map(|text| text.parse().expect("a place"))
                    .to_vec(),
                ..plain
            },
            Some(9),
        ),
    ];
    for (row, rules, service, default_packets) in rows {
        let ruleset = listing(&rules);
        let found = ruleset.service(&name("ssh")).map(|found| (found.service, found.default_packets));
        assert_eq!(found.ok(), Some((service, default_packets)), "{row}");
        assert_eq!(ruleset.services().collect::<Vec<_>>(), [name("ssh")], "{row}");
        assert!(ruleset.has(&name("ssh")) && !ruleset.has(&name("other")), "{row}");
        assert_eq!(ruleset.rules().len(), rules.len(), "{row}");
    }
}

#[test]
fn shared_rules_jump_to_the_service_or_have_its_comment() {
    let [entrance, end] = good();
    let accept = || json!([{ "accept": null }]);
    let ruleset = listing(&[
        entrance,
        end,
        ("prerouting", "pk-ssh", accept()),
        ("forward", "pk-ssh", accept()),
        // Marked, and not there; there, and not marked.
        ("input", "pk-ssh", accept()),
        ("forward", "", json!([jump()])),
        ("theirs", "pk-ssh", json!([jump()])),
    ]);
    let handles: Vec<u32> = ruleset.shared_rules(&name("ssh")).map(|rule| rule.handle).collect();
    assert_eq!(handles, [1, 3, 4]);
}

#[test]
fn incomplete_services_are_errors() {
    let [entrance, end] = good();
    let with_match = json!([port("tcp", 22), { "drop": null }]);
    let rows = [
        (vec![end.clone()], "no jump from input"),
        (vec![entrance.clone(), entrance.clone(), end.clone()], "several jumps from input"),
        (vec![("input", "", json!([jump()])), end.clone()], "the jump matches no port"),
        (
            vec![("input", "", json!([port("sctp", 22), jump()])), end.clone()],
            "the jump matches neither tcp nor udp",
        ),
        (vec![entrance.clone()], "does not end with drop or accept"),
        (vec![entrance.clone(), ("pk-ssh", "", with_match.clone())], "does not end with drop or accept"),
        // What counts is the last.
        (vec![entrance.clone(), end, ("pk-ssh", "", with_match)], "does not end with drop or accept"),
        (vec![entrance, ("pk-ssh", "", json!([{ "return": null }]))], "does not end with drop or accept"),
    ];
    for (row, (rules, part)) in rows.into_iter().enumerate() {
        let told = listing(&rules).service(&name("ssh")).map(drop).map_err(|error| error.to_string());
        let whole = format!(
            "cannot parse nft rules: chain pk-ssh: {part}; repair it with pktables init ssh or pktables remove ssh"
        );
        assert_eq!(told, Err(whole), "row {row}");
    }
    let [_, end] = good();
    let told = listing(&[("input", "", json!([port("tcp", 0), jump()])), end]).service(&name("ssh"));
    assert!(told.is_err());
}

#[test]
fn a_log_is_parsed_as_nft_prints_it() {
    let usual = Log::default();
    let limit = |burst: &str| "3/minute".parse::<LogLimit>().and_then(|limit| limit.with_burst(burst)).ok();
    let level = |level| Log { level, ..usual.clone() };
    // the parts of a rule, its log
    let rows = [
        (json!([{ "log": null }]), Some(usual.clone())),
        (json!([{ "log": {} }]), Some(usual.clone())),
        (json!([{ "log": { "level": "err" } }]), Some(level(crate::LogLevel::Error))),
        (json!([{ "log": { "level": "audit" } }]), None),
        (
            json!([{ "log": { "prefix": "a" } }]),
            Some(Log { prefix: "a".parse().expect("a prefix"), ..usual.clone() }),
        ),
        (json!([{ "log": { "prefix": "\"" } }]), None),
        (
            json!([{ "limit": { "rate": 3, "per": "minute", "burst": 7 } }, { "log": null }]),
            Some(Log { limit: limit("7"), ..usual.clone() }),
        ),
        (
            json!([{ "limit": { "rate": 3, "per": "minute" } }, { "log": null }]),
            Some(Log { limit: limit("5"), ..usual.clone() }),
        ),
        (json!([{ "limit": { "rate": 3, "per": "week" } }, { "log": null }]), Some(usual.clone())),
        (json!([{ "counter": null }]), None),
    ];
    for (row, (parts, expected)) in rows.into_iter().enumerate() {
        let ruleset = listing(&[("pk-ssh", "", parts)]);
        assert_eq!(ruleset.rules()[0].log(), expected, "row {row}");
    }
    // The first of a chain counts.
    let [entrance, end] = good();
    let log = |level: &str| ("pk-ssh", "", json!([{ "log": { "level": level } }]));
    let found = listing(&[entrance, log("info"), log("debug"), end]).service(&name("ssh"));
    assert_eq!(found.ok().and_then(|found| found.service.log), Some(level(crate::LogLevel::Info)));
}

#[test]
fn unexpected_output_is_an_error() {
    for text in [
        "",
        "no JSON",
        "{}",
        r#"{"nftables":[{"rule":{}}]}"#,
        r#"{"nftables":[{"rule":{"chain":"c","handle":"x","expr":[]}}]}"#,
    ] {
        let told = Ruleset::parse(text.as_bytes()).map(drop).map_err(|error| error.to_string());
        assert!(
            told.as_ref().is_err_and(|told| told.starts_with("cannot parse nft rules: ")),
            "{text}: {told:?}"
        );
    }
    assert!(Ruleset::parse(br#"{"nftables":[{"chain":{}},{"set":{"name":"s"}}]}"#).is_ok());
}
