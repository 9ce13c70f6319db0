//! The two address families: each has programs and rules of its own.

use std::path::Path;

use ipnet::IpNet;

use super::save::Saved;
use crate::{
    error::Error, forward::Forward, lock::Guard, program, scope::Exempt, service::Service,
    service_name::ServiceName,
};

/// Exists if the kernel has IPv6.
const HAS_V6: &str = "/proc/net/if_inet6";

/// An address family and its programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: IpNet) -> Self {
        match address {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    /// The families of this host.
    pub(crate) fn all() -> &'static [Self] {
        if Path::new(HAS_V6).exists() { &[Self::V4, Self::V6] } else { &[Self::V4] }
    }

    /// Reads all tables at once, because iptables-legacy creates a table that is asked for by name.
    pub(crate) fn read(self) -> Result<Saved, Error> {
        Ok(Saved::parse(&self.text()?))
    }

    pub(crate) fn text(self) -> Result<String, Error> {
        let program = match self {
            Self::V4 => "iptables-save",
            Self::V6 => "ip6tables-save",
        };
        let output = program::output(program, &["-c"])?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// Applies a change, if there is one. Each table is changed completely or not at all.
    pub(crate) fn change(self, script: &str, guard: &Guard) -> Result<(), Error> {
        let program = match self {
            Self::V4 => "iptables-restore",
            Self::V6 => "ip6tables-restore",
        };
        if script.is_empty() {
            return Ok(());
        }
        // Only the programs of iptables-legacy have a lock. `-w` without a number waits for ever.
        let seconds = guard.timeout.as_secs().max(1).to_string();
        program::feed(program, &["--noflush", "-w", &seconds], script, guard)
    }

    /// The ipset for the leases of a service.
    pub(crate) fn set(self, name: &ServiceName) -> String {
        format!("{}-{}", name.chain(), if self == Self::V6 { 6 } else { 4 })
    }

    /// Whether the rules of this family have this exemption.
    pub(crate) fn has(self, exempt: &Exempt) -> bool {
        match exempt {
            Exempt::Network(network) => Self::of(*network) == self,
            Exempt::Interface(_) => true,
        }
    }

    pub(crate) fn forward(self, service: &Service) -> Option<Forward> {
        service.forward.iter().copied().find(|forward| forward.host.is_ipv6() == (self == Self::V6))
    }
}
