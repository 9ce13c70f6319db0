//! The addresses of one gateway.

#[cfg(feature = "desktop")]
use std::net::IpAddr;

#[cfg(feature = "desktop")]
use anyhow::{Context as _, Result, ensure};

use super::host::Host;

/// One host or several, in the order given: a second line, an address of the other family, a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hosts {
    first: Host,
    further: Vec<Host>,
}

impl Hosts {
    pub(crate) fn one(host: Host) -> Self {
        Self { first: host, further: Vec::new() }
    }

    /// Parses one or several, up to [`pkd_uri::MAX_ADDRESSES`].
    ///
    /// # Errors
    /// As for [`Host::parse`]; there is none, one is given twice, or there are too many.
    #[cfg(feature = "desktop")]
    pub(crate) fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut hosts = Vec::new();
        for text in texts {
            let host = Host::parse(text)?;
            let is_known =
                hosts.iter().any(|other: &Host| other.as_str().eq_ignore_ascii_case(host.as_str()));
            ensure!(!is_known, "address {text:?} is given twice");
            hosts.push(host);
        }
        ensure!(
            hosts.len() <= pkd_uri::MAX_ADDRESSES,
            "{} addresses: expected at most {}",
            hosts.len(),
            pkd_uri::MAX_ADDRESSES
        );
        let mut hosts = hosts.into_iter();
        Ok(Self { first: hosts.next().context("no address")?, further: hosts.collect() })
    }

    /// The one by which the gateway is known.
    pub(crate) fn first(&self) -> &Host {
        &self.first
    }

    /// Those after the first.
    #[cfg(feature = "desktop")]
    pub(crate) fn further(&self) -> &[Host] {
        &self.further
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Host> {
        std::iter::once(&self.first).chain(&self.further)
    }

    #[cfg(feature = "desktop")]
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.iter().map(Host::as_str).collect()
    }

    /// An address as it was given, with its zone; what a name resolved to, without.
    #[cfg(feature = "desktop")]
    pub(crate) fn text_of(&self, address: IpAddr) -> String {
        let given = self.iter().find(|host| host.address() == Some(address));
        given.map_or_else(|| address.to_string(), Host::to_string)
    }

    /// What messages call the gateway: its only address, or else `name`.
    pub(crate) fn label<'a>(&'a self, name: &'a str) -> &'a str {
        if self.further.is_empty() { self.first.as_str() } else { name }
    }
}
