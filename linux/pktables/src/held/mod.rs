//! A table that nobody else can change while this process runs.
//!
//! The table repeats the guards of services, and may pass datagrams to an NFLOG group. It belongs to a netlink socket
//! (`NFT_TABLE_F_OWNER`, since Linux 5.12): `nft flush ruleset` of others skips it, and changing it gives them "Operation not
//! permitted". It stays when its owner ends (`NFT_TABLE_F_PERSIST`, since 6.9). On older kernels it vanishes with its owner,
//! or is a table as any other; so the rules of a [`Firewall`](crate::Firewall) have to stand beside it.
//!
//! A packet has to pass both, so the grants of one have to be in the other: see [`HeldTable::mirror`].

mod expression;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::IpNet;
use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE};
use rustix::io::Errno;

use crate::{
    address::canonical,
    error::Error,
    firewall::{Change, Grants},
    message::{Message, attribute, kind, nested, text},
    netlink::Operation,
    nft::schema::{AFTER_CONNTRACK, BEFORE_FILTER, SetName, sets},
    scope::Exempt,
    service::{Policy, Protocol, Service, ServiceName},
    sets::{SET_TIMEOUT, SetPath, Sets, refused},
};
use expression::{Base, Rule, Verdict, number, state};

/// `NFT_TABLE_F_OWNER`.
const OWNER: u32 = 2;
/// `NFT_TABLE_F_PERSIST`.
const PERSIST: u32 = 4;

/// Before connection tracking and all other rules (`raw`).
const FIRST: i32 = -300;
/// `NF_INET_PRE_ROUTING`.
const PREROUTING: u32 = 0;
/// `NF_INET_LOCAL_IN`.
const LOCAL_IN: u32 = 1;

/// The number of sources whose rate is tracked. Further sources are not limited.
const MAX_SOURCES: u32 = 65_535;
/// Milliseconds until an idle source is forgotten.
const SOURCE_TIMEOUT: u64 = 10_000;

/// Elements in one message; an attribute holds at most 64 KiB.
const MOST_ELEMENTS: usize = 256;

/// How well the kernel protects the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// Anyone with the privilege may change it (Linux before 5.12).
    None,
    /// Nobody else can change it while this process runs; then it vanishes (Linux before 6.9).
    Owner,
    /// Nobody else can change it while this process runs; then it stays, and can be changed.
    Persistent,
}

impl Protection {
    fn flags(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Owner => OWNER,
            Self::Persistent => OWNER | PERSIST,
        }
    }
}

/// UDP datagrams to this host that are passed to an NFLOG group and then dropped, so that nothing answers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The length in the UDP header.
    pub length: u16,
    /// The first four bytes of the payload must be one of these.
    pub words: BTreeSet<[u8; 4]>,
    /// The port; `None`: any.
    pub port: Option<u16>,
    /// The NFLOG group.
    pub group: u16,
    /// Bytes of each packet that are passed on.
    pub snaplen: u32,
    /// Datagrams per second and source (IPv4 address or IPv6 /64); others are dropped at once.
    pub rate: u32,
}

/// A table of family `inet`, held by a netlink socket.
pub struct HeldTable {
    sets: Sets,
    table: String,
    /// Unknown until the first [`install`](Self::install).
    protection: Option<Protection>,
    best: Protection,
}

/// An element to add: set, key and time left.
type Kept = (SetName, Vec<u8>, Option<Duration>);

impl HeldTable {
    /// Opens a netlink socket. The table is made by [`install`](Self::install).
    ///
    /// # Errors
    /// The kernel has no netfilter.
    pub fn open(table: &str) -> Result<Self, Error> {
        let best = Protection::Persistent;
        Ok(Self { sets: Sets::open()?, table: table.to_owned(), protection: None, best })
    }

    /// Uses no better protection than this, as an older kernel.
    #[must_use]
    pub fn with_at_most(self, best: Protection) -> Self {
        Self { best, ..self }
    }

    /// How well the kernel protects the table; `None`: it is not installed.
    #[must_use]
    pub fn protection(&self) -> Option<Protection> {
        self.protection
    }

