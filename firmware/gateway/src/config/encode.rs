//! Writing a configuration.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use super::{
    Address, CONFIG_LIMIT, Config, ConfigError, Format, HEADER_LENGTH, Host, Inline, Interface, MAGIC, Mode,
    NAME_LENGTH, NamedServer, Network, Protect, TimeServer, TimeSource, UpdateKey, VERSION, Vlans,
    format::{server, update},
};
use crate::{Protocol, checksum::Crc32};

impl<const RULES: usize> Config<RULES> {
    /// Validates the configuration and writes it to the start of `bytes`. Returns its length.
    ///
    /// # Errors
    /// The errors of [`parse`](Self::parse), and [`ConfigError::Length`] if `bytes` is too short.
    pub fn emit(&self, bytes: &mut [u8]) -> Result<usize, ConfigError> {
        self.validate()?;
        let capacity = bytes.len().min(CONFIG_LIMIT);
        let (head, rest) = bytes
            .get_mut(..capacity)
            .and_then(|all| all.split_first_chunk_mut::<HEADER_LENGTH>())
            .ok_or(ConfigError::Length)?;
        let mut writer = Writer { bytes: rest, written: 0 };
        self.write(&mut writer)?;
        let written = writer.written;
        let length = HEADER_LENGTH + written;
        let mut begin = Writer { bytes: head, written: 0 };
        begin.put(&MAGIC)?;
        begin.put(&VERSION.to_le_bytes())?;
        begin.put(&u16::try_from(length).map_err(|_| ConfigError::Length)?.to_le_bytes())?;
        let crc = Crc32::new()
            .update(begin.bytes.get(..8).unwrap_or_default())
            .update(rest.get(..written).unwrap_or_default())
            .finish();
        begin.put(&crc.to_le_bytes())?;
        Ok(length)
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), ConfigError> {
        writer.put(&self.created.0.to_le_bytes())?;
        match self.mode {
            Mode::OneArm => writer.put(&[0])?,
            Mode::Inline(Inline { vlans, protect, ipv6, pass }) => {
                let vlans = vlans.unwrap_or(Vlans { outside: 0, inside: 0 });
                writer.put(&[1])?;
                writer.put(&vlans.outside.to_le_bytes())?;
                writer.put(&vlans.inside.to_le_bytes())?;
                writer.put(&[u8::from(protect == Protect::Services), ipv6.into()])?;
                for ethertype in pass.ethertypes {
                    writer.put(&ethertype.to_le_bytes())?;
                }
                writer.put(&pass.protocols)?;
            }
        }
        match self.address {
            Address::Dhcp => writer.put(&[0])?,
            Address::Static(Interface { network, router }) => {
                writer.put(&[1])?;
                writer.network(network)?;
                writer.put(&router.unwrap_or(Ipv4Addr::UNSPECIFIED).octets())?;
            }
        }
        writer.put(&self.knock_port.to_le_bytes())?;
        writer.count(self.own_addresses.len())?;
        for address in &self.own_addresses {
            writer.put(&address.octets())?;
        }
        let (address6, prefix6) = self.address6.unwrap_or((Ipv6Addr::UNSPECIFIED, 0));
        writer.put(&address6.octets())?;
        writer.put(&[prefix6, self.grant_prefix])?;
        writer.count(self.hosts.len())?;
        for Host { address, hardware } in &self.hosts {
            writer.address(*address)?;
            writer.put(&hardware.0)?;
        }
        writer.put(&[self.answer_ping.into()])?;
        let (kind, at) = match &self.time {
            TimeSource::None => (server::ADDRESS, server::NONE),
            TimeSource::Sntp(TimeServer { at, .. }) => (server::ADDRESS, *at),
            TimeSource::Dhcp { .. } => (server::DHCP, server::NONE),
            TimeSource::Name(NamedServer { port, dns, .. }) => {
                let address = dns.unwrap_or(Ipv4Addr::UNSPECIFIED);
                (server::NAME, SocketAddrV4::new(address, *port))
            }
        };
        writer.put(&at.ip().octets())?;
        writer.put(&at.port().to_le_bytes())?;
        writer.put(&self.time.interval().to_le_bytes())?;
        writer.put(&[kind])?;
        if let TimeSource::Name(NamedServer { name, .. }) = &self.time {
            writer.count(name.len())?;
            writer.put(name.as_bytes())?;
        }
        match self.update {
            None => writer.put(&[update::NONE])?,
            Some(UpdateKey { key, allow_older }) => {
                writer.put(&[if allow_older { update::ANY } else { update::NEWER }])?;
                writer.put(&key)?;
            }
        }
        writer.network(
            self.counters_network.unwrap_or(Network { address: Ipv4Addr::UNSPECIFIED, prefix: 0 }),
        )?;
        writer.put(&self.counters_port.to_le_bytes())?;
        writer.count(self.services.len())?;
        for service in &self.services {
            let mut name = [0; NAME_LENGTH];
            name.iter_mut().zip(service.name.bytes()).for_each(|(slot, byte)| *slot = byte);
            writer.put(&name)?;
            writer.put(&[match service.protocol {
                Protocol::Tcp => 6,
                Protocol::Udp => 17,
            }])?;
            writer.put(&service.port.to_le_bytes())?;
            writer.address(service.inside.address)?;
            writer.put(&service.inside.port.to_le_bytes())?;
        }
        writer.count(self.rules.len())?;
        for rule in &self.rules {
            writer.put(&rule.knock.tag().0)?;
            writer.put(rule.knock.key().as_bytes())?;
            writer.put(&rule.knock.window().as_secs().to_le_bytes())?;
            writer.put(&rule.ttl.to_le_bytes())?;
            writer.put(&rule.services.0.to_le_bytes())?;
            writer.put(&match rule.format {
                Format::Classic => [1, 0],
                Format::Format2 { require } => [2, require.bits()],
            })?;
        }
        Ok(())
    }
}

struct Writer<'a> {
    bytes: &'a mut [u8],
    written: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), ConfigError> {
        let end = self.written + bytes.len();
        self.bytes.get_mut(self.written..end).ok_or(ConfigError::Length)?.copy_from_slice(bytes);
        self.written = end;
        Ok(())
    }

    /// As 16 bytes. IPv4 addresses are mapped.
    fn address(&mut self, address: IpAddr) -> Result<(), ConfigError> {
        self.put(&match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        })
    }

    fn network(&mut self, network: Network) -> Result<(), ConfigError> {
        self.put(&network.address.octets())?;
        self.put(&[network.prefix])
    }

    fn count(&mut self, count: usize) -> Result<(), ConfigError> {
        self.put(&[u8::try_from(count).map_err(|_| ConfigError::TooMany)?])
    }
}
