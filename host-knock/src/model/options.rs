//! How to knock: choices that the command line, profiles and URIs share.

use anyhow::{Context as _, Result};

/// Address families to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    /// IPv4 and IPv6.
    Both,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Families {
    /// The families that `-4` and `-6` select.
    pub(crate) fn of(ipv4: bool, ipv6: bool) -> Self {
        match (ipv4, ipv6) {
            (true, _) => Self::V4,
            (false, true) => Self::V6,
            (false, false) => Self::Both,
        }
    }
}

/// Payload format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `ipt_pkd` 1.0 and later.
    Classic,
    /// `ipt_pkd` before 1.0.
    Before1_0,
    /// Format 2: nothing is in clear, and a knock can be bound to addresses.
    Two,
}

impl Format {
    /// As options, profiles and URIs write it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Before1_0 => "pre-1.0",
            Self::Two => "2",
        }
    }

    /// Parses `classic`, `2` or `pre-1.0`.
    ///
    /// # Errors
    /// The text is something else.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let known = [Self::Classic, Self::Two, Self::Before1_0];
        let found = known.into_iter().find(|format| format.as_str() == text);
        found.with_context(|| format!("invalid format {text:?}: expected classic, 2 or pre-1.0"))
    }
}

/// The source port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Chosen by the system.
    Any,
    /// The same as the destination port.
    SamePort,
}
