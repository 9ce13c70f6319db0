//! The rules of a service in one address family, in the form of the original `pktables`, and parsing them.
//!
//! The chain `pk-NAME` in `filter` has an ACCEPT for each grant, sorted by address, then the LOG and the default policy; INPUT
//! jumps to it. A forwarded service has its grants in a chain `pk-NAME` in `nat` instead, as DNAT, with a jump in PREROUTING
//! and an ACCEPT for each direction in FORWARD.
//!
//! A service that is guarded before NAT has its chain in `mangle`, with RETURN for each grant; PREROUTING jumps to it for
//! packets to this host, and INPUT for those that have the port after NAT. If it is forwarded, it has the chains above, and
//! the one in `nat` ends with ACCEPT, so that no later rule publishes the port.

use std::fmt::{Display, Write as _};

use ipnet::IpNet;

use super::{
    grant::{GrantRule, UnixSeconds},
    save::{Rule, Saved},
};
use crate::{
    error::Error,
    log::{Log, LogLevel, LogLimit},
    scope::{Exempt, Interface, Scope},
    service::{Forward, Policy, Port, Protocol, Service, ServiceName},
};

/// The comment of the jump of a service that is forwarded in the other family only.
const OTHER_FAMILY: &str = "elsewhere";

/// The comment of rules for packets that are not checked.
const EXEMPT: &str = "exempt";

/// The end of the chain in `nat` of a service that is guarded before NAT: no later rule redirects the packets.
const NO_OTHER_NAT: &str = "-j ACCEPT";

/// A rule outside the chains of a service that jumps to them or has their name as comment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hook {
    table: &'static str,
    chain: String,
    text: String,
    /// Part of the service. Other rules are foreign, and only matter to `remove`, because they keep the chain in use.
    own: bool,
    /// Before other rules: FORWARD often ends with a reject, and a service that is guarded before NAT comes before what
    /// would accept or redirect its packets. Otherwise, INPUT is as in the original.
    first: bool,
}

impl Hook {
    fn is_rule(&self, other: &Self) -> bool {
        (self.table, &self.chain, &self.text) == (other.table, &other.chain, &other.text)
    }
}

/// All rules of a service in one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceRules {
    /// Its chain in `filter`.
    filter: Option<Vec<String>>,
    /// Its chain in `nat`.
    nat: Option<Vec<String>>,
    /// Its chain in `mangle`.
    mangle: Option<Vec<String>>,
    hooks: Vec<Hook>,
}

impl ServiceRules {
    /// The current rules, including foreign ones that refer to the service.
    pub(crate) fn of(saved: &Saved, name: &ServiceName) -> Self {
        Self::filtered(saved, name, |_| true)
    }

