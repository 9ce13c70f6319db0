//! Where the packets of a service go that is on another host.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    str::FromStr,
};

use crate::{invalid::Invalid, ports::Ports};

/// Where a service on another host is: packets from granted addresses are forwarded there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Forward {
    pub(crate) host: IpAddr,
    /// `None`: the port stays the same.
    pub(crate) port: Option<NonZeroU16>,
}

impl Forward {
    /// The address of the host; of the same family as the grant.
    #[must_use]
    pub const fn host(&self) -> IpAddr {
        self.host
    }

    /// The port there; `None`: packets keep theirs.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port.map(NonZeroU16::get)
    }

    /// The address as a service with these ports has it: with the port if there is one, and without if there are several.
    ///
    /// # Errors
    /// There are several ports, and the address names one.
    pub fn of(self, ports: &Ports) -> Result<Self, Invalid> {
        match (ports.single(), self.port) {
            (Some(port), None) => Ok(Self { port: NonZeroU16::new(port), ..self }),
            (None, Some(_)) => Err(Invalid::new(
                "forward",
                &self.to_string(),
                "several ports keep their numbers: leave out the port",
            )),
            _ => Ok(self),
        }
    }
}

impl FromStr for Forward {
    type Err = Invalid;

    /// Parses `192.168.1.10:22` or `[fd00::10]:22`, and without a port `192.168.1.10` or `[fd00::10]`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |invalid: Invalid| Invalid { text: text.to_owned(), ..invalid };
        if let Ok(to) = text.parse::<SocketAddr>() {
            return to.try_into().map_err(invalid);
        }
        // Without brackets, a port could be taken for a part of the address.
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match inner {
            Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => text.parse().ok().filter(IpAddr::is_ipv4),
        };
        let form = "expected ADDRESS:PORT, or ADDRESS to keep the port; IPv6 in brackets";
        let host = host.ok_or_else(|| Invalid::new("forward", text, form))?;
        check(host).map_err(|why| Invalid::new("forward", text, why))?;
        Ok(Self { host, port: None })
    }
}

impl TryFrom<SocketAddr> for Forward {
    type Error = Invalid;

    /// A firewall cannot forward to every address, nor to port 0.
    fn try_from(to: SocketAddr) -> Result<Self, Invalid> {
        let wrong = |why| Invalid::new("forward", &to.to_string(), why);
        let port = NonZeroU16::new(to.port()).ok_or_else(|| wrong("port must not be 0"))?;
        check(to.ip()).map_err(wrong)?;
        Ok(Self { host: to.ip(), port: Some(port) })
    }
}

fn check(host: IpAddr) -> Result<(), &'static str> {
    let local_only = matches!(host, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if host.is_unspecified() || host.is_loopback() || host.is_multicast() || local_only {
        return Err("cannot forward to this address");
    }
    if host.to_canonical() != host {
        return Err("IPv4 address in IPv6 notation");
    }
    Ok(())
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.host) {
            (Some(port), host) => SocketAddr::new(host, port.get()).fmt(f),
            (None, IpAddr::V4(host)) => host.fmt(f),
            (None, IpAddr::V6(host)) => write!(f, "[{host}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_address_is_another_host() {
        let form = "expected ADDRESS:PORT, or ADDRESS to keep the port; IPv6 in brackets";
        let nowhere = "cannot forward to this address";
        let rows = [
            ("192.168.1.10:22", None),
            ("[fd00::10]:22", None),
            ("[fec0::1]:1", None),
            ("192.168.1.10", None),
            ("[fd00::10]", None),
            // It could be a port that is meant.
            ("fd00::10:22", Some(form)),
            ("fd00::10", Some(form)),
            ("[192.168.1.10]", Some(form)),
            ("192.168.1.10:", Some(form)),
            ("[fd00::10", Some(form)),
            ("127.0.0.1", Some(nowhere)),
            ("[fe80::1]", Some(nowhere)),
            ("fd00::10:22x", Some(form)),
            ("nas:22", Some(form)),
            ("192.168.1.10:0", Some("port must not be 0")),
            ("0.0.0.0:22", Some(nowhere)),
            ("[::]:22", Some(nowhere)),
            ("127.0.0.1:22", Some(nowhere)),
            ("[::1]:22", Some(nowhere)),
            ("224.0.0.1:22", Some(nowhere)),
            ("[ff02::1]:22", Some(nowhere)),
            ("[fe80::1]:22", Some(nowhere)),
            ("[::ffff:192.168.1.10]:22", Some("IPv4 address in IPv6 notation")),
        ];
        for (text, why) in rows {
            match (text.parse::<Forward>(), why) {
                (Ok(forward), None) => assert_eq!(forward.to_string(), text),
                (Err(invalid), Some(why)) => assert_eq!((invalid.text.as_str(), invalid.why), (text, why)),
                (read, _) => panic!("{text}: {read:?}"),
            }
        }
    }

    #[test]
    fn several_ports_keep_their_numbers() {
        let several = "several ports keep their numbers: leave out the port";
        let rows = [
            ("22", "192.168.1.10:2222", Ok("192.168.1.10:2222")),
            ("22", "192.168.1.10", Ok("192.168.1.10:22")),
            ("22", "[fd00::10]", Ok("[fd00::10]:22")),
            ("22-23", "192.168.1.10", Ok("192.168.1.10")),
            ("22,80", "[fd00::10]", Ok("[fd00::10]")),
            ("22-23", "192.168.1.10:22", Err(several)),
            ("22,80", "[fd00::10]:80", Err(several)),
        ];
        for (ports, text, expected) in rows {
            let (ports, forward): (Ports, Forward) =
                (ports.parse().expect("ports"), text.parse().expect("an address"));
            let found = forward.of(&ports).map(|forward| forward.to_string());
            let found = found.map_err(|invalid| invalid.why);
            assert_eq!(found, expected.map(str::to_owned), "{ports} {text}");
        }
    }
}
