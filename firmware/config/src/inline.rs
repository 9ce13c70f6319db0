//! The table `[inline]`, and the hosts whose MAC addresses are given.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use pkd_gateway::{EthernetAddress, Host, Inline, PASSED, Pass, Protect, Vlans};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InlineTable {
    outside_vlan: Option<u16>,
    inside_vlan: Option<u16>,
    #[serde(default)]
    protect: ProtectName,
    #[serde(default = "yes")]
    ipv6: bool,
    #[serde(default)]
    pass_ethertypes: Vec<u16>,
    #[serde(default)]
    pass_protocols: Vec<u8>,
    /// Of earlier releases.
    pass_ipv6: Option<bool>,
    pass_other: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProtectName {
    #[default]
    Host,
    Services,
}

fn yes() -> bool {
    true
}

impl Default for InlineTable {
    fn default() -> Self {
        Self {
            outside_vlan: None,
            inside_vlan: None,
            protect: ProtectName::default(),
            ipv6: true,
            pass_ethertypes: Vec::new(),
            pass_protocols: Vec::new(),
            pass_ipv6: None,
            pass_other: None,
        }
    }
}

impl InlineTable {
    pub(crate) fn resolve(&self) -> Result<Inline> {
        if self.pass_ipv6.is_some() {
            bail!(
                "[inline]: pass_ipv6 is gone: IPv6 is checked like IPv4; remove it, or drop IPv6 with ipv6 = false"
            );
        }
        if self.pass_other.is_some() {
            bail!(
                "[inline]: pass_other is gone: list what may pass, for example pass_ethertypes = [0x8892] for PROFINET"
            );
        }
        let vlans = match (self.outside_vlan, self.inside_vlan) {
            (None, None) => None,
            (Some(outside), Some(inside)) => Some(Vlans { outside, inside }),
            _ => bail!("[inline]: set both outside_vlan and inside_vlan, or neither"),
        };
        let protect = match self.protect {
            ProtectName::Host => Protect::Host,
            ProtectName::Services => Protect::Services,
        };
        Ok(Inline { vlans, protect, ipv6: self.ipv6, pass: self.pass()? })
    }

    fn pass(&self) -> Result<Pass> {
        let mut pass = Pass::default();
        let too_many = |name: &str, given: usize| {
            ensure!(given <= PASSED, "[inline]: too many {name}: at most {PASSED}");
            Ok(())
        };
        too_many("pass_ethertypes", self.pass_ethertypes.len())?;
        too_many("pass_protocols", self.pass_protocols.len())?;
        for (slot, ethertype) in pass.ethertypes.iter_mut().zip(&self.pass_ethertypes) {
            ensure!(
                *ethertype >= 0x600
                    && Pass { ethertypes: [*ethertype; PASSED], ..Pass::default() }.is_possible(),
                "[inline]: pass_ethertypes: {ethertype:#06x} is a length, or may contain IP, which would be a way around the gateway"
            );
            *slot = *ethertype;
        }
        for (slot, protocol) in pass.protocols.iter_mut().zip(&self.pass_protocols) {
            ensure!(
                *protocol != 0 && Pass { protocols: [*protocol; PASSED], ..Pass::default() }.is_possible(),
                "[inline]: pass_protocols: {protocol} is checked by the gateway, or is no protocol"
            );
            *slot = *protocol;
        }
        Ok(pass)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostTable {
    address: IpAddr,
    mac: String,
}

impl HostTable {
    pub(crate) fn resolve(&self) -> Result<Host> {
        let hardware = mac(&self.mac).with_context(|| {
            format!(
                "host {}: invalid mac \"{}\": expected six bytes, for example 02:00:00:00:00:01",
                self.address, self.mac
            )
        })?;
        Ok(Host { address: self.address, hardware })
    }

    /// For messages.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }
}

fn mac(text: &str) -> Option<EthernetAddress> {
    let mut bytes = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+'))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    let address = EthernetAddress(bytes);
    (parts.next().is_none() && address.is_unicast() && bytes != [0; 6]).then_some(address)
}
