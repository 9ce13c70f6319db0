//! The rules of a service in nftables, and the commands that create them.
//!
//! The table is `inet pktables`. Its chains `guard` and `input` have a jump for each service to the chain `pk-NAME`, which
//! accepts what is not checked and each set of granted addresses, and has a log and the default policy. A forwarded service
//! also has a dnat in `prerouting` for each set, and an accept in `forward`.
//!
//! `guard` sees packets to this host with the port that the client has chosen, before anyone's dnat or redirect; `input`
//! sees them with the port that a local program listens on, and also those to broadcast and multicast addresses. So neither
//! a published port nor a redirection leads around the service.

use std::{collections::HashSet, ops::RangeInclusive};

use ipnet::{Ipv4Net, Ipv6Net};
use nftables::{
    expr::{
        BinaryOperation, CT, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload,
        PayloadField, Prefix, SetItem,
    },
    schema::{
        Chain, FlushObject, NfCmd, NfListObject, NfObject, Rule, Set, SetFlag, SetType, SetTypeValue, Table,
    },
    stmt::{self, AnonymousCounter, Counter, JumpTarget, Limit, Match, NAT, NATFamily, Operator, Statement},
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};
use serde_json::{Value, json};

use super::set_name::SetName;
use crate::{
    address::is_single,
    error::Error,
    forward::Forward,
    log::{Log, LogLevel},
    ports::Ports,
    scope::{Exempt, Interface},
    service::{Policy, Protocol, Service},
    service_name::ServiceName,
};

/// The table, of family `inet`.
pub const TABLE: &str = "pktables";
pub(crate) const GUARD: &str = "guard";
pub(crate) const INPUT: &str = "input";
pub(crate) const PREROUTING: &str = "prerouting";
pub(crate) const FORWARD: &str = "forward";

/// Right after conntrack (-200), and before any chain of type nat, which may have priorities from -199.
pub(crate) const AFTER_CONNTRACK: i32 = -199;
/// Just before the host's own filter, which so does not count packets that are dropped here.
pub(crate) const BEFORE_FILTER: i32 = -1;
/// `dstnat`.
const DSTNAT: i32 = -100;

/// The comment of rules for packets that are not checked.
pub(crate) const EXEMPT: &str = "exempt";

impl SetName {
    /// Matches the source address, or its prefix, against the set.
    fn matches(&self) -> Statement<'static> {
        let sender = payload(if self.v6 { "ip6" } else { "ip" }, "saddr");
        let left = match self.mask() {
            None => sender,
            Some(mask) => {
                let mask = Expression::String(mask.into());
                Expression::BinaryOperation(Box::new(BinaryOperation::AND(sender, mask)))
            }
        };
        equal(left, Expression::String(format!("@{}", self.text()).into()))
    }

    fn mask(&self) -> Option<String> {
        if self.is_single() {
            return None;
        }
        if self.v6 {
            return Some(Ipv6Net::new([0; 16].into(), self.length).ok()?.netmask().to_string());
        }
        Some(Ipv4Net::new([0; 4].into(), self.length).ok()?.netmask().to_string())
    }
}

/// Commands of one transaction.
#[derive(Default)]
pub(crate) struct Script(Vec<Value>);

impl Script {
    /// The input of `nft -j -f -`.
    pub(crate) fn text(&self) -> String {
        json!({ "nftables": self.0 }).to_string()
    }

    fn push(&mut self, command: NfCmd<'_>) -> Result<(), Error> {
        let value = serde_json::to_value(NfObject::CmdObject(command));
        self.0.push(value.map_err(|error| Error::Unparsable { program: "nft", part: error.to_string() })?);
        Ok(())
    }

    /// Adds the table and the chains that lead to services.
    pub(crate) fn add_table(&mut self) -> Result<(), Error> {
        self.push(NfCmd::Add(NfListObject::Table(table())))?;
        self.add_base(GUARD, NfChainType::Filter, NfHook::Prerouting, AFTER_CONNTRACK)?;
        self.add_base(INPUT, NfChainType::Filter, NfHook::Input, BEFORE_FILTER)
    }

    fn add_base(&mut self, name: &str, kind: NfChainType, hook: NfHook, prio: i32) -> Result<(), Error> {
        let base = Chain {
            _type: Some(kind),
            hook: Some(hook),
            prio: Some(prio),
            policy: Some(NfChainPolicy::Accept),
            ..chain(name)
        };
        self.push(NfCmd::Add(NfListObject::Chain(base)))
    }

