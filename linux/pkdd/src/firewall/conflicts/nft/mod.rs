//! The tables of nftables, as `nft -j list ruleset` prints them, for one packet.

mod expression;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{
    packet::{Family, Packet, Truth},
    walk::{Action, Chain, Chains, Rule},
};
use expression::{Sets, matches, truth_of_entry};

/// All tables, but those of pkdd itself.
#[derive(Debug, Default)]
pub(super) struct Ruleset {
    pub(super) bases: Vec<Base>,
    rules: Vec<Listed>,
    sets: BTreeMap<TableName, Sets>,
    chains: Vec<(TableName, String)>,
}

/// Family and name of a table.
pub(super) type TableName = (String, String);

/// A base chain.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Base {
    pub(super) family: String,
    pub(super) table: String,
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) hook: String,
    pub(super) prio: i64,
    #[serde(default)]
    policy: String,
}

#[derive(Debug, Deserialize)]
struct Listed {
    family: String,
    table: String,
    chain: String,
    handle: u64,
    expr: Vec<Value>,
}

impl Base {
    pub(super) fn table(&self) -> TableName {
        (self.family.clone(), self.table.clone())
    }

    pub(super) fn drops(&self) -> bool {
        self.policy == "drop"
    }

    /// Whether packets of this family pass it.
    pub(super) fn is_passed(&self, family: Family) -> bool {
        match self.family.as_str() {
            "inet" => true,
            "ip" => family == Family::V4,
            "ip6" => family == Family::V6,
            _ => false,
        }
    }
}

impl Ruleset {
    /// Parses the output of `nft -j list ruleset`; `None`: it is not one. Tables of which `skip` is true are left out.
    pub(super) fn parse(text: &str, skip: impl Fn(&str, &str) -> bool) -> Option<Self> {
        let output: Value = serde_json::from_str(text).ok()?;
        let mut ruleset = Self::default();
        for object in output.get("nftables")?.as_array()? {
            let Some((kind, object)) = object.as_object().and_then(|object| object.iter().next()) else {
                continue;
            };
            let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
            if skip(text("family"), text("table")) {
                continue;
            }
            let table = (text("family").to_owned(), text("table").to_owned());
            match kind.as_str() {
                "chain" => {
                    ruleset.chains.push((table, text("name").to_owned()));
                    // Chains that are not attached have no hook.
                    ruleset.bases.extend(Base::deserialize(object));
                }
                "rule" => ruleset.rules.extend(Listed::deserialize(object)),
                "set" | "map" => {
                    let elements = object.get("elem").and_then(Value::as_array).cloned().unwrap_or_default();
                    ruleset.sets.entry(table).or_default().insert(text("name").to_owned(), elements);
                }
                _ => {}
            }
        }
        ruleset.bases.sort_by_key(|base| base.prio);
        Some(ruleset)
    }

    /// Whether a rule may exempt packets from connection tracking.
    pub(super) fn has_notrack(&self) -> bool {
        self.rules.iter().any(|rule| rule.expr.iter().any(|part| part.get("notrack").is_some()))
    }

    /// The chains of a table as a packet meets them. It arrives where a rule leads to the chain `goal`. `texts` has the
    /// rules by handle.
    pub(super) fn chains(
        &self,
        table: &TableName,
        packet: &Packet<'_>,
        goal: Option<&str>,
        texts: &BTreeMap<(TableName, u64), String>,
    ) -> Chains {
        let empty = Sets::new();
        let sets = self.sets.get(table).unwrap_or(&empty);
        let own = self.chains.iter().filter(|(of, _)| of == table);
        let mut chains: Chains = own.map(|(_, name)| (name.clone(), Chain::default())).collect();
        let is_own = |rule: &&Listed| rule.family == table.0 && rule.table == table.1;
        for rule in self.rules.iter().filter(is_own) {
            let text = texts.get(&(table.clone(), rule.handle)).cloned();
            let text = text.unwrap_or_else(|| format!("handle {}", rule.handle));
            let arms = arms(&rule.expr, packet, sets, goal);
            chains.entry(rule.chain.clone()).or_default().rules.push(Rule { arms, text });
        }
        chains
    }
}

/// Whether there is a table of this family and name.
pub(super) fn has_table(text: &str, family: &str, name: &str) -> bool {
    let output: Value = serde_json::from_str(text).unwrap_or_default();
    let objects = output.get("nftables").and_then(Value::as_array);
    let is_it = |object: &Value| {
        let table = object.get("table");
        table.is_some_and(|table| table["family"] == family && table["name"] == name)
    };
    objects.is_some_and(|objects| objects.iter().any(is_it))
}