    /// The current rules without grants.
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
            first: false,
        });
        let [filter, nat, mangle] = ["filter", "nat", "mangle"].map(texts);
        Self { filter, nat, mangle, hooks: hooks.collect() }
    }

    /// The desired rules; foreign rules of `from` stay. `forward` and the exemptions are those of this family. A service that
    /// is forwarded in the other family only has no grants here.
    pub(crate) fn new(
        service: &Service,
        forward: Option<Forward>,
        v6: bool,
        grants: &[GrantRule],
        from: &Self,
    ) -> Self {
        let (own, protocol, port) = (service.name.chain(), service.protocol, service.port);
        let port_is = |port: &dyn Display| format!("-p {protocol} -m {protocol} --dport {port}");
        let other_family_only = forward.is_none() && !service.forward.is_empty();
        let before_nat = service.scope.before_nat;
        let in_mangle = before_nat && forward.is_none();
        let new = match protocol {
            _ if !service.only_new || in_mangle => "",
            // How iptables-save writes --syn.
            Protocol::Tcp => " --tcp-flags FIN,SYN,RST,ACK SYN",
            Protocol::Udp => " -m conntrack --ctstate NEW",
        };
        let mark =
            if other_family_only { format!(" -m comment --comment {OTHER_FAMILY}") } else { String::new() };
        let mut hooks = Vec::new();
        let interfaces = service.scope.interfaces.iter().map(|name| format!("-i {name} "));
        for interface in interfaces.chain(service.scope.interfaces.is_empty().then(String::new)) {
            let input = format!("{interface}{}{new}{mark} -j {own}", port_is(&port));
            // Packets to other hosts are not for this service.
            let arrives = format!("{interface}{} -m addrtype --dst-type LOCAL -j {own}", port_is(&port));
            if in_mangle {
                hooks.push((HookPoint::MangleInput, input));
                hooks.push((HookPoint::ManglePrerouting, arrives));
            } else {
                hooks.push((HookPoint::Input, input));
                hooks.extend(forward.map(|_| (HookPoint::Prerouting, arrives)));
            }
        }
        if let Some(Forward { to }) = forward {
            let host = IpNet::from(to.ip());
            // Only connections that were forwarded for this service.
            let sent = format!(
                "-m conntrack --ctstate DNAT --ctorigdstport {port} -m comment --comment {own} -j ACCEPT"
            );
            hooks.push((HookPoint::Forward, format!("-d {host} {} {sent}", port_is(&to.port()))));
            let back = format!("-s {host} -p {protocol} -m {protocol} --sport {}", to.port());
            hooks.push((HookPoint::Forward, format!("{back} {sent}")));
        }
        let hooks = hooks.into_iter().map(|(place, text)| Hook {
            table: place.table(),
            chain: place.chain().to_owned(),
            text,
            own: true,
            first: before_nat || matches!(place, HookPoint::Forward),
        });
        let foreign = from.hooks.iter().filter(|hook| !hook.own).cloned();
        let hooks = hooks.chain(foreign).collect();
        let rules = grants.iter().map(|grant| grant.to_text(protocol, forward, in_mangle));
        let accept = if in_mangle { "RETURN" } else { "ACCEPT" };
        // A rule for all leases, beside those for grants.
        let family = if v6 { 6 } else { 4 };
        let leases = service.scope.leases.then(|| format!("-m set --match-set {own}-{family} src"));
        let mut chain = Vec::new();
        if in_mangle && service.only_new {
            chain.push(begun(protocol));
        }
        let mut nat = None;
        match forward {
            Some(forward) => {
                let leases =
                    leases.map(|leases| format!("-p {protocol} {leases} -j DNAT --to-destination {forward}"));
                let end = before_nat.then(|| NO_OTHER_NAT.to_owned());
                nat = Some(rules.chain(leases).chain(end).collect());
            }
            None if other_family_only => {}
            None => {
                chain.extend(rules);
                chain.extend(leases.map(|leases| format!("{leases} -j {accept}")));
            }
        }
        for exempt in &service.scope.exempt {
            let whom = match exempt {
                Exempt::Interface(name) => format!("-i {name}"),
                Exempt::Network(network) => format!("-s {network}"),
            };
            chain.push(format!("{whom} -m comment --comment {EXEMPT} -j {accept}"));
        }
        chain.extend(service.log.as_ref().map(log));
        let verdict = match service.policy {
            Policy::Drop => "DROP",
            Policy::Accept => accept,
        };
        chain.push(format!("-j {verdict}"));
        let (filter, mangle) = if in_mangle { (None, Some(chain)) } else { (Some(chain), None) };
        Self { filter, nat, mangle, hooks }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The input of `iptables-restore --noflush` that changes `from` to `to`; empty if they are equal.
    pub(crate) fn script(name: &ServiceName, from: &Self, to: &Self) -> String {
        let own = name.chain();
        let mut added = to.hooks.clone();
        let mut removed = from.hooks.clone();
        removed.retain(|hook| match added.iter().position(|other| other.is_rule(hook)) {
            Some(place) => {
                added.remove(place);
                false
            }
            None => true,
        });
        let mut script = String::new();
        // The guard is there in the new table before it leaves the old one.
        let mut tables = [
            ("mangle", &from.mangle, &to.mangle),
            ("filter", &from.filter, &to.filter),
            ("nat", &from.nat, &to.nat),
        ];
        if to.mangle.is_none() {
            tables.rotate_left(1);
        }
        for (table, old, new) in tables {
            let mut lines = String::new();
            // Declaring a chain creates or empties it.
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
            for Hook { chain, text, .. } in added().filter(|hook| !hook.first) {
                let _ = writeln!(lines, "-A {chain} {text}");
            }
            // The last one inserted at the top is the first in the end.
            let first: Vec<&Hook> = added().filter(|hook| hook.first).collect();
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

/// Where a rule is that refers to a service.
#[derive(Clone, Copy)]
enum HookPoint<'a> {
    Input,
    Prerouting,
    Forward,
    ManglePrerouting,
    MangleInput,
    Foreign(&'static str, &'a str),
}

impl<'a> HookPoint<'a> {
    fn table(self) -> &'static str {
        match self {
            Self::Input | Self::Forward => "filter",
            Self::Prerouting => "nat",
            Self::ManglePrerouting | Self::MangleInput => "mangle",
            Self::Foreign(table, _) => table,
        }
    }

    fn chain(self) -> &'a str {
        match self {
            Self::Input | Self::MangleInput => "INPUT",
            Self::Prerouting | Self::ManglePrerouting => "PREROUTING",
            Self::Forward => "FORWARD",
            Self::Foreign(_, chain) => chain,
        }
    }
}

