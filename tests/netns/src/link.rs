//! A second link of the gateway, with a host that has the same link-local address as the client.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    time::Duration,
};

use anyhow::Result;
use nix::net::if_::if_nametoindex;

use crate::{
    namespace,
    network::{CLIENT, Network},
    probe,
    process::shell,
    stranger::Stranger,
};

/// The network namespace of the host on the second link.
pub const NEIGHBOUR: &str = "neighbour";

/// The client's address, and that of its namesake.
pub const CLIENT_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);

/// The gateway's address on both links.
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// A host on one of the gateway's two links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The client, at the gateway's interface `gw`.
    Client,
    /// A stranger, at the gateway's interface `gw2`.
    Neighbour,
}

impl Link {
    /// Connects the second link, and gives both hosts the same link-local address.
    ///
    /// # Errors
    /// A command fails.
    pub fn set_up(_: &Network) -> Result<()> {
        shell("ip netns add neighbour && ip link add gw2 type veth peer name nb")?;
        shell("ip link set nb netns neighbour && ip link set gw2 up")?;
        for (host, wire) in [(CLIENT, "cl"), (NEIGHBOUR, "nb")] {
            let inside = |line: &str| shell(&format!("nsenter --net=/run/netns/{host} {line}"));
            inside(&format!("ip link set {wire} up"))?;
            // The address that comes from the interface's own number.
            inside(&format!("ip -6 addr flush dev {wire} scope link"))?;
            inside(&format!("ip addr add {CLIENT_ADDRESS}/64 dev {wire} nodad"))?;
        }
        for wire in ["gw", "gw2"] {
            shell(&format!("ip addr add {GATEWAY}/64 dev {wire} nodad"))?;
        }
        // The probe at the gateway tells connections apart by address and port.
        let ports = |host, range| namespace::at(host, || Ok(std::fs::write(PORTS, range)?));
        ports(CLIENT, "20000 39999")?;
        ports(NEIGHBOUR, "40000 59999")
    }

    fn host(self) -> (&'static str, &'static str) {
        match self {
            Self::Client => (CLIENT, "cl"),
            Self::Neighbour => (NEIGHBOUR, "nb"),
        }
    }

    /// The gateway, as the host writes it.
    #[must_use]
    pub fn gateway(self) -> String {
        format!("{GATEWAY}%{}", self.host().1)
    }

    fn port(self, port: u16) -> Result<SocketAddr> {
        let (host, wire) = self.host();
        let scope = namespace::at(host, || Ok(if_nametoindex(wire)?))?;
        Ok(SocketAddrV6::new(GATEWAY, port, 0, scope).into())
    }

    /// Whether the host can connect to a port of the gateway.
    ///
    /// # Errors
    /// The connection was refused or failed.
    pub fn connects(self, port: u16) -> Result<bool> {
        Ok(probe::connect(self.host().0, CLIENT_ADDRESS.into(), self.port(port)?)?.is_some())
    }

    /// Sends a datagram to a port of the gateway.
    ///
    /// # Errors
    /// The datagram could not be sent.
    pub fn send(self, port: u16, payload: &[u8]) -> Result<()> {
        self.send_from(0, port, payload)
    }

    /// Sends a datagram from a port of the host; 0: any.
    ///
    /// # Errors
    /// The datagram could not be sent.
    pub fn send_from(self, own: u16, port: u16, payload: &[u8]) -> Result<()> {
        let to = self.port(port)?;
        let mut from = probe::own(CLIENT_ADDRESS.into(), to);
        from.set_port(own);
        namespace::at(self.host().0, || {
            UdpSocket::bind(from)?.send_to(payload, to)?;
            Ok(())
        })
    }

    /// A stranger at this host, who tries a port of the gateway all the time.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn stranger(self, port: u16, pace: Duration) -> Result<Stranger> {
        let targets = vec![(IpAddr::from(CLIENT_ADDRESS), self.port(port)?)];
        namespace::at(self.host().0, || Stranger::here(targets, pace))
    }
}

/// The ports that connections of a host begin from.
const PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";
