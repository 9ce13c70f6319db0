//! Rules of the host that make pkdd's own ineffective: an earlier one that lets strangers past a guard, a later one that
//! stops what a grant lets through, or one that takes knocks away.
//!
//! The first packet from an arbitrary address is followed through the host's rules, as far as they can be understood. Only
//! what is certain is reported: a rule that depends on the sender or on an interface may be intentional.

mod finding;
mod iptables;
pub mod listing;
mod nft;
mod packet;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;

use pktables::{Protocol, Service, TABLE};

use super::pktables_backend::HELD;
use crate::config::Config;
use finding::{Effect, Finding, Manager, Owner};
use iptables::Tables;
use listing::{Listing, Variant};
use nft::{Base, Ruleset, TableName};
use packet::{Family, Packet};
use walk::Fate;

/// The priority of the chain that passes knocks to pkdd; what comes before it may take them away.
const KNOCKS: i64 = -300;

/// The tables and chains of iptables that a packet to this host passes.
const TO_HOST: [(&str, &str); 5] = [
    ("raw", "PREROUTING"),
    ("mangle", "PREROUTING"),
    ("mangle", "INPUT"),
    ("filter", "INPUT"),
    ("security", "INPUT"),
];

/// Where a packet to another host goes on.
const FORWARDED: [(&str, &str); 3] = [("mangle", "FORWARD"), ("filter", "FORWARD"), ("security", "FORWARD")];

/// Where pktables guards.
const GUARDS: [(&str, &str); 4] =
    [("mangle", "PREROUTING"), ("mangle", "INPUT"), ("nat", "PREROUTING"), ("filter", "INPUT")];

/// What is wrong, a line each; empty if nothing is.
#[must_use]
pub fn lines(config: &Config, listing: &Listing) -> Vec<String> {
    let rules = Rules::parse(listing);
    let mut lines = rules.about_knocks(config);
    for service in config.services.values() {
        let findings = rules.about(&service.service);
        lines.extend(findings.iter().map(|finding| finding.line(&service.service, rules.is_held)));
    }
    lines.extend(
        listing.failures.iter().map(|why| format!("rules of other programs were not checked: {why}")),
    );
    lines
}

/// All rules of the host.
struct Rules {
    nft: Ruleset,
    texts: BTreeMap<(TableName, u64), String>,
    iptables: Vec<(Variant, Family, Tables)>,
    is_tracked: bool,
    has_v6: bool,
    /// Whether pkdd's own table guards too.
    is_held: bool,
}

impl Rules {
    fn parse(listing: &Listing) -> Self {
        let mut iptables = Vec::new();
        for (variant, texts) in &listing.iptables {
            for (family, text) in [Family::V4, Family::V6].into_iter().zip(texts) {
                iptables.push((*variant, family, iptables::parse(text)));
            }
        }
        // nft shows the tables of iptables-nft too, but not what their rules mean.
        let is_seen = |family: &str, table: &str| {
            let family = if family == "ip" { Family::V4 } else { Family::V6 };
            iptables.iter().any(|(variant, of, tables): &(_, _, Tables)| {
                *variant != Variant::Legacy && *of == family && tables.contains_key(table)
            })
        };
        let skip = |family: &str, table: &str| match family {
            "inet" => table == HELD,
            "ip" | "ip6" => is_seen(family, table),
            _ => true,
        };
        let nft = Ruleset::parse(&listing.nft, skip).unwrap_or_default();
        let is_untracked = nft.has_notrack()
            || iptables.iter().any(|(.., tables)| tables.values().any(iptables::Table::has_notrack));
        Self {
            nft,
            texts: nft::texts(&listing.nft_text),
            iptables,
            is_tracked: !is_untracked,
            has_v6: listing.has_v6,
            is_held: nft::has_table(&listing.nft, "inet", HELD),
        }
    }

