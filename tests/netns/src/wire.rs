//! Whole frames on a network interface, as a switch or a bridge handles them.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
            sockopt::ReceiveTimeout,
        },
        time::TimeVal,
    },
};

/// The longest frame, in bytes: with what a network card would still cut into pieces.
const LONGEST: usize = 65_600;

/// An interface in the network namespace of this thread.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// Opens an interface. Frames that its host sends can be received from then on.
    ///
    /// # Errors
    /// There is no such interface, or this is not root of the namespace.
    pub fn open(name: &str) -> Result<Self> {
        let addresses = getifaddrs()?.filter(|address| address.interface_name == name);
        let mut links = addresses.filter_map(|address| address.address?.as_link_addr().copied());
        let link = links.next().with_context(|| format!("no interface {name}"))?;
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        bind(socket.as_raw_fd(), &link)?;
        Ok(Self { socket })
    }

    /// Sends a frame to the other end.
    ///
    /// # Errors
    /// The interface is down.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }

    /// Receives the next frame, without an FCS. `None`: there was none within the limit.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn receive(&self, limit: Duration) -> Result<Option<Vec<u8>>> {
        let limit = i64::try_from(limit.as_micros().max(1))?;
        setsockopt(&self.socket, ReceiveTimeout, &TimeVal::new(limit / 1_000_000, limit % 1_000_000))?;
        let mut bytes = vec![0; LONGEST];
        match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            Ok(length) => {
                bytes.truncate(length);
                Ok(Some(bytes))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
