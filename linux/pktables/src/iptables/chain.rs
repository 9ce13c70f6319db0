//! How a service looks in iptables, in one address family: the shapes of the original, and back.
//!
//! In `filter` a chain `pk-NAME`: an ACCEPT for each grant, sorted by address, a LOG, the policy; in INPUT a
//! jump to it. A service that is elsewhere has its grants in a chain `pk-NAME` of `nat` instead, as DNAT, with a
//! jump in PREROUTING, and an ACCEPT for each direction in FORWARD.

use std::fmt::{Display, Write as _};

use ipnet::IpNet;

use super::{
    grant::GrantRule,
    save::{Rule, Saved},
};
use crate::{
    error::Error,
    log::{Log, LogLevel, LogLimit},
    service::{Forward, Policy, Port, Protocol, Service, ServiceName},
};

/// The comment of the jump of a service that is behind this host, and not in this family.
const ELSEWHERE: &str = "elsewhere";

/// A rule that leads to a service's chain, or is marked as the service's own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hook {
    table: &'static str,
    chain: String,
    text: String,
    /// Of those that a service is made of; default_packets are somebody else's, and in the way of `remove` only.
    own: bool,
}

impl Hook {
    /// Hosts often end FORWARD with a refusal. INPUT is as it was in the original.
    fn is_inserted_first(&self) -> bool {
        self.chain == "FORWARD"
    }
}

/// All that a service is in one family: for each place the texts of its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceRules {
    /// The service's own chain of `filter`.
    filter: Option<Vec<String>>,
    /// The service's own chain of `nat`.
    nat: Option<Vec<String>>,
    hooks: Vec<Hook>,
}

impl ServiceRules {
    /// What there is, whoever made it.
    pub(crate) fn of(saved: &Saved, name: &ServiceName) -> Self {
        Self::filtered(saved, name, |_| true)
    }

    /// What there is, without the grants.
    pub(crate) fn without_grants(saved: &Saved, name: &ServiceName) -> Self {
        Self::filtered(saved, name, |rule| GrantRule::of(rule).is_none())
    }

    fn filtered(saved: &Saved, name: &ServiceName, wanted: impl Fn(&Rule) -> bool) -> Self {
        let own = name.chain();
        let texts = |table| {
            let rules = saved.rules(table, &own)?.iter().filter(|rule| wanted(rule));
            Some(rules.map(|rule| rule.text.clone()).collect())
        };
        let hooks = references(saved, name).map(|(place, rule)| Hook {
            table: place.table(),
            chain: place.chain().to_owned(),
            text: rule.text.clone(),
            own: !matches!(place, HookPoint::Foreign(..)),
        });
        Self { filter: texts("filter"), nat: texts("nat"), hooks: hooks.collect() }
    }

