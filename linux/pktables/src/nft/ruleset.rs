//! Parses the output of `nft -j list table`, only as far as needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU16,
    ops::RangeInclusive,
};

use serde::Deserialize;
use serde_json::Value;

use super::schema::{AFTER_CONNTRACK, BEFORE_FILTER, EXEMPT, FORWARD, GUARD, INPUT, PREROUTING};
use super::set_name::SetName;
use crate::{
    error::Error,
    forward::Forward,
    lease_prefix::LeasePrefix,
    log::{Log, LogLimit},
    ports::Ports,
    scope::{Exempt, Interface, Scope},
    service::{Policy, Protocol, Service},
    service_name::ServiceName,
};

/// The table without the elements of its sets.
#[derive(Default)]
pub(crate) struct Ruleset {
    chains: BTreeSet<String>,
    /// Type, hook, priority and policy of the base chains.
    bases: BTreeMap<String, Base>,
    rules: Vec<Rule>,
}

/// How a base chain is attached.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Base {
    #[serde(rename = "type")]
    kind: String,
    hook: String,
    prio: i64,
    policy: String,
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
                // Chains that are not attached have none of its fields.
                if let Some(base) = object.get("chain").and_then(|chain| Base::deserialize(chain).ok()) {
                    ruleset.bases.insert(name.to_owned(), base);
                }
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
        self.has_chain(&name.chain())
    }

    pub(crate) fn has_chain(&self, chain: &str) -> bool {
        self.chains.contains(chain)
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules of a service in the base chains.
    pub(crate) fn shared_rules(&self, name: &ServiceName) -> impl Iterator<Item = &Rule> {
        let own = name.chain();
        self.rules.iter().filter(move |rule| match rule.chain.as_str() {
            GUARD | INPUT => rule.target() == Some(own.as_str()),
            PREROUTING | FORWARD => rule.comment == own,
            _ => false,
        })
    }

    /// Whether packets reach the chains `guard` and `input`, and are let through otherwise.
    pub(crate) fn is_attached(&self) -> bool {
        let rows = [(GUARD, "prerouting", AFTER_CONNTRACK), (INPUT, "input", BEFORE_FILTER)];
        rows.into_iter().all(|(chain, hook, prio)| {
            self.bases.get(chain).is_some_and(|base| {
                (base.kind.as_str(), base.hook.as_str(), base.prio, base.policy.as_str())
                    == ("filter", hook, prio.into(), "accept")
            })
        })
    }

    /// The chains that have the name of one that leads to services, and are attached elsewhere or not at all.
    pub(crate) fn detached(&self) -> impl Iterator<Item = &'static str> {
        let rows = [(GUARD, "prerouting", AFTER_CONNTRACK), (INPUT, "input", BEFORE_FILTER)];
        rows.into_iter().filter_map(|(chain, hook, prio)| {
            let base = self.bases.get(chain);
            let fits = base.is_some_and(|base| {
                base.kind == "filter" && base.hook == hook && base.prio == i64::from(prio)
            });
            (self.chains.contains(chain) && !fits).then_some(chain)
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
        let jumps = |chain: &'static str| self.shared_rules(name).filter(move |rule| rule.chain == chain);
        let jump = jumps(INPUT).next().ok_or_else(|| wrong("no jump from input"))?;
        let (protocol, ports) = jump.ports().ok_or_else(|| wrong("the jump matches no port"))?;
        let protocol: Protocol =
            protocol.parse().map_err(|_| wrong("the jump matches neither tcp nor udp"))?;
        let interfaces = |chain| {
            let mut found = Vec::new();
            for jump in jumps(chain) {
                if jump.ports() != Some((protocol.as_str(), ports.clone())) {
                    return Err(wrong("several jumps from input"));
                }
                found.push(jump.interface());
            }
            Ok(found)
        };
        let entrances = interfaces(INPUT)?;
        if interfaces(GUARD)? != entrances || jumps(GUARD).any(|jump| !jump.is_local()) {
            return Err(wrong("the jumps from guard and input differ"));
        }
        let all = entrances.contains(&None);
        if all && entrances.len() > 1 {
            return Err(wrong("several jumps from input"));
        }
        let (mut only_new, mut tracked) = (false, false);
        let mut exempt = Vec::new();
        let (mut leases, mut lease_prefix) = (false, LeasePrefix::default());
        let mut last = None;
        let mut log = None;
        for rule in self.rules.iter().filter(|rule| rule.chain == own) {
            log = log.or(rule.log());
            let begun = rule.about_begun(protocol);
            let is_begun = begun.is_some();
            only_new |= is_begun;
            tracked |= begun == Some(true);
            let is_own = is_begun
                || rule.comment == EXEMPT
                || rule.grant(name).is_some()
                || rule.policy().is_some()
                || rule.expr.iter().any(|part| part.get("log").is_some());
            // What follows the default policy is never reached, and what precedes it may let everyone in.
            if !is_own || last.is_some() {
                return Err(wrong("a rule that pktables did not make"));
            }
            if let Some(set) = rule.grant(name).filter(|set| set.lease) {
                leases = true;
                if !set.is_single() {
                    *(if set.v6 { &mut lease_prefix.v6 } else { &mut lease_prefix.v4 }) = set.length;
                }
            }
            if rule.comment == EXEMPT {
                exempt.push(rule.exempt().ok_or_else(|| wrong("an exemption cannot be parsed"))?);
            }
            last = rule.policy();
        }
        let (policy, default_packets) = last.ok_or_else(|| wrong("does not end with drop or accept"))?;
        let mut forward: Vec<Forward> = self.shared_rules(name).filter_map(Rule::forward).collect();
        forward.sort_unstable();
        forward.dedup();
        let service = Service {
            name: name.clone(),
            protocol,
            ports,
            only_new,
            policy,
            log,
            forward,
            scope: Scope {
                before_nat: true,
                interfaces: entrances.into_iter().flatten().collect(),
                exempt,
                leases,
                lease_prefix,
                tracked,
            }
            .sorted(),
        };
        Ok(Parsed { service, default_packets })
    }
}

impl Rule {
    fn target(&self) -> Option<&str> {
        self.expr.iter().find_map(|part| text(part, "/jump/target"))
    }

    /// The protocol and the ports that the rule is about.
    fn ports(&self) -> Option<(&str, Ports)> {
        self.expr.iter().find_map(|part| {
            text(part, "/match/left/payload/field").filter(|field| *field == "dport")?;
            text(part, "/match/op").filter(|op| ["==", "in"].contains(op))?;
            let right = part.pointer("/match/right")?;
            let all = match right.get("set").and_then(Value::as_array) {
                Some(set) => set.iter().map(range).collect::<Option<Vec<_>>>()?,
                None => vec![range(right)?],
            };
            Some((text(part, "/match/left/payload/protocol")?, Ports::new(all).ok()?))
        })
    }

    /// The interface that the rule is about; `None`: all.
    fn interface(&self) -> Option<Interface> {
        self.expr.iter().find_map(|part| {
            let is_it = text(part, "/match/left/meta/key") == Some("iifname");
            text(part, "/match/right").filter(|_| is_it)?.parse().ok()
        })
    }

    /// Whether the rule is about packets to this host only.
    fn is_local(&self) -> bool {
        self.expr.iter().any(|part| {
            part.pointer("/match/left/fib").is_some() && text(part, "/match/right") == Some("local")
        })
    }

    /// Whether the rule accepts packets that do not begin a connection, and no others; and if so, whether these have to be
    /// tracked.
    fn about_begun(&self, protocol: Protocol) -> Option<bool> {
        let state = |part: &Value| {
            let is_state = text(part, "/match/left/ct/key") == Some("state");
            part.pointer("/match/right").filter(|_| is_state).map(|states| match states {
                Value::String(state) => vec![state.clone()],
                Value::Array(states) => states.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                _ => Vec::new(),
            })
        };
        let (end, parts) = self.expr.split_last()?;
        end.get("accept")?;
        let is_original = |part: &Value| {
            text(part, "/match/left/ct/key") == Some("direction")
                && text(part, "/match/right") == Some("original")
        };
        let (parts, tracked) = match parts {
            [parts @ .., last] if is_original(last) => (parts, true),
            parts => (parts, false),
        };
        let fits = match (protocol, parts) {
            (Protocol::Udp, [states]) => state(states).is_some_and(|states| states == ["established"]),
            (Protocol::Tcp, [flags, states]) => {
                let follows = text(flags, "/match/op") == Some("!=")
                    && text(flags, "/match/right") == Some("syn")
                    && flags.pointer("/match/left/&").is_some_and(|flags| {
                        let flags = flags.to_string();
                        flags.contains("\"syn\"") && flags.contains("\"ack\"")
                    });
                let expected: &[&str] =
                    if tracked { &["established"] } else { &["invalid", "established", "untracked"] };
                follows
                    && state(states).is_some_and(|states| states.iter().all(|one| expected.contains(&&**one)))
            }
            _ => false,
        };
        fits.then_some(tracked)
    }

    /// The set of the service whose addresses the rule accepts.
    fn grant(&self, name: &ServiceName) -> Option<SetName> {
        let [part, end] = &self.expr[..] else { return None };
        end.get("accept")?;
        let set = text(part, "/match/right")?.strip_prefix('@').and_then(SetName::parse)?;
        (set.service == *name).then_some(set)
    }

    /// The packets that the rule exempts.
    fn exempt(&self) -> Option<Exempt> {
        let [part, end] = &self.expr[..] else { return None };
        end.get("accept")?;
        if let Some(interface) = self.interface() {
            return Some(Exempt::Interface(interface));
        }
        text(part, "/match/left/payload/field").filter(|field| *field == "saddr")?;
        let right = part.pointer("/match/right")?;
        let network = match right.as_str() {
            Some(address) => address.to_owned(),
            None => format!("{}/{}", text(right, "/prefix/addr")?, right.pointer("/prefix/len")?),
        };
        crate::address::parse(&network).ok().map(Exempt::Network)
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
        let host: IpAddr = text(dnat, "/addr")?.parse().ok()?;
        let port = match dnat.get("port") {
            Some(port) => Some(NonZeroU16::new(port.as_u64()?.try_into().ok()?)?),
            None => None,
        };
        Some(Forward { host, port })
    }
}

/// A port, or a range of them.
fn range(value: &Value) -> Option<RangeInclusive<u16>> {
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    match value.get("range") {
        Some(range) => Some(port(range.get(0)?)?..=port(range.get(1)?)?),
        None => port(value).map(|port| port..=port),
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
