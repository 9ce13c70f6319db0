//! What the owner decides, as it lies in flash.
//!
//! ```text
//! offset  bytes  field, numbers little endian
//!      0      4  "PKDg"
//!      4      2  version
//!      6      2  length of all, these eight bytes included
//!      8      4  CRC-32 of all but these four bytes
//!     12      8  when it was made, Unix seconds
//!     20         the rest, field by field, as `Config::emit` writes them
//! ```

use core::{fmt, net::Ipv4Addr};

use heapless::{String, Vec};
use pkd_core::{Key, Tag, UnixSeconds, Window};

use crate::{Endpoint, Protocol, checksum::Crc32};

/// The version that this library reads and writes.
pub const VERSION: u16 = 1;
/// Services of a gateway: one bit each in a grant.
pub const SERVICES: usize = 32;
/// Bytes that a configuration has at most.
pub const CONFIG_LIMIT: usize = 4_096;

const MAGIC: [u8; 4] = *b"PKDg";
/// Bytes before those that the configuration is read from.
const HEADER_LENGTH: usize = 12;
const NAME_LENGTH: usize = 16;

/// A set of services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Services(u32);

impl Services {
    /// None.
    pub const NONE: Self = Self(0);

    /// These and one more.
    #[must_use]
    pub fn with(self, service: u8) -> Self {
        Self(self.0 | 1_u32.checked_shl(service.into()).unwrap_or(0))
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn contains(self, service: u8) -> bool {
        self.0.checked_shr(service.into()).is_some_and(|bits| bits & 1 == 1)
    }
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// An address in it.
    pub address: Ipv4Addr,
    /// Bits that all its addresses share; at most 32.
    pub prefix: u8,
}

impl Network {
    /// Whether the address is in it.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let host_bits = 32_u32.saturating_sub(self.prefix.into());
        let differ = u32::from(self.address) ^ u32::from(address);
        differ.checked_shr(host_bits).unwrap_or(0) == 0
    }
}

/// The gateway's own address and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Own address, and the bits of its network.
    pub network: Network,
    /// The router to all others.
    pub router: Option<Ipv4Addr>,
}

/// Where the own address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// The network's DHCP server.
    Dhcp,
    /// The owner.
    Static(Interface),
}

/// Where the time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// Nowhere: every rule has the window 0.
    None,
    /// A time server.
    Sntp(TimeServer),
}

/// A time server, and how often it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeServer {
    /// Most listen at [`sntp::SERVER_PORT`](crate::sntp::SERVER_PORT).
    pub at: Endpoint,
    /// Seconds between two questions, at least 1. A public server wants 15 or more (RFC 4330, section 10).
    pub interval: u16,
}

/// How the gateway lies in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One interface; services are reached at the gateway's own address.
    OneArm,
    /// Two sides, and a bridge between them.
    Inline(Inline),
}

/// What an inline gateway needs to know besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inline {
    /// The two sides where they share a NIC; `None`: two NICs.
    pub vlans: Option<Vlans>,
    /// What passes unjudged.
    pub pass: Pass,
}

/// The two sides of a trunk (802.1Q).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlans {
    /// Of the strangers, 1 to 4,094.
    pub outside: u16,
    /// Of the protected hosts, another one.
    pub inside: u16,
}

/// Protocols that an inline gateway cannot judge. A host that listens on one of them is not protected there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// IPv6.
    pub ipv6: bool,
    /// Neither IPv4, IPv6 nor ARP.
    pub other: bool,
}

/// What is reached by who has knocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// For people; at most 16 bytes.
    pub name: String<NAME_LENGTH>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port of the gateway, one-arm; inline it is that of the host.
    pub port: u16,
    /// The host.
    pub inside: Endpoint,
}

/// A key, and what it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The shared secret.
    pub key: Key,
    /// The knocks that this rule looks at.
    pub tag: Tag,
    /// How far the sender's clock may be off.
    pub window: Window,
    /// Seconds that an address may begin flows for.
    pub ttl: u32,
    /// What it opens.
    pub services: Services,
}