    /// Adds a set with a counter for each element.
    pub(crate) fn add_set(&mut self, name: &SetName) -> Result<(), Error> {
        self.push(NfCmd::Add(NfListObject::Set(Box::new(set(name)))))?;
        // The crate has no field for statements of elements.
        if let Some(set) = self.0.last_mut().and_then(|command| command.pointer_mut("/add/set")) {
            set["stmt"] = json!([{ "counter": null }]);
        }
        Ok(())
    }

    pub(crate) fn delete_set(&mut self, name: &SetName) -> Result<(), Error> {
        self.push(NfCmd::Delete(NfListObject::Set(Box::new(set(name)))))
    }

    pub(crate) fn delete_rule(&mut self, chain: &str, handle: u32) -> Result<(), Error> {
        self.push(NfCmd::Delete(NfListObject::Rule(Rule { handle: Some(handle), ..rule(chain, Vec::new()) })))
    }

    pub(crate) fn add_chain(&mut self, name: &ServiceName) -> Result<(), Error> {
        self.push(NfCmd::Add(NfListObject::Chain(chain(&name.chain()))))
    }

    pub(crate) fn flush_chain(&mut self, name: &ServiceName) -> Result<(), Error> {
        self.push(NfCmd::Flush(FlushObject::Chain(chain(&name.chain()))))
    }

    pub(crate) fn delete_chain(&mut self, name: &ServiceName) -> Result<(), Error> {
        self.push(NfCmd::Delete(NfListObject::Chain(chain(&name.chain()))))
    }

    /// Deletes a base chain with its rules. A chain cannot move to another hook.
    pub(crate) fn delete_base(&mut self, name: &str) -> Result<(), Error> {
        self.push(NfCmd::Flush(FlushObject::Chain(chain(name))))?;
        self.push(NfCmd::Delete(NfListObject::Chain(chain(name))))
    }

    pub(crate) fn delete_table(&mut self) -> Result<(), Error> {
        self.push(NfCmd::Delete(NfListObject::Table(table())))
    }

    /// Adds all rules of a service. Its chain and these sets exist; its rules do not.
    pub(crate) fn add_service(&mut self, service: &Service, sets: &[SetName]) -> Result<(), Error> {
        if !service.forward.is_empty() {
            self.add_base(PREROUTING, NfChainType::NAT, NfHook::Prerouting, DSTNAT)?;
            self.add_base(FORWARD, NfChainType::Filter, NfHook::Forward, BEFORE_FILTER)?;
        }
        let own = service.name.chain();
        if service.only_new {
            let parts = exclude_begun(service);
            self.push(NfCmd::Add(NfListObject::Rule(rule(&own, parts))))?;
        }
        for exempt in &service.scope.exempt {
            let parts = vec![exempts(exempt), Statement::Accept(None)];
            let comment = Some(EXEMPT.into());
            self.push(NfCmd::Add(NfListObject::Rule(Rule { comment, ..rule(&own, parts) })))?;
        }
        for set in sets {
            self.grant_rules(service, set, NfCmd::Add)?;
        }
        if let Some(log) = &service.log {
            let mut parts: Vec<Statement<'_>> = Vec::new();
            parts.extend(limit(log));
            parts.push(Statement::Log(Some(words(log))));
            self.push(NfCmd::Add(NfListObject::Rule(rule(&own, parts))))?;
        }
        let verdict = match service.policy {
            Policy::Drop => Statement::Drop(None),
            Policy::Accept => Statement::Accept(None),
        };
        let count = Statement::Counter(Counter::Anonymous(Some(AnonymousCounter::default())));
        self.push(NfCmd::Add(NfListObject::Rule(rule(&own, vec![count, verdict]))))?;
        for chain in [GUARD, INPUT] {
            self.jumps(service, chain)?;
        }
        for forward in &service.forward {
            let network = if forward.host.is_ipv4() { "ip" } else { "ip6" };
            let to = Expression::String(forward.host.to_string().into());
            let there = match forward.port {
                Some(port) => Expression::Number(port.get().into()),
                None => ports(&service.ports),
            };
            let parts = vec![
                conntrack("status", "dnat"),
                equal(payload(network, "daddr"), to),
                equal(payload(service.protocol.as_str(), "dport"), there),
                Statement::Accept(None),
            ];
            let comment = Some(own.clone().into());
            self.push(NfCmd::Add(NfListObject::Rule(Rule { comment, ..rule(FORWARD, parts) })))?;
        }
        Ok(())
    }

