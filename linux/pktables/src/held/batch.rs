//! What is in a held table: the operations that fill it.

use std::time::Duration;

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE};

use super::{
    capture::{BEYOND, Capture, WORDS},
    expression::{Base, Rule, Verdict, number, state},
    kept::Kept,
    link,
};
use crate::{
    message::{Message, attribute, kind, nested, text},
    netlink::Operation,
    nft::{
        schema::{AFTER_CONNTRACK, BEFORE_FILTER, sets},
        set_name::SetName,
    },
    scope::Exempt,
    service::{Policy, Protocol, Service},
    set_elements::added,
    sets::SET_TIMEOUT,
};

/// Before connection tracking and all other rules (`raw`).
const FIRST: i32 = -300;

/// `NF_INET_PRE_ROUTING`.
const PREROUTING: u32 = 0;

/// `NF_INET_LOCAL_IN`.
const LOCAL_IN: u32 = 1;

/// The number of sources and words whose rate is tracked. Further ones are not limited.
const MAX_SOURCES: u32 = 65_535;

/// Milliseconds until an idle source is forgotten.
const SOURCE_TIMEOUT: u64 = 10_000;

/// Operations of one transaction on a table.
pub(super) struct Batch<'a> {
    table: &'a str,
    pub(super) operations: Vec<Operation>,
    /// Sets so far; each needs a number.
    sets: u32,
}

impl<'a> Batch<'a> {
    pub(super) fn new(table: &'a str) -> Self {
        Self { table, operations: Vec::new(), sets: 0 }
    }

    pub(super) fn push(&mut self, kind: u16, attributes: &[DefaultNla], flags: u16) {
        let attributes = [&[text(attribute::TABLE, self.table)], attributes].concat();
        self.operations.push(operation(kind, &attributes, flags));
    }

    fn base_chain(&mut self, name: &str, hook: u32, priority: i32) {
        let hook = [number(1, hook), DefaultNla::new(2, priority.to_be_bytes().to_vec())];
        // NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK, NFTA_CHAIN_POLICY (accept) and NFTA_CHAIN_TYPE.
        let attributes = [text(3, name), nested(4, &hook), number(5, 1), text(7, "filter")];
        self.push(kind::NEW_CHAIN, &attributes, NLM_F_CREATE);
    }

    fn chain(&mut self, name: &str) {
        self.push(kind::NEW_CHAIN, &[text(3, name)], NLM_F_CREATE);
    }

    /// `NFTA_RULE_CHAIN` and `NFTA_RULE_EXPRESSIONS`.
    fn rule(&mut self, chain: &str, rule: &Rule) {
        let attributes = [text(2, chain), nested(4, rule.attributes())];
        self.push(kind::NEW_RULE, &attributes, NLM_F_CREATE | NLM_F_APPEND);
    }

    fn set(&mut self, name: &str, key: (u32, u32), flags: u32, rest: &[DefaultNla]) {
        self.sets = self.sets.saturating_add(1);
        let (key_type, length) = key;
        // NFTA_SET_NAME, _FLAGS, _KEY_TYPE, _KEY_LEN and _ID.
        let attributes =
            [text(2, name), number(3, flags), number(4, key_type), number(5, length), number(10, self.sets)];
        self.push(kind::NEW_SET, &[&attributes[..], rest].concat(), NLM_F_CREATE);
    }

    /// Keys with their time left.
    fn elements(&mut self, set: &str, elements: &[(&[u8], Option<Duration>)]) {
        for attributes in added(self.table, set, elements) {
            self.operations.push(operation(kind::NEW_ELEMENT, &attributes, NLM_F_CREATE));
        }
    }

    /// Everything in the table.
    pub(super) fn fill(&mut self, services: &[Service], capture: Option<&Capture>, kept: &Kept) {
        if let Some(capture) = capture {
            self.capture(capture);
        }
        // After the rules of pktables, which so count what they drop.
        self.base_chain("guard", PREROUTING, AFTER_CONNTRACK + 1);
        self.base_chain("input", LOCAL_IN, BEFORE_FILTER + 1);
        for service in services {
            self.service(service, kept);
        }
    }

    fn capture(&mut self, capture: &Capture) {
        // Types that nft knows, each of 6 bits: an address and an `integer`.
        const SOURCES: [(&str, (u32, u32)); 2] =
            [("sources4", (7 << 6 | 4, 8)), ("sources6", (8 << 6 | 4, 20))];
        // NFT_SET_EVAL; NFTA_SET_DESC with NFTA_SET_DESC_SIZE; NFTA_SET_TIMEOUT.
        let rest = [
            nested(9, &[number(1, MAX_SOURCES)]),
            DefaultNla::new(11, SOURCE_TIMEOUT.to_be_bytes().to_vec()),
        ];
        for (name, key) in SOURCES {
            self.set(name, key, SET_TIMEOUT | 0x20, &rest);
        }
        // Type `integer` of big-endian byte order, which NFTA_SET_USERDATA tells nft.
        let order = DefaultNla::new(13, [&[0, 4][..], &2_u32.to_ne_bytes()].concat());
        self.set(WORDS, (4, 4), SET_TIMEOUT, &[order]);
        let words: Vec<_> = capture.current().collect();
        let words: Vec<_> = words.iter().map(|(word, left)| (&word[..], *left)).collect();
        self.elements(WORDS, &words);
        self.base_chain("knocks", PREROUTING, FIRST);
        self.chain("nflog");
        self.chain(BEYOND);
        let mut rule = Rule::default()
            .protocol(Protocol::Udp)
            .field(Base::Transport, 4, &capture.length.to_be_bytes())
            .local();
        if let Some(port) = capture.port {
            rule = rule.ports(&(port..=port));
        }
        // After the 8 bytes of the UDP header.
        let rule = rule.load(Base::Transport, 8, 4).in_set(WORDS).then(&Verdict::Goto("nflog"));
        self.rule("knocks", &rule);
        // One IPv6 host usually has a whole /64 to send from.
        for ((set, _), (v6, prefix)) in SOURCES.into_iter().zip([(false, 32), (true, 64)]) {
            let rule = Rule::default().source(v6, prefix).and_word(v6).beyond_rate_of(set, capture.rate);
            self.rule("nflog", &rule.then(&Verdict::Goto(BEYOND)));
        }
        let dropped = Rule::default()
            .beyond_rate(capture.rate_beyond, capture.burst_beyond())
            .count()
            .then(&Verdict::Drop);
        self.rule(BEYOND, &dropped);
        for chain in ["nflog", BEYOND] {
            let rule = Rule::default().log(capture.group, capture.snaplen).then(&Verdict::Drop);
            self.rule(chain, &rule);
        }
    }

