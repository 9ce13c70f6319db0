//! Reading a configuration from flash.

use core::net::Ipv4Addr;

use heapless::String;
use pkd_core::{Key, Tag, UnixSeconds, Window, format2::Bindings};

use super::{
    Address, Config, ConfigError, Format, Inline, Interface, Mode, NAME_LENGTH, Network, Pass, Rule, Service,
    Services, TimeServer, TimeSource, Vlans, envelope::checked, format::CLASSIC_VERSION,
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
                Mode::Inline(Inline { vlans, pass: Pass { ipv6: reader.bool()?, other: reader.bool()? } })
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
        self.answer_ping = reader.bool()?;
        let at = Endpoint { address: reader.address()?, port: reader.u16()? };
        self.time = match (at, reader.u16()?) {
            (Endpoint { address: Ipv4Addr::UNSPECIFIED, port: 0 }, 0) => TimeSource::None,
            (_, 0) => return Err(ConfigError::Value),
            (at, interval) => TimeSource::Sntp(TimeServer { at, interval }),
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
                inside: Endpoint { address: reader.address()?, port: reader.u16()? },
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

    fn u8(&mut self) -> Result<u8, ConfigError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, ConfigError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, ConfigError> {
        self.array().map(u32::from_le_bytes)
    }

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

    fn address(&mut self) -> Result<Ipv4Addr, ConfigError> {
        self.array::<4>().map(Ipv4Addr::from)
    }

    fn network(&mut self) -> Result<Network, ConfigError> {
        Ok(Network { address: self.address()?, prefix: self.u8()? })
    }
}
