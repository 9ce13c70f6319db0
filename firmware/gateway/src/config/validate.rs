//! The checks that every configuration has to pass.

use pkd_core::Window;

use super::{
    Address, Config, ConfigError, Format, Inline, Interface, Mode, Rule, Service, Services, TimeSource, Vlans,
};
use crate::{Protocol, address::is_unicast};

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
        for network in self.counters_network.iter().chain(match &self.address {
            Address::Static(interface) => Some(&interface.network),
            Address::Dhcp => None,
        }) {
            if network.prefix > 32 {
                return Err(ConfigError::Value);
            }
        }
        self.validate_time()?;
        if !self.own_addresses.iter().copied().all(is_unicast) {
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
                let is_known = server.dns.map_or(has_dhcp, |dns| !has_dhcp && is_unicast(dns));
                if is_name && is_known && server.port != 0 { Ok(()) } else { Err(ConfigError::TimeServer) }
            }
            TimeSource::None | TimeSource::Sntp(_) | TimeSource::Dhcp { .. } => Ok(()),
        }
    }

    fn validate_service(&self, row: usize, service: &Service) -> Result<(), ConfigError> {
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
        let elsewhere = match self.address {
            Address::Dhcp => false,
            Address::Static(Interface { network, .. }) => {
                host == network.address || (one_arm && !network.contains(host))
            }
        };
        if !is_unicast(host) || elsewhere { Err(ConfigError::Host) } else { Ok(()) }
    }
}
