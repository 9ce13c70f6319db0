//! The TOML file.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use pkd_core::{Key, Tag, UnixSeconds, Window, format2::Bindings};
use pkd_gateway::{
    Address, Config, Endpoint, Format, HOST_NAME, HOSTS, Interface, Mode, NamedServer, Network,
    OWN_ADDRESSES, Protocol, RULES, Rule, SERVICES, Service, Services, TimeServer, TimeSource, UpdateKey,
    sntp,
};
use serde::Deserialize;

use crate::{
    hex,
    inline::{HostTable, InlineTable},
    key_file,
};

/// The whole file. Unknown keys are errors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    board: Option<String>,
    mode: ModeName,
    address: String,
    router: Option<Ipv4Addr>,
    address6: Option<String>,
    #[serde(default = "whole")]
    grant_prefix6: u8,
    knock_port: u16,
    #[serde(default)]
    own_addresses: Vec<Ipv4Addr>,
    #[serde(default)]
    echo: bool,
    #[serde(default)]
    time: TimeTable,
    counters: Option<Counters>,
    update: Option<UpdateTable>,
    inline: Option<InlineTable>,
    #[serde(default)]
    host: Vec<HostTable>,
    #[serde(default)]
    service: Vec<ServiceTable>,
    #[serde(default)]
    rule: Vec<RuleTable>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ModeName {
    OneArm,
    Inline,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeTable {
    server: Option<String>,
    dns: Option<Ipv4Addr>,
    port: Option<u16>,
    every: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counters {
    port: u16,
    from: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateTable {
    key: String,
    #[serde(default)]
    allow_older: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceTable {
    name: String,
    protocol: ProtocolName,
    port: Option<u16>,
    inside: SocketAddr,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProtocolName {
    Tcp,
    Udp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    tag: String,
    key_file: PathBuf,
    #[serde(default)]
    format: FormatName,
    #[serde(default)]
    require: Vec<BindingName>,
    #[serde(default = "default_window")]
    window: u32,
    #[serde(default = "default_ttl")]
    ttl: u32,
    services: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
enum FormatName {
    #[default]
    #[serde(rename = "2")]
    Format2,
    #[serde(rename = "classic")]
    Classic,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BindingName {
    Source,
    Destination,
}

fn default_window() -> u32 {
    Window::default().as_secs()
}

/// The default time for new connections after a knock, in seconds.
fn default_ttl() -> u32 {
    60
}

/// Parses the TOML. [`File::resolve`] checks the values.
pub(crate) fn parse(text: &str) -> Result<File> {
    Ok(toml::from_str(text)?)
}

impl File {
    /// The name of the board that it is for.
    pub(crate) fn board(&self) -> Option<&str> {
        self.board.as_deref()
    }

    /// Converts the file to a configuration. Paths of key files are relative to `folder`.
    pub(crate) fn resolve(&self, folder: &Path, created: UnixSeconds) -> Result<Config<RULES>> {
        ensure!(self.own_addresses.len() <= OWN_ADDRESSES, "too many own_addresses: at most {OWN_ADDRESSES}");
        let mut config = Config {
            created,
            mode: self.mode()?,
            address: self.address()?,
            knock_port: self.knock_port,
            own_addresses: self.own_addresses.iter().copied().collect(),
            answer_ping: self.echo,
            time: self.time.resolve(&self.address()?)?,
            update: self.update.as_ref().map(UpdateTable::resolve).transpose()?,
            counters_network: self
                .counters
                .as_ref()
                .and_then(|counters| counters.from.as_deref())
                .map(network)
                .transpose()?,
            counters_port: self.counters.as_ref().map_or(0, |counters| counters.port),
            address6: self.address6.as_deref().map(network6).transpose()?,
            grant_prefix: self.grant_prefix6,
            hosts: heapless::Vec::new(),
            services: heapless::Vec::new(),
            rules: heapless::Vec::new(),
        };
        ensure!(
            matches!(self.grant_prefix6, 64 | 128),
            "invalid grant_prefix6 {}: expected 128, or 64 for the sender's whole network",
            self.grant_prefix6
        );
        for table in &self.host {
            let is_known = self.service.iter().any(|service| service.inside.ip() == table.address());
            ensure!(is_known, "host {}: no service is at this address", table.address());
            config.hosts.push(table.resolve()?).map_err(|_| anyhow!("too many hosts: at most {HOSTS}"))?;
        }
        for table in &self.service {
            let service = table.resolve().with_context(|| format!("service {}", table.name))?;
            config.services.push(service).map_err(|_| anyhow!("too many services: at most {SERVICES}"))?;
        }
        for table in &self.rule {
            let rule = table.resolve(folder, &self.service).with_context(|| format!("rule {}", table.tag))?;
            config.rules.push(rule).map_err(|_| anyhow!("too many rules: at most {RULES}"))?;
        }
        Ok(config)
    }

    fn mode(&self) -> Result<Mode> {
        let table = match (&self.mode, &self.inline) {
            (ModeName::OneArm, None) => return Ok(Mode::OneArm),
            (ModeName::OneArm, Some(_)) => bail!("[inline] requires mode = \"inline\""),
            (ModeName::Inline, None) => &InlineTable::default(),
            (ModeName::Inline, Some(table)) => table,
        };
        Ok(Mode::Inline(table.resolve()?))
    }

    fn address(&self) -> Result<Address> {
        if self.address == "dhcp" {
            ensure!(self.router.is_none(), "router: not allowed with address = \"dhcp\"");
            return Ok(Address::Dhcp);
        }
        Ok(Address::Static(Interface { network: network(&self.address)?, router: self.router }))
    }
}

impl TimeTable {
    fn resolve(&self, address: &Address) -> Result<TimeSource> {
        let Some(server) = self.server.as_deref() else {
            ensure!(
                self.dns.is_none() && self.port.is_none() && self.every.is_none(),
                "[time]: missing server"
            );
            return Ok(TimeSource::None);
        };
        let (port, interval) = (self.port.unwrap_or(sntp::SERVER_PORT), self.every.unwrap_or(64));
        let unused_dns = "[time]: dns is needed only for a server that has a name, and only without DHCP";
        if server == "dhcp" {
            ensure!(*address == Address::Dhcp, "[time]: server = \"dhcp\" requires address = \"dhcp\"");
            ensure!(self.dns.is_none(), unused_dns);
            ensure!(self.port.is_none(), "[time]: remove port: DHCP names servers without one");
            return Ok(TimeSource::Dhcp { interval });
        }
        if let Ok(address) = server.parse() {
            ensure!(self.dns.is_none(), unused_dns);
            return Ok(TimeSource::Sntp(TimeServer { at: SocketAddrV4::new(address, port), interval }));
        }
        let name = heapless::String::try_from(server)
            .map_err(|_| anyhow!("[time]: server name is longer than {HOST_NAME} bytes"))?;
        let dns = match address {
            Address::Dhcp => {
                ensure!(self.dns.is_none(), unused_dns);
                None
            }
            // Most routers of small networks are DNS servers, too.
            Address::Static(interface) => Some(self.dns.or(interface.router).with_context(|| {
                format!("[time]: nothing can resolve {server}: add dns, or router, or use an address")
            })?),
        };
        Ok(TimeSource::Name(NamedServer { name, port, interval, dns }))
    }
}

impl UpdateTable {
    fn resolve(&self) -> Result<UpdateKey> {
        let key =
            hex::parse(&self.key).context("[update]: key: expected the 64 digits that keygen prints")?;
        Ok(UpdateKey { key, allow_older: self.allow_older })
    }
}

impl ServiceTable {
    fn resolve(&self) -> Result<Service> {
        Ok(Service {
            name: heapless::String::try_from(self.name.as_str())
                .map_err(|_| anyhow!("name is longer than 16 bytes"))?,
            protocol: match self.protocol {
                ProtocolName::Tcp => Protocol::Tcp,
                ProtocolName::Udp => Protocol::Udp,
            },
            port: self.port.unwrap_or(self.inside.port()),
            inside: Endpoint { address: self.inside.ip(), port: self.inside.port() },
        })
    }
}

impl RuleTable {
    fn resolve(&self, folder: &Path, services: &[ServiceTable]) -> Result<Rule> {
        let path = folder.join(&self.key_file);
        let context = || path.display().to_string();
        let text = key_file::read(&path)?;
        let mut opens = Services::NONE;
        for name in &self.services {
            let index = services.iter().position(|service| service.name == *name);
            let index = index.with_context(|| format!("unknown service \"{name}\""))?;
            opens = opens.with(u8::try_from(index)?);
        }
        let key = Key::parse(text.trim_end_matches(['\n', '\r'])).with_context(context)?;
        let tag = Tag::parse(&self.tag).context("tag")?;
        let knock = pkd_core::Rule::new(key, tag, Window::from_secs(self.window));
        Ok(Rule { knock, format: self.format()?, ttl: self.ttl, services: opens })
    }

    fn format(&self) -> Result<Format> {
        if self.format == FormatName::Classic {
            ensure!(
                self.require.is_empty(),
                "format = \"classic\" cannot be bound to addresses: remove require, or use format = \"2\""
            );
            return Ok(Format::Classic);
        }
        let bindings = self.require.iter().map(|name| match name {
            BindingName::Source => Bindings::SOURCE,
            BindingName::Destination => Bindings::DESTINATION,
        });
        Ok(Format::Format2 { require: bindings.fold(Bindings::NONE, |all, one| all | one) })
    }
}

/// The default length of the prefix of an IPv6 address that a grant is for.
fn whole() -> u8 {
    128
}

/// Parses an address of IPv6 and its prefix length, such as `2001:db8::9/64`.
fn network6(text: &str) -> Result<(Ipv6Addr, u8)> {
    let (address, prefix) = text
        .split_once('/')
        .with_context(|| format!("address6 {text}: missing prefix length, for example /64"))?;
    let prefix: u8 = prefix.parse().with_context(|| format!("address6 {text}: invalid prefix length"))?;
    ensure!(prefix <= 128, "address6 {text}: invalid prefix length: expected 0–128");
    Ok((address.parse().with_context(|| format!("address6 {text}"))?, prefix))
}

/// Parses a network such as `192.168.1.9/24`.
fn network(text: &str) -> Result<Network> {
    let (address, prefix) =
        text.split_once('/').with_context(|| format!("{text}: missing prefix length, for example /24"))?;
    let network = Network {
        address: address.parse().with_context(|| address.to_owned())?,
        prefix: prefix.parse().with_context(|| prefix.to_owned())?,
    };
    ensure!(network.prefix <= 32, "{text}: invalid prefix length: expected 0–32");
    Ok(network)
}
