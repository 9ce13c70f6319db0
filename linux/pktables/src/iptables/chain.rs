//! The rules of a service in one address family, in the form of the original `pktables`.
//!
//! The chain `pk-NAME` in `filter` has an ACCEPT for each grant, sorted by address, then the LOG and the default policy; INPUT
//! jumps to it. A forwarded service has its grants in a chain `pk-NAME` in `nat` instead, as DNAT, with a jump in PREROUTING
//! and an ACCEPT for each direction in FORWARD.
//!
//! A service that is guarded before NAT has its chain in `mangle`, with RETURN for each grant; PREROUTING jumps to it for
//! packets to this host, and INPUT for those that have the port after NAT. If it is forwarded, it has the chains above, and
//! the one in `nat` ends with ACCEPT, so that no later rule publishes the port.

use std::{
    fmt::{Display, Write as _},
    ops::RangeInclusive,
};

use ipnet::IpNet;

use super::{
    grant::GrantRule,
    save::{Rule, Saved},
};
use crate::{
    forward::Forward,
    log::Log,
    ports::Port,
    scope::Exempt,
    service::{Policy, Protocol, Service},
    service_name::ServiceName,
};

/// The comment of the jump of a service that is forwarded in the other family only.
pub(super) const OTHER_FAMILY: &str = "elsewhere";

/// The comment of rules for packets that are not checked.
pub(super) const EXEMPT: &str = "exempt";

/// The end of the chain in `nat` of a service that is guarded before NAT: no later rule redirects the packets.
pub(super) const NO_OTHER_NAT: &str = "-j ACCEPT";

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
        let (own, protocol) = (service.name.chain(), service.protocol);
        let port_is = |port: &dyn Display| format!("-p {protocol} -m {protocol} --dport {port}");
        // A rule for each port or range: multiport would count a range as two, of 15.
        let ports: Vec<String> = service.ports.ranges().iter().map(port_option).collect();
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
        let interfaces = interfaces.chain(service.scope.interfaces.is_empty().then(String::new));
        for (interface, port) in
            interfaces.flat_map(|name| ports.iter().map(move |port| (name.clone(), port)))
        {
            let input = format!("{interface}{}{new}{mark} -j {own}", port_is(port));
            // Packets to other hosts are not for this service.
            let arrives = format!("{interface}{} -m addrtype --dst-type LOCAL -j {own}", port_is(port));
            if in_mangle {
                hooks.push((HookPoint::MangleInput, input));
                hooks.push((HookPoint::ManglePrerouting, arrives));
            } else {
                hooks.push((HookPoint::Input, input));
                hooks.extend(forward.map(|_| (HookPoint::Prerouting, arrives)));
            }
        }
        for (Forward { host, port: there }, port) in
            forward.into_iter().flat_map(|forward| ports.iter().map(move |port| (forward, port)))
        {
            let host = IpNet::from(host);
            let there = there.map_or_else(|| port.clone(), |there| there.to_string());
            // Only connections that were forwarded for this service.
            let sent = format!(
                "-m conntrack --ctstate DNAT --ctorigdstport {port} -m comment --comment {own} -j ACCEPT"
            );
            hooks.push((HookPoint::Forward, format!("-d {host} {} {sent}", port_is(&there))));
            let back = format!("-s {host} -p {protocol} -m {protocol} --sport {there}");
            hooks.push((HookPoint::Forward, format!("{back} {sent}")));
            if service.scope.tracked && before_nat {
                // As if the other host had begun it, after it was forgotten.
                let reply = format!("-m conntrack --ctdir REPLY -m comment --comment {own} -j DROP");
                hooks.push((HookPoint::Forward, format!("-d {host} {} {reply}", port_is(&there))));
            }
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
            chain.push(begun(protocol, service.scope.tracked));
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

/// A port or range, as iptables-save writes it: `80` or `8000:8100`.
fn port_option(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() {
        return range.start().to_string();
    }
    format!("{}:{}", range.start(), range.end())
}

/// Parses what [`port_option`] formats.
pub(super) fn parse_port_option(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    let (first, last): (Port, Port) = (first.parse().ok()?, last.parse().ok()?);
    Some(first.into()..=last.into())
}

/// Where a rule is that refers to a service.
#[derive(Clone, Copy)]
pub(super) enum HookPoint<'a> {
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
pub(super) fn references<'a>(
    saved: &'a Saved,
    name: &ServiceName,
) -> impl Iterator<Item = (HookPoint<'a>, &'a Rule)> {
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

/// The rule that lets packets pass that do not begin a connection, as iptables-save writes it. A segment with SYN begins one
/// even if conntrack still knows an earlier one between the same ports, or expects it (RELATED). `tracked`: connection tracking
/// has to know it as one that the other side has begun.
pub(super) fn begun(protocol: Protocol, tracked: bool) -> String {
    let follows = match protocol {
        Protocol::Tcp => "-p tcp -m tcp ! --tcp-flags SYN,ACK SYN ",
        Protocol::Udp => "",
    };
    let known = match protocol {
        _ if tracked => "ESTABLISHED --ctdir ORIGINAL",
        Protocol::Tcp => "INVALID,ESTABLISHED,UNTRACKED",
        Protocol::Udp => "ESTABLISHED",
    };
    format!("{follows}-m conntrack --ctstate {known} -j RETURN")
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

#[cfg(test)]
mod tests;
