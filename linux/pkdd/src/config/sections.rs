//! The sections as they are written, and what is checked in each. TOML and UCI share them.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::User as UnixUser;
use pkd_core::{CacheId, Rule, Tag, Window, format2, format2::Bindings};
use pktables::{Exempt, Forward, Invalid, LeasePrefix, Policy, Protocol, Scope, Service, ServiceName};
#[cfg(feature = "rules")]
use serde::Deserialize;

use super::{
    Firewall, Gate, ServiceConfig, User, UserRule,
    error::{Error, Section},
    keys,
    values::{Flag, Number, WordList},
};

/// The range of times in seconds.
pub(crate) const SECONDS: RangeInclusive<i64> = 1..=86_400;

/// The window of format 2, in seconds. The kernel sorts out datagrams that do not begin as knocks of this time do; without a
/// window or in a wide one, every datagram would have to be looked at.
const FORMAT2_WINDOW: RangeInclusive<i64> = 1..=300;

/// Names of options that differ between TOML and UCI, whose lists repeat an option.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    pub(crate) services: &'static str,
    pub(crate) tags: &'static str,
}

#[cfg(feature = "rules")]
pub(super) const TOML: Names = Names { services: "services", tags: "tags" };

/// A whole configuration.
#[derive(Default)]
#[cfg_attr(feature = "rules", derive(Deserialize), serde(deny_unknown_fields))]
pub(crate) struct File {
    #[cfg_attr(feature = "rules", serde(default))]
    pub(crate) gate: GateSection,
    #[cfg_attr(feature = "rules", serde(default))]
    pub(crate) service: BTreeMap<String, ServiceSection>,
    #[cfg_attr(feature = "rules", serde(default))]
    pub(crate) user: BTreeMap<String, UserSection>,
}

#[derive(Default)]
#[cfg_attr(feature = "rules", derive(Deserialize), serde(deny_unknown_fields))]
pub(crate) struct GateSection {
    pub(crate) port: Option<Number>,
    pub(crate) firewall: Option<String>,
    pub(crate) group: Option<Number>,
    pub(crate) rate: Option<Number>,
    pub(crate) run: Option<PathBuf>,
    pub(crate) state: Option<PathBuf>,
    pub(crate) save: Option<Number>,
    pub(crate) prefix4: Option<Number>,
    pub(crate) prefix6: Option<Number>,
    pub(crate) user: Option<String>,
    pub(crate) metrics: Option<PathBuf>,
    #[cfg_attr(feature = "rules", serde(default, deserialize_with = "super::written::addresses"))]
    pub(crate) address: Vec<String>,
    #[cfg_attr(feature = "rules", serde(default))]
    pub(crate) own_addresses: Vec<String>,
    #[cfg_attr(feature = "rules", serde(default))]
    pub(crate) exempt: Vec<String>,
    #[cfg_attr(feature = "rules", serde(default))]
    pub(crate) interfaces: Vec<String>,
}

#[derive(Default)]
#[cfg_attr(feature = "rules", derive(Deserialize), serde(deny_unknown_fields))]
pub(crate) struct ServiceSection {
    pub(crate) protocol: Option<String>,
    pub(crate) port: Option<WordList>,
    pub(crate) seconds: Option<Number>,
    pub(crate) end_connections: Option<Flag>,
    #[cfg_attr(feature = "rules", serde(default))]
    pub(crate) forward: WordList,
    #[cfg_attr(feature = "rules", serde(default))]
    pub(crate) tags: Vec<String>,
}

#[derive(Default)]
#[cfg_attr(feature = "rules", derive(Deserialize), serde(deny_unknown_fields))]
pub(crate) struct UserSection {
    pub(crate) enabled: Option<Flag>,
    pub(crate) tag: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) window: Option<Number>,
    #[cfg_attr(feature = "rules", serde(default, deserialize_with = "super::written::format_name"))]
    pub(crate) format: Option<String>,
    #[cfg_attr(feature = "rules", serde(default))]
    pub(crate) require: Vec<String>,
    #[cfg_attr(feature = "rules", serde(default))]
    pub(crate) services: Vec<String>,
    #[cfg_attr(feature = "rules", serde(default, deserialize_with = "super::written::date"))]
    pub(crate) expires: Option<String>,
    pub(crate) replaced_by: Option<String>,
}

impl GateSection {
    /// Which packets the services check. A port that is published with DNAT is guarded like a local one.
    pub(super) fn scope(&self) -> Result<Scope, Error> {
        const GATE: Section = Section::GATE;
        let is_set = [("exempt", &self.exempt), ("interfaces", &self.interfaces)];
        if let Some((option, _)) = is_set.iter().find(|(_, list)| !list.is_empty())
            && self.firewall.as_deref() == Some("fw4")
        {
            let message = format!("{option} does not work with firewall 'fw4': its zones decide");
            return Err(GATE.at(option, message));
        }
        let mut scope = Scope::default();
        scope.before_nat = true;
        // What a knock opens is kept apart from what `pktables add` grants by hand.
        scope.leases = true;
        scope.lease_prefix = self.prefix()?;
        for text in &self.interfaces {
            let invalid = |error: Invalid| GATE.invalid("interfaces", text, error.why());
            scope.interfaces.push(text.parse().map_err(invalid)?);
        }
        for text in &self.exempt {
            scope
                .exempt
                .push(text.parse().map_err(|error: Invalid| GATE.invalid("exempt", text, error.why()))?);
        }
        scope.exempt.push(Exempt::loopback());
        Ok(scope)
    }

