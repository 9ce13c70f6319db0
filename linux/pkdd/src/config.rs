//! The configuration: one TOML file, checked completely before any of it takes effect.
//!
//! Every error is one line that names the problem.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs,
    num::NonZeroU16,
    ops::RangeInclusive,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use pkd_core::{Key, Rule, Tag, UnixSeconds, Window};
use pktables::{Forward, Invalid, Policy, Port, Protocol, Service, ServiceName};
use serde::{Deserialize, Deserializer};

use crate::{date::Date, journal::CacheId};

/// The range of times in seconds.
const SECONDS: RangeInclusive<i64> = 1..=86_400;

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
    /// Datagrams with a known tag that are checked, per second and source.
    pub rate: u32,
    /// Folder for files that outlive the process but not a reboot.
    pub run: PathBuf,
    /// Folder for files that outlive a reboot.
    pub state: PathBuf,
    /// The shortest time between two writes to `state`.
    pub save: Duration,
    /// The user that the daemon runs as after it was started as root.
    pub user: Option<String>,
    /// A file for the textfile collector of Prometheus' node exporter.
    pub metrics: Option<PathBuf>,
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
    /// Only knocks with these tags open it; empty: all.
    pub tags: Vec<Tag>,
}

/// A section `user`.
#[derive(Clone, Debug)]
pub struct User {
    /// The key, tag and window of the user's knocks.
    pub rule: Rule,
    /// The cache of tag and key.
    pub cache: CacheId,
    /// The services that a knock opens.
    pub services: Vec<ServiceName>,
    /// Whether knocks are accepted at all.
    pub enabled: bool,
    /// The last day on which knocks are accepted.
    pub expires: Option<Date>,
}

impl User {
    /// Whether knocks are accepted now.
    #[must_use]
    pub fn is_active(&self, now: UnixSeconds) -> bool {
        self.enabled && self.expires.is_none_or(|day| now <= day.end())
    }
}

/// A problem, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Quoted values may contain line breaks or terminal control sequences.
        self.0.chars().try_for_each(|letter| {
            if letter.is_control() { write!(f, "{}", letter.escape_default()) } else { f.write_char(letter) }
        })
    }
}

impl std::error::Error for Error {}

/// Removes the value from serde's message about a value of a wrong type: it may be a misplaced key.
fn without_value(message: &str) -> String {
    let is_of_value = message.starts_with("invalid type: ") || message.starts_with("invalid value: ");
    match (message.find(['"', '`']), message.rfind(", expected ")) {
        (Some(value), Some(expected)) if is_of_value && value < expected => {
            format!("{}{}", message[..value].trim_end(), &message[expected..])
        }
        _ => message.to_owned(),
    }
}