    /// Replaces the table in one transaction: packets meet either the old or the new rules. Grants of services that it had
    /// stay.
    ///
    /// # Errors
    /// [`Error::TableInUse`] if another process holds it, or the kernel refuses.
    pub fn install(&mut self, services: &[Service], capture: Option<&Capture>) -> Result<(), Error> {
        let candidates = match self.protection {
            Some(known) => vec![known],
            None => [Protection::Persistent, Protection::Owner, Protection::None]
                .into_iter()
                .filter(|protection| *protection <= self.best)
                .collect(),
        };
        for (index, protection) in candidates.iter().copied().enumerate() {
            match self.replace(services, capture, protection) {
                // The kernel does not know the flags.
                Err(Errno::OPNOTSUPP | Errno::INVAL) if index + 1 < candidates.len() => {}
                Err(Errno::PERM) if self.is_held_by_another() => {
                    return Err(Error::TableInUse { table: self.table.clone() });
                }
                Err(errno) => return Err(refused("install the held table", errno)),
                Ok(()) => {
                    self.protection = Some(protection);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Removes the table.
    ///
    /// # Errors
    /// [`Error::TableInUse`] if another process holds it, or the kernel refuses.
    pub fn remove(&mut self) -> Result<Change, Error> {
        let table = self.table.clone();
        let result = self.sets.transaction(|sets| {
            if !sets.has_table(&table)? {
                return Ok(None);
            }
            Ok(Some(vec![operation(kind::DELETE_TABLE, &[text(attribute::TABLE, &table)], 0)]))
        });
        match result {
            Ok(change) => {
                self.protection = None;
                Ok(change)
            }
            Err(Errno::PERM) if self.is_held_by_another() => Err(Error::TableInUse { table }),
            Err(errno) => Err(refused("remove the held table", errno)),
        }
    }

    /// The number by which [`Watch`](crate::Watch) recognizes the changes of this value.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn port(&self) -> Result<u32, Error> {
        self.sets.port()
    }

    /// A number that changes with the rules of the table, but not with grants and counters. Without [`Protection::Owner`],
    /// others may change them.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn fingerprint(&mut self) -> Result<u64, Error> {
        let table = self.table.clone();
        self.sets.fingerprint(&table)
    }

    /// Whether the table exists. Without [`Protection::Owner`], others may have removed it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn exists(&mut self) -> Result<bool, Error> {
        let table = self.table.clone();
        self.sets.has_table(&table).map_err(|errno| refused("find a table", errno))
    }

    /// A table that this process may not change although it has the privilege.
    fn is_held_by_another(&mut self) -> bool {
        let table = self.table.clone();
        self.sets.has_table(&table).unwrap_or(false) && self.sets.may_change().unwrap_or(false)
    }

    /// Grants an address, as [`Firewall::grant`](crate::Firewall::grant) does. Prefixes come with [`mirror`](Self::mirror).
    ///
    /// # Errors
    /// There is no such service, or the kernel refuses.
    pub fn grant(
        &mut self,
        service: &ServiceName,
        address: IpNet,
        ttl: Option<Duration>,
    ) -> Result<Change, Error> {
        let address = canonical(address);
        let set = SetName::of(service, address).text();
        self.sets.grant(SetPath { table: &self.table, set: &set }, address.addr(), ttl)
    }

    /// Revokes the grant of exactly this address or prefix.
    ///
    /// # Errors
    /// The kernel refuses. A missing service is not an error.
    pub fn revoke(&mut self, service: &ServiceName, address: IpNet) -> Result<Change, Error> {
        let address = canonical(address);
        let set = SetName::of(service, address).text();
        match self.sets.revoke(SetPath { table: &self.table, set: &set }, address.addr()) {
            Err(Error::NoSet { .. }) => Ok(Change::AlreadySo),
            done => done,
        }
    }

    /// The grants in the table; none if it does not exist.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn grants(&mut self) -> Result<Grants, Error> {
        let table = self.table.clone();
        self.sets.grants(&table)
    }