    /// Adds the jumps to a service: one for each interface, or one for all.
    pub(crate) fn jumps(&mut self, service: &Service, chain: &str) -> Result<(), Error> {
        let interfaces = service.scope.interfaces.iter().map(Some);
        let all = service.scope.interfaces.is_empty().then_some(None);
        for interface in interfaces.chain(all) {
            let mut parts = Vec::new();
            parts.extend(interface.map(arrives_at));
            if chain == GUARD {
                parts.push(is_local());
            }
            parts.push(port(service));
            if chain == GUARD && !service.forward.is_empty() && !service.only_new {
                // Forwarded connections stay open until they end.
                let right = Expression::String("established".into());
                parts.push(Statement::Match(Match {
                    left: conntrack_key("state"),
                    right,
                    op: Operator::NEQ,
                }));
            }
            parts.push(Statement::Jump(JumpTarget { target: service.name.chain().into() }));
            self.push(NfCmd::Add(NfListObject::Rule(rule(chain, parts))))?;
        }
        Ok(())
    }

    /// Inserts the rules for the addresses of one set before all others.
    pub(crate) fn insert_grants(&mut self, service: &Service, set: &SetName) -> Result<(), Error> {
        self.grant_rules(service, set, NfCmd::Insert)
    }

    fn grant_rules(
        &mut self,
        service: &Service,
        set: &SetName,
        command: impl Fn(NfListObject<'static>) -> NfCmd<'static>,
    ) -> Result<(), Error> {
        let in_family = |forward: &&Forward| forward.host.is_ipv6() == set.v6;
        let forward = service.forward.iter().find(in_family);
        if forward.is_none() && !service.forward.is_empty() {
            return Ok(());
        }
        let parts = vec![set.matches(), Statement::Accept(None)];
        self.push(command(NfListObject::Rule(rule(&service.name.chain(), parts))))?;
        let Some(forward) = forward else { return Ok(()) };
        let family = if set.v6 { NATFamily::IP6 } else { NATFamily::IP };
        let parts = vec![
            set.matches(),
            port(service),
            // Packets to other hosts are not for this service.
            is_local(),
            Statement::DNAT(Some(NAT {
                addr: Some(Expression::String(forward.host.to_string().into())),
                family: Some(family),
                port: forward.port.map(|port| Expression::Number(port.get().into())),
                flags: None,
            })),
        ];
        let comment = Some(service.name.chain().into());
        self.push(command(NfListObject::Rule(Rule { comment, ..rule(PREROUTING, parts) })))
    }
}

/// The sets that a service always has: single addresses, leases for them, and leases for whole networks, in each family in
/// which it can be reached.
pub(crate) fn sets(service: &Service) -> impl Iterator<Item = SetName> {
    let is_reachable =
        |v6| service.forward.is_empty() || service.forward.iter().any(|f| f.host.is_ipv6() == v6);
    let families = move || [false, true].into_iter().filter(move |v6| is_reachable(*v6));
    let leases = families().filter(|_| service.scope.leases).flat_map(|v6| {
        let single = SetName { lease: true, ..SetName::single(&service.name, v6) };
        let network = SetName { length: service.scope.lease_prefix.length(v6), ..single.clone() };
        let network = (!network.is_single()).then_some(network);
        [Some(single), network].into_iter().flatten()
    });
    families().map(|v6| SetName::single(&service.name, v6)).chain(leases)
}

fn table() -> Table<'static> {
    Table { family: NfFamily::INet, name: TABLE.into(), handle: None }
}

fn chain(name: &str) -> Chain<'static> {
    Chain { family: NfFamily::INet, table: TABLE.into(), name: name.to_owned().into(), ..Chain::default() }
}

fn rule<'a>(chain: &str, parts: Vec<Statement<'a>>) -> Rule<'a> {
    Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.to_owned().into(),
        expr: parts.into(),
        handle: None,
        index: None,
        comment: None,
    }
}

fn set(name: &SetName) -> Set<'static> {
    let kind = if name.v6 { SetType::Ipv6Addr } else { SetType::Ipv4Addr };
    Set {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.text().into(),
        set_type: SetTypeValue::Single(kind),
        flags: Some(HashSet::from([SetFlag::Timeout])),
        ..Set::default()
    }
}

