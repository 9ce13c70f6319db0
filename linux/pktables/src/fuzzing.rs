//! Entry points for fuzzers; only built with `--cfg fuzzing`. Each function panics if a property does not hold.

use std::collections::{BTreeMap, HashSet};

use ipnet::IpNet;
use netlink_packet_core::{NetlinkBuffer, NetlinkMessage};
use serde_json::{Value, json};

use crate::{
    forward::Forward,
    iptables::{
        chain::ServiceRules,
        grant::{GrantRule, UnixSeconds},
        parsed,
        save::{Saved, quoted},
    },
    message::Message,
    nft::{
        ruleset::Ruleset,
        schema::{Script, sets},
    },
    scope::Exempt,
    service::Service,
    sets::{elements, read},
};

/// Parses any text as output of `iptables-save`.
pub fn iptables_listing(text: &str) {
    let saved = Saved::parse(text);
    let names: Vec<_> = parsed::services(&saved).collect();
    for name in names {
        let from = ServiceRules::of(&saved, &name);
        assert!(ServiceRules::script(&name, &from, &from).is_empty(), "a change of nothing");
        let grants = parsed::grants(&saved, &name);
        if let Ok(Some(found)) = parsed::parse(&saved, &name) {
            let own: Vec<GrantRule> = found.grants().cloned().collect();
            assert!(own.iter().all(|grant| grants.contains(grant)), "a grant that nobody else sees");
            assert!(found.script(&own).is_empty(), "a change of nothing");
        }
        // Removing it leaves nothing, whatever was there.
        let mut ruleset = Rules::of(&saved);
        ruleset.restore(&ServiceRules::script(&name, &from, &ServiceRules::default()));
        assert!(
            ServiceRules::of(&Saved::parse(&ruleset.text()), &name).is_empty(),
            "something of {name} stays"
        );
    }
}

/// Parses any text as a comment or log prefix among options, quoted as `iptables-save` does.
pub fn iptables_words(text: &str) {
    for option in ["--comment", "--log-prefix"] {
        let rule = format!("! -s 192.0.2.7/32 -m comment {option} {} -p tcp -j ACCEPT", quoted(text));
        let saved = Saved::parse(&format!("*filter\n-A chain {rule}\n"));
        let rules = saved.rules("filter", "chain").unwrap_or_default();
        let [rule] = rules else { panic!("{rules:?}") };
        let read = ["-s", "-m", option, "-p", "-j"].map(|option| rule.value(option));
        assert_eq!(read, [None, Some("comment"), Some(text), Some("tcp"), Some("ACCEPT")], "{rule:?}");
    }
}

/// Creates a service with grants over existing rules, parses, changes and removes it.
pub fn iptables_service(service: &Service, grants: &[(IpNet, Option<u64>)], before: &str, drop: usize) {
    for v6 in [false, true] {
        let mut service = service.clone();
        service.scope.exempt.retain(|exempt| match exempt {
            Exempt::Network(network) => network.addr().is_ipv6() == v6,
            Exempt::Interface(_) => true,
        });
        let service = &service;
        let forward = service.forward.iter().copied().find(|forward| forward.host.is_ipv6() == v6);
        let other_family_only = forward.is_none() && !service.forward.is_empty();
        let saved = Saved::parse(before);
        let mut rules = Rules::of(&saved);
        let from = ServiceRules::of(&saved, &service.name);
        let wanted: Vec<GrantRule> = grants
            .iter()
            .filter(|(address, _)| !other_family_only && matches!(address, IpNet::V6(_)) == v6)
            .map(|(address, end)| GrantRule::new(*address, end.map(UnixSeconds)))
            .collect();
        let to = ServiceRules::new(service, forward, v6, &wanted, &from);
        rules.restore(&ServiceRules::script(&service.name, &from, &to));
        check(&rules, service, forward, other_family_only, &wanted);

        // One grant is removed, another added.
        let saved = Saved::parse(&rules.text());
        let Ok(Some(found)) = parsed::parse(&saved, &service.name) else { panic!("it is gone") };
        let mut other: Vec<GrantRule> = found.grants().cloned().collect();
        if !other.is_empty() {
            other.remove(drop % other.len());
        }
        if !other_family_only {
            let address: IpNet =
                if v6 { "2001:db8::77/128" } else { "192.0.2.77/32" }.parse().expect("an address");
            if other.iter().all(|grant| grant.address != address) {
                other.push(GrantRule::new(address, None));
            }
        }
        rules.restore(&found.script(&other));
        check(&rules, service, forward, other_family_only, &other);

        let saved = Saved::parse(&rules.text());
        let from = ServiceRules::of(&saved, &service.name);
        rules.restore(&ServiceRules::script(&service.name, &from, &ServiceRules::default()));
        assert!(ServiceRules::of(&Saved::parse(&rules.text()), &service.name).is_empty(), "something stays");
    }
}

fn check(
    rules: &Rules,
    service: &Service,
    forward: Option<Forward>,
    other_family_only: bool,
    wanted: &[GrantRule],
) {
    let saved = Saved::parse(&rules.text());
    let found = parsed::parse(&saved, &service.name);
    let Ok(Some(found)) = found else { panic!("{found:?} of {}", rules.text()) };
    let expected = Service { forward: forward.into_iter().collect(), ..service.clone() };
    assert_eq!(found.service, expected, "{}", rules.text());
    assert!(
        found.is_complete && found.other_family_only == other_family_only,
        "{found:?} of {}",
        rules.text()
    );
    let plain = |grant: &GrantRule| (grant.address, grant.end.map(|end| end.0));
    let (mut there, mut wanted): (Vec<_>, Vec<_>) =
        (found.grants().map(plain).collect(), wanted.iter().map(plain).collect());
    there.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(there, wanted, "{}", rules.text());
}