/// The rules outside the chains of a service that jump to them or have their name as comment.
fn references<'a>(saved: &'a Saved, name: &ServiceName) -> impl Iterator<Item = (HookPoint<'a>, &'a Rule)> {
    let own = name.chain();
    let rules = ["filter", "nat", "mangle"].into_iter().flat_map(|table| {
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
            ("mangle", "PREROUTING") => HookPoint::ManglePrerouting,
            ("mangle", "INPUT") => HookPoint::MangleInput,
            _ => HookPoint::Foreign(table, chain),
        };
        Some((place, rule))
    })
}

/// A parsed service of one family.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// With the forward address of this family only.
    pub(crate) service: Service,
    /// Packets that the default policy handled.
    pub(crate) default_packets: u64,
    /// The service is forwarded in the other family only.
    pub(crate) other_family_only: bool,
    /// No rule is missing or duplicate.
    pub(crate) is_complete: bool,
    /// The table with the grants.
    table: &'static str,
    /// The rules of the chain in that table; `None`: not a grant.
    rules: Vec<Option<GrantRule>>,
}

impl Parsed {
    /// The grants, in the order of their rules.
    pub(crate) fn grants(&self) -> impl Iterator<Item = &GrantRule> {
        self.rules.iter().flatten()
    }

    /// The input of `iptables-restore --noflush` that changes the grants to `wanted`. The others keep their positions and
    /// counters.
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
            // Before the first greater address, else after the last grant, and so before LOG and policy.
            let is_greater =
                |rule: Option<&GrantRule>| rule.is_some_and(|other| other.address > grant.address);
            let after_last =
                || there.iter().rposition(Option::is_some).map_or(0, |last| last.saturating_add(1));
            let place = there.iter().copied().position(is_greater).unwrap_or_else(after_last);
            there.insert(place, Some(grant));
            let text = grant.to_text(self.service.protocol, forward, self.table == "mangle");
            let _ = writeln!(lines, "-I {chain} {} {text}", place.saturating_add(1));
        }
        if lines.is_empty() { lines } else { format!("*{}\n{lines}COMMIT\n", self.table) }
    }
}

/// The names of all services.
pub(crate) fn services(saved: &Saved) -> impl Iterator<Item = ServiceName> {
    let chains = ["filter", "mangle"].into_iter().flat_map(|table| saved.chains(table));
    chains.filter_map(|(chain, _)| ServiceName::of_chain(chain))
}

/// The grants of a service, even if the rest cannot be parsed.
pub(crate) fn grants(saved: &Saved, name: &ServiceName) -> Vec<GrantRule> {
    let chains =
        ["filter", "nat", "mangle"].into_iter().filter_map(|table| saved.rules(table, &name.chain()));
    chains.flatten().filter_map(GrantRule::of).collect()
}

