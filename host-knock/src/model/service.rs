//! Services that a knock opens.

use std::fmt;

use anyhow::{Result, bail};
use pkd_core::Port;

use crate::parse;

/// The protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// A port with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// Its name.
    pub(crate) name: String,
    /// Its port.
    pub(crate) port: Port,
    /// Its protocol. Nothing can tell whether a UDP port is open.
    pub(crate) protocol: Protocol,
}

impl Service {
    /// Parses `22`, `22/tcp` or `53/udp`.
    ///
    /// # Errors
    /// The text is something else, or the name is invalid.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self> {
        parse::name(name)?;
        let (number, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((number, "tcp")) => (number, Protocol::Tcp),
            Some((number, "udp")) => (number, Protocol::Udp),
            Some((_, other)) => bail!("invalid protocol {other:?} in {text:?}: expected tcp or udp"),
        };
        Ok(Self { name: name.to_owned(), port: parse::port(number)?, protocol })
    }

    /// Whether one of them has this name, or is TCP at this port.
    #[cfg(feature = "desktop")]
    pub(crate) fn offers(services: &[Self], text: &str) -> bool {
        let port = parse::port(text).ok();
        services.iter().any(|service| {
            service.name == text || service.protocol == Protocol::Tcp && port == Some(service.port)
        })
    }

    /// The ports that can be probed.
    #[cfg(feature = "desktop")]
    pub(crate) fn tcp_ports(services: &[Self]) -> Vec<Port> {
        let services = services.iter().filter(|service| service.protocol == Protocol::Tcp);
        services.map(|service| service.port).collect()
    }

    /// The given port or service of the host `name`, or all of its TCP services.
    ///
    /// # Errors
    /// As for [`Service::find`], or there is none.
    #[cfg(feature = "desktop")]
    pub(crate) fn ports(services: &[Self], given: Option<&str>, name: &str) -> Result<Vec<Port>> {
        let ports = match given {
            Some(service) => vec![Self::find(services, service)?],
            None => Self::tcp_ports(services),
        };
        anyhow::ensure!(!ports.is_empty(), "no port given, and no profile defines a TCP service for {name}");
        Ok(ports)
    }

    /// The TCP port of a service, or the number itself.
    ///
    /// # Errors
    /// It is neither, or a UDP service.
    pub(crate) fn find(services: &[Self], text: &str) -> Result<Port> {
        match services.iter().find(|service| service.name == text) {
            Some(Self { protocol: Protocol::Udp, .. }) => {
                bail!("service {text:?} uses UDP; knock cannot tell whether a UDP port is open")
            }
            Some(service) => Ok(service.port),
            None if !parse::is_number(text) && services.is_empty() => {
                bail!("invalid port {text:?}: expected 1–65535; no profile defines services for this host")
            }
            None if !parse::is_number(text) => {
                let known: Vec<_> = services.iter().map(|service| service.name.as_str()).collect();
                bail!("invalid port {text:?}: expected 1–65535 or one of {}", known.join(", "))
            }
            None => parse::port(text),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{} {}/{protocol}", self.name, self.port.0)
    }
}
