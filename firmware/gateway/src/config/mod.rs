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

mod decode;
mod encode;
mod error;
mod validate;

use core::net::Ipv4Addr;

use heapless::{String, Vec};
use pkd_core::{Key, Tag, UnixSeconds, Window};

use crate::{Endpoint, Protocol};

pub use error::ConfigError;

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

impl<const RULES: usize> Config<RULES> {
    /// The widest window of all rules.
    pub(crate) fn widest_window(&self) -> Window {
        self.rules.iter().map(|rule| rule.window).max().unwrap_or(Window::NO_CLOCK)
    }
}