    fn families(&self) -> &'static [Family] {
        if self.has_v6 { &[Family::V4, Family::V6] } else { &[Family::V4] }
    }

    fn about(&self, service: &Service) -> Vec<Finding> {
        let mut findings = Vec::new();
        let ranges = service.ports.ranges();
        for (family, ports) in
            self.families().iter().flat_map(|family| ranges.iter().map(move |ports| (family, ports)))
        {
            let to_host = Packet {
                family: *family,
                protocol: service.protocol,
                port: Some(ports.clone()),
                forwarded: None,
                interfaces: &service.scope.interfaces,
                is_tracked: self.is_tracked,
            };
            self.past_guard(service, &to_host, &mut findings);
            let mut to = service.forward.iter();
            match to.find(|to| to.host().is_ipv4() == (*family == Family::V4)) {
                None if !service.forward.is_empty() => {}
                None => self.stopped(&to_host, &TO_HOST, &["prerouting", "input"], &mut findings),
                Some(to) => {
                    let port = to.port().map_or_else(|| ports.clone(), |port| port..=port);
                    let (port, forwarded) = (Some(port), Some((to.host(), ports.clone())));
                    let packet = Packet { port, forwarded, ..to_host };
                    self.stopped(&packet, &FORWARDED, &["forward"], &mut findings);
                }
            }
        }
        findings
    }

    /// Whether rules in front of the guards let everyone past them.
    fn past_guard(&self, service: &Service, packet: &Packet<'_>, findings: &mut Vec<Finding>) {
        let goal = service.name.chain();
        for (variant, family, tables) in
            self.iptables.iter().filter(|(_, family, _)| *family == packet.family)
        {
            for (table, chain) in GUARDS {
                let Some(saved) = tables.get(table).filter(|saved| saved.leads_to(chain, &goal)) else {
                    continue;
                };
                let drops = saved.policies.get(chain).copied().unwrap_or(false);
                let fate = walk::base(&saved.chains(packet, Some(&goal)), chain, drops);
                if let Some(place) = fate.certainly_accepted() {
                    let owner = owner(*variant, table);
                    add(
                        findings,
                        Finding {
                            effect: Effect::PassesGuard,
                            families: [*family].into(),
                            base: chain.to_owned(),
                            manager: Manager::None,
                            owner,
                            place: place.clone(),
                        },
                    );
                }
            }
        }
        for base in self.nft.bases.iter().filter(|base| base.table == TABLE && base.kind == "filter") {
            let chains = self.nft.chains(&base.table(), packet, Some(&goal), &self.texts);
            let fate = walk::base(&chains, &base.name, base.drops());
            let leads = base.hook == "input" || base.hook == "prerouting";
            if let Some(place) = fate.certainly_accepted().filter(|place| leads && place.rule.is_some()) {
                add(findings, nft_finding(Effect::PassesGuard, packet.family, base, place.clone()));
            }
        }
    }

    /// Whether chains of the host stop a packet that has a grant.
    fn stopped(
        &self,
        packet: &Packet<'_>,
        places: &[(&str, &str)],
        hooks: &[&str],
        findings: &mut Vec<Finding>,
    ) {
        if packet.forwarded.is_none() && self.may_be_redirected(packet) {
            return;
        }
        for (variant, family, tables) in
            self.iptables.iter().filter(|(_, family, _)| *family == packet.family)
        {
            for (table, chain) in places {
                let Some(fate) = fate_in(tables, table, chain, packet, None) else { continue };
                if let Some(place) = fate.certainly_dropped() {
                    add(
                        findings,
                        Finding {
                            effect: Effect::StopsGranted,
                            families: [*family].into(),
                            base: (*chain).to_owned(),
                            manager: manager(tables, table),
                            owner: owner(*variant, table),
                            place: place.clone(),
                        },
                    );
                }
            }
        }
        for base in
            self.nft.bases.iter().filter(|base| hooks.contains(&base.hook.as_str()) && base.table != TABLE)
        {
            if base.kind == "filter" && base.is_passed(packet.family) {
                let fate = self.nft_fate(base, packet);
                if let Some(place) = fate.certainly_dropped() {
                    add(findings, nft_finding(Effect::StopsGranted, packet.family, base, place.clone()));
                }
            }
        }
    }

    /// Whether another program may redirect the packet, so that it meets other rules than those of this host's port.
    fn may_be_redirected(&self, packet: &Packet<'_>) -> bool {
        let in_iptables = self.iptables.iter().any(|(_, family, tables)| {
            *family == packet.family
                && fate_in(tables, "nat", "PREROUTING", packet, None).is_some_and(|fate| fate.redirected)
        });
        let is_nat = |base: &&Base| {
            base.kind == "nat"
                && base.hook == "prerouting"
                && base.table != TABLE
                && base.is_passed(packet.family)
        };
        in_iptables || self.nft.bases.iter().filter(is_nat).any(|base| self.nft_fate(base, packet).redirected)
    }

    fn nft_fate(&self, base: &Base, packet: &Packet<'_>) -> Fate {
        let chains = self.nft.chains(&base.table(), packet, None, &self.texts);
        walk::base(&chains, &base.name, base.drops())
    }

    /// Whether rules take knocks away before they reach pkdd.
    fn about_knocks(&self, config: &Config) -> Vec<String> {
        let mut findings = Vec::new();
        for family in self.families() {
            let packet = Packet {
                family: *family,
                protocol: Protocol::Udp,
                port: config.gate.port.map(|port| port..=port),
                forwarded: None,
                interfaces: &[],
                is_tracked: false,
            };
            for base in self.nft.bases.iter().filter(|base| base.hook == "prerouting" && base.prio < KNOCKS) {
                if base.is_passed(*family)
                    && let Some(place) = self.nft_fate(base, &packet).certainly_dropped()
                {
                    add(&mut findings, nft_finding(Effect::TakesKnocks, *family, base, place.clone()));
                }
            }
            // Where the kernel has no nftables, pkdd's own chain is in iptables.
            for (variant, _, tables) in self.iptables.iter().filter(|(_, of, _)| of == family) {
                let Some(raw) = tables.get("raw").filter(|raw| raw.leads_to("PREROUTING", HELD)) else {
                    continue;
                };
                let fate = walk::base(&raw.chains(&packet, Some(HELD)), "PREROUTING", false);
                if let Some(place) = fate.certainly_accepted().or_else(|| fate.certainly_dropped()) {
                    add(
                        &mut findings,
                        Finding {
                            effect: Effect::TakesKnocks,
                            families: [*family].into(),
                            base: "PREROUTING".to_owned(),
                            manager: Manager::None,
                            owner: owner(*variant, "raw"),
                            place: place.clone(),
                        },
                    );
                }
            }
        }
        findings.iter().map(|finding| finding.line_about_knocks(config.gate.port)).collect()
    }
}

