use super::*;
use crate::{scope::Scope, service::Protocol};

fn name(text: &str) -> ServiceName {
    text.parse().expect("a name")
}

fn service(text: &str) -> Service {
    Service {
        name: name(text),
        protocol: Protocol::Tcp,
        ports: "22".parse().expect("a port"),
        only_new: false,
        policy: Policy::Drop,
        log: None,
        forward: Vec::new(),
        scope: Scope::default(),
    }
}

fn places(texts: &[&str]) -> Vec<Forward> {
    texts.iter().map(|text| text.parse().expect("a place")).collect()
}

#[test]
fn a_set_is_named_for_its_service_family_and_length() {
    // the address, its set, whether of single addresses, what of a sender counts
    let rows = [
        ("192.0.2.7/32", "pk-a-4-4", true, None),
        ("192.0.2.0/24", "pk-a-4-4/24", false, Some("255.255.255.0")),
        ("128.0.0.0/1", "pk-a-4-4/1", false, Some("128.0.0.0")),
        ("2001:db8::7/128", "pk-a-4-6", true, None),
        ("2001:db8::/32", "pk-a-4-6/32", false, Some("ffff:ffff::")),
    ];
    for (address, text, single, mask) in rows {
        let set = SetName::of(&name("a-4"), address.parse().expect("a prefix"));
        assert_eq!((set.text().as_str(), set.is_single()), (text, single));
        assert_eq!(set.mask().as_deref(), mask, "{address}");
        assert_eq!(SetName::parse(text), Some(set));
    }
    for text in ["", "pk-ssh", "pk-ssh-5", "ssh-4", "pk--4", "pk-ssh-4/", "pk-ssh-4/x", "pk-ssh-4/256", "/24"]
    {
        assert_eq!(SetName::parse(text), None, "{text:?}");
    }
}

#[test]
fn a_service_has_a_set_for_each_reachable_family() {
    let (four, six) = ("192.168.1.10:22", "[fd00::10]:22");
    let rows: [(&[&str], &[&str]); 4] = [
        (&[], &["pk-nas-4", "pk-nas-6"]),
        (&[four, six], &["pk-nas-4", "pk-nas-6"]),
        (&[four], &["pk-nas-4"]),
        (&[six], &["pk-nas-6"]),
    ];
    for (forward, expected) in rows {
        let service = Service { forward: places(forward), ..service("nas") };
        let found: Vec<String> = sets(&service).map(|set| set.text()).collect();
        assert_eq!(found, expected, "{forward:?}");
    }
}

/// The commands, each as `verb object` and its parts that are not the same in all.
fn commands(fill: impl FnOnce(&mut Script) -> Result<(), Error>) -> Vec<Value> {
    let mut script = Script::default();
    fill(&mut script).expect("it is written");
    let text: Value = serde_json::from_str(&script.text()).expect("JSON");
    text["nftables"].as_array().expect("a list").clone()
}

fn matches(protocol: &str, field: &str, right: &Value) -> Value {
    let left = json!({ "payload": { "protocol": protocol, "field": field } });
    json!({ "match": { "op": "==", "left": left, "right": right } })
}

fn rule(chain: &str, parts: &Value) -> Value {
    json!({ "add": { "rule": { "family": "inet", "table": "pktables", "chain": chain, "expr": parts } } })
}

