//! The hosts that an inline gateway protects: their IP addresses, and the MAC addresses that they use.

use heapless::Vec;
use smoltcp::wire::EthernetAddress;

use crate::{
    config::{Config, SERVICES},
    ip::Ip,
    packet::is_unicast_host,
};

/// How many MAC addresses are remembered: a host may have several.
const MAX_HARDWARE: usize = 2 * SERVICES;

/// The protected hosts. Until the MAC address of each is known, every host is taken for one of them: a frame must not reach a
/// host by another of its IP addresses only because the gateway has just started.
#[derive(Debug)]
pub(crate) struct Hosts {
    /// Each address, and whether a MAC address was seen with it or is configured.
    addresses: Vec<(Ip, bool), SERVICES>,
    hardware: Vec<EthernetAddress, MAX_HARDWARE>,
    are_known: bool,
}

impl Hosts {
    pub(crate) const fn new() -> Self {
        Self { addresses: Vec::new(), hardware: Vec::new(), are_known: false }
    }

    /// Makes them the hosts of all services.
    pub(crate) fn set<const RULES: usize>(&mut self, config: &Config<RULES>) {
        self.addresses.clear();
        self.hardware.clear();
        for service in &config.services {
            let address = Ip::from(service.inside.address);
            if !self.has_address(address) {
                // There are at most as many hosts as services.
                let _full = self.addresses.push((address, false));
            }
        }
        self.refresh();
        for host in &config.hosts {
            self.learn(host.address.into(), host.hardware);
        }
    }

    /// Whether this is the address of a protected host.
    pub(crate) fn has_address(&self, address: Ip) -> bool {
        self.addresses.iter().any(|(host, _)| *host == address)
    }

    /// Whether a protected host uses this MAC address.
    pub(crate) fn has_hardware(&self, hardware: EthernetAddress) -> bool {
        self.hardware.contains(&hardware)
    }

    /// Whether a frame to, or from, this host on the inside is one of a protected host.
    pub(crate) fn guards(&self, hardware: EthernetAddress, address: Ip) -> bool {
        !self.are_known || !hardware.is_unicast() || self.has_hardware(hardware) || self.has_address(address)
    }

    /// Records that a host on the inside uses these addresses. A MAC address stays that of a protected host until the next
    /// reset. If there are too many, every host is protected from then on.
    pub(crate) fn learn(&mut self, address: Ip, hardware: EthernetAddress) {
        let Some(place) = self.addresses.iter().position(|(host, _)| *host == address) else { return };
        if !is_unicast_host(hardware) {
            return;
        }
        let is_remembered = self.has_hardware(hardware) || self.hardware.push(hardware).is_ok();
        if let Some((_, is_known)) = self.addresses.get_mut(place)
            && (!*is_known || !is_remembered)
        {
            *is_known = is_remembered;
            self.refresh();
        }
    }

    fn refresh(&mut self) {
        self.are_known = self.addresses.iter().all(|(_, is_known)| *is_known);
    }
}