/// The input of `iptables-restore --noflush` that removes expired grants, and their number. Only rules that have the end of a
/// grant in their comment are removed, so other rules of chains with such a name stay.
pub(crate) fn expire(saved: &Saved, now: UnixSeconds) -> (String, usize) {
    let mut script = String::new();
    let mut number: usize = 0;
    for table in ["filter", "nat", "mangle"] {
        let mut lines = String::new();
        let own = saved.chains(table).filter(|(chain, _)| ServiceName::of_chain(chain).is_some());
        for (chain, rules) in own {
            for rule in rules {
                if GrantRule::of(rule).is_some_and(|grant| grant.has_expired(now)) {
                    let _ = writeln!(lines, "-D {chain} {}", rule.text);
                    number = number.saturating_add(1);
                }
            }
        }
        if !lines.is_empty() {
            let _ = write!(script, "*{table}\n{lines}COMMIT\n");
        }
    }
    (script, number)
}

/// Parses a service; `None`: it does not exist.
///
/// # Errors
/// Its rules are not those of a service.
#[expect(clippy::too_many_lines, reason = "a check for each part of a service")]
pub(crate) fn parse(saved: &Saved, name: &ServiceName) -> Result<Option<Parsed>, Error> {
    let own = name.chain();
    let wrong = |part: &str| Error::Unparsable {
        program: "iptables",
        part: format!("chain {own}: {part}; repair it with pktables init {name} or pktables remove {name}"),
    };
    let (in_mangle, rules) = match (saved.rules("filter", &own), saved.rules("mangle", &own)) {
        (None, None) => return Ok(None),
        (Some(rules), None) => (false, rules),
        (None, Some(rules)) => (true, rules),
        (Some(_), Some(_)) => return Err(wrong("in filter and in mangle")),
    };
    let (mut jumps, mut early, mut forwards, mut redirects) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (place, rule) in references(saved, name) {
        match place {
            HookPoint::Input if !in_mangle => jumps.push(rule),
            HookPoint::MangleInput if in_mangle => jumps.push(rule),
            HookPoint::ManglePrerouting if in_mangle => early.push(rule),
            HookPoint::Forward => forwards.push(rule),
            HookPoint::Prerouting => redirects.push(rule),
            _ => {}
        }
    }
    let jump = *jumps.first().ok_or_else(|| wrong("no jump from INPUT"))?;
    let value = |option| jump.value(option).unwrap_or_default();
    let protocol: Protocol =
        value("-p").parse().map_err(|_| wrong("the jump matches neither tcp nor udp"))?;
    let port: Port = value("--dport").parse().map_err(|_| wrong("the jump matches no port"))?;
    let entrances: Vec<Option<&str>> = jumps.iter().map(|jump| jump.value("-i")).collect();
    let is_one_of_them = |other: &&Rule| {
        ["-p", "--dport", "--tcp-flags", "--ctstate"].iter().all(|name| other.value(name) == jump.value(name))
    };
    if !jumps.iter().all(is_one_of_them) || entrances.len() > 1 && entrances.contains(&None) {
        return Err(wrong("several jumps from INPUT"));
    }
    let is_same = |others: &[&Rule]| {
        let mut found: Vec<Option<&str>> = others.iter().map(|rule| rule.value("-i")).collect();
        let mut entrances = entrances.clone();
        found.sort_unstable();
        entrances.sort_unstable();
        let fits = |rule: &&Rule| {
            rule.value("--dst-type") == Some("LOCAL") && rule.value("--dport") == jump.value("--dport")
        };
        found == entrances && others.iter().all(fits)
    };
    if in_mangle && !is_same(&early) {
        return Err(wrong("the jumps from PREROUTING and INPUT differ"));
    }
    // Before NAT there is nothing else, so what someone added may let everyone in.
    let is_own = |rule: &&Rule| {
        rule.text == begun(protocol)
            || rule.value("--comment") == Some(EXEMPT)
            || rule.target() == Some("LOG")
            || GrantRule::of(rule).is_some()
            || is_lease_rule(rule, name)
    };
    let before_last = rules.get(..rules.len().saturating_sub(1)).unwrap_or_default();
    if in_mangle && !before_last.iter().all(|rule| is_own(&rule)) {
        return Err(wrong("a rule that pktables did not make"));
    }
    let last = rules.last().filter(|rule| rule.has_only(&["-j"]));
    let policy = match (last.and_then(Rule::target), in_mangle) {
        (Some("DROP"), _) => Policy::Drop,
        (Some("ACCEPT"), false) | (Some("RETURN"), true) => Policy::Accept,
        _ => return Err(wrong("does not end with DROP or ACCEPT")),
    };
    let forward: Vec<Forward> = forwards.iter().copied().filter_map(dnat_target).collect();
    let (table, holders) = match saved.rules("nat", &own) {
        Some(rules) => ("nat", rules),
        None if in_mangle => ("mangle", rules),
        None => ("filter", rules),
    };
    let ends_nat = table == "nat" && holders.last().is_some_and(|rule| rule.text == NO_OTHER_NAT);
    let only_new = if in_mangle {
        rules.iter().any(|rule| rule.text == begun(protocol))
    } else {
        jump.value("--tcp-flags").is_some() || jump.value("--ctstate") == Some("NEW")
    };
    let interfaces: Vec<Interface> =
        entrances.iter().flatten().filter_map(|name| name.parse().ok()).collect();
    let service = Service {
        name: name.clone(),
        protocol,
        port,
        only_new,
        policy,
        log: rules.iter().find(|rule| rule.target() == Some("LOG")).map(read_log),
        forward,
        scope: Scope {
            before_nat: in_mangle || ends_nat,
            interfaces,
            exempt: exemptions(rules).ok_or_else(|| wrong("an exemption cannot be parsed"))?,
            leases: holders.iter().any(|rule| is_lease_rule(rule, name)),
        }
        .sorted(),
    };
    let parts = (service.forward.len(), forwards.len(), redirects.len(), table);
    let complete = match parts {
        (0, 0, 0, "filter" | "mangle") => true,
        (1, 2, _, "nat") => is_same(&redirects),
        _ => false,
    };
    Ok(Some(Parsed {
        service,
        default_packets: last.map_or(0, |rule| rule.packets),
        other_family_only: jump.value("--comment") == Some(OTHER_FAMILY),
        is_complete: complete,
        table,
        rules: holders.iter().map(GrantRule::of).collect(),
    }))
}

