//! Resolving hosts and sending knocks.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _, UdpSocket},
};

use anyhow::{Context as _, Result, bail};
use pkd_core::Port;

use crate::{
    datagram::{self, Path},
    model::{Families, Host, Hosts, Outlet, Request, Source},
    socket,
};

/// Sends one knock to each address of the hosts, of the allowed families; returns the addresses.
///
/// # Errors
/// The name cannot be resolved, or no knock could be sent.
pub(crate) fn send(request: &Request, port: Port) -> Result<Vec<SocketAddr>> {
    send_to_each(request, &addresses(request, port)?)
}

/// The addresses of the hosts, of the allowed families, with this port.
///
/// # Errors
/// The name cannot be resolved.
pub(crate) fn addresses(request: &Request, port: Port) -> Result<Vec<SocketAddr>> {
    resolve(&request.hosts, port, request.families)
}

/// The addresses of all hosts, each once, in their order.
///
/// # Errors
/// Nothing can be resolved.
pub(crate) fn resolve(hosts: &Hosts, port: Port, families: Families) -> Result<Vec<SocketAddr>> {
    merged(resolve_each(hosts, port, families))
}

/// What one host resolves to.
pub(crate) type Resolved<'a> = (&'a Host, Result<Vec<SocketAddr>>);

/// The addresses of each host, of the allowed families.
pub(crate) fn resolve_each(hosts: &Hosts, port: Port, families: Families) -> Vec<Resolved<'_>> {
    let resolve = |host: &Host| {
        let found = (host.as_str(), port.0).to_socket_addrs().context("cannot resolve")?;
        each_of(found, families)
    };
    hosts.iter().map(|host| (host, resolve(host))).collect()
}

/// All of them, each once. What cannot be resolved matters only if nothing can.
///
/// # Errors
/// Nothing can be resolved.
pub(crate) fn merged(resolved: Vec<Resolved<'_>>) -> Result<Vec<SocketAddr>> {
    let is_only = resolved.len() == 1;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for (host, addresses) in resolved {
        match addresses {
            Ok(addresses) => {
                let new: Vec<_> = addresses.into_iter().filter(|address| !found.contains(address)).collect();
                found.extend(new);
            }
            Err(error) if is_only => return Err(error),
            Err(error) => failures.push(format!("{host}: {error:#}")),
        }
    }
    if found.is_empty() {
        bail!("{}", failures.join("; "));
    }
    Ok(found)
}

/// Addresses of one family that are knocked at; a name for a whole network would be a flood.
const MOST_PER_FAMILY: usize = 8;

/// The addresses of these families: IPv4 first, each once, in the resolver's order.
///
/// # Errors
/// There is none.
pub(crate) fn each_of(
    found: impl Iterator<Item = SocketAddr>,
    families: Families,
) -> Result<Vec<SocketAddr>> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for address in found {
        let list = if address.is_ipv4() { &mut v4 } else { &mut v6 };
        if list.len() < MOST_PER_FAMILY && !list.contains(&address) {
            list.push(address);
        }
    }
    let (chosen, name) = match families {
        Families::Both => ([v4, v6].concat(), "address"),
        Families::V4 => (v4, "IPv4 address"),
        Families::V6 => (v6, "IPv6 address"),
    };
    if chosen.is_empty() {
        bail!("cannot resolve: no {name}");
    }
    Ok(chosen)
}

