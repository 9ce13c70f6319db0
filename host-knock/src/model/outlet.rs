//! Where knocks and connections leave this computer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Result, anyhow, ensure};

use super::options::Families;

/// Longest name of an interface on Linux: `IFNAMSIZ` without the NUL.
const MAX_INTERFACE: usize = 15;

/// An interface and a source address; by default the system chooses both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outlet {
    pub(crate) interface: Option<String>,
    pub(crate) source: Option<IpAddr>,
}

impl Outlet {
    /// # Errors
    /// The name cannot be that of an interface, or the source is not an address.
    pub(crate) fn parse(interface: Option<&str>, source: Option<&str>) -> Result<Self> {
        if let Some(name) = interface {
            let is_fit = (1..=MAX_INTERFACE).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
            ensure!(is_fit, "invalid interface {name:?}: expected a name of up to 15 bytes, such as eth0");
        }
        let address = |text: &str| {
            text.parse().map_err(|_| anyhow!("invalid source {text:?}: expected an IPv4 or IPv6 address"))
        };
        Ok(Self { interface: interface.map(str::to_owned), source: source.map(address).transpose()? })
    }

    /// What is left of these families: the source belongs to one.
    ///
    /// # Errors
    /// The family of the source is not allowed.
    pub(crate) fn families(&self, allowed: Families) -> Result<Families> {
        let Some(source) = self.source else { return Ok(allowed) };
        let (own, name) = if source.is_ipv4() { (Families::V4, "IPv4") } else { (Families::V6, "IPv6") };
        let is_fit = allowed == Families::Both || allowed == own;
        ensure!(is_fit, "source {source}: {name} address, but only the other family is allowed");
        Ok(own)
    }

    /// What a socket for this destination is bound to; the port is free.
    pub(crate) fn local(&self, destination: SocketAddr) -> SocketAddr {
        let any: IpAddr = match destination {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        SocketAddr::new(self.source.unwrap_or(any), 0)
    }
}
