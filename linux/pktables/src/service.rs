//! Services: what is guarded, the default policy, and forwarding.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::{
    error::Error, forward::Forward, invalid::Invalid, lease_prefix::LeasePrefix, log::Log, ports::Ports,
    scope::Scope, service_name::ServiceName,
};

/// The transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Its number in IP headers.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(Invalid::new("protocol", text, "expected tcp or udp")),
        }
    }
}

/// The default policy: what happens to packets from addresses without a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Drop them.
    #[default]
    Drop,
    /// Accept them. For trial runs, and for services that are only observed.
    Accept,
}

/// Guarded ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Its protocol.
    pub protocol: Protocol,
    /// The ports on this host, even if the service is forwarded to another.
    pub ports: Ports,
    /// Guard only new connections; established ones outlive their grant. iptables: `--syn` for TCP, state NEW for UDP. With
    /// nftables or [`Scope::before_nat`]: TCP segments with SYN and without ACK or of state new or related, and all UDP that
    /// is not of state established.
    pub only_new: bool,
    /// The default policy.
    pub policy: Policy,
    /// How to log packets without a grant, if at all.
    pub log: Option<Log>,
    /// Where the service is forwarded, at most one address per family; empty: it is on this host.
    pub forward: Vec<Forward>,
    /// Which packets are checked.
    pub scope: Scope,
}

impl Service {
    /// Where packets from this address are forwarded; `None`: the service is on this host. A service that is forwarded in
    /// one family only cannot be reached in the other.
    ///
    /// # Errors
    /// The service is forwarded, but not in this family.
    pub fn forward_for(&self, address: IpAddr) -> Result<Option<Forward>, Error> {
        if self.forward.is_empty() {
            return Ok(None);
        }
        let found = self.forward.iter().find(|forward| forward.host.is_ipv4() == address.is_ipv4());
        found.copied().map(Some).ok_or_else(|| Error::no_forward(&self.name, address))
    }

    /// Sorts the lists, as a firewall returns them, and names the port that a forward address keeps.
    ///
    /// # Errors
    /// Two forward addresses are of the same family, or one has a port and the service has several.
    pub fn checked(&self) -> Result<Self, Invalid> {
        let forward = self.forward.iter().map(|forward| forward.of(&self.ports));
        let mut forward: Vec<Forward> = forward.collect::<Result<_, _>>()?;
        forward.sort_unstable();
        let twice = forward.windows(2).find_map(|pair| match pair {
            [one, other] if one.host.is_ipv4() == other.host.is_ipv4() => Some(other.to_string()),
            _ => None,
        });
        if let Some(text) = twice {
            return Err(Invalid::new("forward", &text, "only one address per family"));
        }
        let (mut scope, none) = (self.scope.sorted(), LeasePrefix::default());
        // Rules say nothing about leases that there cannot be.
        if !scope.leases || !Self::reaches(&forward, false) {
            scope.lease_prefix.v4 = none.v4;
        }
        if !scope.leases || !Self::reaches(&forward, true) {
            scope.lease_prefix.v6 = none.v6;
        }
        scope.tracked &= self.only_new;
        Ok(Self { forward, scope, ..self.clone() })
    }

