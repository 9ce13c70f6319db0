//! What is found, and what to do about it, in one line.

use std::collections::BTreeSet;

use pktables::{Ports, Service};

use super::{listing::Variant, packet::Family, walk::Place};
use crate::firewall::ports::{for_shell, with_colons};

/// Whose rule it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Nft { family: String, table: String },
    Iptables { variant: Variant, table: String },
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Stops what a grant lets through.
    StopsGranted,
    /// Lets strangers past the guard of its chain.
    PassesGuard,
    /// Takes knocks away before they reach pkdd.
    TakesKnocks,
}

/// A rule or policy that makes a guard, a grant or knocks ineffective.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) effect: Effect,
    /// Of the packets that meet it.
    pub(super) families: BTreeSet<Family>,
    /// The base chain, where a rule may be added.
    pub(super) base: String,
    pub(super) owner: Owner,
    pub(super) place: Place,
    /// The firewall that manages the rule.
    pub(super) manager: Manager,
}

/// Who writes the rules of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manager {
    /// The administrator.
    None,
    Ufw,
    Firewalld,
    Docker,
}

impl Finding {
    /// Adds the address families of another one, if it is the same otherwise.
    pub(super) fn joins(&mut self, other: &Self) -> bool {
        // ufw's chains for IPv6 have names of their own.
        let chain = |place: &Place| place.chain.replacen("ufw6-", "ufw-", 1);
        let key = |finding: &Self| {
            let Self { effect, base, owner, place, manager, .. } = finding;
            (*effect, base.clone(), owner.clone(), chain(place), place.rule.clone(), place.rejects, *manager)
        };
        let is_same = key(self) == key(other);
        if is_same {
            self.families.extend(&other.families);
        }
        is_same
    }

    /// The line for a service. `is_held`: strangers also meet a table that nobody else can change.
    pub(super) fn line(&self, service: &Service, is_held: bool) -> String {
        let (place, name) = (self.place(), &service.name);
        if self.effect == Effect::PassesGuard {
            let still = if is_held { ", so that only the table inet pkdd stops strangers" } else { "" };
            let advice = self.remove();
            return format!(
                "service \"{name}\": {place} lets everyone past the guard that follows it in that chain{still}; \
                 remove it: {advice}"
            );
        }
        let verb = if self.place.rejects { "rejects" } else { "drops" };
        let (what, advice) = (self.packets(), self.allow(service));
        format!(
            "service \"{name}\": {place} {verb} {what} that a knock lets in; allow the port there too, pkdd still \
             guards it: {advice}"
        )
    }

    /// The line about knocks to this port; `None`: any.
    pub(super) fn line_about_knocks(&self, port: Option<u16>) -> String {
        let port = port.map(|port| format!(" to port {port}")).unwrap_or_default();
        let (place, advice) = (self.place(), self.remove());
        format!(
            "{place} takes UDP datagrams{port} before pkdd sees them, so it hears no knock; remove it: {advice}"
        )
    }

    fn place(&self) -> String {
        let Place { chain, rule, .. } = &self.place;
        let what = match (rule, &self.owner) {
            (Some(rule), _) => format!("the rule \"{rule}\""),
            (None, Owner::Nft { .. }) => "the policy drop".to_owned(),
            (None, Owner::Iptables { .. }) => "the policy DROP".to_owned(),
        };
        match &self.owner {
            Owner::Nft { family, table } => {
                format!("{what} of chain {chain} in nftables' table {family} {table}")
            }
            Owner::Iptables { table, .. } => {
                format!("{what} of chain {chain} in table {table} ({})", self.programs().join(" and "))
            }
        }
    }