/// All of it, with up to `RULES` rules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Config<const RULES: usize> {
    /// When it was made: no time server tells an earlier time and is believed.
    pub created: UnixSeconds,
    /// One-arm or inline.
    pub mode: Mode,
    /// The own address.
    pub address: Address,
    /// The UDP port of knocks.
    pub knock_port: u16,
    /// Whether the own address answers pings.
    pub answer_ping: bool,
    /// Where the time comes from.
    pub time: TimeSource,
    /// The network that may read the counters; inline it must be on the inside besides.
    pub counters_network: Option<Network>,
    /// The port that they are read at, TCP (HTTP) and UDP; 0: none.
    pub counters_port: u16,
    /// What may be reached.
    pub services: Vec<Service, SERVICES>,
    /// Who may reach it.
    pub rules: Vec<Rule, RULES>,
}

/// Why a configuration is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The flash is erased there.
    Missing,
    /// It does not begin as a configuration does.
    Magic,
    /// A later library made it, with this version.
    Newer(u16),
    /// Its length cannot be, or there are bytes left over or too few.
    Length,
    /// Its CRC does not hold: it was not written whole, or has changed.
    Crc,
    /// A number stands for nothing.
    Value,
    /// More services or rules than fit.
    TooMany,
    /// Two services have the same port, or one has that of knocks, counters, or of the gateway's own needs.
    Port,
    /// An inside host is the gateway itself, or does not lie in its network.
    Host,
    /// Two rules have the same tag and key, so that the second would never accept.
    SameKey,
    /// A rule opens a service that is not there, or none.
    Service,
    /// A window without a time source, or one beyond a day.
    Window,
    /// A trunk's VLANs are the same, or none that can be.
    Vlan,
    /// A ttl of nothing.
    Ttl,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there is no configuration",
            Self::Magic => "this is no configuration",
            Self::Newer(version) => {
                return write!(f, "it has version {version}, and {VERSION} is the newest known here");
            }
            Self::Length => "its length is wrong",
            Self::Crc => "its CRC is wrong",
            Self::Value => "a value stands for nothing",
            Self::TooMany => "there are too many services or rules",
            Self::Port => "two services share a port, or one has a port that the gateway itself needs",
            Self::Host => "an inside host is the gateway, or outside its network",
            Self::SameKey => "two rules have the same tag and key",
            Self::Service => "a rule opens no service, or one that is not there",
            Self::Window => "a window is over a day, or not 0 without a time server",
            Self::Vlan => "the VLANs are the same, or not within 1 to 4094",
            Self::Ttl => "a ttl is 0",
        })
    }
}

/// The widest window; also what a knock's floor may lie ahead of the clock.
const WINDOW_LIMIT: u32 = 86_400;

