//! The tables of iptables, as `iptables-save` prints them, for one packet.

use std::{collections::BTreeMap, ops::RangeInclusive};

use pktables::Protocol;

use super::{
    packet::{Packet, Truth, is_in},
    walk::{Action, Chain, Chains, Rule},
};

/// The start of the names of pktables' chains, which let a granted packet through.
const OWN: &str = "pk-";

/// Targets after which a packet goes on to the next rule.
const GO_ON: [&str; 22] = [
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DSCP",
    "HL",
    "LED",
    "LOG",
    "MARK",
    "NFLOG",
    "NOTRACK",
    "RATEEST",
    "SECMARK",
    "SET",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TRACE",
    "TTL",
];

/// A saved table: the policies of its base chains, and the rules of each chain.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// Whether the policy drops.
    pub(super) policies: BTreeMap<String, bool>,
    rules: BTreeMap<String, Vec<String>>,
}

/// Tables by name.
pub(super) type Tables = BTreeMap<String, Table>;

/// Parses the output of `iptables-save`.
pub(super) fn parse(text: &str) -> Tables {
    let mut tables = Tables::new();
    let mut current = String::new();
    for line in text.lines() {
        // `[packets:bytes] -A CHAIN RULE`
        let line =
            line.strip_prefix('[').and_then(|line| line.split_once("] ")).map_or(line, |(_, rest)| rest);
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut current);
            tables.entry(current.clone()).or_default();
            continue;
        }
        let Some(table) = tables.get_mut(&current) else { continue };
        if let Some((chain, rest)) = line.strip_prefix(':').and_then(|line| line.split_once(' ')) {
            table.rules.entry(chain.to_owned()).or_default();
            if let Some(policy) = rest.split(' ').next().filter(|policy| *policy != "-") {
                table.policies.insert(chain.to_owned(), policy == "DROP");
            }
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            table.rules.entry(chain.to_owned()).or_default().push(rule.to_owned());
        }
    }
    tables
}

impl Table {
    /// Whether a rule may exempt packets from connection tracking.
    pub(super) fn has_notrack(&self) -> bool {
        self.rules.values().flatten().any(|rule| rule.contains("-j NOTRACK") || rule.contains("--notrack"))
    }

    pub(super) fn has_chain(&self, name: &str) -> bool {
        self.rules.contains_key(name)
    }

    /// Whether a rule of this chain leads to another one.
    pub(super) fn leads_to(&self, chain: &str, target: &str) -> bool {
        let end = format!("-j {target}");
        self.rules.get(chain).into_iter().flatten().any(|rule| rule.ends_with(&end))
    }

    /// The chains as a packet meets them. It arrives where a rule leads to the chain `goal`.
    pub(super) fn chains(&self, packet: &Packet<'_>, goal: Option<&str>) -> Chains {
        let meet = |rule: &String| {
            let mut words = words(rule);
            let (truth, target) = read(&mut words, packet);
            let action = target.and_then(|target| self.action(&target, goal));
            Rule { arms: action.map(|action| (truth, action)).into_iter().collect(), text: rule.clone() }
        };
        let chains = self.rules.iter();
        chains
            .map(|(name, rules)| (name.clone(), Chain { rules: rules.iter().map(meet).collect() }))
            .collect()
    }

    fn action(&self, target: &Target, goal: Option<&str>) -> Option<Action> {
        let Target { name, is_goto } = target;
        Some(match name.as_str() {
            name if Some(name) == goal => Action::Arrive,
            name if name.starts_with(OWN) => return None,
            name if GO_ON.contains(&name) => return None,
            "ACCEPT" => Action::Accept,
            "DROP" => Action::Drop,
            "REJECT" => Action::Reject,
            "RETURN" => Action::Return,
            "DNAT" | "REDIRECT" | "NETMAP" | "TPROXY" => Action::Redirect,
            name if !self.has_chain(name) => Action::Unknown,
            name if *is_goto => Action::Goto(name.to_owned()),
            name => Action::Jump(name.to_owned()),
        })
    }
}

struct Target {
    name: String,
    is_goto: bool,
}

/// Splits words as iptables does: quotes protect spaces, a backslash protects a quote.
fn words(text: &str) -> std::vec::IntoIter<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' if !quoted => words.extend(word.take()),
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(letters.next()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words.into_iter()
}

/// Whether a packet matches a rule, and the rule's target.
fn read(words: &mut std::vec::IntoIter<String>, packet: &Packet<'_>) -> (Truth, Option<Target>) {
    let (mut truth, mut negated) = (Truth::Yes, false);
    while let Some(word) = words.next() {
        let part = match word.as_str() {
            "!" => {
                negated = true;
                continue;
            }
            "-m" | "--comment" => {
                words.next();
                Truth::Yes
            }
            // What follows are options of the target.
            "-j" | "-g" => {
                let name = words.next().unwrap_or_default();
                return (truth, Some(Target { name, is_goto: word == "-g" }));
            }
            "--tcp-flags" => {
                let (mask, set) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                flags(packet, &mask, &set)
            }
            "--syn" => Truth::of(packet.protocol == Protocol::Tcp),
            option if option.starts_with('-') => match known(option, packet, words.as_slice().first()) {
                Some(part) => {
                    words.next();
                    part
                }
                None => Truth::Unknown,
            },
            // A value of an option that is not followed.
            _ => Truth::Unknown,
        };
        truth = Truth::all([truth, part.not_if(std::mem::take(&mut negated))]);
    }
    (truth, None)
}

/// Whether the packet matches an option with one value; `None`: that is not followed.
fn known(option: &str, packet: &Packet<'_>, value: Option<&String>) -> Option<Truth> {
    let value = value?.as_str();
    Some(match option {
        "-p" => match value {
            "all" => Truth::Yes,
            "6" => Truth::of(packet.protocol == Protocol::Tcp),
            "17" => Truth::of(packet.protocol == Protocol::Udp),
            name => Truth::of(name == packet.protocol.as_str()),
        },
        "-s" => packet.comes_from(value),
        "-d" => packet.goes_to(value),
        "-i" => packet.arrives_on(value, '+'),
        "--dport" | "--dports" => Truth::any(value.split(',').map(|part| ports(packet, part))),
        "--ctstate" | "--state" => packet.has_state(value.split(',')),
        "--ctorigdstport" => match (&packet.forwarded, range(value)) {
            (Some((_, ports)), Some(range)) => is_in(ports, &range),
            (Some(_), None) => Truth::Unknown,
            (None, _) => ports(packet, value),
        },
        "--dst-type" if packet.forwarded.is_none() => Truth::of(value.split(',').any(|kind| kind == "LOCAL")),
        "--src-type" if value == "LOCAL" => Truth::No,
        _ => return None,
    })
}

fn ports(packet: &Packet<'_>, text: &str) -> Truth {
    range(text).map_or(Truth::Unknown, |range| packet.has_port(range))
}

/// A port, or a range such as `1000:2000`.
fn range(text: &str) -> Option<RangeInclusive<u64>> {
    let (from, to) = text.split_once(':').unwrap_or((text, text));
    Some(from.parse().ok()?..=to.parse().ok()?)
}

/// Of the flags, the first packet of a TCP connection has `SYN` alone.
fn flags(packet: &Packet<'_>, mask: &str, set: &str) -> Truth {
    let has = |list: &str| list.split(',').any(|flag| flag == "SYN" || flag == "ALL");
    let others = set.split(',').any(|flag| flag != "SYN" && flag != "NONE");
    Truth::of(packet.protocol == Protocol::Tcp && !others && has(mask) == has(set))
}