    /// What should be where there is `from`. `forward` is the family's; a service that has only the other
    /// family's has no grants in this one.
    pub(crate) fn new(
        service: &Service,
        forward: Option<Forward>,
        grants: &[GrantRule],
        from: &Self,
    ) -> Self {
        let (own, protocol, port) = (service.name.chain(), service.protocol, service.port);
        let port_is = |port: &dyn Display| format!("-p {protocol} -m {protocol} --dport {port}");
        let elsewhere = forward.is_none() && !service.forward.is_empty();
        let new = match protocol {
            _ if !service.only_new => "",
            // As iptables writes --syn.
            Protocol::Tcp => " --tcp-flags FIN,SYN,RST,ACK SYN",
            Protocol::Udp => " -m conntrack --ctstate NEW",
        };
        let mark = if elsewhere { format!(" -m comment --comment {ELSEWHERE}") } else { String::new() };
        let mut hooks = vec![(HookPoint::Input, format!("{}{new}{mark} -j {own}", port_is(&port)))];
        if let Some(Forward { to }) = forward {
            let host = IpNet::from(to.ip());
            // Connections that were sent there for this service and no other.
            let sent = format!(
                "-m conntrack --ctstate DNAT --ctorigdstport {port} -m comment --comment {own} -j ACCEPT"
            );
            hooks.push((HookPoint::Forward, format!("-d {host} {} {sent}", port_is(&to.port()))));
            let back = format!("-s {host} -p {protocol} -m {protocol} --sport {}", to.port());
            hooks.push((HookPoint::Forward, format!("{back} {sent}")));
            // What passes this host on its way to default_packets is none of the service.
            let arrives = format!("{} -m addrtype --dst-type LOCAL -j {own}", port_is(&port));
            hooks.push((HookPoint::Prerouting, arrives));
        }
        let hooks = hooks.into_iter().map(|(place, text)| Hook {
            table: place.table(),
            chain: place.chain().to_owned(),
            text,
            own: true,
        });
        let foreign = from.hooks.iter().filter(|hook| !hook.own).cloned();
        let hooks = hooks.chain(foreign).collect();
        let rules = grants.iter().map(|grant| grant.to_text(protocol, forward));
        let (mut filter, nat) = match forward {
            Some(_) => (Vec::new(), Some(rules.collect())),
            None if elsewhere => (Vec::new(), None),
            None => (rules.collect(), None),
        };
        filter.extend(service.log.as_ref().map(log));
        let verdict = match service.policy {
            Policy::Drop => "DROP",
            Policy::Accept => "ACCEPT",
        };
        filter.push(format!("-j {verdict}"));
        Self { filter: Some(filter), nat, hooks }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The input of `iptables-restore --noflush` that turns one into the other; empty where they are equal.
    pub(crate) fn script(name: &ServiceName, from: &Self, to: &Self) -> String {
        let own = name.chain();
        let mut added = to.hooks.clone();
        let mut removed = from.hooks.clone();
        removed.retain(|hook| match added.iter().position(|other| other == hook) {
            Some(place) => {
                added.remove(place);
                false
            }
            None => true,
        });
        let mut script = String::new();
        for (table, old, new) in [("filter", &from.filter, &to.filter), ("nat", &from.nat, &to.nat)] {
            let mut lines = String::new();
            // A chain that is declared is there, and empty.
            if new.is_some() && old != new {
                let _ = writeln!(lines, ":{own} - [0:0]");
            }
            for Hook { chain, text, .. } in removed.iter().filter(|hook| hook.table == table) {
                let _ = writeln!(lines, "-D {chain} {text}");
            }
            for text in new.iter().flatten().filter(|_| old != new) {
                let _ = writeln!(lines, "-A {own} {text}");
            }
            let added = || added.iter().filter(|hook| hook.table == table);
            for Hook { chain, text, .. } in added().filter(|hook| !hook.is_inserted_first()) {
                let _ = writeln!(lines, "-A {chain} {text}");
            }
            // The last one put at the top is the first in the end.
            let first: Vec<&Hook> = added().filter(|hook| hook.is_inserted_first()).collect();
            for Hook { chain, text, .. } in first.into_iter().rev() {
                let _ = writeln!(lines, "-I {chain} {text}");
            }
            if old.is_some() && new.is_none() {
                let _ = writeln!(lines, "-F {own}\n-X {own}");
            }
            if !lines.is_empty() {
                let _ = write!(script, "*{table}\n{lines}COMMIT\n");
            }
        }
        script
    }
}

/// Where a rule stands that has to do with a service, outside of the service's own chains.
#[derive(Clone, Copy)]
enum HookPoint<'a> {
    Input,
    Prerouting,
    Forward,
    Foreign(&'static str, &'a str),
}

impl<'a> HookPoint<'a> {
    fn table(self) -> &'static str {
        match self {
            Self::Input | Self::Forward => "filter",
            Self::Prerouting => "nat",
            Self::Foreign(table, _) => table,
        }
    }

    fn chain(self) -> &'a str {
        match self {
            Self::Input => "INPUT",
            Self::Prerouting => "PREROUTING",
            Self::Forward => "FORWARD",
            Self::Foreign(_, chain) => chain,
        }
    }
}