    /// The set of grants that count on one interface; returns its name.
    fn links(&mut self, service: &Service, kept: &Kept) -> String {
        let set = link::set_name(&service.name);
        self.set(&set, link::KEY, SET_TIMEOUT, &[]);
        let own = kept.links.iter().filter(|grant| grant.service == service.name);
        let keys: Vec<_> = own.map(|grant| (grant.sender.key(), grant.left)).collect();
        let elements: Vec<_> = keys.iter().map(|(key, left)| (&key[..], *left)).collect();
        self.elements(&set, &elements);
        set
    }

    /// Accepts what belongs to a connection.
    fn established(&mut self, chain: &str, protocol: Protocol, tracked: bool) {
        let begun = |rule: Rule| if tracked { rule.of_beginner() } else { rule };
        if protocol == Protocol::Tcp {
            let states = if tracked {
                state::ESTABLISHED
            } else {
                state::INVALID | state::ESTABLISHED | state::UNTRACKED
            };
            let rule = Rule::default().protocol(Protocol::Tcp).without_syn().in_state(states);
            return self.rule(chain, &begun(rule).then(&Verdict::Accept));
        }
        // Connection tracking knows no interface, so the datagrams of a link-local address seem to be those of its namesake
        // on another link. A socket of TCP knows its interface.
        for rule in [Rule::default().ipv4(), Rule::default().source_beyond_link()] {
            self.rule(chain, &begun(rule.in_state(state::ESTABLISHED)).then(&Verdict::Accept));
        }
    }

    fn service(&mut self, service: &Service, kept: &Kept) {
        let chain = service.name.chain();
        // Grants and leases alike.
        let mut own: Vec<SetName> = sets(service).map(|set| SetName { lease: false, ..set }).collect();
        own.sort_unstable();
        own.dedup();
        let is_reachable = |set: &SetName| own.iter().any(|own| own.v6 == set.v6);
        let mut more: Vec<SetName> = kept
            .grants
            .iter()
            .map(|(set, ..)| set.clone())
            .filter(|set| set.service == service.name && is_reachable(set) && !own.contains(set))
            .collect();
        more.sort_unstable();
        more.dedup();
        own.extend(more);
        for set in &own {
            let key = if set.v6 { (8, 16) } else { (7, 4) };
            self.set(&set.text(), key, SET_TIMEOUT, &[]);
            let elements = kept.grants.iter().filter(|(other, ..)| other == set);
            let elements: Vec<(&[u8], Option<Duration>)> =
                elements.map(|(_, key, left)| (&key[..], *left)).collect();
            self.elements(&set.text(), &elements);
        }
        let links = own.iter().any(|set| set.v6).then(|| self.links(service, kept));
        self.chain(&chain);
        if service.only_new {
            self.established(&chain, service.protocol, service.scope.tracked);
        }
        for exempt in &service.scope.exempt {
            let rule = match exempt {
                Exempt::Interface(interface) => Rule::default().arrives_at(interface),
                Exempt::Network(network) => Rule::default().network(*network),
            };
            self.rule(&chain, &rule.then(&Verdict::Accept));
        }
        for set in &own {
            let rule = Rule::default().source(set.v6, set.length).in_set(&set.text());
            self.rule(&chain, &rule.then(&Verdict::Accept));
        }
        if let Some(set) = links {
            let rule = Rule::default().source_on_link().in_set(&set);
            self.rule(&chain, &rule.then(&Verdict::Accept));
        }
        let end = match service.policy {
            Policy::Drop => Verdict::Drop,
            Policy::Accept => Verdict::Accept,
        };
        self.rule(&chain, &Rule::default().count().then(&end));
        let interfaces = service.scope.interfaces.iter().map(Some);
        for interface in interfaces.chain(service.scope.interfaces.is_empty().then_some(None)) {
            for (base, ports) in ["guard", "input"]
                .into_iter()
                .flat_map(|base| service.ports.ranges().iter().map(move |ports| (base, ports)))
            {
                let mut rule = Rule::default();
                if let Some(interface) = interface {
                    rule = rule.arrives_at(interface);
                }
                if base == "guard" {
                    rule = rule.local();
                }
                let rule = rule.protocol(service.protocol).ports(ports);
                self.rule(base, &rule.then(&Verdict::Jump(&chain)));
            }
        }
    }
}

pub(super) fn operation(kind: u16, attributes: &[DefaultNla], flags: u16) -> Operation {
    Operation { message: Message::new(kind, attributes), flags }
}
