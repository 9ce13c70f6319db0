//! Notifications about changes of nftables, also those that `iptables-nft` makes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink, recv, socket_with},
};

use crate::{
    error::Error,
    message::{Message, attribute, kind},
    sets::refused,
};

/// `NFNLGRP_NFTABLES`, as a bit.
const GROUP: u32 = 1 << 6;

/// The kernel sends at most 32 KiB at a time.
const BUFFER: usize = 32 * 1024;

/// A netlink socket that the kernel notifies of changes.
pub struct Watch {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Watch {
    /// Starts listening. The socket becomes readable after a change.
    ///
    /// # Errors
    /// The kernel has no nftables.
    pub fn open() -> Result<Self, Error> {
        let open = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let family = AddressFamily::NETLINK;
            let socket = socket_with(family, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
            bind(&socket, &netlink::SocketAddrNetlink::new(0, GROUP))?;
            Ok(socket)
        };
        let socket = open().map_err(|errno| refused("watch nftables", errno))?;
        Ok(Self { socket, buffer: vec![0; BUFFER] })
    }

    /// Reads all notifications. Whether one of them concerns a table that `is_ours`; if some were lost, it is assumed.
    /// Changes made by the sockets `own`, of [`Nft::port`](crate::Nft::port), do not count.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn changed(&mut self, own: &[u32], is_ours: impl Fn(&str) -> bool) -> Result<bool, Error> {
        let mut changed = false;
        loop {
            let length = match recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return Ok(changed),
                Err(Errno::INTR) => continue,
                Err(Errno::NOBUFS) => {
                    changed = true;
                    continue;
                }
                Err(errno) => return Err(refused("read the notifications of nftables", errno)),
            };
            let mut rest = self.buffer.get(..length).unwrap_or_default();
            while let Ok(first) = NetlinkBuffer::new_checked(rest) {
                let step =
                    usize::try_from(first.length()).map_or(rest.len(), |length| length.next_multiple_of(4));
                let message = NetlinkMessage::<Message>::deserialize(rest);
                rest = rest.get(step..).unwrap_or_default();
                let Ok(message) = message else {
                    changed = true;
                    continue;
                };
                let NetlinkPayload::InnerMessage(inner) = &message.payload else { continue };
                let is_own = own.contains(&message.header.port_number);
                let is_generation = inner.kind() == kind::NEW_GENERATION;
                let table = inner.attributes().text(attribute::TABLE);
                changed |= !is_own && !is_generation && table.is_none_or(&is_ours);
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
