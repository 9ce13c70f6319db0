//! The packet whose way is followed, and what can be said about it.

use std::{net::IpAddr, ops::RangeInclusive};

use pktables::{Interface, Protocol};

/// Whether a packet matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    Yes,
    No,
    /// It depends on the sender, on the interface, or on something that is not followed.
    Unknown,
}

impl Truth {
    pub(super) fn of(is_so: bool) -> Self {
        if is_so { Self::Yes } else { Self::No }
    }

    pub(super) fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }

    pub(super) fn not_if(self, negated: bool) -> Self {
        if negated { self.not() } else { self }
    }

    /// Whether all match. One that certainly does not decides.
    pub(super) fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().fold(Self::Yes, |all, part| match (all, part) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            _ => Self::Yes,
        })
    }

    /// Whether at least one matches.
    pub(super) fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::all(parts.into_iter().map(Self::not)).not()
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

/// The first packet from an arbitrary address outside.
#[derive(Clone, Debug)]
pub(super) struct Packet<'a> {
    pub(super) family: Family,
    pub(super) protocol: Protocol,
    /// One of these; `None`: any.
    pub(super) port: Option<RangeInclusive<u16>>,
    /// Where it was forwarded to, and the port that it was sent to; `None`: to this host.
    pub(super) forwarded: Option<(IpAddr, RangeInclusive<u16>)>,
    /// The interfaces that it may arrive on; empty: any.
    pub(super) interfaces: &'a [Interface],
    /// Whether connection tracking has seen it.
    pub(super) is_tracked: bool,
}

/// Starts of the names of interfaces that lead to containers and virtual machines of this host.
const OF_GUESTS: [&str; 7] = ["docker", "br-", "veth", "virbr", "lxdbr", "lxcbr", "podman"];

/// Whether a port that is any one of `ports` is in a range.
pub(super) fn is_in(ports: &RangeInclusive<u16>, range: &RangeInclusive<u64>) -> Truth {
    let (first, last) = (u64::from(*ports.start()), u64::from(*ports.end()));
    match (range.contains(&first), range.contains(&last)) {
        (true, true) => Truth::Yes,
        (false, false) if last < *range.start() || first > *range.end() => Truth::No,
        _ => Truth::Unknown,
    }
}

impl Packet<'_> {
    pub(super) fn has_port(&self, range: RangeInclusive<u64>) -> Truth {
        match &self.port {
            Some(ports) => is_in(ports, &range),
            None if *range.start() <= 1 && *range.end() >= 65_535 => Truth::Yes,
            None => Truth::Unknown,
        }
    }

    /// Whether it arrives on an interface. `name` may end with `wildcard`.
    pub(super) fn arrives_on(&self, name: &str, wildcard: char) -> Truth {
        if name == "lo" {
            return Truth::No;
        }
        let is_it = |own: &str| match name.strip_suffix(wildcard) {
            Some(start) => own.starts_with(start),
            None => own == name,
        };
        if name.strip_suffix(wildcard) == Some("") {
            return Truth::Yes;
        }
        let fits = self.interfaces.iter().filter(|own| is_it(own.as_str())).count();
        match self.interfaces.len() {
            0 if OF_GUESTS.iter().any(|start| name.starts_with(start)) => Truth::No,
            0 => Truth::Unknown,
            all if fits == all => Truth::Yes,
            _ if fits == 0 => Truth::No,
            _ => Truth::Unknown,
        }
    }

    /// Whether the sender is in this network.
    pub(super) fn comes_from(&self, network: &str) -> Truth {
        self.is_in(network, None)
    }

    /// Whether it is sent to an address of this network.
    pub(super) fn goes_to(&self, network: &str) -> Truth {
        self.is_in(network, self.forwarded.as_ref().map(|(to, _)| *to))
    }

    fn is_in(&self, network: &str, address: Option<IpAddr>) -> Truth {
        let Some((from, length)) = network.split_once('/').or(Some((network, ""))) else {
            return Truth::Unknown;
        };
        let Ok(start) = from.parse::<IpAddr>() else { return Truth::Unknown };
        if start.is_ipv4() != (self.family == Family::V4) {
            return Truth::No;
        }
        let Ok(length) =
            (if length.is_empty() { Ok(if start.is_ipv4() { 32 } else { 128 }) } else { length.parse() })
        else {
            return Truth::Unknown;
        };
        let Ok(network) = ipnet::IpNet::new(start, length) else { return Truth::Unknown };
        match address {
            _ if length == 0 => Truth::Yes,
            Some(address) => Truth::of(network.contains(&address)),
            // Neither this host's address nor that of a sender outside.
            None if start.is_loopback() || start.is_multicast() => Truth::No,
            None => Truth::Unknown,
        }
    }

    /// Whether its state in connection tracking is one of these.
    pub(super) fn has_state<'s>(&self, states: impl Iterator<Item = &'s str>) -> Truth {
        let states: Vec<String> = states.map(str::to_ascii_lowercase).collect();
        let is_dnat = self.forwarded.is_some() && states.iter().any(|state| state == "dnat");
        match (self.is_tracked, states.iter().any(|state| state == "new")) {
            _ if is_dnat => Truth::Yes,
            (true, is_new) => Truth::of(is_new),
            (false, _) => Truth::Unknown,
        }
    }
}