/// Rules outside of a service's own chains that lead to it, or are marked as its own.
fn references<'a>(saved: &'a Saved, name: &ServiceName) -> impl Iterator<Item = (HookPoint<'a>, &'a Rule)> {
    let own = name.chain();
    let rules = ["filter", "nat"].into_iter().flat_map(|table| {
        let chains = saved.chains(table);
        chains.flat_map(move |(chain, rules)| rules.iter().map(move |rule| (table, chain, rule)))
    });
    rules.filter_map(move |(table, chain, rule)| {
        let leads = rule.target() == Some(own.as_str());
        let marked = rule.value("--comment") == Some(own.as_str());
        let place = match (table, chain) {
            (_, chain) if chain == own => return None,
            ("filter", "FORWARD") if marked => HookPoint::Forward,
            _ if !leads => return None,
            ("filter", "INPUT") => HookPoint::Input,
            ("nat", "PREROUTING") => HookPoint::Prerouting,
            _ => HookPoint::Foreign(table, chain),
        };
        Some((place, rule))
    })
}

/// A service as one family has it.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// With the place of this family only.
    pub(crate) service: Service,
    /// Packets that met the policy.
    pub(crate) default_packets: u64,
    /// The service is behind this host, and not in this family.
    pub(crate) elsewhere: bool,
    /// Each rule of a service in this family is there once.
    pub(crate) is_complete: bool,
    /// The table that holds the grants.
    table: &'static str,
    /// The rules of the chain there; `None`: it is no grant.
    rules: Vec<Option<GrantRule>>,
}

impl Parsed {
    /// In the order of their rules.
    pub(crate) fn grants(&self) -> impl Iterator<Item = &GrantRule> {
        self.rules.iter().flatten()
    }

    /// The input of `iptables-restore --noflush` after which these are the grants. Those that stay keep their
    /// places and counters.
    pub(crate) fn script(&self, wanted: &[GrantRule]) -> String {
        let chain = self.service.name.chain();
        let forward = self.service.forward.first().copied();
        let mut lines = String::new();
        let mut there: Vec<Option<&GrantRule>> = Vec::new();
        for rule in &self.rules {
            match rule.as_ref().filter(|grant| !wanted.contains(grant)).and_then(|grant| grant.text.as_ref())
            {
                Some(text) => {
                    let _ = writeln!(lines, "-D {chain} {text}");
                }
                None => there.push(rule.as_ref()),
            }
        }
        for grant in wanted.iter().filter(|grant| grant.text.is_none()) {
            // Before the first greater address; without one behind the last grant, so before LOG and policy.
            let is_greater =
                |rule: Option<&GrantRule>| rule.is_some_and(|other| other.address > grant.address);
            let after_last =
                || there.iter().rposition(Option::is_some).map_or(0, |last| last.saturating_add(1));
            let place = there.iter().copied().position(is_greater).unwrap_or_else(after_last);
            there.insert(place, Some(grant));
            let text = grant.to_text(self.service.protocol, forward);
            let _ = writeln!(lines, "-I {chain} {} {text}", place.saturating_add(1));
        }
        if lines.is_empty() { lines } else { format!("*{}\n{lines}COMMIT\n", self.table) }
    }
}

/// The services of a family.
pub(crate) fn services(saved: &Saved) -> impl Iterator<Item = ServiceName> {
    saved.chains("filter").filter_map(|(chain, _)| ServiceName::of_chain(chain))
}

/// The grants of a service, also of one that is not whole.
pub(crate) fn grants(saved: &Saved, name: &ServiceName) -> Vec<GrantRule> {
    let chains = ["filter", "nat"].into_iter().filter_map(|table| saved.rules(table, &name.chain()));
    chains.flatten().filter_map(GrantRule::of).collect()
}