    /// A table for both families may have rules for one.
    fn packets(&self) -> &'static str {
        let is_for_both = matches!(&self.owner, Owner::Nft { family, .. } if family == "inet");
        match (is_for_both, self.families.contains(&Family::V4), self.families.contains(&Family::V6)) {
            (true, true, false) => "the IPv4 packets",
            (true, false, true) => "the IPv6 packets",
            _ => "the packets",
        }
    }

    /// The programs that change the rule.
    fn programs(&self) -> Vec<&'static str> {
        let Owner::Iptables { variant, .. } = &self.owner else { return vec!["nft"] };
        let name = |family: &Family| match (family, variant) {
            (Family::V4, Variant::Legacy) => "iptables-legacy",
            (Family::V6, Variant::Legacy) => "ip6tables-legacy",
            (Family::V4, _) => "iptables",
            (Family::V6, _) => "ip6tables",
        };
        self.families.iter().map(name).collect()
    }

    /// One command for each program.
    fn commands(&self, rest: &str) -> String {
        let commands: Vec<String> =
            self.programs().iter().map(|program| format!("{program} {rest}")).collect();
        commands.join(" && ")
    }

    /// One command for each program and each port or range.
    fn commands_for_each(&self, ports: &Ports, rest: impl Fn(&str) -> String) -> String {
        let commands: Vec<String> =
            with_colons(ports).iter().map(|port| self.commands(&rest(port))).collect();
        commands.join(" && ")
    }

    fn allow(&self, service: &Service) -> String {
        if !service.forward.is_empty() {
            return self.allow_forward(service);
        }
        let (protocol, ports, base) = (service.protocol, &service.ports, &self.base);
        match (&self.owner, self.manager) {
            (_, Manager::Ufw) => format!("ufw allow {}/{protocol}", with_colons(ports).join(",")),
            (_, Manager::Firewalld) => {
                let add = ports.texts().map(|port| format!(" --add-port={port}/{protocol}"));
                format!("firewall-cmd --permanent{} && firewall-cmd --reload", add.collect::<String>())
            }
            (Owner::Nft { family, table }, _) => {
                let ports = for_shell(ports);
                format!("nft insert rule {family} {table} {base} {protocol} dport {ports} accept")
            }
            (Owner::Iptables { table, .. }, _) => {
                let table = if table == "filter" { String::new() } else { format!("-t {table} ") };
                self.commands_for_each(ports, |port| {
                    format!("{table}-I {base} -p {protocol} --dport {port} -j ACCEPT")
                })
            }
        }
    }

    /// For both directions of what pkdd forwards, and nothing else.
    fn allow_forward(&self, service: &Service) -> String {
        let (protocol, ports, base) = (service.protocol, &service.ports, &self.base);
        match (&self.owner, self.manager) {
            (Owner::Nft { family, table }, _) => format!(
                "nft insert rule {family} {table} {base} ct status dnat meta l4proto {protocol} ct original proto-dst \
                 {} accept",
                for_shell(ports)
            ),
            (_, Manager::Ufw) => {
                let route = |forward: &pktables::Forward| {
                    let port =
                        forward.port().map_or_else(|| with_colons(ports).join(","), |port| port.to_string());
                    format!("ufw route allow proto {protocol} to {} port {port}", forward.host())
                };
                service.forward.iter().map(route).collect::<Vec<_>>().join(" && ")
            }
            (_, manager) => {
                let base = if manager == Manager::Docker { "DOCKER-USER" } else { base };
                self.commands_for_each(ports, |port| {
                    format!(
                        "-I {base} -p {protocol} -m conntrack --ctstate DNAT --ctorigdstport {port} -j ACCEPT"
                    )
                })
            }
        }
    }

    fn remove(&self) -> String {
        let Place { chain, rule, .. } = &self.place;
        match (&self.owner, rule) {
            (Owner::Nft { family, table }, Some(_)) => {
                format!("nft -a list chain {family} {table} {chain} shows its handle")
            }
            (Owner::Nft { family, table }, None) => {
                format!("nft chain {family} {table} {chain} '{{ policy accept; }}'")
            }
            (Owner::Iptables { table, .. }, Some(rule)) => {
                self.commands(&format!("-t {table} -D {chain} {rule}"))
            }
            (Owner::Iptables { table, .. }, None) => self.commands(&format!("-t {table} -P {chain} ACCEPT")),
        }
    }
}
