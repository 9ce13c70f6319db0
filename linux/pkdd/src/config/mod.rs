//! The configuration, checked completely before any of it takes effect. On servers it is one TOML file, on OpenWrt what UCI
//! has.
//!
//! Every error is one line that names the problem.

pub(crate) mod error;
mod keys;
pub(crate) mod sections;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(feature = "rules")]
mod toml;
pub(crate) mod values;
#[cfg(feature = "rules")]
mod written;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use pkd_core::{
    CacheId, Key, Rule, Tag, UnixSeconds, Window,
    format2::{self, Bindings},
};
use pktables::{LeasePrefix, Sender, Service, ServiceName};

pub use error::Error;
use error::Section;
pub(crate) use keys::is_loose;
use sections::{File, Names};

use crate::date::{self, Date};

/// The configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where knocks arrive, and what pkdd does about them.
    pub gate: Gate,
    /// Services by name.
    pub services: BTreeMap<ServiceName, ServiceConfig>,
    /// Users by name.
    pub users: BTreeMap<String, User>,
    /// Things that are allowed but probably not intended.
    pub warnings: Vec<String>,
}

/// The section `gate`.
#[derive(Clone, Debug)]
pub struct Gate {
    /// The UDP port to knock at; `None`: any.
    pub port: Option<u16>,
    /// The firewall that holds rules and grants.
    pub firewall: Firewall,
    /// The NFLOG group; no other program on this host may use it.
    pub group: u16,
    /// Datagrams that begin as a knock and are always checked, per second, for each source and word that they begin with.
    pub rate: u32,
    /// The networks of senders that grants are for.
    pub prefix: LeasePrefix,
    /// Folder for files that outlive the process but not a reboot.
    pub run: PathBuf,
    /// Folder for files that outlive a reboot.
    pub state: PathBuf,
    /// The shortest time between two writes to `state`.
    pub save: Duration,
    /// The user that the daemon runs as after it was started as root.
    pub user: Option<String>,
    /// The addresses that this host is reached at through a NAT, for knocks that are bound to them.
    pub own_addresses: Vec<IpAddr>,
    /// Where clients reach this host, the usual place first; for the URIs that they get.
    pub addresses: Vec<String>,
    /// A file for the textfile collector of Prometheus' node exporter.
    pub metrics: Option<PathBuf>,
}

impl Gate {
    /// Datagrams beyond `rate` that are checked too, per second, of all sources together: 5000 by default. Only what is beyond
    /// this is dropped, so that forgeries from somebody's address do not silence the address.
    #[must_use]
    pub fn rate_beyond(&self) -> u32 {
        self.rate.saturating_mul(250)
    }
}

impl Gate {
    /// Whom a grant for this sender is for: its network, named by its first address.
    #[must_use]
    pub fn granted(&self, sender: Sender) -> Sender {
        Sender::new(self.prefix.network(sender.address()).addr(), sender.interface())
    }
}

impl ServiceConfig {
    /// The network that a grant for this sender lets in.
    #[must_use]
    pub fn network(&self, sender: Sender) -> IpNet {
        self.service.scope.lease_prefix.network(sender.address())
    }
}

/// The firewall that holds rules and grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// pktables, with this back end.
    #[cfg(feature = "rules")]
    Pktables(pktables::Backend),
    /// `OpenWrt`'s firewall4, which has sets in its own table and rules that deliver knocks.
    Firewall4,
}

/// A section `service`.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// The service for pktables.
    pub service: Service,
    /// How long new connections may begin after a knock.
    pub ttl: Duration,
    /// Whether connections end with the grant.
    pub end_connections: bool,
    /// Only knocks with these tags open it; empty: all.
    pub tags: Vec<Tag>,
}

/// What the knocks of a user are checked against.
#[derive(Clone, Debug)]
pub enum UserRule {
    /// A classic rule.
    Classic(Rule),
    /// A rule of format 2, with its derived keys.
    Format2(Box<format2::Rule>),
}

impl UserRule {
    /// By how much the clocks may differ.
    #[must_use]
    pub fn window(&self) -> Window {
        match self {
            Self::Classic(rule) => rule.window(),
            Self::Format2(rule) => rule.window(),
        }
    }