    /// The networks of senders that grants are for. Shorter prefixes are those of whole providers.
    fn prefix(&self) -> Result<LeasePrefix, Error> {
        let length = |option, value: &Option<Number>, range: RangeInclusive<i64>| {
            let value = value.clone().unwrap_or_else(|| (*range.end()).into());
            number(&Section::GATE, option, &value, range)
        };
        Ok(LeasePrefix {
            v4: length("prefix4", &self.prefix4, 16..=32)?,
            v6: length("prefix6", &self.prefix6, 32..=128)?,
        })
    }

    pub(super) fn check(self) -> Result<Gate, Error> {
        const GATE: Section = Section::GATE;
        let prefix = self.prefix()?;
        let port = self.port.map(|port| number(&GATE, "port", &port, 1..=65_535)).transpose()?;
        let firewall = match self.firewall.as_deref() {
            Some("fw4") => Firewall::Firewall4,
            #[cfg(feature = "rules")]
            None | Some("auto") => Firewall::Pktables(pktables::Backend::Auto),
            #[cfg(feature = "rules")]
            Some("nft") => Firewall::Pktables(pktables::Backend::Nft),
            #[cfg(feature = "rules")]
            Some("iptables") => Firewall::Pktables(pktables::Backend::Iptables),
            #[cfg(not(feature = "rules"))]
            None | Some("auto" | "nft" | "iptables") => {
                let message = "invalid firewall: this pkdd was built for OpenWrt, expected 'fw4'";
                return Err(GATE.at("firewall", message.to_owned()));
            }
            Some(other) => {
                return Err(GATE.invalid("firewall", other, "expected auto, nft, iptables or fw4"));
            }
        };
        let folder = |option: &str, value: Option<PathBuf>, default: &str| {
            let path = value.unwrap_or_else(|| default.into());
            let is_absolute = path.is_absolute();
            let error = || GATE.invalid(option, path.display(), "expected an absolute path");
            if is_absolute { Ok(path) } else { Err(error()) }
        };
        let in_gate = |option, value: Option<Number>, default: i64, range| {
            number::<i64>(&GATE, option, &value.unwrap_or(default.into()), range)
        };
        if self.address.len() > pkd_uri::MAX_ADDRESSES {
            let (given, most) = (self.address.len(), pkd_uri::MAX_ADDRESSES);
            return Err(GATE.at("address", format!("{given} addresses: expected at most {most}")));
        }
        if self.address.iter().any(String::is_empty) {
            return Err(GATE.invalid("address", "", "expected a name or an address"));
        }
        if let Some(user) = &self.user
            && matches!(UnixUser::from_name(user), Ok(None))
        {
            let message = format!("unknown user \"{user}\": create the account, or set another user");
            return Err(GATE.at("user", message));
        }
        Ok(Gate {
            prefix,
            port,
            firewall,
            group: u16::try_from(in_gate("group", self.group, 5_644, 0..=65_535)?).unwrap_or(u16::MAX),
            rate: u32::try_from(in_gate("rate", self.rate, 20, 1..=1_000_000)?).unwrap_or(u32::MAX),
            run: folder("run", self.run, "/run/pkdd")?,
            state: folder("state", self.state, "/var/lib/pkdd")?,
            save: Duration::from_secs(in_gate("save", self.save, 1, SECONDS)?.unsigned_abs()),
            user: self.user,
            own_addresses: self
                .own_addresses
                .iter()
                .map(|text| {
                    let expected = "expected an IPv4 or IPv6 address";
                    text.parse().map_err(|_| GATE.invalid("own_addresses", text, expected))
                })
                .collect::<Result<_, _>>()?,
            addresses: self.address,
            metrics: self.metrics.map(|path| folder("metrics", Some(path), "")).transpose()?,
        })
    }
}

