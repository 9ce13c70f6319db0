//! Parses the output of `nft -j list table`, only as far as needed.

use std::{collections::BTreeSet, net::IpAddr};

use serde::Deserialize;
use serde_json::Value;

use super::schema::{FORWARD, INPUT, PREROUTING};
use crate::{
    error::Error,
    log::{Log, LogLimit},
    service::{Forward, Policy, Service, ServiceName},
};

/// The table without the elements of its sets.
#[derive(Default)]
pub(crate) struct Ruleset {
    chains: BTreeSet<String>,
    rules: Vec<Rule>,
}

/// A rule. Its statements stay JSON, because foreign rules may contain any.
#[derive(Deserialize)]
pub(crate) struct Rule {
    pub(crate) chain: String,
    pub(crate) handle: u32,
    #[serde(default)]
    comment: String,
    expr: Vec<Value>,
}

#[derive(Deserialize)]
struct Output {
    nftables: Vec<Value>,
}

/// A parsed service, and the packets that its default policy handled.
pub(crate) struct Parsed {
    pub(crate) service: Service,
    pub(crate) default_packets: Option<u64>,
}

impl Ruleset {
    /// Parses the output of `nft -j -t list table`.
    pub(crate) fn parse(output: &[u8]) -> Result<Self, Error> {
        let unparsable = |error: serde_json::Error| unparsable(error.to_string());
        let output: Output = serde_json::from_slice(output).map_err(unparsable)?;
        let mut ruleset = Self::default();
        for mut object in output.nftables {
            if let Some(name) = object.pointer("/chain/name").and_then(Value::as_str) {
                ruleset.chains.insert(name.to_owned());
            }
            if let Some(rule) = object.get_mut("rule") {
                ruleset.rules.push(serde_json::from_value(rule.take()).map_err(unparsable)?);
            }
        }
        Ok(ruleset)
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = ServiceName> {
        self.chains.iter().filter_map(|chain| ServiceName::of_chain(chain))
    }

    pub(crate) fn has(&self, name: &ServiceName) -> bool {
        self.chains.contains(&name.chain())
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules of a service in the base chains.
    pub(crate) fn shared_rules(&self, name: &ServiceName) -> impl Iterator<Item = &Rule> {
        let own = name.chain();
        self.rules.iter().filter(move |rule| match rule.chain.as_str() {
            INPUT => rule.target() == Some(own.as_str()),
            PREROUTING | FORWARD => rule.comment == own,
            _ => false,
        })
    }

    /// Parses a service.
    ///
    /// # Errors
    /// Its rules are not those of a service. `init` and `remove` work nevertheless.
    pub(crate) fn service(&self, name: &ServiceName) -> Result<Parsed, Error> {
        let own = name.chain();
        let wrong = |part: &str| {
            unparsable(format!(
                "chain {own}: {part}; repair it with pktables init {name} or pktables remove {name}"
            ))
        };
        let mut jumps = self.shared_rules(name).filter(|rule| rule.chain == INPUT);
        let jump = jumps.next().ok_or_else(|| wrong("no jump from input"))?;
        if jumps.next().is_some() {
            return Err(wrong("several jumps from input"));
        }
        let (protocol, port) = jump.port().ok_or_else(|| wrong("the jump matches no port"))?;
        let mut last = None;
        let mut log = None;
        for rule in self.rules.iter().filter(|rule| rule.chain == own) {
            log = log.or(rule.log());
            last = rule.policy();
        }
        let (policy, default_packets) = last.ok_or_else(|| wrong("does not end with drop or accept"))?;
        let mut forward: Vec<Forward> = self.shared_rules(name).filter_map(Rule::forward).collect();
        forward.sort_unstable();
        forward.dedup();
        let service = Service {
            name: name.clone(),
            protocol: protocol.parse().map_err(|_| wrong("the jump matches neither tcp nor udp"))?,
            port: port.to_string().parse()?,
            only_new: jump.expr.iter().any(|part| text(part, "/match/right") == Some("new")),
            policy,
            log,
            forward,
        };
        Ok(Parsed { service, default_packets })
    }
}

impl Rule {
    fn target(&self) -> Option<&str> {
        self.expr.iter().find_map(|part| text(part, "/jump/target"))
    }

    fn port(&self) -> Option<(&str, u64)> {
        self.expr.iter().find_map(|part| {
            let is_port = text(part, "/match/left/payload/field") == Some("dport");
            let port = part.pointer("/match/right").and_then(Value::as_u64).filter(|_| is_port)?;
            Some((text(part, "/match/left/payload/protocol")?, port))
        })
    }

    /// The default policy and its counter, if the rule has no match.
    fn policy(&self) -> Option<(Policy, Option<u64>)> {
        if self.expr.iter().any(|part| part.get("match").is_some()) {
            return None;
        }
        let default_packets =
            self.expr.iter().find_map(|part| part.pointer("/counter/packets")).and_then(Value::as_u64);
        let verdict = self.expr.last()?;
        let drops = verdict.get("drop").map(|_| Policy::Drop);
        let policy = drops.or_else(|| verdict.get("accept").map(|_| Policy::Accept))?;
        Some((policy, default_packets))
    }

    fn log(&self) -> Option<Log> {
        let log = self.expr.iter().find_map(|part| part.get("log"))?;
        let limit = self.expr.iter().find_map(|part| part.get("limit")).and_then(|limit| {
            let rate = limit.get("rate").and_then(Value::as_u64)?;
            let per = limit.get("per").and_then(Value::as_str)?;
            let burst = limit.get("burst").and_then(Value::as_u64).unwrap_or(LogLimit::BURST.get().into());
            format!("{rate}/{per}").parse::<LogLimit>().ok()?.with_burst(&burst.to_string()).ok()
        });
        Some(Log {
            prefix: text(log, "/prefix").unwrap_or_default().parse().ok()?,
            // Missing options have the defaults of the kernel.
            level: text(log, "/level").map_or(Ok(crate::LogLevel::default()), str::parse).ok()?,
            limit,
        })
    }

    fn forward(&self) -> Option<Forward> {
        let dnat = self.expr.iter().find_map(|part| part.get("dnat"))?;
        let address: IpAddr = text(dnat, "/addr")?.parse().ok()?;
        let port = dnat.get("port").and_then(Value::as_u64)?.try_into().ok()?;
        Some(Forward { to: (address, port).into() })
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn unparsable(part: String) -> Error {
    Error::Unparsable { program: "nft", part }
}

#[cfg(test)]
mod tests;
