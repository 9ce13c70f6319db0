//! How to knock: choices that the command line, profiles and URIs share.

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
}

/// The source port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Chosen by the system.
    Any,
    /// The same as the destination port.
    SamePort,
}