impl ServiceSection {
    pub(super) fn check(self, name: &str, names: Names, scope: &Scope) -> Result<ServiceConfig, Error> {
        let section = Section::service(name);
        let protocol = match self.protocol.as_deref() {
            None | Some("tcp") => Protocol::Tcp,
            Some("udp") => Protocol::Udp,
            Some(other) => return Err(section.invalid("protocol", other, "expected tcp or udp")),
        };
        let ports = self.port.ok_or_else(|| section.missing("port", ""))?.ports(&section)?;
        let mut forward: Vec<Forward> = Vec::new();
        for text in &self.forward.texts() {
            let target = text.parse::<Forward>().and_then(|target| target.of(&ports));
            let target = target.map_err(|error| section.invalid("forward", text, error.why()))?;
            let is_twin = |other: &&Forward| other.host().is_ipv4() == target.host().is_ipv4();
            if let Some(other) = forward.iter().find(is_twin) {
                let message =
                    format!("forward {other} and forward {target} are of one address family: remove one");
                return Err(section.at("forward", message));
            }
            forward.push(target);
        }
        let tags = self.tags.iter().map(|text| tag(&section, names.tags, text)).collect::<Result<_, _>>()?;
        let seconds: u64 = number(&section, "seconds", &self.seconds.unwrap_or(30.into()), SECONDS)?;
        let end_connections =
            self.end_connections.map_or(Ok(false), |flag| flag.check(&section, "end_connections"))?;
        let mut scope = scope.clone();
        scope.tracked = end_connections;
        Ok(ServiceConfig {
            service: Service {
                name: name.parse().map_err(|error: Invalid| section.error(error.why().to_owned()))?,
                protocol,
                ports,
                only_new: true,
                policy: Policy::Drop,
                log: None,
                forward,
                scope,
            },
            ttl: Duration::from_secs(seconds),
            end_connections,
            tags,
        })
    }
}

impl UserSection {
    pub(super) fn check(
        self,
        name: &str,
        names: Names,
        folder: &Path,
        services: &BTreeMap<ServiceName, ServiceConfig>,
        warnings: &mut Vec<String>,
    ) -> Result<User, Error> {
        let section = Section::user(name);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.@".contains(c);
        if name.is_empty() || name.len() > 32 || !name.chars().all(is_plain) {
            let message = "invalid name: expected 1–32 letters, digits and _-.@";
            return Err(section.error(message.to_owned()));
        }
        let tag = match &self.tag {
            Some(text) => tag(&section, "tag", text)?,
            None => return Err(section.missing("tag", "")),
        };
        let key = match (&self.key, &self.key_file) {
            (Some(_), Some(_)) => {
                return Err(section.at("key", "key and key_file are both set: remove one".to_owned()));
            }
            (None, None) => return Err(section.missing("key_file", "")),
            (Some(text), None) => keys::parse(&section, "key", "", text)?,
            (None, Some(file)) => keys::read(&section, &folder.join(file), warnings)?,
        };
        if keys::is_weak(&key) {
            warnings.push(format!(
                "{section}: the key has fewer than {} bytes: make one with knock keygen",
                keys::WEAK
            ));
        }
        if self.services.is_empty() {
            return Err(section.missing(names.services, "a knock would open nothing"));
        }
        let known = self.services.iter().map(|service| {
            let unknown = || section.at(names.services, format!("unknown service \"{service}\""));
            let parsed: ServiceName = service.parse().map_err(|_| unknown())?;
            services.contains_key(&parsed).then_some(parsed).ok_or_else(unknown)
        });
        let known = known.collect::<Result<Vec<_>, _>>()?;
        let expires =
            self.expires.map(|text| text.parse().map_err(|error| section.invalid("expires", &text, error)));
        let window = self.window.unwrap_or(10.into());
        let require = require(&section, &self.require)?;
        let (rule, cache) = match self.format.as_deref() {
            None | Some("2") => {
                let window = Window::from_secs(number(&section, "window", &window, FORMAT2_WINDOW)?);
                let rule = format2::Rule::new(&key, tag, window, require);
                (UserRule::Format2(Box::new(rule)), CacheId::format2(tag, &key))
            }
            Some("classic") if !self.require.is_empty() => {
                return Err(section.at("require", "require needs format \"2\"".to_owned()));
            }
            Some("classic") => {
                let window = Window::from_secs(number(&section, "window", &window, 0..=86_400)?);
                let cache = CacheId::classic(tag, &key);
                (UserRule::Classic(Rule::new(key.clone(), tag, window)), cache)
            }
            Some(other) => return Err(section.invalid("format", other, "expected 2 or classic")),
        };
        Ok(User {
            cache,
            rule,
            tag,
            key,
            require,
            services: known,
            enabled: self.enabled.map_or(Ok(true), |flag| flag.check(&section, "enabled"))?,
            expires: expires.transpose()?,
            replaced_by: self.replaced_by,
        })
    }
}

/// The addresses that knocks have to be bound to.
fn require(section: &Section, names: &[String]) -> Result<Bindings, Error> {
    names.iter().try_fold(Bindings::NONE, |bindings, name| match name.as_str() {
        "source" => Ok(bindings | Bindings::SOURCE),
        "destination" => Ok(bindings | Bindings::DESTINATION),
        _ => Err(section.invalid("require", name, "expected source or destination")),
    })
}

/// A number of a range.
fn number<N: TryFrom<i64>>(
    section: &Section,
    option: &str,
    value: &Number,
    range: RangeInclusive<i64>,
) -> Result<N, Error> {
    let number = value.get().filter(|number| range.contains(number)).and_then(|n| N::try_from(n).ok());
    number.ok_or_else(|| {
        let expected = format!("expected {}–{}", range.start(), range.end());
        section.at(option, format!("invalid {option} {value}: {expected}"))
    })
}

fn tag(section: &Section, option: &str, text: &str) -> Result<Tag, Error> {
    Tag::parse(text).map_err(|error| section.at(option, format!("invalid tag \"{text}\": {error}")))
}
