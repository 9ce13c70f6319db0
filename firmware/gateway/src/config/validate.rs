//! The checks that every configuration has to pass.

use core::net::IpAddr;

use pkd_core::Window;

use super::{
    Address, Config, ConfigError, Format, Host, Inline, Interface, Mode, Pass, Rule, Service, Services,
    TimeSource, Vlans,
};
use crate::{Protocol, ip::is_unicast, packet::is_unicast_host};

/// Ethernet types that are IP or ARP, or may contain IP: IPv4, ARP, IPv6, tags of VLANs, MPLS and `PPPoE`. Below 0x600 there
/// are lengths; an unused place is 0.
const CONTAIN_IP: [u16; 10] =
    [0x0800, 0x0806, 0x86dd, 0x8100, 0x88a8, 0x9100, 0x8847, 0x8848, 0x8863, 0x8864];

/// IP protocols that are checked, or are no protocols but headers of IPv6. 0, for an unused place, is one of these.
const CHECKED: [u8; 7] = [1, 6, 17, 43, 44, 58, 60];

/// The widest possible window, in seconds.
const WINDOW_LIMIT: u32 = 86_400;

impl<const RULES: usize> Config<RULES> {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if let Mode::Inline(Inline { vlans: Some(Vlans { outside, inside }), .. }) = self.mode {
            let possible = 1..4_095;
            if outside == inside || !possible.contains(&outside) || !possible.contains(&inside) {
                return Err(ConfigError::Vlan);
            }
        }
        if let Mode::Inline(Inline { pass, .. }) = &self.mode {
            if !pass.has_possible_ethertypes() {
                return Err(ConfigError::Ethertype);
            }
            if !pass.has_possible_protocols() {
                return Err(ConfigError::Protocol);
            }
        }
        if let Some((address, prefix)) = self.address6
            && (self.mode != Mode::OneArm || prefix > 128 || !is_unicast(address.into()))
        {
            return Err(ConfigError::Address6);
        }
        if !matches!(self.grant_prefix, 64 | 128) {
            return Err(ConfigError::Value);
        }
        let is_known =
            |host: &Host| self.services.iter().any(|service| service.inside.address == host.address);
        if !self.hosts.iter().all(|host| is_known(host) && is_unicast_host(host.hardware)) {
            return Err(ConfigError::Hardware);
        }
        for network in self.counters_network.iter().chain(match &self.address {
            Address::Static(interface) => Some(&interface.network),
            Address::Dhcp => None,
        }) {
            if network.prefix > 32 {
                return Err(ConfigError::Value);
            }
        }
        self.validate_time()?;
        if !self.own_addresses.iter().all(|address| is_unicast((*address).into())) {
            return Err(ConfigError::OwnAddress);
        }
        for (row, service) in self.services.iter().enumerate() {
            self.validate_service(row, service)?;
        }
        let known = (0..).take(self.services.len()).fold(Services::NONE, Services::with);
        for (row, rule) in self.rules.iter().enumerate() {
            if rule.ttl == 0 {
                return Err(ConfigError::Ttl);
            }
            if rule.services == Services::NONE || rule.services.0 & !known.0 != 0 {
                return Err(ConfigError::Service);
            }
            let is_possible = match rule.knock.window() {
                Window::Monotonic => true,
                Window::Skew(seconds) => seconds.get() <= WINDOW_LIMIT && self.time != TimeSource::None,
            };
            if !is_possible {
                return Err(ConfigError::Window);
            }
            let is_same = |other: &Rule| {
                other.has_key_of(rule)
                    && matches!(
                        (other.format, rule.format),
                        (Format::Classic, Format::Classic) | (Format::Format2 { .. }, Format::Format2 { .. })
                    )
            };
            if self.rules.iter().take(row).any(is_same) {
                return Err(ConfigError::SameKey);
            }
        }
        Ok(())
    }

    fn validate_time(&self) -> Result<(), ConfigError> {
        if self.time != TimeSource::None && self.time.interval() == 0 {
            return Err(ConfigError::Value);
        }
        let has_dhcp = self.address == Address::Dhcp;
        match &self.time {
            TimeSource::Dhcp { .. } if !has_dhcp => Err(ConfigError::TimeServer),
            TimeSource::Name(server) => {
                let is_possible = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
                let is_name = !server.name.is_empty() && server.name.bytes().all(is_possible);
                // Without DHCP, only the configuration can name a DNS server.
                let is_known = server.dns.map_or(has_dhcp, |dns| !has_dhcp && is_unicast(dns.into()));
                if is_name && is_known && server.port != 0 { Ok(()) } else { Err(ConfigError::TimeServer) }
            }
            TimeSource::None | TimeSource::Sntp(_) | TimeSource::Dhcp { .. } => Ok(()),
        }
    }

    fn validate_service(&self, row: usize, service: &Service) -> Result<(), ConfigError> {
        let flows = crate::flows::NAT_PORT_FIRST..crate::flows::NAT_PORT_FIRST + crate::flows::NAT_PORT_COUNT;
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
                && other.inside.address.is_ipv4() == service.inside.address.is_ipv4()
                && (one_arm || other.inside.address == service.inside.address)
        };
        if self.services.iter().take(row).any(same) {
            return Err(ConfigError::Port);
        }
        let host = service.inside.address;
        let elsewhere = match (host, &self.address) {
            (IpAddr::V4(host), Address::Static(Interface { network, .. })) => {
                host == network.address || (one_arm && !network.contains(host))
            }
            // The gateway's own address, or one on another network, which it could not find.
            (IpAddr::V6(host), _) if one_arm => self.address6.is_none_or(|(own, prefix)| {
                own == host || !(host.is_unicast_link_local() || is_in(host.to_bits(), own.to_bits(), prefix))
            }),
            (IpAddr::V4(_), Address::Dhcp) | (IpAddr::V6(_), _) => false,
        };
        if !is_unicast(host) || elsewhere { Err(ConfigError::Host) } else { Ok(()) }
    }
}

impl Pass {
    /// Whether all of it may be forwarded unchecked: none of it is checked, or contains IP.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.has_possible_ethertypes() && self.has_possible_protocols()
    }

    fn has_possible_ethertypes(&self) -> bool {
        !self.ethertypes.iter().any(|ethertype| CONTAIN_IP.contains(ethertype))
    }

    fn has_possible_protocols(&self) -> bool {
        !self.protocols.iter().any(|protocol| CHECKED.contains(protocol))
    }
}

/// Whether two addresses have the same prefix.
fn is_in(address: u128, network: u128, prefix: u8) -> bool {
    let host_bits = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
    (address ^ network) & !host_bits == 0
}