macro_rules! wrong {
    ($($text:tt)*) => { Error(format!($($text)*)) };
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    gate: GateSection,
    #[serde(default)]
    service: BTreeMap<String, ServiceSection>,
    #[serde(default)]
    user: BTreeMap<String, UserSection>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GateSection {
    port: Option<i64>,
    firewall: Option<String>,
    group: Option<i64>,
    rate: Option<i64>,
    run: Option<PathBuf>,
    state: Option<PathBuf>,
    save: Option<i64>,
    user: Option<String>,
    metrics: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceSection {
    protocol: Option<String>,
    port: Option<i64>,
    seconds: Option<i64>,
    #[serde(default, deserialize_with = "one_or_more")]
    forward: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserSection {
    enabled: Option<bool>,
    tag: Option<String>,
    key: Option<String>,
    key_file: Option<PathBuf>,
    window: Option<i64>,
    #[serde(default)]
    services: Vec<String>,
    expires: Option<String>,
}

/// A single forward, or a list with one for each address family.
fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    struct Texts;
    impl<'de> serde::de::Visitor<'de> for Texts {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an address and port, or a list of them")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = list.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }
    from.deserialize_any(Texts)
}

impl Config {
    /// Reads the file, and the key files that it names.
    ///
    /// # Errors
    /// The first problem found. No error contains a part of a key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let name = path.display();
        let text = fs::read_to_string(path).map_err(|error| wrong!("cannot read {name}: {error}"))?;
        let mut config = Self::parse(&text, path.parent().unwrap_or(Path::new("/")))
            .map_err(|error| wrong!("{name}{}{error}", if error.0.starts_with(':') { "" } else { ": " }))?;
        let has_keys = text
            .lines()
            .any(|line| line.trim_start().starts_with("key ") || line.trim_start().starts_with("key="));
        if has_keys && is_loose(path) {
            config
                .warnings
                .push(format!("{name} contains a key and is accessible to others: run chmod 600 {name}"));
        }
        Ok(config)
    }

    /// Like [`read`](Self::read), for the text of the file. Key files are relative to `folder`.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Error> {
        let file: File = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let number = 1 + text.get(..start).unwrap_or(text).matches('\n').count();
            let line = text.lines().nth(number - 1).unwrap_or_default();
            // The text that toml would show around it, and the value, might be a key.
            let message = if line.contains("key") {
                without_value(error.message())
            } else {
                error.message().to_owned()
            };
            wrong!(":{number}: {}", message.replace('\n', ", "))
        })?;
        let gate = file.gate.check()?;
        let mut services = BTreeMap::new();
        for (name, section) in file.service {
            let service = section.check(&name)?;
            services.insert(service.service.name.clone(), service);
        }
        let mut warnings = Vec::new();
        let mut users: BTreeMap<String, User> = BTreeMap::new();
        for (name, section) in file.user {
            let user = section.check(&name, folder, &services, &mut warnings)?;
            if let Some((other, _)) = users.iter().find(|(_, other)| other.cache == user.cache) {
                return Err(wrong!("user \"{name}\": same tag and key as user \"{other}\""));
            }
            users.insert(name, user);
        }
        Ok(Self { gate, services, users, warnings })
    }

    /// The widest window of all users.
    #[must_use]
    pub fn widest(&self) -> Window {
        self.users.values().map(|user| user.rule.window).max().unwrap_or_default()
    }

    /// The services that a knock of this user opens.
    pub fn services_of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a ServiceConfig> {
        user.services
            .iter()
            .filter_map(|name| self.services.get(name))
            .filter(|service| service.tags.is_empty() || service.tags.contains(&user.rule.tag))
    }
}

impl GateSection {
    fn check(self) -> Result<Gate, Error> {
        let port = self.port.map(|port| number("gate", "port", port, 1..=65_535)).transpose()?;
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
                return Err(wrong!(
                    "gate: invalid firewall: this pkdd was built for OpenWrt, expected 'fw4'"
                ));
            }
            Some(other) => {
                return Err(wrong!(
                    "gate: invalid firewall \"{other}\": expected auto, nft, iptables or fw4"
                ));
            }
        };
        let folder = |name: &str, value: Option<PathBuf>, default: &str| {
            let path = value.unwrap_or_else(|| default.into());
            if path.is_absolute() {
                Ok(path)
            } else {
                Err(wrong!("gate: invalid {name} \"{}\": expected an absolute path", path.display()))
            }
        };
        Ok(Gate {
            port,
            firewall,
            group: number("gate", "group", self.group.unwrap_or(5_644), 0..=65_535)?,
            rate: number("gate", "rate", self.rate.unwrap_or(20), 1..=1_000_000)?,
            run: folder("run", self.run, "/run/pkdd")?,
            state: folder("state", self.state, "/var/lib/pkdd")?,
            save: Duration::from_secs(number("gate", "save", self.save.unwrap_or(1), SECONDS)?),
            user: self.user,
            metrics: self.metrics.map(|path| folder("metrics", Some(path), "")).transpose()?,
        })
    }
}