/// The rules as `nft -a list ruleset` prints them, by table and handle.
pub(super) fn texts(listing: &str) -> BTreeMap<(TableName, u64), String> {
    let mut texts = BTreeMap::new();
    let mut table = TableName::default();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["table", family, name, ..] = words[..] {
            table = (family.to_owned(), name.to_owned());
        }
        if let Some((rule, handle)) = line.trim().rsplit_once(" # handle ")
            && let Ok(handle) = handle.parse()
            && !rule.ends_with('{')
        {
            texts.insert((table.clone(), handle), without_counter(rule));
        }
    }
    texts
}

/// `counter packets 5 bytes 300` is `counter`, so that a rule keeps its text.
fn without_counter(rule: &str) -> String {
    let mut words = rule.split(' ').peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        kept.push(word);
        if word == "counter" && words.peek() == Some(&"packets") {
            words.by_ref().take(4).for_each(drop);
        }
    }
    kept.join(" ")
}

/// What the statements of a rule may do with a packet.
fn arms(statements: &[Value], packet: &Packet<'_>, sets: &Sets, goal: Option<&str>) -> Vec<(Truth, Action)> {
    let mut truth = Truth::Yes;
    for statement in statements {
        let Some((name, value)) = name_and_value(statement) else {
            truth = Truth::all([truth, Truth::Unknown]);
            continue;
        };
        if let Some(action) = action(name, value, goal) {
            return vec![(truth, action)];
        }
        match name {
            "match" => truth = Truth::all([truth, matches(value, packet, sets)]),
            "vmap" => return vmap(value, packet, sets, goal, truth),
            // They change or count the packet.
            "counter" | "log" | "mangle" | "notrack" | "ct helper" | "ct timeout" | "secmark" | "dup"
            | "last" => {}
            // The packet goes on to the next rule.
            "continue" => return Vec::new(),
            // limit, ct count, set, xt and others.
            _ => truth = Truth::all([truth, Truth::Unknown]),
        }
    }
    Vec::new()
}

/// `{"accept": null}`, but also the text `"notrack"`.
fn name_and_value(statement: &Value) -> Option<(&str, &Value)> {
    match statement {
        Value::String(name) => Some((name, &Value::Null)),
        other => other.as_object()?.iter().next().map(|(name, value)| (name.as_str(), value)),
    }
}

fn action(name: &str, value: &Value, goal: Option<&str>) -> Option<Action> {
    let target = value.get("target").and_then(Value::as_str);
    Some(match (name, target) {
        ("jump" | "goto", Some(target)) if Some(target) == goal => Action::Arrive,
        ("jump", Some(target)) => Action::Jump(target.to_owned()),
        ("goto", Some(target)) => Action::Goto(target.to_owned()),
        ("accept", _) => Action::Accept,
        ("drop", _) => Action::Drop,
        ("reject", _) => Action::Reject,
        ("return", _) => Action::Return,
        ("dnat" | "redirect" | "tproxy" | "fwd", _) => Action::Redirect,
        ("queue" | "synproxy", _) => Action::Unknown,
        _ => return None,
    })
}

/// A map from values to verdicts: one arm for each entry that may match.
fn vmap(
    value: &Value,
    packet: &Packet<'_>,
    sets: &Sets,
    goal: Option<&str>,
    truth: Truth,
) -> Vec<(Truth, Action)> {
    let data = value.get("data");
    let named = data.and_then(Value::as_str).and_then(|name| sets.get(name.strip_prefix('@')?));
    let literal = data.and_then(|data| data.get("set")).and_then(Value::as_array);
    let (Some(key), Some(entries)) = (value.get("key"), named.or(literal)) else {
        return vec![(Truth::Unknown, Action::Unknown)];
    };
    let mut arms = Vec::new();
    for entry in entries {
        let (Some(left), Some(right)) = (entry.get(0), entry.get(1)) else { continue };
        let matched = Truth::all([truth, truth_of_entry(key, left, packet, sets)]);
        let verdict = name_and_value(right).and_then(|(name, value)| action(name, value, goal));
        match (matched, verdict) {
            (Truth::No, _) => {}
            (Truth::Yes, None) => return arms,
            (matched, verdict) => arms.extend(verdict.map(|verdict| (matched, verdict))),
        }
    }
    arms
}
