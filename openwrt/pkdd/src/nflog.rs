//! Packets that a firewall's rule hands over: the kernel's NFLOG (`linux/netfilter/nfnetlink_log.h`).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::{
    NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nflog::{ConfigCmd, ConfigMode, ConfigNla, PacketNla, ULogMessage, config_request},
};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
        socket,
        sockopt::{RcvBuf, RcvBufForce},
    },
};

/// Bytes of a packet that are copied: 40 of IPv6, 8 of UDP, 56 of the knock, and room for options.
pub const COPIED: u32 = 192;

/// Bytes that wait to be read at most: at a flood some hundred packets, which is some milliseconds.
const WAITING: usize = 512 * 1024;

/// A group that is ours alone.
#[derive(Debug)]
pub struct Nflog {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// What came of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// One or more packets.
    Some,
    /// Nothing waits.
    Nothing,
    /// So much waited that the kernel let some go.
    Overrun,
}

impl Nflog {
    /// Takes the group. A packet is handed over as soon as it is there.
    ///
    /// # Errors
    /// `PermissionDenied` without `CAP_NET_ADMIN` in the user namespace that owns this network,
    /// `ResourceBusy` where another program has the group.
    pub fn open(group: u16) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // Only with CAP_NET_ADMIN where the network was made; the usual size does too.
        if setsockopt(&socket, RcvBufForce, &WAITING).is_err() {
            setsockopt(&socket, RcvBuf, &WAITING)?;
        }
        let mut log = Self { socket, buffer: vec![0; 16 * 1024] };
        log.configure(group, vec![ConfigCmd::Bind.into()])?;
        log.configure(
            group,
            vec![
                ConfigMode::new_packet(COPIED).into(),
                ConfigNla::QThresh(1),
                // The kernel reserves it for each packet; the whole of one fits.
                ConfigNla::NlBufSiz(512),
            ],
        )?;
        Ok(log)
    }

    fn configure(&mut self, group: u16, words: Vec<ConfigNla>) -> io::Result<()> {
        let request = config_request(NetfilterProtoFamily::Unspec, group, words);
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        // The kernel answers before send() returns. Packets of the group may come before the answer.
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            for message in Messages(self.buffer.get(..length).unwrap_or_default()) {
                if let NetlinkPayload::Error(error) = message.payload {
                    return error.code.map_or(Ok(()), |_| Err(error.to_io()));
                }
            }
        }
    }

    /// Reads what the kernel hands over next, without waiting for it. `each` gets the packets, from their IP
    /// headers on.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn receive(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<Received> {
        let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
            Ok(length) => length,
            Err(Errno::EAGAIN) => return Ok(Received::Nothing),
            Err(Errno::ENOBUFS) => return Ok(Received::Overrun),
            Err(Errno::EINTR) => return Ok(Received::Some),
            Err(error) => return Err(error.into()),
        };
        packets(self.buffer.get(..length).unwrap_or_default(), &mut each);
        Ok(Received::Some)
    }
}

impl AsFd for Nflog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The packets in what was read from a socket of NFLOG. What is none is passed over.
pub fn packets(bytes: &[u8], mut each: impl FnMut(&[u8])) {
    for message in Messages(bytes) {
        let NetlinkPayload::InnerMessage(NetfilterMessage {
            inner: NetfilterMessageInner::ULog(ULogMessage::Packet(words)),
            ..
        }) = message.payload
        else {
            continue;
        };
        for word in words {
            if let PacketNla::Payload(packet) = word {
                each(&packet);
            }
        }
    }
}

/// The messages in one datagram of netlink, up to the first that cannot be read.
struct Messages<'a>(&'a [u8]);

impl Iterator for Messages<'_> {
    type Item = NetlinkMessage<NetfilterMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        let message = NetlinkMessage::deserialize(self.0).ok()?;
        // Each begins at a multiple of 4 bytes. A length of 0 would never end.
        let length = usize::try_from(message.header.length).ok()?.next_multiple_of(4).max(4);
        self.0 = self.0.get(length..).unwrap_or_default();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NetlinkHeader;
    use netlink_packet_netfilter::NetfilterHeader;
    use proptest::prelude::*;

    use super::*;

    fn message(payload: &[u8]) -> Vec<u8> {
        let header = NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 7);
        let words = vec![PacketNla::Mark(5), PacketNla::Payload(payload.to_vec())];
        let inner = NetfilterMessage::new(header, ULogMessage::Packet(words));
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(inner));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        packets(bytes, |packet| found.push(packet.to_vec()));
        found
    }

    #[test]
    fn packets_are_taken_out_of_their_messages() {
        let (one, two) = (message(&[1; 5]), message(&[2; 84]));
        assert_eq!(read(&one), [vec![1; 5]]);
        assert_eq!(read(&[&one[..], &two].concat()), [vec![1; 5], vec![2; 84]]);
        // A part of the second is missing.
        assert_eq!(read(&[&one[..], &two[..two.len() - 4]].concat()), [vec![1; 5]]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_go_on_for_ever(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            at in 0_usize..100,
            byte: u8,
        ) {
            read(&bytes);
            let mut almost = message(&[1; 60]);
            if let Some(place) = almost.get_mut(at) {
                *place = byte;
            }
            read(&almost);
        }
    }
}