impl ServiceSection {
    fn check(self, name: &str) -> Result<ServiceConfig, Error> {
        let section = format!("service \"{name}\"");
        let protocol = match self.protocol.as_deref() {
            None | Some("tcp") => Protocol::Tcp,
            Some("udp") => Protocol::Udp,
            Some(other) => {
                return Err(wrong!("{section}: invalid protocol \"{other}\": expected tcp or udp"));
            }
        };
        let port = self.port.ok_or_else(|| wrong!("{section}: missing port"))?;
        let port = number(&section, "port", port, 1..=65_535).map(NonZeroU16::new)?;
        let port = port.ok_or_else(|| wrong!("{section}: invalid port 0"))?;
        let forward = self
            .forward
            .iter()
            .map(|text| {
                text.parse()
                    .map_err(|error: Invalid| wrong!("{section}: invalid forward \"{text}\": {}", error.why))
            })
            .collect::<Result<Vec<Forward>, _>>()?;
        let tags = self.tags.iter().map(|text| tag(&section, text)).collect::<Result<_, _>>()?;
        Ok(ServiceConfig {
            service: Service {
                name: name.parse().map_err(|error: Invalid| wrong!("{section}: {}", error.why))?,
                protocol,
                port: Port(port),
                only_new: true,
                policy: Policy::Drop,
                log: None,
                forward,
            },
            ttl: Duration::from_secs(number(&section, "seconds", self.seconds.unwrap_or(30), SECONDS)?),
            tags,
        })
    }
}

impl UserSection {
    fn check(
        self,
        name: &str,
        folder: &Path,
        services: &BTreeMap<ServiceName, ServiceConfig>,
        warnings: &mut Vec<String>,
    ) -> Result<User, Error> {
        let section = format!("user \"{name}\"");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.@".contains(c);
        if name.is_empty() || name.len() > 32 || !name.chars().all(is_plain) {
            return Err(wrong!("{section}: invalid name: expected 1–32 letters, digits and _-.@"));
        }
        let tag = match &self.tag {
            Some(text) => tag(&section, text)?,
            None => return Err(wrong!("{section}: missing tag")),
        };
        let key = match (&self.key, &self.key_file) {
            (Some(_), Some(_)) => return Err(wrong!("{section}: key and key_file are both set: remove one")),
            (None, None) => return Err(wrong!("{section}: missing key_file")),
            (Some(text), None) => key(&format!("{section}: invalid key"), text)?,
            (None, Some(file)) => key_in(&section, &folder.join(file), warnings)?,
        };
        if self.services.is_empty() {
            return Err(wrong!("{section}: missing services: a knock would open nothing"));
        }
        let names = self.services.iter().map(|service| {
            let unknown = || wrong!("{section}: unknown service \"{service}\"");
            let parsed: ServiceName = service.parse().map_err(|_| unknown())?;
            services.contains_key(&parsed).then_some(parsed).ok_or_else(unknown)
        });
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let expires = self
            .expires
            .map(|text| {
                text.parse().map_err(|error| wrong!("{section}: invalid expires \"{text}\": {error}"))
            })
            .transpose()?;
        let window = Window::from_secs(number(&section, "window", self.window.unwrap_or(10), 0..=86_400)?);
        Ok(User {
            cache: CacheId::of(tag, &key),
            rule: Rule { key, tag, window },
            services: names,
            enabled: self.enabled.unwrap_or(true),
            expires,
        })
    }
}

fn number<N: TryFrom<i64>>(
    section: &str,
    option: &str,
    value: i64,
    range: RangeInclusive<i64>,
) -> Result<N, Error> {
    let number = range.contains(&value).then(|| N::try_from(value).ok()).flatten();
    number.ok_or_else(|| {
        wrong!("{section}: invalid {option} {value}: expected {}–{}", range.start(), range.end())
    })
}

fn tag(section: &str, text: &str) -> Result<Tag, Error> {
    Tag::parse(text).map_err(|error| wrong!("{section}: invalid tag \"{text}\": {error}"))
}

fn key(what: &str, text: &str) -> Result<Key, Error> {
    if text.contains(['\n', '\r', '\0']) {
        return Err(wrong!("{what}: it contains a line break or a NUL byte"));
    }
    Key::parse(text).map_err(|error| wrong!("{what}: {error}"))
}

