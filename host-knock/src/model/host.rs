//! A place to knock at.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use anyhow::{Result, bail};

use crate::parse::is_number;

/// An address, or a name that the system's resolver may know; of a form that it cannot misread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// Without brackets, with zone.
    text: String,
    /// A zone is left out. `None`: a name.
    address: Option<IpAddr>,
}

impl Host {
    /// Reads `192.0.2.1`, `2001:db8::1`, `[2001:db8::1]`, `fe80::1%eth0` or a host name.
    ///
    /// Resolvers take `40000` and `10.1` for addresses in ancient notations. Here they are errors, as they
    /// are more likely a port or half an address.
    ///
    /// # Errors
    /// The text is none of these.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let bare = inner.unwrap_or(text);
        if let Some(address) = address(bare)
            && (inner.is_none() || address.is_ipv6())
        {
            return Ok(Self { text: bare.to_owned(), address: Some(address) });
        }
        if text.is_empty() {
            bail!("host is empty");
        }
        if is_number(text) {
            bail!("host {text:?} is a number; a port is given with --port");
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let label_fits = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let last = name.rsplit('.').next().unwrap_or(name);
        if name.len() > 253 || name.starts_with('-') || !name.split('.').all(label_fits) {
            bail!("host {text:?} is no address and no host name");
        }
        if is_number(last) || last.starts_with("0x") || last.starts_with("0X") {
            bail!("host {text:?} is no complete address and no host name");
        }
        Ok(Self { text: text.to_owned(), address: None })
    }

    /// What the resolver is asked for.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The address, where the text is one.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn address(text: &str) -> Option<IpAddr> {
    match text.split_once('%') {
        Some((address, zone)) if !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_graphic()) => {
            address.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        Some(_) => None,
        None => text.parse().ok(),
    }
}
