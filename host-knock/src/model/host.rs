//! A host to knock at.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use anyhow::{Result, bail};

use crate::parse::is_number;

/// An address or a host name. Texts that resolvers could misread are rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// Without brackets, with zone.
    text: String,
    /// Without zone. `None`: a host name.
    address: Option<IpAddr>,
}

impl Host {
    /// Parses `192.0.2.1`, `2001:db8::1`, `[2001:db8::1]`, `fe80::1%eth0` or a host name.
    ///
    /// Resolvers accept `40000` and `10.1` as addresses in obsolete notations. Here they are errors: they are more likely a
    /// port or half an address.
    ///
    /// # Errors
    /// The text is something else.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let bare = inner.unwrap_or(text);
        if let Some(address) = address(bare)
            && (inner.is_none() || address.is_ipv6())
        {
            return Ok(Self { text: bare.to_owned(), address: Some(address) });
        }
        if text.is_empty() {
            bail!("empty host name");
        }
        if is_number(text) {
            bail!("invalid host {text:?}: a plain number; use --port for a port");
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let label_fits = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        if !name.is_ascii() {
            bail!(
                "invalid host {text:?}: write names with other letters than a-z as xn--…, as dig and browsers show them"
            );
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        if name.len() > 253 || name.starts_with('-') || !name.split('.').all(label_fits) {
            bail!("invalid host {text:?}: expected an address or a host name");
        }
        if is_number(last) || last.starts_with("0x") || last.starts_with("0X") {
            bail!("invalid host {text:?}: incomplete address");
        }
        Ok(Self { text: text.to_owned(), address: None })
    }

    /// The text for the resolver.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The address, unless this is a host name.
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