    /// Makes the grants equal to these, in one transaction. Grants whose ends differ by less than two seconds are equal, because
    /// iptables rounds them up.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mirror(
        &mut self,
        services: &[Service],
        capture: Option<&Capture>,
        grants: &Grants,
    ) -> Result<Change, Error> {
        let has_service = |name: &ServiceName| services.iter().any(|service| service.name == *name);
        let there = self.grants()?;
        let flat = |grants: &Grants| -> BTreeMap<(ServiceName, IpNet), Option<Duration>> {
            let all = grants.iter().filter(|(name, _)| has_service(name));
            all.flat_map(|(name, grants)| {
                grants.iter().map(|grant| ((name.clone(), grant.address), grant.left))
            })
            .collect()
        };
        let (there, wanted) = (flat(&there), flat(grants));
        let is_same = |one: &Option<Duration>, other: &Option<Duration>| match (one, other) {
            (Some(one), Some(other)) => one.abs_diff(*other) < Duration::from_secs(2),
            (one, other) => one == other,
        };
        let fits = |(key, left): &(&(ServiceName, IpNet), &Option<Duration>)| {
            there.get(*key).is_some_and(|there| is_same(there, left))
        };
        if there.len() == wanted.len() && wanted.iter().all(|pair| fits(&pair)) {
            return Ok(Change::AlreadySo);
        }
        let kept: Vec<Kept> = wanted
            .iter()
            .filter(|(_, left)| left.is_none_or(|left| !left.is_zero()))
            .map(|((name, address), left)| (SetName::of(name, *address), octets(*address), *left))
            .collect();
        let Some(protection) = self.protection else { return Ok(Change::AlreadySo) };
        match self.replace_with(services, capture, protection, |_| Ok(kept.clone())) {
            Ok(()) => Ok(Change::Made),
            Err(errno) => Err(refused("copy the grants to the held table", errno)),
        }
    }

    fn replace(
        &mut self,
        services: &[Service],
        capture: Option<&Capture>,
        protection: Protection,
    ) -> Result<(), Errno> {
        let table = self.table.clone();
        self.replace_with(services, capture, protection, |sets| {
            let mut kept: Vec<Kept> = Vec::new();
            let there = sets.grants(&table).map_err(|error| error.errno().unwrap_or(Errno::IO))?;
            for (name, grants) in there {
                let has = services.iter().any(|service| service.name == name);
                for grant in grants.into_iter().filter(|_| has) {
                    kept.push((SetName::of(&name, grant.address), octets(grant.address), grant.left));
                }
            }
            Ok(kept)
        })
    }

    /// Replaces the table and its grants.
    fn replace_with(
        &mut self,
        services: &[Service],
        capture: Option<&Capture>,
        protection: Protection,
        kept: impl Fn(&mut Sets) -> Result<Vec<Kept>, Errno>,
    ) -> Result<(), Errno> {
        let table = self.table.clone();
        let change = self.sets.transaction(|sets| {
            let mut batch = Batch { table: &table, operations: Vec::new(), sets: 0 };
            let kept = kept(sets)?;
            if sets.has_table(&table)? {
                batch.push(kind::DELETE_TABLE, &[], 0);
            }
            batch.push(kind::NEW_TABLE, &[number(attribute::TABLE_FLAGS, protection.flags())], NLM_F_CREATE);
            batch.fill(services, capture, &kept);
            Ok(Some(batch.operations))
        });
        change.map(drop)
    }
}

/// Operations of one transaction on a table.
struct Batch<'a> {
    table: &'a str,
    operations: Vec<Operation>,
    /// Sets so far; each needs a number.
    sets: u32,
}

fn operation(kind: u16, attributes: &[DefaultNla], flags: u16) -> Operation {
    Operation { message: Message::new(kind, attributes), flags }
}

fn octets(address: IpNet) -> Vec<u8> {
    match address.network() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    }
}

