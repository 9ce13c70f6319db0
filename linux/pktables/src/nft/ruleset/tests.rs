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

fn port(protocol: &str, port: impl Into<Value>) -> Value {
    let left = json!({ "payload": { "protocol": protocol, "field": "dport" } });
    json!({ "match": { "op": "==", "left": left, "right": port.into() } })
}

fn jump() -> Value {
    json!({ "jump": { "target": "pk-ssh" } })
}

fn drop_all() -> (&'static str, &'static str, Value) {
    ("pk-ssh", "", json!([{ "counter": { "packets": 9, "bytes": 1 } }, { "drop": null }]))
}

fn local() -> Value {
    json!({ "match": { "op": "==", "left": { "fib": { "result": "type", "flags": ["daddr"] } }, "right": "local" } })
}

fn arrives(name: &str) -> Value {
    json!({ "match": { "op": "==", "left": { "meta": { "key": "iifname" } }, "right": name } })
}

fn guarded(protocol: &str) -> (&'static str, &'static str, Value) {
    ("guard", "", json!([local(), port(protocol, 22), jump()]))
}

fn good() -> [(&'static str, &'static str, Value); 3] {
    [("input", "", json!([port("tcp", 22), jump()])), guarded("tcp"), drop_all()]
}

#[test]
#[expect(clippy::too_many_lines, reason = "a row for each form of a service")]
fn a_service_is_parsed_from_its_jump_and_its_chain() {
    let states = |right: Value| json!({ "match": { "op": "in", "left": { "ct": { "key": "state" } }, "right": right } });
    let flags = json!({ "payload": { "protocol": "tcp", "field": "flags" } });
    let follows =
        json!({ "match": { "op": "!=", "left": { "&": [flags, ["syn", "ack"]] }, "right": "syn" } });
    let exempt = |left: Value, right: Value| {
        let matches = json!({ "match": { "op": "==", "left": left, "right": right } });
        ("pk-ssh", "exempt", json!([matches, { "accept": null }]))
    };
    let sender = |family: &str| json!({ "payload": { "protocol": family, "field": "saddr" } });
    let sent = |host: &str, port: u64| json!([{ "dnat": { "addr": host, "family": "ip", "port": port } }]);
    let accept = json!([{ "accept": null }]);
    let verdict_only = |verdict: Value| ("pk-ssh", "", verdict);
    let [entrance, guard, end] = good();
    let plain = Service {
        name: name("ssh"),
        protocol: Protocol::Tcp,
        ports: "22".parse().expect("a port"),
        only_new: false,
        policy: Policy::Drop,
        log: None,
        forward: Vec::new(),
        scope: Scope { before_nat: true, ..Scope::default() },
    };
    let in_scope = |interfaces: &[&str], exempt: &[&str]| Service {
        scope: Scope {
            before_nat: true,
            leases: false,
            lease_prefix: LeasePrefix::default(),
            tracked: false,
            interfaces: interfaces.iter().map(|name| name.parse().expect("a name")).collect(),
            exempt: exempt.iter().map(|text| text.parse().expect("an exemption")).collect(),
        },
        ..plain.clone()
    };
    let rows = [
        ("plain", vec![entrance.clone(), guard.clone(), end.clone()], plain.clone(), Some(9)),
        (
            "UDP, only new",
            vec![
                ("input", "", json!([port("udp", 22), jump()])),
                guarded("udp"),
                ("pk-ssh", "", json!([states(json!("established")), { "accept": null }])),
                end.clone(),
            ],
            Service { protocol: Protocol::Udp, only_new: true, ..plain.clone() },
            Some(9),
        ),
        (
            "only new",
            vec![
                entrance.clone(),
                guard.clone(),
                (
                    "pk-ssh",
                    "",
                    json!([
                        follows, states(json!(["established", "invalid", "untracked"])), { "accept": null }
                    ]),
                ),
                end.clone(),
            ],
            Service { only_new: true, ..plain.clone() },
            Some(9),
        ),
        (
            "exemptions",
            vec![
                entrance.clone(),
                guard.clone(),
                exempt(json!({ "meta": { "key": "iifname" } }), json!("lo")),
                exempt(sender("ip"), json!({ "prefix": { "addr": "10.0.0.0", "len": 8 } })),
                exempt(sender("ip6"), json!("fd00::7")),
                end.clone(),
            ],
            in_scope(&[], &["lo", "10.0.0.0/8", "fd00::7"]),
            Some(9),
        ),
        (
            "interfaces",
            vec![
                ("input", "", json!([arrives("eth1"), port("tcp", 22), jump()])),
                ("input", "", json!([arrives("eth0"), port("tcp", 22), jump()])),
                ("guard", "", json!([arrives("eth1"), local(), port("tcp", 22), jump()])),
                ("guard", "", json!([arrives("eth0"), local(), port("tcp", 22), jump()])),
                end.clone(),
            ],
            in_scope(&["eth0", "eth1"], &[]),
            Some(9),
        ),
        (
            "accept, and verdict_only counts",
            vec![entrance.clone(), guard.clone(), verdict_only(accept)],
            Service { policy: Policy::Accept, ..plain.clone() },
            None,
        ),
        (
            "rules of others",
            vec![
                entrance.clone(),
                guard.clone(),
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
                guard,
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
    let [entrance, guard, end] = good();
    let accept = || json!([{ "accept": null }]);
    let ruleset = listing(&[
        entrance,
        guard,
        end,
        ("prerouting", "pk-ssh", accept()),
        ("forward", "pk-ssh", accept()),
        // Marked, and not there; there, and not marked.
        ("input", "pk-ssh", accept()),
        ("forward", "", json!([jump()])),
        ("theirs", "pk-ssh", json!([jump()])),
    ]);
    let handles: Vec<u32> = ruleset.shared_rules(&name("ssh")).map(|rule| rule.handle).collect();
    assert_eq!(handles, [1, 2, 4, 5]);
}

#[test]
fn incomplete_services_are_errors() {
    let [entrance, guard, end] = good();
    let with_match = json!([port("tcp", 22), { "drop": null }]);
    let eth0 = ("input", "", json!([arrives("eth0"), port("tcp", 22), jump()]));
    let everywhere = ("guard", "", json!([port("tcp", 22), jump()]));
    let differ = "the jumps from guard and input differ";
    let foreign = "a rule that pktables did not make";
    let no_end = "does not end with drop or accept";
    let rows = [
        (vec![end.clone()], "no jump from input"),
        (vec![guard.clone(), end.clone()], "no jump from input"),
        (vec![entrance.clone(), end.clone()], differ),
        (vec![entrance.clone(), everywhere, end.clone()], differ),
        (vec![entrance.clone(), guard.clone(), guard.clone(), end.clone()], differ),
        (vec![eth0.clone(), guard.clone(), end.clone()], differ),
        (vec![entrance.clone(), eth0.clone(), guard.clone(), guard.clone(), end.clone()], differ),
        (
            vec![entrance.clone(), entrance.clone(), guard.clone(), guard.clone(), end.clone()],
            "several jumps from input",
        ),
        (
            vec![
                entrance.clone(),
                ("input", "", json!([port("tcp", 23), jump()])),
                guard.clone(),
                guard.clone(),
                end.clone(),
            ],
            "several jumps from input",
        ),
        (vec![("input", "", json!([jump()])), end.clone()], "the jump matches no port"),
        (
            vec![("input", "", json!([port("sctp", 22), jump()])), end.clone()],
            "the jump matches neither tcp nor udp",
        ),
        (vec![entrance.clone(), guard.clone()], no_end),
        (vec![entrance.clone(), guard.clone(), ("pk-ssh", "", with_match.clone())], foreign),
        (vec![entrance.clone(), guard.clone(), end.clone(), ("pk-ssh", "", with_match)], foreign),
        (
            vec![entrance.clone(), guard.clone(), ("pk-ssh", "", json!([{ "accept": null }])), end.clone()],
            foreign,
        ),
        (
            vec![
                entrance.clone(),
                guard.clone(),
                (
                    "pk-ssh",
                    "",
                    json!([
                        { "match": { "op": "in", "left": { "ct": { "key": "state" } }, "right": "new" } },
                        { "accept": null },
                    ]),
                ),
                end.clone(),
            ],
            foreign,
        ),
        (
            vec![
                entrance.clone(),
                guard.clone(),
                ("pk-ssh", "exempt", json!([port("tcp", 1), { "accept": null }])),
                drop_all(),
            ],
            "an exemption cannot be parsed",
        ),
        (vec![entrance, guard, ("pk-ssh", "", json!([{ "return": null }]))], foreign),
    ];
    for (row, (rules, part)) in rows.into_iter().enumerate() {
        let told = listing(&rules).service(&name("ssh")).map(drop).map_err(|error| error.to_string());
        let whole = format!(
            "cannot parse nft rules: chain pk-ssh: {part}; repair it with pktables init ssh or pktables remove ssh"
        );
        assert_eq!(told, Err(whole), "row {row}");
    }
    let [_, _, end] = good();
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
    let [entrance, guard, end] = good();
    let log = |level: &str| ("pk-ssh", "", json!([{ "log": { "level": level } }]));
    let found = listing(&[entrance, guard, log("info"), log("debug"), end]).service(&name("ssh"));
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

#[test]
fn chains_that_are_attached_elsewhere_are_found() {
    let base = |chain: &str, hook: &str, prio: i32, policy: &str| json!({ "chain": { "name": chain, "type": "filter", "hook": hook, "prio": prio, "policy": policy } });
    let (guard, input) = (base("guard", "prerouting", -199, "accept"), base("input", "input", -1, "accept"));
    let loose = |chain: &str| json!({ "chain": { "name": chain } });
    // objects, whether packets reach the services, the chains to replace
    let rows = [
        (vec![guard.clone(), input.clone()], true, vec![]),
        (vec![guard.clone()], false, vec![]),
        (vec![base("guard", "prerouting", 0, "accept"), input.clone()], false, vec!["guard"]),
        (vec![guard.clone(), base("input", "forward", -1, "accept")], false, vec!["input"]),
        (vec![guard.clone(), base("input", "input", -1, "drop")], false, vec![]),
        (vec![loose("guard"), loose("input")], false, vec!["guard", "input"]),
    ];
    for (row, (objects, attached, detached)) in rows.into_iter().enumerate() {
        let ruleset =
            Ruleset::parse(json!({ "nftables": objects }).to_string().as_bytes()).expect("it is understood");
        assert_eq!(ruleset.is_attached(), attached, "row {row}");
        assert_eq!(ruleset.detached().collect::<Vec<_>>(), detached, "row {row}");
    }
}