/// Reads a service; `None`: it is not there.
///
/// # Errors
/// Its rules are not those of a service.
pub(crate) fn parse(saved: &Saved, name: &ServiceName) -> Result<Option<Parsed>, Error> {
    let own = name.chain();
    let Some(rules) = saved.rules("filter", &own) else { return Ok(None) };
    let wrong = |part: &str| Error::Unparsable {
        program: "iptables",
        part: format!("chain {own} {part}; pktables init or remove {name} puts that right"),
    };
    let (mut jumps, mut forwards, mut redirects) = (Vec::new(), Vec::new(), 0_usize);
    for (place, rule) in references(saved, name) {
        match place {
            HookPoint::Input => jumps.push(rule),
            HookPoint::Forward => forwards.push(rule),
            HookPoint::Prerouting => redirects = redirects.saturating_add(1),
            HookPoint::Foreign(..) => {}
        }
    }
    let jump = match jumps[..] {
        [] => return Err(wrong("is reached by no rule of INPUT")),
        [jump] => jump,
        _ => return Err(wrong("is reached by several rules of INPUT")),
    };
    let value = |option| jump.value(option).unwrap_or_default();
    let protocol: Protocol = value("-p").parse().map_err(|_| wrong("guards neither tcp nor udp"))?;
    let port: Port = value("--dport").parse().map_err(|_| wrong("guards no port"))?;
    let last = rules.last().filter(|rule| rule.has_only(&["-j"]));
    let policy = match last.and_then(Rule::target) {
        Some("DROP") => Policy::Drop,
        Some("ACCEPT") => Policy::Accept,
        _ => return Err(wrong("does not end with DROP or ACCEPT")),
    };
    let forward: Vec<Forward> = forwards.iter().copied().filter_map(dnat_target).collect();
    let (table, holders) = match saved.rules("nat", &own) {
        Some(rules) => ("nat", rules),
        None => ("filter", rules),
    };
    let service = Service {
        name: name.clone(),
        protocol,
        port,
        only_new: jump.value("--tcp-flags").is_some() || jump.value("--ctstate") == Some("NEW"),
        policy,
        log: rules.iter().find(|rule| rule.target() == Some("LOG")).map(read_log),
        forward,
    };
    let parts = (service.forward.len(), forwards.len(), redirects, table);
    Ok(Some(Parsed {
        service,
        default_packets: last.map_or(0, |rule| rule.packets),
        elsewhere: jump.value("--comment") == Some(ELSEWHERE),
        is_complete: matches!(parts, (0, 0, 0, "filter") | (1, 2, 1, "nat")),
        table,
        rules: holders.iter().map(GrantRule::of).collect(),
    }))
}

fn dnat_target(rule: &Rule) -> Option<Forward> {
    let host: IpNet = rule.value("-d")?.parse().ok()?;
    let port: Port = rule.value("--dport")?.parse().ok()?;
    Some(Forward { to: (host.addr(), port.into()).into() })
}

fn log(log: &Log) -> String {
    let mut text = String::new();
    if let Some(limit) = log.limit {
        let _ = write!(text, "-m limit --limit {limit} --limit-burst {} ", limit.burst);
    }
    text.push_str("-j LOG");
    if !log.prefix.as_str().is_empty() {
        let _ = write!(text, " --log-prefix \"{}\"", log.prefix.as_str());
    }
    let _ = write!(text, " --log-level {}", log.level.number());
    text
}

/// What iptables does not say is what it takes where nothing is said. A word that we would not have
/// written is left out, so that the next init replaces it.
fn read_log(rule: &Rule) -> Log {
    let limit = rule.value("--limit").and_then(|limit| {
        let limit: LogLimit = limit.parse().ok()?;
        rule.value("--limit-burst").map_or(Some(limit), |burst| limit.with_burst(burst).ok())
    });
    Log {
        prefix: rule.value("--log-prefix").unwrap_or_default().parse().unwrap_or_default(),
        level: rule
            .value("--log-level")
            .map_or(LogLevel::default(), |level| level.parse().unwrap_or_default()),
        limit,
    }
}

#[cfg(test)]
mod tests;
