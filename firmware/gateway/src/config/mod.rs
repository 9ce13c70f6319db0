//! The gateway's configuration, and its binary format in flash.
//!
//! ```text
//! offset  bytes  field (all numbers are little endian)
//!      0      4  "PKDg"
//!      4      2  format version
//!      6      2  total length, including these eight bytes
//!      8      4  CRC-32 of everything except these four bytes
//!     12      8  time of creation, Unix seconds
//!     20         the other fields, in the order in which `Config::emit` writes them; version 2 has no IPv6, guards only the
//!                listed ports, and has no time servers by DHCP or DNS, and no key for updates; version 1 has no formats and no
//!                addresses outside of NAT either, and all of its rules are classic
//! ```

mod decode;
mod encode;
mod envelope;
mod error;
mod format;
mod validate;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use heapless::{String, Vec};
use pkd_core::{UnixSeconds, Window, format2::Bindings};
use smoltcp::wire::EthernetAddress;

use crate::{Endpoint, Protocol};

pub use envelope::created;
pub use error::ConfigError;
pub use format::{CONFIG_LIMIT, VERSION};
use format::{HEADER_LENGTH, MAGIC, NAME_LENGTH};

/// The greatest number of services.
pub const SERVICES: usize = 32;
/// The greatest length of a time server's name in bytes.
pub const HOST_NAME: usize = 64;
/// The greatest number of the gateway's addresses outside of NAT.
pub const OWN_ADDRESSES: usize = 4;
/// The greatest number of hosts whose MAC address is configured.
pub const HOSTS: usize = 16;
/// The greatest number of Ethernet types, and of IP protocols, that are forwarded unchecked.
pub const PASSED: usize = 8;

/// A set of services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Services(u32);

impl Services {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// This set, and one more service.
    #[must_use]
    pub fn with(self, service: u8) -> Self {
        Self(self.0 | 1_u32.checked_shl(service.into()).unwrap_or(0))
    }

    /// Whether the service is in the set.
    #[must_use]
    pub fn contains(self, service: u8) -> bool {
        self.0.checked_shr(service.into()).is_some_and(|bits| bits & 1 == 1)
    }
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any address in the network.
    pub address: Ipv4Addr,
    /// Length of the prefix in bits, at most 32.
    pub prefix: u8,
}

impl Network {
    /// Whether the address is in the network.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let host_bits = 32_u32.saturating_sub(self.prefix.into());
        let differ = u32::from(self.address) ^ u32::from(address);
        differ.checked_shr(host_bits).unwrap_or(0) == 0
    }
}

/// The gateway's IP address and its router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The gateway's address, and the length of its network's prefix.
    pub network: Network,
    /// The default router.
    pub router: Option<Ipv4Addr>,
}

/// Where the gateway's address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// DHCP.
    Dhcp,
    /// The configuration.
    Static(Interface),
}

/// Where the gateway gets the time from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// Nowhere. Every rule must have window 0.
    None,
    /// An SNTP server.
    Sntp(TimeServer),
    /// The SNTP servers that DHCP names (option 42). Needs [`Address::Dhcp`].
    Dhcp {
        /// Seconds between requests, at least 1.
        interval: u16,
    },
    /// An SNTP server that has a name.
    Name(NamedServer),
}

impl TimeSource {
    /// Seconds between requests, or 0 if there are none.
    pub(crate) fn interval(&self) -> u16 {
        match self {
            Self::None => 0,
            Self::Sntp(TimeServer { interval, .. })
            | Self::Dhcp { interval }
            | Self::Name(NamedServer { interval, .. }) => *interval,
        }
    }
}

/// An SNTP server, and how often to ask it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeServer {
    /// The server's address and port, usually [`sntp::SERVER_PORT`](crate::sntp::SERVER_PORT).
    pub at: SocketAddrV4,
    /// Seconds between requests, at least 1. Public servers ask for at least 15 (RFC 4330, section 10).
    pub interval: u16,
}

/// An SNTP server that has a name, and how often to ask it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedServer {
    /// The server's name in DNS: letters, digits, dots and hyphens.
    pub name: String<HOST_NAME>,
    /// The server's port.
    pub port: u16,
    /// Seconds between requests, at least 1.
    pub interval: u16,
    /// The DNS server. `None`: DHCP names it.
    pub dns: Option<Ipv4Addr>,
}

/// Who may update the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateKey {
    /// The Ed25519 public key that images have to be signed with.
    pub key: [u8; 32],
    /// Whether images are taken that are not newer than the running one.
    pub allow_older: bool,
}

/// How the gateway is connected to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One interface. Services are ports of the gateway's own address.
    OneArm,
    /// A bridge between two sides.
    Inline(Inline),
}