fn fate_in(
    tables: &Tables,
    table: &str,
    chain: &str,
    packet: &Packet<'_>,
    goal: Option<&str>,
) -> Option<Fate> {
    let saved = tables.get(table)?;
    let drops = *saved.policies.get(chain)?;
    Some(walk::base(&saved.chains(packet, goal), chain, drops))
}

fn owner(variant: Variant, table: &str) -> Owner {
    Owner::Iptables { variant, table: table.to_owned() }
}

/// The program that has made the chains of a table of iptables.
fn manager(tables: &Tables, table: &str) -> Manager {
    let has = |chain: &str| tables.get(table).is_some_and(|table| table.has_chain(chain));
    match () {
        () if has("ufw-user-input") || has("ufw6-user-input") => Manager::Ufw,
        () if has("INPUT_ZONES") => Manager::Firewalld,
        () if has("DOCKER-USER") => Manager::Docker,
        () => Manager::None,
    }
}

fn nft_finding(effect: Effect, of: Family, base: &Base, place: walk::Place) -> Finding {
    let (family, table) = base.table();
    let manager = if table == "firewalld" { Manager::Firewalld } else { Manager::None };
    let owner = Owner::Nft { family, table };
    Finding { effect, families: [of].into(), base: base.name.clone(), manager, owner, place }
}

/// Adds what is not found yet; of both address families, one line.
fn add(findings: &mut Vec<Finding>, new: Finding) {
    if !findings.iter_mut().any(|finding| finding.joins(&new)) {
        findings.push(new);
    }
}