#[test]
fn tables_chains_and_sets_are_added_and_deleted() {
    let ssh = name("ssh");
    let set = SetName::of(&ssh, "192.0.2.0/24".parse().expect("a prefix"));
    let found = commands(|script| {
        script.add_table()?;
        script.add_chain(&ssh)?;
        script.flush_chain(&ssh)?;
        script.add_set(&set)?;
        script.add_set(&SetName::single(&ssh, true))?;
        script.delete_rule("input", 7)?;
        script.delete_set(&set)?;
        script.delete_chain(&ssh)?;
        script.delete_table()
    });
    let table = json!({ "family": "inet", "name": "pktables" });
    let chain = json!({ "family": "inet", "table": "pktables", "name": "pk-ssh" });
    let of = |name: &str, kind: &str| {
        json!({
            "family": "inet", "table": "pktables", "name": name, "type": kind, "flags": ["timeout"],
        })
    };
    let base = |name: &str, hook: &str, prio: i32| {
        json!({ "add": { "chain": {
            "family": "inet", "table": "pktables", "name": name,
            "type": "filter", "hook": hook, "prio": prio, "policy": "accept",
        } } })
    };
    let with_counter = |mut set: Value| {
        set["stmt"] = json!([{ "counter": null }]);
        set
    };
    let expected = [
        json!({ "add": { "table": table } }),
        base("guard", "prerouting", -199),
        base("input", "input", -1),
        json!({ "add": { "chain": chain } }),
        json!({ "flush": { "chain": chain } }),
        json!({ "add": { "set": with_counter(of("pk-ssh-4/24", "ipv4_addr")) } }),
        json!({ "add": { "set": with_counter(of("pk-ssh-6", "ipv6_addr")) } }),
        json!({ "delete": { "rule": {
            "family": "inet", "table": "pktables", "chain": "input", "expr": [], "handle": 7,
        } } }),
        json!({ "delete": { "set": of("pk-ssh-4/24", "ipv4_addr") } }),
        json!({ "delete": { "chain": chain } }),
        json!({ "delete": { "table": table } }),
    ];
    assert_eq!(found, expected);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a row for each form of a service")]
fn a_service_accepts_its_sets_logs_and_ends_with_its_policy() {
    let accept = |family: &str, set: &str| {
        let set = json!(set);
        rule("pk-ssh", &json!([matches(family, "saddr", &set), { "accept": null }]))
    };
    let end = |verdict: &str| {
        rule("pk-ssh", &json!([{ "counter": { "packets": 0, "bytes": 0 } }, { verdict: null }]))
    };
    let local = json!({ "match": {
        "op": "==", "left": { "fib": { "result": "type", "flags": ["daddr"] } }, "right": "local",
    } });
    let jump = |before: &[Value], port: Value| {
        let last = json!({ "jump": { "target": "pk-ssh" } });
        [("guard", Some(local.clone())), ("input", None)].map(|(chain, local)| {
            let parts = before.iter().cloned().chain(local).chain([port.clone(), last.clone()]);
            rule(chain, &parts.collect())
        })
    };
    let port = |protocol: &str| matches(protocol, "dport", &json!(22));
    let states = |states: Value| json!({ "match": { "op": "in", "left": { "ct": { "key": "state" } }, "right": states } });
    let flags = json!({ "payload": { "protocol": "tcp", "field": "flags" } });
    let follows =
        json!({ "match": { "op": "!=", "left": { "&": [flags, ["syn", "ack"]] }, "right": "syn" } });
    let begun =
        |parts: &[Value]| rule("pk-ssh", &Value::from([parts, &[json!({ "accept": null })]].concat()));
    let exempt = |left: Value, right: Value| {
        let matches = json!({ "match": { "op": "==", "left": left, "right": right } });
        let mut rule = rule("pk-ssh", &json!([matches, { "accept": null }]));
        rule["add"]["rule"]["comment"] = json!("exempt");
        rule
    };
    let arrives = |name: &str| json!({ "match": { "op": "==", "left": { "meta": { "key": "iifname" } }, "right": name } });
    let sender = |family: &str| json!({ "payload": { "protocol": family, "field": "saddr" } });
    let grants = [accept("ip", "@pk-ssh-4"), accept("ip6", "@pk-ssh-6")];
    let log = Log {
        prefix: "knock:".parse().expect("a prefix"),
        level: LogLevel::Info,
        limit: Some("3/minute".parse().expect("a limit")),
    };
    let logged = |parts: &Value| rule("pk-ssh", parts);
    let limit = json!({ "limit": { "rate": 3, "per": "minute", "burst": 5 } });
    let scope = Scope {
        tracked: false,
        before_nat: true,
        leases: false,
        lease_prefix: crate::LeasePrefix::default(),
        interfaces: ["eth0", "eth1"].map(|name| name.parse().expect("a name")).to_vec(),
        exempt: ["lo", "10.0.0.0/8", "fd00::7"].map(|text| text.parse().expect("an exemption")).to_vec(),
    };
    let prefix = json!({ "prefix": { "addr": "10.0.0.0", "len": 8 } });
    let plain = jump(&[], port("tcp"));
    // name, service, its rules before the grants, after them, and its jumps
    let rows = [
        ("plain", service("ssh"), vec![], vec![end("drop")], plain.to_vec()),
        (
            "UDP, accept",
            Service { protocol: Protocol::Udp, policy: Policy::Accept, ..service("ssh") },
            vec![],
            vec![end("accept")],
            jump(&[], port("udp")).to_vec(),
        ),
        (
            "only new",
            Service { only_new: true, ..service("ssh") },
            vec![begun(&[follows, states(json!(["invalid", "established", "untracked"]))])],
            vec![end("drop")],
            plain.to_vec(),
        ),
        (
            "only new, UDP",
            Service { only_new: true, protocol: Protocol::Udp, ..service("ssh") },
            vec![begun(&[states(json!("established"))])],
            vec![end("drop")],
            jump(&[], port("udp")).to_vec(),
        ),
        (
            "exemptions and interfaces",
            Service { scope, ..service("ssh") },
            vec![
                exempt(json!({ "meta": { "key": "iifname" } }), json!("lo")),
                exempt(sender("ip"), prefix),
                exempt(sender("ip6"), json!("fd00::7")),
            ],
            vec![end("drop")],
            {
                let [eth0, eth1] = ["eth0", "eth1"].map(|name| jump(&[arrives(name)], port("tcp")));
                let [guard, input] = [0, 1].map(|chain| [eth0[chain].clone(), eth1[chain].clone()]);
                [guard, input].concat()
            },
        ),
        (
            "log",
            Service { log: Some(log), ..service("ssh") },
            vec![],
            vec![logged(&json!([limit, { "log": { "prefix": "knock:", "level": "info" } }])), end("drop")],
            plain.to_vec(),
        ),
        (
            "usual log",
            Service { log: Some(Log::default()), ..service("ssh") },
            vec![],
            vec![logged(&json!([{ "log": { "level": "warn" } }])), end("drop")],
            plain.to_vec(),
        ),
    ];
    for (row, service, before, after, jumps) in rows {
        let sets: Vec<SetName> = sets(&service).collect();
        let found = commands(|script| script.add_service(&service, &sets));
        assert_eq!(found, [&before, &grants[..], &after, &jumps].concat(), "{row}");
    }
}

#[test]
fn a_forwarded_service_has_dnat_and_accept_rules() {
    let nas = Service { forward: places(&["192.168.1.10:2222", "[fd00::10]:2223"]), ..service("nas") };
    let sets: Vec<SetName> = sets(&nas).collect();
    let found = commands(|script| script.add_service(&nas, &sets));
    let base = |name: &str, kind: &str, priority: i32| {
        json!({ "add": { "chain": {
            "family": "inet", "table": "pktables", "name": name,
            "type": kind, "hook": name, "prio": priority, "policy": "accept",
        } } })
    };
    let with_comment = |mut rule: Value| {
        rule["add"]["rule"]["comment"] = json!("pk-nas");
        rule
    };
    let local = json!({ "match": {
        "op": "==", "left": { "fib": { "result": "type", "flags": ["daddr"] } }, "right": "local",
    } });
    let sent = |network: &str, set: &str, host: &str, port: u16| {
        with_comment(rule(
            "prerouting",
            &json!([
                matches(network, "saddr", &json!(set)),
                matches("tcp", "dport", &json!(22)),
                local.clone(),
                { "dnat": { "addr": host, "family": network, "port": port } },
            ]),
        ))
    };
    let through = |network: &str, host: &str, port: u16| {
        let status =
            json!({ "match": { "op": "in", "left": { "ct": { "key": "status" } }, "right": "dnat" } });
        let parts = json!([
            status,
            matches(network, "daddr", &json!(host)),
            matches("tcp", "dport", &json!(port)),
            { "accept": null },
        ]);
        with_comment(rule("forward", &parts))
    };
    let accept = |network: &str, set: &str| {
        rule("pk-nas", &json!([matches(network, "saddr", &json!(set)), { "accept": null }]))
    };
    let jump = json!({ "jump": { "target": "pk-nas" } });
    let not_established =
        json!({ "match": { "op": "!=", "left": { "ct": { "key": "state" } }, "right": "established" } });
    let expected = [
        base("prerouting", "nat", -100),
        base("forward", "filter", -1),
        accept("ip", "@pk-nas-4"),
        sent("ip", "@pk-nas-4", "192.168.1.10", 2222),
        accept("ip6", "@pk-nas-6"),
        sent("ip6", "@pk-nas-6", "fd00::10", 2223),
        rule("pk-nas", &json!([{ "counter": { "packets": 0, "bytes": 0 } }, { "drop": null }])),
        rule("guard", &json!([local, matches("tcp", "dport", &json!(22)), not_established, jump])),
        rule("input", &json!([matches("tcp", "dport", &json!(22)), jump])),
        through("ip", "192.168.1.10", 2222),
        through("ip6", "fd00::10", 2223),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_prefix_rule_is_inserted_first_in_a_reachable_family() {
    let prefix = |text: &str| SetName::of(&name("nas"), text.parse().expect("a prefix"));
    let here = service("nas");
    let there = Service { forward: places(&["192.168.1.10:2222"]), ..service("nas") };
    let found = commands(|script| script.insert_grants(&here, &prefix("192.0.2.0/24")));
    let masked = json!({ "match": {
        "op": "==",
        "left": { "&": [{ "payload": { "protocol": "ip", "field": "saddr" } }, "255.255.255.0"] },
        "right": "@pk-nas-4/24",
    } });
    let rule = json!({ "family": "inet", "table": "pktables", "chain": "pk-nas", "expr": [masked, { "accept": null }] });
    assert_eq!(found, [json!({ "insert": { "rule": rule } })]);
    let found = commands(|script| script.insert_grants(&there, &prefix("192.0.2.0/24")));
    let chains: Vec<&Value> = found.iter().map(|command| &command["insert"]["rule"]["chain"]).collect();
    assert_eq!(chains, ["pk-nas", "prerouting"]);
    assert_eq!(commands(|script| script.insert_grants(&there, &prefix("2001:db8::/32"))), [Value::Null; 0]);
}

#[test]
fn levels_have_the_names_of_nft() {
    let rows = [
        (LogLevel::Emergency, "emerg"),
        (LogLevel::Alert, "alert"),
        (LogLevel::Critical, "crit"),
        (LogLevel::Error, "err"),
        (LogLevel::Warning, "warn"),
        (LogLevel::Notice, "notice"),
        (LogLevel::Info, "info"),
        (LogLevel::Debug, "debug"),
    ];
    for (ours, word) in rows {
        assert_eq!(serde_json::to_value(level(ours)).ok(), Some(json!(word)), "{ours:?}");
    }
}

#[test]
fn ports_are_a_number_a_range_or_a_set() {
    // the ports, what the jumps match
    let rows = [
        ("22", json!(22)),
        ("8000-8100", json!({ "range": [8000, 8100] })),
        ("443,80", json!({ "set": [80, 443] })),
        ("80,8000-8100", json!({ "set": [80, { "range": [8000, 8100] }] })),
    ];
    for (text, expected) in rows {
        let service = Service { ports: text.parse().expect("ports"), ..service("web") };
        let commands = commands(|script| script.add_service(&service, &[]));
        let jumps: Vec<&Value> =
            commands.iter().filter_map(|command| command.pointer("/add/rule/expr")).collect();
        let match_of = |parts: &&Value| {
            parts.as_array()?.iter().find(|part| **part == matches("tcp", "dport", &expected)).cloned()
        };
        assert_eq!(jumps.iter().filter_map(match_of).count(), 2, "{text}: {commands:?}");
    }
}

#[test]
fn several_ports_are_forwarded_to_themselves() {
    let ports = json!({ "set": [80, { "range": [8000, 8100] }] });
    let service = Service {
        ports: "80,8000-8100".parse().expect("ports"),
        forward: places(&["192.168.1.10"]),
        ..service("nas")
    };
    let sets: Vec<SetName> = sets(&service).collect();
    let commands = commands(|script| script.add_service(&service, &sets));
    let of = |chain: &str| {
        let rules = commands.iter().filter_map(|command| command.pointer("/add/rule"));
        rules.filter(|rule| rule["chain"] == chain).map(|rule| rule["expr"].clone()).collect::<Vec<_>>()
    };
    let dnat = json!({ "dnat": { "addr": "192.168.1.10", "family": "ip" } });
    let last = |rules: &[Value]| rules.first().and_then(|rule| rule.as_array()?.last().cloned());
    assert_eq!(last(&of("prerouting")), Some(dnat));
    let through = of("forward");
    assert!(
        through.first().is_some_and(|rule| rule
            .as_array()
            .is_some_and(|parts| parts.contains(&matches("tcp", "dport", &ports)))),
        "{through:?}"
    );
}
