//! Reading a configuration from flash.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use heapless::String;
use pkd_core::{Key, Tag, UnixSeconds, Window, format2::Bindings};
use smoltcp::wire::EthernetAddress;

use super::{
    Address, Config, ConfigError, Format, HOST_NAME, Host, Inline, Interface, Mode, NAME_LENGTH, NamedServer,
    Network, Pass, Protect, Rule, Service, Services, TimeServer, TimeSource, UpdateKey, Vlans,
    envelope::checked,
    format::{CLASSIC_VERSION, IPV4_VERSION, server, update},
};
use crate::{Endpoint, Protocol};

impl<const RULES: usize> Config<RULES> {
    /// Reads and validates the configuration at the start of `bytes`.
    ///
    /// # Errors
    /// [`ConfigError`] if it must not be used.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let mut config = Self::new();
        config.read(bytes)?;
        Ok(config)
    }

    /// The same, into a new configuration: boards have no stack for a second one. Do not use it after an error.
    ///
    /// # Errors
    /// See [`parse`](Self::parse).
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), ConfigError> {
        let (version, body) = checked(bytes)?;
        let mut reader = Reader(body);
        self.read_fields(&mut reader, version)?;
        if !reader.0.is_empty() {
            return Err(ConfigError::Length);
        }
        self.validate()
    }

    fn read_fields(&mut self, reader: &mut Reader<'_>, version: u16) -> Result<(), ConfigError> {
        self.created = UnixSeconds(u64::from_le_bytes(reader.array()?));
        self.mode = match reader.u8()? {
            0 => Mode::OneArm,
            1 => {
                let vlans = match (reader.u16()?, reader.u16()?) {
                    (0, 0) => None,
                    (outside, inside) => Some(Vlans { outside, inside }),
                };
                Mode::Inline(reader.inline(vlans, version)?)
            }
            _ => return Err(ConfigError::Value),
        };
        self.address = match reader.u8()? {
            0 => Address::Dhcp,
            1 => {
                let network = reader.network()?;
                let router = Some(reader.address()?).filter(|router| !router.is_unspecified());
                Address::Static(Interface { network, router })
            }
            _ => return Err(ConfigError::Value),
        };
        self.knock_port = reader.u16()?;
        let own_count = if version == CLASSIC_VERSION { 0 } else { reader.u8()? };
        for _ in 0..own_count {
            self.own_addresses.push(reader.address()?).map_err(|_| ConfigError::TooMany)?;
        }
        if version > IPV4_VERSION {
            let (address, prefix) = (Ipv6Addr::from(reader.array::<16>()?), reader.u8()?);
            self.address6 = (!address.is_unspecified()).then_some((address, prefix));
            self.grant_prefix = reader.u8()?;
            for _ in 0..reader.u8()? {
                let host = Host { address: reader.ip(version)?, hardware: EthernetAddress(reader.array()?) };
                self.hosts.push(host).map_err(|_| ConfigError::TooMany)?;
            }
        }
        self.answer_ping = reader.bool()?;
        let at = SocketAddrV4::new(reader.address()?, reader.u16()?);
        let interval = reader.u16()?;
        let kind = if version <= IPV4_VERSION { server::ADDRESS } else { reader.u8()? };
        self.time = match (kind, at, interval) {
            (server::ADDRESS, server::NONE, 0) => TimeSource::None,
            (server::ADDRESS, _, 0) => return Err(ConfigError::Value),
            (server::ADDRESS, at, interval) => TimeSource::Sntp(TimeServer { at, interval }),
            (server::DHCP, server::NONE, interval) => TimeSource::Dhcp { interval },
            // Here the address is that of the DNS server.
            (server::NAME, at, interval) => TimeSource::Name(NamedServer {
                name: reader.host_name()?,
                port: at.port(),
                interval,
                dns: Some(*at.ip()).filter(|address| !address.is_unspecified()),
            }),
            _ => return Err(ConfigError::Value),
        };
        self.update = match if version <= IPV4_VERSION { update::NONE } else { reader.u8()? } {
            update::NONE => None,
            kind @ (update::NEWER | update::ANY) => {
                Some(UpdateKey { key: reader.array()?, allow_older: kind == update::ANY })
            }
            _ => return Err(ConfigError::Value),
        };
        self.counters_network = Some(reader.network()?).filter(|network| !network.address.is_unspecified());
        self.counters_port = reader.u16()?;
        for _ in 0..reader.u8()? {
            let name: [u8; NAME_LENGTH] = reader.array()?;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = core::str::from_utf8(name).map_err(|_| ConfigError::Value)?;
            let service = Service {
                name: String::try_from(name).map_err(|_| ConfigError::Value)?,
                protocol: match reader.u8()? {
                    6 => Protocol::Tcp,
                    17 => Protocol::Udp,
                    _ => return Err(ConfigError::Value),
                },
                port: reader.u16()?,
                inside: Endpoint { address: reader.ip(version)?, port: reader.u16()? },
            };
            self.services.push(service).map_err(|_| ConfigError::TooMany)?;
        }
        for _ in 0..reader.u8()? {
            let tag = Tag(reader.array()?);
            let key = Key::from_bytes(reader.array()?);
            let window = Window::from_secs(reader.u32()?);
            let rule = Rule {
                knock: pkd_core::Rule::new(key, tag, window),
                ttl: reader.u32()?,
                services: Services(reader.u32()?),
                format: if version == CLASSIC_VERSION { Format::Classic } else { reader.format()? },
            };
            self.rules.push(rule).map_err(|_| ConfigError::TooMany)?;
        }
        Ok(())
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ConfigError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(ConfigError::Length)?;
        self.0 = rest;
        Ok(*array)
    }

    #[inline(never)] // a fourth of the size
    fn u8(&mut self) -> Result<u8, ConfigError> {
        self.array().map(u8::from_le_bytes)
    }

    #[inline(never)] // a fourth of the size
    fn u16(&mut self) -> Result<u16, ConfigError> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline(never)] // a fourth of the size
    fn u32(&mut self) -> Result<u32, ConfigError> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline(never)] // a fourth of the size
    fn bool(&mut self) -> Result<bool, ConfigError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ConfigError::Value),
        }
    }

    fn format(&mut self) -> Result<Format, ConfigError> {
        match (self.u8()?, Bindings::from_bits(self.u8()?)) {
            (1, Some(Bindings::NONE)) => Ok(Format::Classic),
            (2, Some(require)) => Ok(Format::Format2 { require }),
            _ => Err(ConfigError::Value),
        }
    }

    /// What follows the VLANs. Earlier versions forwarded IPv6 unchecked, which is checked now, or could forward every other
    /// protocol, none of which is forwarded until it is named.
    fn inline(&mut self, vlans: Option<Vlans>, version: u16) -> Result<Inline, ConfigError> {
        let mut pass = Pass::default();
        if version <= IPV4_VERSION {
            let (ipv6, _other) = (self.bool()?, self.bool()?);
            return Ok(Inline { vlans, protect: Protect::Services, ipv6, pass });
        }
        let protect = if self.bool()? { Protect::Services } else { Protect::Host };
        let ipv6 = self.bool()?;
        for ethertype in &mut pass.ethertypes {
            *ethertype = self.u16()?;
        }
        pass.protocols = self.array()?;
        Ok(Inline { vlans, protect, ipv6, pass })
    }

    /// An address of either family, if the version has both.
    #[inline(never)] // a fourth of the size
    fn ip(&mut self, version: u16) -> Result<IpAddr, ConfigError> {
        if version <= IPV4_VERSION {
            return self.address().map(IpAddr::V4);
        }
        self.array::<16>().map(|octets| Ipv6Addr::from(octets).to_canonical())
    }

    fn host_name(&mut self) -> Result<String<HOST_NAME>, ConfigError> {
        let length = self.u8()?;
        let (name, rest) = self.0.split_at_checked(length.into()).ok_or(ConfigError::Length)?;
        self.0 = rest;
        let name = core::str::from_utf8(name).map_err(|_| ConfigError::Value)?;
        String::try_from(name).map_err(|_| ConfigError::Value)
    }

    #[inline(never)] // a fourth of the size
    fn address(&mut self) -> Result<Ipv4Addr, ConfigError> {
        self.array::<4>().map(Ipv4Addr::from)
    }

    fn network(&mut self) -> Result<Network, ConfigError> {
        Ok(Network { address: self.address()?, prefix: self.u8()? })
    }
}