/// Settings of inline mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inline {
    /// The VLANs of the two sides, if they share one NIC. `None` if there are two NICs.
    pub vlans: Option<Vlans>,
    /// What is guarded of the hosts that services name.
    pub protect: Protect,
    /// Whether IPv6 is forwarded, and checked like IPv4. Otherwise it is dropped.
    pub ipv6: bool,
    /// What is forwarded unchecked.
    pub pass: Pass,
}

/// What is guarded of a protected host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protect {
    /// All of its ports, and pings.
    #[default]
    Host,
    /// Only the ports of its services.
    Services,
}

/// A host whose MAC address is known, and not learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The IP address of a service's inside host.
    pub address: IpAddr,
    /// Its MAC address.
    pub hardware: EthernetAddress,
}

/// The VLANs of a trunk (802.1Q).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlans {
    /// The VLAN of the untrusted side, 1 to 4,094.
    pub outside: u16,
    /// The VLAN of the protected hosts, 1 to 4,094, different from the other.
    pub inside: u16,
}

/// What an inline gateway forwards although it cannot check it. Hosts that use it are not protected from it. Unused places
/// are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Ethernet types, for example 0x8892 for PROFINET. None of those that contain IP.
    pub ethertypes: [u16; PASSED],
    /// IP protocols that protected hosts receive, for example 47 for GRE. None of TCP, UDP and ICMP.
    pub protocols: [u8; PASSED],
}

/// A protected service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name for users, at most 16 bytes.
    pub name: String<NAME_LENGTH>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// One-arm: the port of the gateway. Inline: the port of the host.
    pub port: u16,
    /// The address and port of the host that provides it.
    pub inside: Endpoint,
}

/// The format of a rule's knocks. A rule accepts no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The classic knock.
    Classic,
    /// Format 2.
    Format2 {
        /// The addresses that a knock must be bound to.
        require: Bindings,
    },
}

/// A key, and the services that it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The key, the tag and the window of the knocks that it accepts, in either format.
    pub knock: pkd_core::Rule,
    /// Their format.
    pub format: Format,
    /// How long an accepted knock allows new flows, in seconds.
    pub ttl: u32,
    /// The services that it opens.
    pub services: Services,
}

impl Rule {
    /// Whether both have the same tag and key, as a user's two rules have while the user's devices move to another format.
    pub(crate) fn has_key_of(&self, other: &Self) -> bool {
        self.knock.tag() == other.knock.tag() && self.knock.key() == other.knock.key()
    }
}

/// A configuration with up to `RULES` rules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Config<const RULES: usize> {
    /// When it was created. Earlier times from a time server are rejected.
    pub created: UnixSeconds,
    /// One-arm or inline.
    pub mode: Mode,
    /// The gateway's address.
    pub address: Address,
    /// The UDP port that knocks are sent to.
    pub knock_port: u16,
    /// Addresses that the gateway is reached at from outside, if there is NAT in front of it. Knocks that are bound to one of
    /// them are as good as those that are bound to the address in the packet.
    pub own_addresses: Vec<Ipv4Addr, OWN_ADDRESSES>,
    /// One-arm: the gateway's IPv6 address, and the length of its network's prefix in bits. Services of inside hosts with IPv6
    /// are ports of it. Inline: `None`, because knocks are sent to the hosts.
    pub address6: Option<(Ipv6Addr, u8)>,
    /// How many bits of a sender's IPv6 address a grant is for: 128, or 64 for the sender's whole network.
    pub grant_prefix: u8,
    /// Hosts whose MAC address is not learned.
    pub hosts: Vec<Host, HOSTS>,
    /// Whether the gateway answers pings.
    pub answer_ping: bool,
    /// Where the time comes from.
    pub time: TimeSource,
    /// Who may update the firmware. `None`: nobody.
    pub update: Option<UpdateKey>,
    /// The network that may read the counters. In inline mode, its hosts must also be on the inside.
    pub counters_network: Option<Network>,
    /// The TCP (HTTP) and UDP port of the counters, or 0 to disable them.
    pub counters_port: u16,
    /// The protected services.
    pub services: Vec<Service, SERVICES>,
    /// The rules that open them.
    pub rules: Vec<Rule, RULES>,
}

impl<const RULES: usize> Config<RULES> {
    /// A configuration of nothing, for [`read`](Self::read).
    #[must_use]
    pub fn new() -> Self {
        Self {
            created: UnixSeconds(0),
            mode: Mode::OneArm,
            address: Address::Dhcp,
            knock_port: 0,
            own_addresses: Vec::new(),
            address6: None,
            grant_prefix: 128,
            hosts: Vec::new(),
            answer_ping: false,
            time: TimeSource::None,
            update: None,
            counters_network: None,
            counters_port: 0,
            services: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// The widest window of any rule.
    pub(crate) fn widest_window(&self) -> Window {
        self.rules.iter().map(|rule| rule.knock.window()).max().unwrap_or(Window::Monotonic)
    }
}

impl<const RULES: usize> Default for Config<RULES> {
    fn default() -> Self {
        Self::new()
    }
}