    /// The format's name in the configuration.
    #[must_use]
    pub fn format(&self) -> &'static str {
        match self {
            Self::Classic(_) => "classic",
            Self::Format2(_) => "2",
        }
    }
}

/// A section `user`.
#[derive(Clone, Debug)]
pub struct User {
    /// The format, key and window of the user's knocks.
    pub rule: UserRule,
    /// Their tag.
    pub tag: Tag,
    /// Their key.
    pub key: Key,
    /// What knocks of format 2 have to be bound to.
    pub require: Bindings,
    /// The cache of tag and key.
    pub cache: CacheId,
    /// The services that a knock opens.
    pub services: Vec<ServiceName>,
    /// Whether knocks are accepted at all.
    pub enabled: bool,
    /// The last day on which knocks are accepted.
    pub expires: Option<Date>,
    /// The user with the new key: once that was used, knocks of this one are ignored.
    pub replaced_by: Option<String>,
}

impl User {
    /// Whether knocks are accepted now.
    #[must_use]
    pub fn is_active(&self, now: UnixSeconds) -> bool {
        self.enabled && self.expires.is_none_or(|day| now <= day.end())
    }
}

impl Config {
    pub(crate) fn check(file: File, folder: &Path, names: Names) -> Result<Self, Error> {
        let scope = file.gate.scope()?;
        let gate = file.gate.check()?;
        let mut services: BTreeMap<ServiceName, ServiceConfig> = BTreeMap::new();
        for (name, section) in file.service {
            let config = section.check(&name, names, &scope)?;
            let service = &config.service;
            let shared = |other: &Service| {
                service.ports.shared(&other.ports).filter(|_| other.protocol == service.protocol)
            };
            let twin = services.iter().find_map(|(name, other)| Some((name, shared(&other.service)?)));
            if let Some((other, port)) = twin {
                let protocol = service.protocol;
                // Only the first of two guards of a port would ever be asked.
                let message = format!(
                    "{protocol} port {port} is also that of service \"{other}\": name each port once"
                );
                return Err(Section::service(&name).at("port", message));
            }
            if gate.firewall == Firewall::Firewall4 && !service.forward.is_empty() {
                let message =
                    "forward does not work with firewall 'fw4': use a redirect in /etc/config/firewall";
                return Err(Section::service(&name).at("forward", message.to_owned()));
            }
            services.insert(service.name.clone(), config);
        }
        // A file that a full disk has emptied must not open every port.
        if services.is_empty() && gate.firewall != Firewall::Firewall4 {
            let message = "there are no services: add one; to open all ports, stop pkdd and run pkdd clear";
            return Err(Error::new(message.to_owned()));
        }
        let mut warnings = Vec::new();
        let mut users: BTreeMap<String, User> = BTreeMap::new();
        for (name, section) in file.user {
            let user = section.check(&name, names, folder, &services, &mut warnings)?;
            if let Some((other, _)) = users.iter().find(|(_, other)| other.cache == user.cache) {
                return Err(Section::user(&name).at("tag", format!("same tag and key as user \"{other}\"")));
            }
            users.insert(name, user);
        }
        for (name, user) in &users {
            if let Some(new) =
                user.replaced_by.as_ref().filter(|new| *new == name || !users.contains_key(*new))
            {
                let message = format!("unknown user \"{new}\": expected another user, who has the new key");
                return Err(Section::user(name).at("replaced_by", message));
            }
        }
        let now = date::now();
        if users.is_empty() {
            warnings.push("there are no users: nobody can knock".to_owned());
        }
        for (name, _) in users.iter().filter(|(_, user)| user.enabled && !user.is_active(now)) {
            warnings.push(format!("user \"{name}\": expires is in the past: knocks are ignored"));
        }
        Ok(Self { gate, services, users, warnings })
    }

    /// The widest window of all users.
    #[must_use]
    pub fn widest(&self) -> Window {
        self.users.values().map(|user| user.rule.window()).max().unwrap_or_default()
    }

    /// The services that a knock of this user opens.
    pub fn services_of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a ServiceConfig> {
        user.services
            .iter()
            .filter_map(|name| self.services.get(name))
            .filter(|service| service.tags.is_empty() || service.tags.contains(&user.tag))
    }
}
