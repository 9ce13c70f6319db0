//! Which packets to a service are checked at all.

use std::{fmt, str::FromStr};

use ipnet::IpNet;

use crate::{address, address::canonical, invalid::Invalid, lease_prefix::LeasePrefix};

/// The name of a network interface: 1 to 15 letters, digits, `_`, `-`, `.`, `:` or `@`. The firewalls read other
/// characters, such as `+` and `*`, as patterns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface(String);

impl Interface {
    /// `IFNAMSIZ` without the terminating zero.
    const LENGTH: usize = 15;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Interface {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why| Invalid::new("interface", text, why);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:@".contains(&byte);
        match text.as_bytes() {
            [] => Err(wrong("empty")),
            bytes if bytes.len() > Self::LENGTH => Err(wrong("longer than 15 bytes")),
            b"." | b".." => Err(wrong("not a name that an interface can have")),
            bytes if bytes.starts_with(b"-") => Err(wrong("must not start with -")),
            bytes if !bytes.iter().copied().all(fits) => {
                Err(wrong("expected letters, digits, _ - . : or @; patterns are not supported"))
            }
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Packets that reach a service without a grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Exempt {
    /// Those that arrive on this interface.
    Interface(Interface),
    /// Those from this address or prefix.
    Network(IpNet),
}

impl Exempt {
    /// What a host sends to itself.
    #[must_use]
    pub fn loopback() -> Self {
        Self::Interface(Interface("lo".to_owned()))
    }
}

impl FromStr for Exempt {
    type Err = Invalid;

    /// Parses an address, a prefix or the name of an interface.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        // No interface name has a slash, and an IPv6 address has at least two colons.
        let is_address = text.contains('/') || text.matches(':').count() > 1;
        let looks_like_v4 = text.contains('.') && text.bytes().all(|byte| b"0123456789.".contains(&byte));
        if is_address || looks_like_v4 {
            return Ok(Self::Network(canonical(address::parse(text)?)));
        }
        text.parse().map(Self::Interface)
    }
}

impl fmt::Display for Exempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(interface) => interface.fmt(f),
            Self::Network(network) => f.write_str(&address::short(*network)),
        }
    }
}

/// How a service is guarded beyond what the original `pktables` knew; by default not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scope {
    /// Check packets before they are redirected to another port or host, so that a port that is published with DNAT is
    /// guarded, too. Only for iptables: the nftables backend always does so, and checks again afterwards.
    pub before_nat: bool,
    /// Only packets that arrive on these interfaces are checked; empty: all.
    pub interfaces: Vec<Interface>,
    /// Packets that are not checked.
    pub exempt: Vec<Exempt>,
    /// A program may also let addresses in as leases: see [`Nft::lease`](crate::Nft::lease) and
    /// [`Iptables::lease`](crate::Iptables::lease).
    pub leases: bool,
    /// The networks that leases let in.
    pub lease_prefix: LeasePrefix,
    /// With [`Service::only_new`](crate::Service::only_new): of what belongs to a connection, let only that through whose
    /// first packet, as connection tracking knows it, came from the other side. So a connection that was forgotten with
    /// [`Connections::forget`](crate::Connections::forget) does not come back by its next packet, nor by an answer to one of
    /// this host. What this host begins from such a port gets no answers. iptables: only with `before_nat`.
    pub tracked: bool,
}

impl Scope {
    /// Sorts the lists and removes duplicates.
    #[must_use]
    pub(crate) fn sorted(&self) -> Self {
        let mut scope = self.clone();
        scope.interfaces.sort_unstable();
        scope.interfaces.dedup();
        scope.exempt.sort_unstable();
        scope.exempt.dedup();
        scope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_name_is_no_pattern() {
        for good in ["lo", "eth0", "br-lan", "eth0.100", "wlan0:1", "a", "abcdefghijklmno", "10"] {
            assert_eq!(good.parse::<Interface>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for wrong in ["", "abcdefghijklmnop", "eth+", "eth*", "a b", "a/b", "-i", ".", "..", "\"", "ä", "a\n"]
        {
            assert!(wrong.parse::<Interface>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_exemption_is_an_address_a_prefix_or_an_interface() {
        // text, as it is shown; None: invalid
        let rows = [
            ("lo", Some("lo")),
            ("eth0.100", Some("eth0.100")),
            ("192.0.2.7", Some("192.0.2.7")),
            ("192.168.0.0/16", Some("192.168.0.0/16")),
            ("fd00::/8", Some("fd00::/8")),
            ("fe80::1", Some("fe80::1")),
            ("192.168.0.1/16", None),
            ("1.2.3", None),
            ("300.1.1.1", None),
            ("lan/24", None),
            ("", None),
        ];
        for (text, shown) in rows {
            let found = text.parse::<Exempt>().ok().map(|exempt| exempt.to_string());
            assert_eq!(found.as_deref(), shown, "{text:?}");
        }
        assert_eq!("lo".parse(), Ok(Exempt::loopback()));
    }

    #[test]
    fn the_order_of_the_lists_does_not_matter() {
        let scope = |interfaces: &[&str], exempt: &[&str]| Scope {
            before_nat: false,
            leases: false,
            lease_prefix: LeasePrefix::default(),
            tracked: false,
            interfaces: interfaces.iter().map(|text| text.parse().expect("a name")).collect(),
            exempt: exempt.iter().map(|text| text.parse().expect("an exemption")).collect(),
        };
        let sorted = scope(&["b", "a", "b"], &["192.0.2.7", "lo", "lo"]).sorted();
        assert_eq!(sorted, scope(&["a", "b"], &["lo", "192.0.2.7"]));
    }
}