impl<const RULES: usize> Config<RULES> {
    /// Reads a configuration at the start of `bytes`, and checks it.
    ///
    /// # Errors
    /// [`ConfigError`]: nothing of it may be used.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let head = bytes.first_chunk::<HEADER_LENGTH>().ok_or(ConfigError::Length)?;
        if head.iter().all(|byte| *byte == 0xff) || head.iter().all(|byte| *byte == 0) {
            return Err(ConfigError::Missing);
        }
        let mut reader = Reader(head);
        if reader.array::<4>()? != MAGIC {
            return Err(ConfigError::Magic);
        }
        let version = reader.u16()?;
        let length = usize::from(reader.u16()?);
        let crc = reader.u32()?;
        if version > VERSION {
            return Err(ConfigError::Newer(version));
        }
        if version == 0 || length > CONFIG_LIMIT {
            return Err(ConfigError::Length);
        }
        let body = bytes.get(HEADER_LENGTH..length).ok_or(ConfigError::Length)?;
        let begin = head.split_last_chunk::<4>().map(|(begin, _crc)| begin).unwrap_or_default();
        if Crc32::new().update(begin).update(body).finish() != crc {
            return Err(ConfigError::Crc);
        }
        let mut reader = Reader(body);
        let config = Self::read(&mut reader)?;
        if !reader.0.is_empty() {
            return Err(ConfigError::Length);
        }
        config.check()?;
        Ok(config)
    }

    /// Writes it to the start of `bytes`, and gives its length.
    ///
    /// # Errors
    /// As [`parse`](Self::parse) would give them, and [`ConfigError::Length`] if it does not fit.
    pub fn emit(&self, bytes: &mut [u8]) -> Result<usize, ConfigError> {
        self.check()?;
        let room = bytes.len().min(CONFIG_LIMIT);
        let (head, rest) = bytes
            .get_mut(..room)
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

    /// The widest window of all rules.
    pub(crate) fn widest_window(&self) -> Window {
        self.rules.iter().map(|rule| rule.window).max().unwrap_or(Window::NO_CLOCK)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if let Mode::Inline(Inline { vlans: Some(Vlans { outside, inside }), .. }) = self.mode {
            let possible = 1..4_095;
            if outside == inside || !possible.contains(&outside) || !possible.contains(&inside) {
                return Err(ConfigError::Vlan);
            }
        }
        for network in self.counters_network.iter().chain(match &self.address {
            Address::Static(interface) => Some(&interface.network),
            Address::Dhcp => None,
        }) {
            if network.prefix > 32 {
                return Err(ConfigError::Value);
            }
        }
        if matches!(self.time, TimeSource::Sntp(TimeServer { interval: 0, .. })) {
            return Err(ConfigError::Value);
        }
        for (row, service) in self.services.iter().enumerate() {
            self.check_service(row, service)?;
        }
        let known = (0..).take(self.services.len()).fold(Services::NONE, Services::with);
        for (row, rule) in self.rules.iter().enumerate() {
            if rule.ttl == 0 {
                return Err(ConfigError::Ttl);
            }
            if rule.services == Services::NONE || rule.services.0 & !known.0 != 0 {
                return Err(ConfigError::Service);
            }
            let clockless = rule.window == Window::NO_CLOCK;
            if rule.window.as_secs() > WINDOW_LIMIT || (self.time == TimeSource::None && !clockless) {
                return Err(ConfigError::Window);
            }
            if self.rules.iter().take(row).any(|other| other.tag == rule.tag && other.key == rule.key) {
                return Err(ConfigError::SameKey);
            }
        }
        Ok(())
    }

    fn check_service(&self, row: usize, service: &Service) -> Result<(), ConfigError> {
        let flows = crate::flow::NAT_PORT_FIRST..crate::flow::NAT_PORT_FIRST + crate::flow::NAT_PORT_COUNT;
        let needed = match service.protocol {
            Protocol::Tcp => &[self.counters_port][..],
            Protocol::Udp => &[self.counters_port, self.knock_port, 68, crate::sntp::CLIENT_PORT],
        };
        let one_arm = self.mode == Mode::OneArm;
        if service.port == 0 || service.inside.port == 0 || needed.contains(&service.port) {
            return Err(ConfigError::Port);
        }
        if one_arm && flows.contains(&service.port) {
            return Err(ConfigError::Port);
        }
        if !one_arm && service.port != service.inside.port {
            return Err(ConfigError::Port);
        }
        let same = |other: &Service| {
            other.protocol == service.protocol
                && other.port == service.port
                && (one_arm || other.inside.address == service.inside.address)
        };
        if self.services.iter().take(row).any(same) {
            return Err(ConfigError::Port);
        }
        let host = service.inside.address;
        let impossible =
            host.is_unspecified() || host.is_broadcast() || host.is_multicast() || host.is_loopback();
        let elsewhere = match self.address {
            Address::Dhcp => false,
            Address::Static(Interface { network, .. }) => {
                host == network.address || (one_arm && !network.contains(host))
            }
        };
        if impossible || elsewhere { Err(ConfigError::Host) } else { Ok(()) }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ConfigError> {
        let since = UnixSeconds(u64::from_le_bytes(reader.array()?));
        let mode = match reader.u8()? {
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
        let address = match reader.u8()? {
            0 => Address::Dhcp,
            1 => {
                let network = reader.network()?;
                let router = Some(reader.address()?).filter(|router| !router.is_unspecified());
                Address::Static(Interface { network, router })
            }
            _ => return Err(ConfigError::Value),
        };
        let knock_port = reader.u16()?;
        let echo = reader.bool()?;
        let at = Endpoint { address: reader.address()?, port: reader.u16()? };
        let time = match (at, reader.u16()?) {
            (Endpoint { address: Ipv4Addr::UNSPECIFIED, port: 0 }, 0) => TimeSource::None,
            (_, 0) => return Err(ConfigError::Value),
            (at, interval) => TimeSource::Sntp(TimeServer { at, interval }),
        };
        let inside = Some(reader.network()?).filter(|network| !network.address.is_unspecified());
        let counters_port = reader.u16()?;
        let mut services = Vec::new();
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
            services.push(service).map_err(|_| ConfigError::TooMany)?;
        }
        let mut rules = Vec::new();
        for _ in 0..reader.u8()? {
            let rule = Rule {
                tag: Tag(reader.array()?),
                key: Key::from_bytes(reader.array()?),
                window: Window::from_secs(reader.u32()?),
                ttl: reader.u32()?,
                services: Services(reader.u32()?),
            };
            rules.push(rule).map_err(|_| ConfigError::TooMany)?;
        }
        Ok(Self {
            created: since,
            mode,
            address,
            knock_port,
            answer_ping: echo,
            time,
            counters_network: inside,
            counters_port,
            services,
            rules,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), ConfigError> {
        writer.put(&self.created.0.to_le_bytes())?;
        match self.mode {
            Mode::OneArm => writer.put(&[0])?,
            Mode::Inline(Inline { vlans, pass }) => {
                let vlans = vlans.unwrap_or(Vlans { outside: 0, inside: 0 });
                writer.put(&[1])?;
                writer.put(&vlans.outside.to_le_bytes())?;
                writer.put(&vlans.inside.to_le_bytes())?;
                writer.put(&[pass.ipv6.into(), pass.other.into()])?;
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
        writer.put(&[self.answer_ping.into()])?;
        let server = match self.time {
            TimeSource::None => TimeServer { at: Endpoint::NONE, interval: 0 },
            TimeSource::Sntp(server) => server,
        };
        writer.put(&server.at.address.octets())?;
        writer.put(&server.at.port.to_le_bytes())?;
        writer.put(&server.interval.to_le_bytes())?;
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
            writer.put(&service.inside.address.octets())?;
            writer.put(&service.inside.port.to_le_bytes())?;
        }
        writer.count(self.rules.len())?;
        for rule in &self.rules {
            writer.put(&rule.tag.0)?;
            writer.put(rule.key.as_bytes())?;
            writer.put(&rule.window.as_secs().to_le_bytes())?;
            writer.put(&rule.ttl.to_le_bytes())?;
            writer.put(&rule.services.0.to_le_bytes())?;
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

    fn address(&mut self) -> Result<Ipv4Addr, ConfigError> {
        self.array::<4>().map(Ipv4Addr::from)
    }

    fn network(&mut self) -> Result<Network, ConfigError> {
        Ok(Network { address: self.address()?, prefix: self.u8()? })
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

    fn network(&mut self, network: Network) -> Result<(), ConfigError> {
        self.put(&network.address.octets())?;
        self.put(&[network.prefix])
    }

    fn count(&mut self, count: usize) -> Result<(), ConfigError> {
        self.put(&[u8::try_from(count).map_err(|_| ConfigError::TooMany)?])
    }
}