impl Batch<'_> {
    fn push(&mut self, kind: u16, attributes: &[DefaultNla], flags: u16) {
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
        for chunk in elements.chunks(MOST_ELEMENTS) {
            let items: Vec<DefaultNla> = chunk
                .iter()
                .map(|(key, left)| {
                    let key = DefaultNla::new(attribute::VALUE, key.to_vec());
                    let mut attributes = vec![nested(attribute::ELEMENT_KEY, &[key])];
                    let milliseconds =
                        left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1));
                    attributes.extend(milliseconds.map(|time| {
                        DefaultNla::new(attribute::ELEMENT_TIMEOUT, time.to_be_bytes().to_vec())
                    }));
                    nested(attribute::LIST_ITEM, &attributes)
                })
                .collect();
            self.push(
                kind::NEW_ELEMENT,
                &[text(attribute::SET, set), nested(attribute::ELEMENTS, &items)],
                NLM_F_CREATE,
            );
        }
    }

    /// Everything in the table.
    fn fill(&mut self, services: &[Service], capture: Option<&Capture>, kept: &[Kept]) {
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
        const SOURCES: [(&str, (u32, u32)); 2] = [("sources4", (7, 4)), ("sources6", (8, 16))];
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
        self.set("words", (4, 4), 0, &[order]);
        let words: Vec<(&[u8], Option<Duration>)> =
            capture.words.iter().map(|word| (&word[..], None)).collect();
        self.elements("words", &words);
        self.base_chain("knocks", PREROUTING, FIRST);
        self.chain("handover");
        let mut rule = Rule::default()
            .protocol(Protocol::Udp)
            .field(Base::Transport, 4, &capture.length.to_be_bytes())
            .local();
        if let Some(port) = capture.port {
            rule = rule.port(port);
        }
        // After the 8 bytes of the UDP header.
        let rule = rule.load(Base::Transport, 8, 4).in_set("words").then(&Verdict::Goto("handover"));
        self.rule("knocks", &rule);
        // One IPv6 host usually has a whole /64 to send from.
        for ((set, _), (v6, prefix)) in SOURCES.into_iter().zip([(false, 32), (true, 64)]) {
            let rule = Rule::default().source(v6, prefix).beyond_rate(set, capture.rate);
            self.rule("handover", &rule.then(&Verdict::Drop));
        }
        let rule = Rule::default().log(capture.group, capture.snaplen).then(&Verdict::Drop);
        self.rule("handover", &rule);
    }

    fn service(&mut self, service: &Service, kept: &[Kept]) {
        let chain = service.name.chain();
        // Grants and leases alike.
        let mut own: Vec<SetName> = sets(service).filter(|set| !set.lease).collect();
        let is_reachable = |set: &SetName| own.iter().any(|own| own.v6 == set.v6);
        let mut more: Vec<SetName> = kept
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
            let elements = kept.iter().filter(|(other, ..)| other == set);
            let elements: Vec<(&[u8], Option<Duration>)> =
                elements.map(|(_, key, left)| (&key[..], *left)).collect();
            self.elements(&set.text(), &elements);
        }
        self.chain(&chain);
        if service.only_new {
            let rule = match service.protocol {
                Protocol::Tcp => Rule::default()
                    .protocol(Protocol::Tcp)
                    .without_syn()
                    .in_state(state::INVALID | state::ESTABLISHED | state::UNTRACKED),
                Protocol::Udp => Rule::default().in_state(state::ESTABLISHED),
            };
            self.rule(&chain, &rule.then(&Verdict::Accept));
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
        let end = match service.policy {
            Policy::Drop => Verdict::Drop,
            Policy::Accept => Verdict::Accept,
        };
        self.rule(&chain, &Rule::default().count().then(&end));
        let interfaces = service.scope.interfaces.iter().map(Some);
        for interface in interfaces.chain(service.scope.interfaces.is_empty().then_some(None)) {
            for base in ["guard", "input"] {
                let mut rule = Rule::default();
                if let Some(interface) = interface {
                    rule = rule.arrives_at(interface);
                }
                if base == "guard" {
                    rule = rule.local();
                }
                let rule = rule.protocol(service.protocol).port(service.port.into());
                self.rule(base, &rule.then(&Verdict::Jump(&chain)));
            }
        }
    }
}