/// A model of `iptables-restore --noflush`.
struct Rules(BTreeMap<(String, String), Vec<String>>);

impl Rules {
    fn of(saved: &Saved) -> Self {
        let mut rules = BTreeMap::new();
        for table in ["filter", "nat", "mangle"] {
            for (chain, content) in saved.chains(table) {
                let texts = content.iter().map(|rule| rule.text.clone()).collect();
                rules.insert((table.to_owned(), chain.to_owned()), texts);
            }
        }
        let built_in = [
            ("filter", "INPUT"),
            ("filter", "FORWARD"),
            ("nat", "PREROUTING"),
            ("mangle", "PREROUTING"),
            ("mangle", "INPUT"),
        ];
        for (table, chain) in built_in {
            rules.entry((table.to_owned(), chain.to_owned())).or_default();
        }
        Self(rules)
    }

    fn restore(&mut self, script: &str) {
        let mut table = "";
        for line in script.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
                continue;
            }
            if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
                self.0.insert((table.to_owned(), chain.to_owned()), Vec::new());
                continue;
            }
            if line == "COMMIT" {
                continue;
            }
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            let (chain, text) = rest.split_once(' ').unwrap_or((rest, ""));
            let key = (table.to_owned(), chain.to_owned());
            let Some(rules) = self.0.get_mut(&key) else { panic!("no chain for {line}") };
            match verb {
                "-A" => rules.push(as_saved(text)),
                "-D" => {
                    let place = rules.iter().position(|own| *own == as_saved(text));
                    rules.remove(place.unwrap_or_else(|| panic!("no rule for {line}")));
                }
                "-I" => {
                    let (number, rule) = text.split_once(' ').unwrap_or((text, ""));
                    let (place, rule) = number.parse::<usize>().map_or((1, text), |place| (place, rule));
                    assert!((1..=rules.len() + 1).contains(&place), "no place for {line}");
                    rules.insert(place - 1, as_saved(rule));
                }
                "-F" => rules.clear(),
                "-X" => {
                    assert!(rules.is_empty(), "a chain with rules goes: {line}");
                    self.0.remove(&key);
                }
                _ => panic!("{line}"),
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for table in ["filter", "nat", "mangle"] {
            text += &format!("*{table}\n");
            let chains = || self.0.iter().filter(|((own, _), _)| own == table);
            for ((_, chain), _) in chains() {
                text += &format!(":{chain} - [0:0]\n");
            }
            for ((_, chain), rules) in chains() {
                for rule in rules {
                    text += &format!("[0:0] -A {chain} {rule}\n");
                }
            }
            text += "COMMIT\n";
        }
        text
    }
}

/// A rule as `iptables-save` prints it: quoted only where needed.
fn as_saved(rule: &str) -> String {
    match rule.split_once("--log-prefix \"") {
        Some((before, rest)) => match rest.split_once('"') {
            Some((prefix, behind)) => format!("{before}--log-prefix {}{behind}", quoted(prefix)),
            None => rule.to_owned(),
        },
        None => rule.to_owned(),
    }
}

/// Parses any bytes as output of `nft -j list`.
pub fn nft_listing(bytes: &[u8]) {
    let Ok(ruleset) = Ruleset::parse(bytes) else { return };
    for name in ruleset.services().collect::<Vec<_>>() {
        assert!(ruleset.has(&name));
        if let Ok(found) = ruleset.service(&name) {
            assert_eq!(found.service.name, name);
            assert!(found.service.ports.first() > 0);
        }
    }
}

/// Creates a service in nftables and parses what nft would list.
pub fn nft_service(service: &Service) {
    let mut service = service.clone();
    // nftables always guards before NAT.
    service.scope.before_nat = true;
    let service = &service;
    let mut script = Script::default();
    let sets: Vec<_> = sets(service).collect();
    let made = script.add_chain(&service.name).and_then(|()| script.add_service(service, &sets));
    assert!(made.is_ok(), "{service:?} cannot be written");
    let commands: Value = serde_json::from_str(&script.text()).expect("JSON");
    let mut handles = 0;
    let listed = commands["nftables"].as_array().into_iter().flatten().filter_map(|command| {
        let mut object = command.get("add")?.clone();
        if let Some(rule) = object.get_mut("rule") {
            handles += 1;
            rule["handle"] = json!(handles);
        }
        Some(object)
    });
    let listed = json!({ "nftables": listed.collect::<Vec<_>>() }).to_string();
    let ruleset = Ruleset::parse(listed.as_bytes()).expect("what nft lists");
    let found = ruleset.service(&service.name);
    let Ok(found) = found else { panic!("it is not found in {listed}") };
    assert_eq!(found.service, *service, "{listed}");
    assert_eq!(found.default_packets, Some(0), "{listed}");
    let names: HashSet<_> = ruleset.services().collect();
    assert_eq!(names, HashSet::from([service.name.clone()]), "{listed}");
}

/// Parses any bytes as netlink answer.
pub fn netlink_answer(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(first) = NetlinkBuffer::new_checked(rest) {
        let step = (first.length() as usize).next_multiple_of(4);
        if let Ok(message) = NetlinkMessage::<Message>::deserialize(rest)
            && let netlink_packet_core::NetlinkPayload::InnerMessage(message) = message.payload
        {
            elements(&message).filter_map(read).for_each(drop);
        }
        rest = rest.get(step..).unwrap_or_default();
    }
}