/// Matches packets that do not begin a connection, also where rules exempt the port from connection tracking, unless it has
/// to be tracked. A segment with SYN begins one even if conntrack still knows an earlier one between the same ports, or
/// expects it (related).
fn exclude_begun(service: &Service) -> Vec<Statement<'static>> {
    let states = |states: &[&'static str]| {
        let states = states.iter().map(|state| Expression::String((*state).into())).collect();
        let left = conntrack_key("state");
        Statement::Match(Match { left, right: Expression::List(states), op: Operator::IN })
    };
    let tracked = service.scope.tracked;
    let mut parts = match service.protocol {
        Protocol::Udp => vec![conntrack("state", "established")],
        Protocol::Tcp => {
            let flags = ["syn", "ack"].map(|flag| Expression::String(flag.into()));
            let flags = BinaryOperation::AND(payload("tcp", "flags"), Expression::List(flags.to_vec()));
            let left = Expression::BinaryOperation(Box::new(flags));
            let right = Expression::String("syn".into());
            let follows = Statement::Match(Match { left, right, op: Operator::NEQ });
            let known = if tracked {
                conntrack("state", "established")
            } else {
                states(&["invalid", "established", "untracked"])
            };
            vec![follows, known]
        }
    };
    if tracked {
        parts.push(equal(conntrack_key("direction"), Expression::String("original".into())));
    }
    parts.push(Statement::Accept(None));
    parts
}

fn exempts(exempt: &Exempt) -> Statement<'static> {
    match exempt {
        Exempt::Interface(interface) => arrives_at(interface),
        Exempt::Network(network) => {
            let sender = payload(if network.addr().is_ipv6() { "ip6" } else { "ip" }, "saddr");
            let address = Expression::String(network.addr().to_string().into());
            let right = if is_single(*network) {
                address
            } else {
                let prefix = Prefix { addr: Box::new(address), len: network.prefix_len().into() };
                Expression::Named(NamedExpression::Prefix(prefix))
            };
            equal(sender, right)
        }
    }
}

fn arrives_at(interface: &Interface) -> Statement<'static> {
    let left = Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::Iifname }));
    equal(left, Expression::String(interface.to_string().into()))
}

/// Matches packets to an address of this host.
fn is_local() -> Statement<'static> {
    let own = Fib { result: FibResult::Type, flags: HashSet::from([FibFlag::Daddr]) };
    equal(Expression::Named(NamedExpression::Fib(own)), Expression::String("local".into()))
}

fn port(service: &Service) -> Statement<'static> {
    equal(payload(service.protocol.as_str(), "dport"), ports(&service.ports))
}

/// A port, a range, or a set of both.
fn ports(ports: &Ports) -> Expression<'static> {
    let one = |range: &RangeInclusive<u16>| {
        let [first, last] = [range.start(), range.end()].map(|port| Expression::Number((*port).into()));
        if range.start() == range.end() {
            return first;
        }
        Expression::Range(Box::new(nftables::expr::Range { range: [first, last] }))
    };
    match ports.ranges() {
        [range] => one(range),
        ranges => Expression::Named(NamedExpression::Set(
            ranges.iter().map(|range| SetItem::Element(one(range))).collect(),
        )),
    }
}

fn payload(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn equal<'a>(left: Expression<'a>, right: Expression<'a>) -> Statement<'a> {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

fn conntrack(key: &'static str, bit: &'static str) -> Statement<'static> {
    Statement::Match(Match {
        left: conntrack_key(key),
        right: Expression::String(bit.into()),
        op: Operator::IN,
    })
}

fn conntrack_key(key: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir: None }))
}

fn limit(log: &Log) -> Option<Statement<'static>> {
    let limit = log.limit?;
    Some(Statement::Limit(Limit {
        rate: limit.lines.get(),
        rate_unit: None,
        per: Some(limit.per.as_str().into()),
        burst: Some(limit.burst.get()),
        burst_unit: None,
        inv: None,
    }))
}

fn words(log: &Log) -> stmt::Log<'_> {
    let prefix = Some(log.prefix.as_str()).filter(|prefix| !prefix.is_empty());
    stmt::Log { prefix: prefix.map(Into::into), level: Some(level(log.level)), ..stmt::Log::new(None) }
}

fn level(level: LogLevel) -> stmt::LogLevel {
    match level {
        LogLevel::Emergency => stmt::LogLevel::Emerg,
        LogLevel::Alert => stmt::LogLevel::Alert,
        LogLevel::Critical => stmt::LogLevel::Crit,
        LogLevel::Error => stmt::LogLevel::Err,
        LogLevel::Warning => stmt::LogLevel::Warn,
        LogLevel::Notice => stmt::LogLevel::Notice,
        LogLevel::Info => stmt::LogLevel::Info,
        LogLevel::Debug => stmt::LogLevel::Debug,
    }
}

#[cfg(test)]
mod tests;
