//! Services and grants out of the rules that `iptables-save` prints.

use std::{fmt::Write as _, ops::RangeInclusive};

use ipnet::IpNet;

use super::{
    chain::{EXEMPT, HookPoint, NO_OTHER_NAT, OTHER_FAMILY, begun, parse_port_option, references},
    grant::{GrantRule, UnixSeconds},
    save::{Rule, Saved},
};
use crate::{
    error::Error,
    forward::Forward,
    lease_prefix::LeasePrefix,
    log::{Log, LogLevel, LogLimit},
    ports::{Port, Ports},
    scope::{Exempt, Interface, Scope},
    service::{Policy, Protocol, Service},
    service_name::ServiceName,
};

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
    let (mut jumps, mut early, mut forwards, mut redirects, mut replies) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (place, rule) in references(saved, name) {
        match place {
            HookPoint::Input if !in_mangle => jumps.push(rule),
            HookPoint::MangleInput if in_mangle => jumps.push(rule),
            HookPoint::ManglePrerouting if in_mangle => early.push(rule),
            HookPoint::Forward if rule.value("--ctdir") == Some("REPLY") => replies.push(rule),
            HookPoint::Forward => forwards.push(rule),
            HookPoint::Prerouting => redirects.push(rule),
            _ => {}
        }
    }
    let jump = *jumps.first().ok_or_else(|| wrong("no jump from INPUT"))?;
    let value = |option| jump.value(option).unwrap_or_default();
    let protocol: Protocol =
        value("-p").parse().map_err(|_| wrong("the jump matches neither tcp nor udp"))?;
    let ports = ports(&jumps).ok_or_else(|| wrong("the jump matches no port"))?;
    let is_one_of_them = |other: &&Rule| {
        ["-p", "--tcp-flags", "--ctstate"].iter().all(|name| other.value(name) == jump.value(name))
    };
    let entrances = entrances(&jumps, &ports).filter(|_| jumps.iter().all(is_one_of_them));
    let entrances = entrances.ok_or_else(|| wrong("several jumps from INPUT"))?;
    let is_same = |others: &[&Rule]| {
        let is_local = |rule: &&Rule| rule.value("--dst-type") == Some("LOCAL");
        let found = self::ports(others).filter(|found| *found == ports);
        found.and_then(|ports| self::entrances(others, &ports)).as_ref() == Some(&entrances)
            && others.iter().all(is_local)
    };
    if in_mangle && !is_same(&early) {
        return Err(wrong("the jumps from PREROUTING and INPUT differ"));
    }
    // Before NAT there is nothing else, so what someone added may let everyone in.
    let is_own = |rule: &&Rule| {
        [false, true].iter().any(|tracked| rule.text == begun(protocol, *tracked))
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
    let keeps_port = ports.single().is_none();
    let forward: Vec<Forward> =
        forwards.iter().copied().filter_map(|rule| dnat_target(rule, keeps_port)).collect();
    let places = forward.len();
    let first = forward.first().copied();
    let is_one_place = forward.iter().all(|forward| Some(*forward) == first);
    let forward: Vec<Forward> = first.into_iter().collect();
    let (table, holders) = match saved.rules("nat", &own) {
        Some(rules) => ("nat", rules),
        None if in_mangle => ("mangle", rules),
        None => ("filter", rules),
    };
    let ends_nat = table == "nat" && holders.last().is_some_and(|rule| rule.text == NO_OTHER_NAT);
    let has_begun = |tracked| rules.iter().any(|rule| rule.text == begun(protocol, tracked));
    let tracked = if in_mangle { has_begun(true) } else { !replies.is_empty() };
    let only_new = if in_mangle {
        has_begun(tracked)
    } else {
        jump.value("--tcp-flags").is_some() || jump.value("--ctstate") == Some("NEW")
    };
    let interfaces: Vec<Interface> =
        entrances.iter().flatten().filter_map(|name| name.parse().ok()).collect();
    let number = ports.ranges().len();
    let service = Service {
        name: name.clone(),
        protocol,
        ports: ports.clone(),
        only_new,
        policy,
        log: rules.iter().find(|rule| rule.target() == Some("LOG")).map(read_log),
        forward,
        scope: Scope {
            before_nat: in_mangle || ends_nat,
            interfaces,
            exempt: exemptions(rules).ok_or_else(|| wrong("an exemption cannot be parsed"))?,
            leases: holders.iter().any(|rule| is_lease_rule(rule, name)),
            lease_prefix: LeasePrefix::default(),
            tracked,
        }
        .sorted(),
    };
    let complete = match (service.forward.len(), table) {
        (0, "filter" | "mangle") => forwards.is_empty() && redirects.is_empty() && replies.is_empty(),
        // For each port or range, one rule there and one back.
        (1, "nat") => {
            let is_whole = places == number && forwards.len() == number.saturating_mul(2);
            let is_whole = is_whole && (replies.is_empty() || replies.len() == number);
            is_one_place && is_whole && reaches(&forwards, &ports) && is_same(&redirects)
        }
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

/// The ports that rules are about.
fn ports(rules: &[&Rule]) -> Option<Ports> {
    let ranges = rules.iter().map(|rule| parse_port_option(rule.value("--dport")?));
    Ports::new(ranges.collect::<Option<Vec<_>>>()?).ok()
}

/// The interfaces that jumps are about, `None` for all; nothing if there is not exactly one jump for each and each range.
fn entrances<'a>(jumps: &[&'a Rule], ports: &Ports) -> Option<Vec<Option<&'a str>>> {
    let mut found: Vec<(Option<&str>, RangeInclusive<u16>)> = Vec::new();
    for jump in jumps {
        found.push((jump.value("-i"), parse_port_option(jump.value("--dport")?)?));
    }
    let mut interfaces: Vec<Option<&str>> = found.iter().map(|(interface, _)| *interface).collect();
    interfaces.sort_unstable();
    interfaces.dedup();
    let has = |interface, range: &RangeInclusive<u16>| found.contains(&(interface, range.clone()));
    let is_whole = interfaces.iter().all(|name| ports.ranges().iter().all(|range| has(*name, range)));
    let is_all = interfaces.len() == 1 || !interfaces.contains(&None);
    (is_whole && is_all && found.len() == interfaces.len().checked_mul(ports.ranges().len())?)
        .then_some(interfaces)
}

/// Whether the rules in FORWARD are about connections to these ports.
fn reaches(rules: &[&Rule], ports: &Ports) -> bool {
    let of = |rule: &&Rule| parse_port_option(rule.value("--ctorigdstport")?);
    let mut found: Vec<RangeInclusive<u16>> = rules.iter().filter_map(of).collect();
    found.sort_unstable_by_key(|range| (*range.start(), *range.end()));
    found.dedup();
    found == ports.ranges()
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

/// Where a rule in FORWARD lets packets go.
fn dnat_target(rule: &Rule, keeps_port: bool) -> Option<Forward> {
    let host: IpNet = rule.value("-d")?.parse().ok()?;
    let port: Option<Port> = if keeps_port { None } else { Some(rule.value("--dport")?.parse().ok()?) };
    Some(Forward { host: host.addr(), port: port.map(|port| port.0) })
}

/// Missing options have the defaults of iptables. A value that pktables would not write is dropped, so the next init
/// replaces the rule.
pub(super) fn read_log(rule: &Rule) -> Log {
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
