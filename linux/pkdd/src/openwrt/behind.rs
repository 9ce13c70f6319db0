//! Services on hosts behind the router: the options `dest_ip` and `dest_port`, and the rules that they become.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv6Addr},
};

use pktables::Protocol;

use super::{
    options::{one, words},
    uci::UciOption,
};
use crate::config::{Error, ServiceConfig, error::Section, values::Number};

/// Where a service is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Behind {
    /// At most one of each address family.
    hosts: Vec<Host>,
    /// The port there; `None`: the one at the router.
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    /// The last 64 bits of an IPv6 address; the provider may change the others. A connection to the router cannot be sent on
    /// there.
    Suffix(Ipv6Addr),
}

/// The rules of a service for both chains.
pub(crate) struct Rules {
    pub(crate) dstnat: String,
    pub(crate) forward: String,
}

/// Who may reach it: a family's word in nft, the sender of a packet, and the set that must have it.
pub(crate) struct Senders<'a> {
    pub(crate) v6: bool,
    pub(crate) sender: &'a str,
    pub(crate) set: &'a str,
}

impl Behind {
    /// Reads the two options of a section; others are none of ours.
    pub(crate) fn read(section: &Section, options: &[UciOption]) -> Result<Self, Error> {
        let mut behind = Self::default();
        for option in options {
            match option.name.as_str() {
                "dest_ip" => {
                    for text in words(option) {
                        behind.add(section, &text)?;
                    }
                }
                "dest_port" => {
                    let number: Number = one(section, option)?.into();
                    let port =
                        number.get().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
                    let wrong = || section.invalid("dest_port", &number, "expected 1–65535");
                    behind.port = Some(port.ok_or_else(wrong)?);
                }
                _ => {}
            }
        }
        if behind.port.is_some() && behind.hosts.is_empty() {
            return Err(section.missing("dest_ip", "dest_port is the port on another host"));
        }
        Ok(behind)
    }

    fn add(&mut self, section: &Section, text: &str) -> Result<(), Error> {
        let host = Host::parse(text).map_err(|expected| section.invalid("dest_ip", text, expected))?;
        if self.hosts.iter().any(|other| other.is_ipv6() == host.is_ipv6()) {
            let message = "two addresses of one family in dest_ip: name one host for each service";
            return Err(section.at("dest_ip", message.to_owned()));
        }
        self.hosts.push(host);
        Ok(())
    }

    /// Several ports keep their numbers. What the host sends would be taken for a connection that it begins, and let through.
    pub(crate) fn check(&self, section: &Section, config: &ServiceConfig) -> Result<(), Error> {
        if config.end_connections && !self.is_here() {
            let message = "end_connections does not work with dest_ip: remove one";
            return Err(section.at("end_connections", message.to_owned()));
        }
        if self.port.is_some() && config.service.ports.single().is_none() {
            let message = "several ports keep their numbers: remove dest_port";
            return Err(section.at("dest_port", message.to_owned()));
        }
        Ok(())
    }

    /// Whether the service is on the router itself.
    pub(crate) fn is_here(&self) -> bool {
        self.hosts.is_empty()
    }

    /// The rules for packets of a family. A packet to the host's own address needs no new destination.
    pub(crate) fn rules(&self, name: &str, protocol: Protocol, ports: &str, from: &Senders<'_>) -> Rules {
        let mut rules = Rules { dstnat: String::new(), forward: String::new() };
        let Senders { v6, sender, set } = from;
        let (family, ip) = if *v6 { ("ipv6", "ip6") } else { ("ipv4", "ip") };
        for host in self.hosts.iter().filter(|host| host.is_ipv6() == *v6) {
            if let Host::Address(address) = host {
                let to = match (self.port, v6) {
                    (None, _) => address.to_string(),
                    (Some(port), false) => format!("{address}:{port}"),
                    (Some(port), true) => format!("[{address}]:{port}"),
                };
                let _ = writeln!(
                    rules.dstnat,
                    "\tmeta nfproto {family} fib daddr type local {protocol} dport {ports} {sender} @{set} dnat {ip} to {to} comment \"pkd: {name}\""
                );
            }
            let destination = match host {
                Host::Address(address) => format!("{ip} daddr {address}"),
                Host::Suffix(suffix) => format!("ip6 daddr & ::ffff:ffff:ffff:ffff == {suffix}"),
            };
            let there = self.port.map_or_else(|| ports.to_owned(), |port| port.to_string());
            let _ = writeln!(
                rules.forward,
                "\tmeta nfproto {family} {destination} {protocol} dport {there} ct state new {sender} @{set} accept comment \"pkd: {name}\""
            );
        }
        rules
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected an IPv4 or IPv6 address, or the end of one such as ::10/-64";
        if let Some(suffix) = text.strip_suffix("/-64") {
            let suffix: Ipv6Addr = suffix.parse().map_err(|_| EXPECTED)?;
            let is_end = suffix.segments()[..4] == [0; 4] && !suffix.is_unspecified();
            return is_end.then_some(Self::Suffix(suffix)).ok_or(EXPECTED);
        }
        let address: IpAddr = text.parse().map_err(|_| EXPECTED)?;
        let is_of_a_host = match address {
            IpAddr::V4(v4) => !v4.is_broadcast() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none(),
        };
        let is_of_a_host =
            is_of_a_host && !address.is_unspecified() && !address.is_loopback() && !address.is_multicast();
        is_of_a_host
            .then_some(Self::Address(address))
            .ok_or("expected the address of a host behind the router")
    }

    fn is_ipv6(&self) -> bool {
        !matches!(self, Self::Address(IpAddr::V4(_)))
    }
}
