//! What a knock opens: a port with a name.

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

/// A port that a profile names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// How it is called.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) port: Port,
    /// How it is spoken to. Nobody can tell whether a port of UDP is open.
    pub(crate) protocol: Protocol,
}

impl Service {
    /// Reads `22`, `22/tcp` or `53/udp`.
    ///
    /// # Errors
    /// The text is none of these, or the name cannot be typed as a word and written into a URI.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self> {
        parse::name(name)?;
        let (number, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((number, "tcp")) => (number, Protocol::Tcp),
            Some((number, "udp")) => (number, Protocol::Udp),
            Some((_, other)) => bail!("port {text:?}: {other:?} is neither tcp nor udp"),
        };
        Ok(Self { name: name.to_owned(), port: parse::port(number)?, protocol })
    }

    /// The TCP port that is meant: a number, or one of these services.
    ///
    /// # Errors
    /// It is neither, or a service of UDP.
    pub(crate) fn find(services: &[Self], text: &str) -> Result<Port> {
        match services.iter().find(|service| service.name == text) {
            Some(Self { protocol: Protocol::Udp, .. }) => {
                bail!("service {text:?} is of UDP; nobody can tell whether it is open")
            }
            Some(service) => Ok(service.port),
            None if !parse::is_number(text) && services.is_empty() => {
                bail!("port {text:?} is no number of 1 to 65535, and no profile names services")
            }
            None if !parse::is_number(text) => {
                let known: Vec<_> = services.iter().map(|service| service.name.as_str()).collect();
                bail!("port {text:?} is no number of 1 to 65535, and no service of {}", known.join(", "))
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