/// Whether the rule lets all leases in.
fn is_lease_rule(rule: &Rule, name: &ServiceName) -> bool {
    let set = rule.value("--match-set").and_then(|set| set.strip_prefix(name.chain().as_str()));
    matches!(set, Some("-4" | "-6"))
}

/// The packets that a service does not check; `None`: a rule about them cannot be parsed.
fn exemptions(rules: &[Rule]) -> Option<Vec<Exempt>> {
    let exempt = rules.iter().filter(|rule| rule.value("--comment") == Some(EXEMPT));
    let parsed = exempt.map(|rule| match rule.value("-i") {
        Some(name) => name.parse().ok().map(Exempt::Interface),
        None => crate::address::parse(rule.value("-s")?).ok().map(Exempt::Network),
    });
    parsed.collect()
}

/// The rule that lets packets pass that do not begin a connection, as iptables-save writes it. A segment with SYN begins one
/// even if conntrack still knows an earlier one between the same ports, or expects it (RELATED).
fn begun(protocol: Protocol) -> String {
    match protocol {
        Protocol::Tcp => "-p tcp -m tcp ! --tcp-flags SYN,ACK SYN -m conntrack --ctstate \
                          INVALID,ESTABLISHED,UNTRACKED -j RETURN"
            .to_owned(),
        Protocol::Udp => "-m conntrack --ctstate ESTABLISHED -j RETURN".to_owned(),
    }
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

/// Missing options have the defaults of iptables. A value that pktables would not write is dropped, so the next init
/// replaces the rule.
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