/// Sends each address its own knock, as a copy of the first would be a replay. One success is enough: a computer without
/// IPv6 can still reach a host that has both.
pub(crate) fn send_to_each(request: &Request, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>> {
    let mut reached = Vec::new();
    let mut failures = Vec::new();
    for &address in addresses {
        match send_knock(request, address) {
            Ok(()) => reached.push(address),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    if reached.is_empty() {
        bail!("{}", failures.join("; "));
    }
    Ok(reached)
}

fn send_knock(request: &Request, address: SocketAddr) -> Result<()> {
    let failed = || format!("cannot send to {address}");
    let outlet = &request.outlet;
    let mut socket =
        socket::udp(outlet, outlet.local(address)).with_context(|| cannot_send(outlet, address))?;
    let mut path = None;
    if request.source == Source::SamePort || datagram::may_be_bound(request) {
        let mut local = local_address(&socket, address).with_context(failed)?;
        path = Some(Path { local: local.ip(), destination: address.ip() });
        // Bind only the address that the datagram leaves from, which the knock may be bound to: another program may use the
        // port on others.
        local.set_port(if request.source == Source::SamePort { address.port() } else { 0 });
        socket = socket::udp(outlet, local).with_context(|| format!("cannot send from {local}"))?;
    }
    let payload = datagram::payload(request, Port(address.port()), path)?;
    socket.send_to(&payload, address).with_context(failed)?;
    Ok(())
}

/// The address that datagrams to `address` leave from. Nothing is sent.
fn local_address(socket: &UdpSocket, address: SocketAddr) -> io::Result<SocketAddr> {
    socket.connect(address)?;
    socket.local_addr()
}

/// The path that a knock takes to `address`.
///
/// # Errors
/// There is no route.
pub(crate) fn path(outlet: &Outlet, address: SocketAddr) -> Result<Path> {
    let socket = socket::udp(outlet, outlet.local(address)).with_context(|| cannot_send(outlet, address))?;
    let local = local_address(&socket, address).with_context(|| format!("cannot send to {address}"))?;
    Ok(Path { local: local.ip(), destination: address.ip() })
}

/// What cannot be done: names the interface and the source, if they were given.
pub(crate) fn cannot_send(outlet: &Outlet, address: SocketAddr) -> String {
    let interface = outlet.interface.as_ref().map_or(String::new(), |name| format!(" through {name}"));
    let source = outlet.source.map_or(String::new(), |source| format!(" from {source}"));
    format!("cannot send to {address}{source}{interface}")
}

/// Any address and port, of the same family.
#[cfg(feature = "desktop")]
pub(crate) fn wildcard(address: SocketAddr) -> SocketAddr {
    Outlet::default().local(address)
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use pkd_core::{Key, Tag};

    use super::*;
    use crate::model::{Bind, Format};

    #[test]
    fn every_address_of_the_families_is_used_once() {
        let both = ["[2001:db8::1]:9", "[2001:db8::2]:9", "192.0.2.1:9", "192.0.2.2:9"];
        let twice = ["192.0.2.1:9", "192.0.2.1:9"];
        let rows: [(&[&str], Families, &[&str]); 8] = [
            (&both, Families::Both, &["192.0.2.1:9", "192.0.2.2:9", "[2001:db8::1]:9", "[2001:db8::2]:9"]),
            (&both, Families::V4, &["192.0.2.1:9", "192.0.2.2:9"]),
            (&both, Families::V6, &["[2001:db8::1]:9", "[2001:db8::2]:9"]),
            (&both[..2], Families::Both, &["[2001:db8::1]:9", "[2001:db8::2]:9"]),
            (&both[..2], Families::V4, &[]),
            (&twice, Families::Both, &["192.0.2.1:9"]),
            (&both[2..], Families::V6, &[]),
            (&[], Families::Both, &[]),
        ];
        for (row, (found, families, expected)) in rows.into_iter().enumerate() {
            let chosen = each_of(found.iter().filter_map(|text| text.parse().ok()), families);
            let texts: Vec<_> = chosen.iter().flatten().map(SocketAddr::to_string).collect();
            assert_eq!(texts, expected, "row {row}");
            assert_eq!(chosen.is_err(), expected.is_empty(), "row {row}");
        }
    }

    #[test]
    fn one_reachable_address_is_enough() -> Result<()> {
        let gateway = UdpSocket::bind("127.0.0.1:0")?;
        let open = gateway.local_addr()?;
        // Sending to the broadcast address needs SO_BROADCAST.
        let closed = SocketAddr::from(([255; 4], open.port()));
        let request = Request {
            hosts: Hosts::one(Host::parse("gw")?),
            families: Families::Both,
            key: Key::parse("test")?,
            tag: Tag::default(),
            port: None,
            format: Format::Classic,
            bind: Bind::default(),
            action: pkd_core::format2::Request::Open,
            source: Source::Any,
            outlet: Outlet::default(),
            name: "gw".to_owned(),
            time_offset: 0,
            #[cfg(feature = "desktop")]
            window: pkd_core::Window::default(),
            services: Vec::new(),
        };
        let rows = [
            (vec![open, closed], Some(vec![open])),
            (vec![closed, open], Some(vec![open])),
            (vec![closed], None),
        ];
        for (row, (addresses, expected)) in rows.into_iter().enumerate() {
            assert_eq!(send_to_each(&request, &addresses).ok(), expected, "row {row}");
        }
        Ok(())
    }
}
