//! Packets over the loopback, with any header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::network::Family;

/// A raw socket over the loopback that takes the header from us.
pub(crate) struct Wire {
    socket: Socket,
    to: SockAddr,
}

impl Wire {
    pub(crate) fn open(family: Family) -> Result<Self> {
        let to: IpAddr = match family {
            Family::V4 => Ipv4Addr::LOCALHOST.into(),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        };
        Self::open_to(to)
    }

    /// To another address of this machine.
    pub(crate) fn open_to(to: IpAddr) -> Result<Self> {
        let domain = Domain::for_address(SocketAddr::new(to, 0));
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(255)))?;
        Ok(Self { socket, to: SocketAddr::new(to, 0).into() })
    }

    pub(crate) fn send(&self, packet: &[u8]) -> Result<()> {
        let sent = self.socket.send_to(packet, &self.to).context("sending")?;
        ensure!(sent == packet.len(), "{sent} bytes were sent");
        Ok(())
    }
}