fn key_in(section: &str, file: &Path, warnings: &mut Vec<String>) -> Result<Key, Error> {
    let name = file.display();
    let text = fs::read_to_string(file)
        .map_err(|error| wrong!("{section}: cannot read key_file {name}: {error}"))?;
    if is_loose(file) {
        warnings.push(format!("{name} is accessible to others: run chmod 600 {name}"));
    }
    key(&format!("{section}: invalid key in {name}"), text.strip_suffix('\n').unwrap_or(&text))
}

/// Whether others than owner and group have access to a file. The group may be that of the daemon's user.
fn is_loose(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
[service.ssh]
port = 22

[service.web]
protocol = 'tcp'
port = 8443
seconds = 600
forward = '192.168.1.10:443'
tags = ['WEBK']

[user.me]
tag = 'PKD0'
key = 'a good key'
services = ['ssh', 'web']

[user.anna]
tag = 'WEBK'
key = '0x00112233'
window = 0
services = ['web']
expires = '2027-12-31'
enabled = false
";

    fn parse(text: &str) -> Result<Config, Error> {
        Config::parse(text, Path::new("/nowhere"))
    }

    #[test]
    fn omitted_options_have_their_defaults() {
        let config = parse(GOOD).unwrap();
        let Config { gate, services, users, .. } = &config;
        assert_eq!((gate.port, gate.group, gate.rate), (None, 5_644, 20));
        #[cfg(feature = "rules")]
        assert_eq!(gate.firewall, Firewall::Pktables(pktables::Backend::Auto));
        let ssh = &services[&"ssh".parse().unwrap()];
        assert_eq!((ssh.ttl, ssh.service.protocol), (Duration::from_secs(30), Protocol::Tcp));
        let web = &services[&"web".parse().unwrap()];
        assert_eq!((web.ttl, web.tags.len()), (Duration::from_secs(600), 1));
        assert_eq!(users["me"].rule.window, Window::from_secs(10));
        assert_eq!((users["me"].enabled, users["anna"].enabled), (true, false));
        assert_eq!(config.widest(), Window::from_secs(10));
    }

    #[test]
    fn a_service_guards_new_connections_and_drops_those_without_a_grant() {
        let config = parse(GOOD).unwrap();
        let service = |name: &str, port: u16, forward: &[&str]| Service {
            name: name.parse().unwrap(),
            protocol: Protocol::Tcp,
            port: Port(NonZeroU16::new(port).unwrap()),
            only_new: true,
            policy: Policy::Drop,
            log: None,
            forward: forward.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let services: Vec<&Service> = config.services.values().map(|service| &service.service).collect();
        assert_eq!(services, [&service("ssh", 22, &[]), &service("web", 8443, &["192.168.1.10:443"])]);
    }

    #[test]
    fn the_first_and_the_last_of_a_range_are_accepted_and_their_neighbours_are_not() {
        let (longest, one_more) = ("n".repeat(32), "n".repeat(33));
        // text, replacement, whether it is accepted
        let table = [
            ("port = 22", "port = 1", true),
            ("port = 22", "port = 65535", true),
            ("port = 22", "port = 65536", false),
            ("seconds = 600", "seconds = 0", false),
            ("seconds = 600", "seconds = 1", true),
            ("seconds = 600", "seconds = 86400", true),
            ("seconds = 600", "seconds = 86401", false),
            ("window = 0", "window = 86400", true),
            ("window = 0", "window = 86401", false),
            ("[service.ssh]", "[gate]\nport = 65535\n[service.ssh]", true),
            ("[service.ssh]", "[gate]\ngroup = -1\n[service.ssh]", false),
            ("[service.ssh]", "[gate]\ngroup = 0\n[service.ssh]", true),
            ("[service.ssh]", "[gate]\ngroup = 65535\n[service.ssh]", true),
            ("[service.ssh]", "[gate]\nrate = 1\n[service.ssh]", true),
            ("[service.ssh]", "[gate]\nrate = 1000000\n[service.ssh]", true),
            ("[service.ssh]", "[gate]\nrate = 1000001\n[service.ssh]", false),
            ("[service.ssh]", "[gate]\nsave = 0\n[service.ssh]", false),
            ("[service.ssh]", "[gate]\nsave = 1\n[service.ssh]", true),
            ("[service.ssh]", "[gate]\nsave = 86400\n[service.ssh]", true),
            ("[service.ssh]", "[gate]\nsave = 86401\n[service.ssh]", false),
            ("user.me", &format!("user.{longest}"), true),
            ("user.me", &format!("user.{one_more}"), false),
            ("user.me", "user.''", false),
            ("user.me", "user.'a_-.@9'", true),
            ("user.me", "user.'a/b'", false),
        ];
        for (from, to, is_accepted) in table {
            let read = parse(&GOOD.replacen(from, to, 1)).map(drop);
            assert_eq!(read.is_ok(), is_accepted, "{to:?}: {read:?}");
        }
    }

    #[test]
    fn a_knock_opens_the_services_of_its_user_that_accept_its_tag() {
        let config = parse(GOOD).unwrap();
        let opened = |user: &str| {
            config
                .services_of(&config.users[user])
                .map(|service| service.service.name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!((opened("me"), opened("anna")), (vec!["ssh".to_owned()], vec!["web".to_owned()]));
    }

    #[test]
    fn a_user_may_knock_until_the_end_of_the_last_day() {
        let mut user = parse(GOOD).unwrap().users["anna"].clone();
        let end = "2027-12-31".parse::<Date>().unwrap().end();
        assert!(!user.is_active(UnixSeconds(0)), "the user is disabled");
        user.enabled = true;
        assert!(user.is_active(end) && !user.is_active(UnixSeconds(end.0 + 1)));
    }

    #[test]
    fn every_mistake_is_reported_in_one_line() {
        // text, replacement, part of the message
        let table = [
            ("port = 22\n", "port = 70000\n", "service \"ssh\": invalid port 70000: expected 1–65535"),
            ("port = 22\n", "port = 0\n", "service \"ssh\": invalid port 0: expected 1–65535"),
            ("port = 22\n", "", "service \"ssh\": missing port"),
            ("port = 22\n", "port = 22\nprot = 'tcp'\n", ":3: unknown field `prot`"),
            ("port = 22\n", "port = '22'\n", ":2: invalid type: string \"22\", expected i64"),
            ("[service.ssh]", "[service.'s s']", "service \"s s\": expected letters"),
            ("[service.ssh]", "[service.ssh", ":1: "),
            ("'tcp'", "'sctp'", "service \"web\": invalid protocol \"sctp\": expected tcp or udp"),
            ("seconds = 600", "seconds = 86401", "service \"web\": invalid seconds 86401: expected 1–86400"),
            ("'192.168.1.10:443'", "7", ":8: invalid type: integer `7`, expected an address and port"),
            (
                "'192.168.1.10:443'",
                "'192.168.1.10'",
                "service \"web\": invalid forward \"192.168.1.10\": expected ADDRESS:PORT",
            ),
            (
                "'192.168.1.10:443'",
                "'192.168.1.10:0'",
                "service \"web\": invalid forward \"192.168.1.10:0\": port must not be 0",
            ),
            ("tags = ['WEBK']", "tags = ['WEBKK']", "service \"web\": invalid tag \"WEBKK\": "),
            ("tag = 'PKD0'\n", "", "user \"me\": missing tag"),
            ("tag = 'PKD0'\n", "tag = '0xg'\n", "user \"me\": invalid tag \"0xg\": "),
            ("key = 'a good key'\n", "", "user \"me\": missing key_file"),
            ("key = 'a good key'\n", "key = ''\n", "user \"me\": invalid key: "),
            (
                "key = 'a good key'\n",
                "key = 'a'\nkey_file = 'b'\n",
                "user \"me\": key and key_file are both set: remove one",
            ),
            ("key = 'a good key'\n", "key_file = 'b'\n", "user \"me\": cannot read key_file /nowhere/b: "),
            ("services = ['ssh', 'web']\n", "", "user \"me\": missing services"),
            ("['ssh', 'web']", "['ssh', 'vpn']", "user \"me\": unknown service \"vpn\""),
            ("window = 0", "window = -1", "user \"anna\": invalid window -1: expected 0–86400"),
            (
                "'2027-12-31'",
                "'soon'",
                "user \"anna\": invalid expires \"soon\": expected a date such as 2027-12-31",
            ),
            ("[user.me]", "[user.'m e']", "user \"m e\": invalid name"),
            (
                "'WEBK'\nkey = '0x00112233'",
                "'PKD0'\nkey = 'a good key'",
                "user \"me\": same tag and key as user \"anna\"",
            ),
            ("[service.ssh]", "[gate]\nport = 0\n[service.ssh]", "gate: invalid port 0: expected 1–65535"),
            ("[service.ssh]", "[gate]\ngroup = 65536\n[service.ssh]", "gate: invalid group 65536: expected"),
            ("[service.ssh]", "[gate]\nrate = 0\n[service.ssh]", "gate: invalid rate 0: expected"),
            (
                "[service.ssh]",
                "[gate]\nfirewall = 'pf'\n[service.ssh]",
                "gate: invalid firewall \"pf\": expected auto",
            ),
            (
                "[service.ssh]",
                "[gate]\nfirewall = \"p\\nf\\u001b\"\n[service.ssh]",
                "gate: invalid firewall \"p\\nf\\u{1b}\": expected",
            ),
            (
                "[service.ssh]",
                "[gate]\nrun = 'run'\n[service.ssh]",
                "gate: invalid run \"run\": expected an absolute path",
            ),
            ("[service.ssh]", "[gates]\n[service.ssh]", "unknown field `gates`"),
            (
                "[service.ssh]",
                "[service]\nkey = 'a good key'\n[service.ssh]",
                ":2: invalid type: string, expected struct",
            ),
            ("key = 'a good key'", "key = 17", "invalid type: integer, expected a string"),
        ];
        for (from, to, said) in table {
            assert!(GOOD.contains(from), "{from}");
            let error = parse(&GOOD.replacen(from, to, 1)).map(drop).expect_err(to).to_string();
            assert!(error.contains(said) && !error.contains('\n'), "{to:?}: {error:?}, not {said:?}");
            assert!(!error.contains("a good key"), "{error}");
        }
    }

    #[test]
    fn only_a_value_of_a_wrong_type_is_removed_from_a_message() {
        let rows = [
            ("invalid type: string \"k\", expected i64", "invalid type: string, expected i64"),
            ("invalid value: integer `7`, expected a day", "invalid value: integer, expected a day"),
            // The value looks like the end of the message.
            ("invalid type: string \"a, expected b\", expected i64", "invalid type: string, expected i64"),
            ("unknown field `keys`, expected `key`", "unknown field `keys`, expected `key`"),
            ("invalid type: null, expected `key`", "invalid type: null, expected `key`"),
            ("invalid type: string \"k\"", "invalid type: string \"k\""),
            ("missing field `key`", "missing field `key`"),
        ];
        for (message, expected) in rows {
            assert_eq!(without_value(message), expected);
        }
    }

    #[test]
    fn a_key_file_accessible_to_others_causes_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = (folder.path().join("pkdd.toml"), folder.path().join("me.key"));
        fs::write(&key, "0x0011\n").unwrap();
        fs::write(&file, GOOD.replace("key = 'a good key'", "key_file = 'me.key'")).unwrap();
        for (mode, warnings) in [(0o600, 0), (0o640, 0), (0o644, 2)] {
            for path in [&file, &key] {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
            assert_eq!(Config::read(&file).unwrap().warnings.len(), warnings, "{mode:o}");
        }
        fs::write(&file, "[").unwrap();
        let error = Config::read(&file).map(drop).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:1: ", file.display())), "{error}");
    }
}