    /// Whether the service can be reached in a family.
    fn reaches(forward: &[Forward], v6: bool) -> bool {
        forward.is_empty() || forward.iter().any(|forward| forward.host.is_ipv6() == v6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(forward: &[&str]) -> Service {
        Service {
            name: "nas".parse().expect("a name"),
            protocol: Protocol::Tcp,
            ports: "22".parse().expect("a port"),
            only_new: false,
            policy: Policy::Drop,
            log: None,
            forward: forward.iter().map(|text| text.parse().expect("an address and port")).collect(),
            scope: Scope::default(),
        }
    }

    #[test]
    fn a_name_has_1_to_25_characters_and_starts_with_a_letter_or_digit() {
        let (longest, one_more) = ("n".repeat(25), "n".repeat(26));
        let character = Err("expected letters, digits, - _ or .");
        let begin = Err("must start with a letter or digit");
        let rows = [
            ("a", Ok(())),
            ("7", Ok(())),
            ("A-z_0.9", Ok(())),
            (&longest, Ok(())),
            (&one_more, Err("longer than 25 bytes")),
            ("", Err("empty")),
            ("-a", begin),
            ("_a", begin),
            (".a", begin),
            ("a b", character),
            ("a/4", character),
            ("ä", character),
            ("a\n", character),
        ];
        for (text, expected) in rows {
            let read = text.parse::<ServiceName>();
            assert_eq!(read.as_ref().map(drop).map_err(|invalid| invalid.why), expected, "{text:?}");
            if let Ok(name) = read {
                assert_eq!((name.as_str(), name.to_string()), (text, text.to_owned()));
                assert_eq!(name.chain(), format!("pk-{text}"));
                assert_eq!(ServiceName::of_chain(&name.chain()), Some(name));
            }
        }
    }

    #[test]
    fn a_foreign_chain_belongs_to_no_service() {
        for chain in ["", "pk-", "pk", "INPUT", "ssh", "pk--", "PK-ssh", "pk-a b", "xpk-ssh"] {
            assert_eq!(ServiceName::of_chain(chain), None, "{chain:?}");
        }
    }

    #[test]
    fn a_protocol_is_tcp_or_udp() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            assert_eq!(protocol.as_str().parse(), Ok(protocol));
            assert_eq!(protocol.to_string(), protocol.as_str());
        }
        assert_ne!(Protocol::Tcp.as_str(), Protocol::Udp.as_str());
        for text in ["", "TCP", "sctp", "6", "tcp "] {
            let why = text.parse::<Protocol>().map_err(|invalid| invalid.why);
            assert_eq!(why, Err("expected tcp or udp"), "{text:?}");
        }
    }

    #[test]
    fn packets_are_forwarded_in_their_family() {
        /// Forward addresses, source, expected forward address.
        type Row<'a> = (&'a [&'a str], &'a str, Result<Option<&'a str>, &'a str>);
        let (four, six) = ("192.168.1.10:22", "[fd00::10]:22");
        let rows: [Row<'_>; 7] = [
            (&[], "192.0.2.7", Ok(None)),
            (&[], "2001:db8::7", Ok(None)),
            (&[four, six], "192.0.2.7", Ok(Some(four))),
            (&[four, six], "2001:db8::7", Ok(Some(six))),
            (&[six], "2001:db8::7", Ok(Some(six))),
            (&[four], "2001:db8::7", Err("service nas has no IPv6 forward address")),
            (&[six], "192.0.2.7", Err("service nas has no IPv4 forward address")),
        ];
        for (places, from, expected) in rows {
            let found = service(places).forward_for(from.parse().expect("an address"));
            let found =
                found.map(|place| place.map(|place| place.to_string())).map_err(|error| error.to_string());
            let expected = expected.map(|place| place.map(str::to_owned)).map_err(str::to_owned);
            assert_eq!(found, expected, "{places:?} {from}");
        }
    }

    #[test]
    fn a_service_has_one_forward_address_per_family() {
        /// Forward addresses, the sorted ones or the surplus one.
        type Row<'a> = (&'a [&'a str], Result<&'a [&'a str], &'a str>);
        let (four, six) = ("192.168.1.10:22", "[fd00::10]:22");
        let rows: [Row<'_>; 5] = [
            (&[], Ok(&[])),
            (&[six, four], Ok(&[four, six])),
            (&[four], Ok(&[four])),
            (&[four, six, "192.168.1.11:22"], Err("192.168.1.11:22")),
            (&[six, "[fd00::11]:22"], Err("[fd00::11]:22")),
        ];
        for (places, expected) in rows {
            let checked = service(places).checked().map_err(|invalid| invalid.text);
            assert_eq!(checked, expected.map(service).map_err(str::to_owned), "{places:?}");
        }
    }
}
