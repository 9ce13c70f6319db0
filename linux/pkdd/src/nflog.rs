//! Packets that a firewall's rule hands over: the kernel's NFLOG (`linux/netfilter/nfnetlink_log.h`).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader, NlasIterator,
};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
        socket,
        sockopt::{RcvBuf, RcvBufForce},
    },
};

/// Numbers of `linux/netfilter/nfnetlink_log.h`. Those of more than a byte go big endian.
mod number {
    /// `NFNL_SUBSYS_ULOG`, in the upper byte of a message's kind.
    const LOG: u16 = 4 << 8;
    /// `NFULNL_MSG_PACKET`.
    pub(super) const PACKET: u16 = LOG;
    /// `NFULNL_MSG_CONFIG`.
    pub(super) const CONFIG: u16 = LOG | 1;
    /// `NFULA_CFG_CMD`, and in it `NFULNL_CFG_CMD_BIND`.
    pub(super) const COMMAND: u16 = 1;
    pub(super) const BIND: u8 = 1;
    /// `NFULA_CFG_MODE`: 4 bytes to copy, then `NFULNL_COPY_PACKET`, then a byte of padding.
    pub(super) const MODE: u16 = 2;
    pub(super) const COPY_PACKET: u8 = 2;
    /// `NFULA_CFG_NLBUFSIZ`, bytes.
    pub(super) const BUFFER: u16 = 3;
    /// `NFULA_CFG_QTHRESH`, packets.
    pub(super) const THRESHOLD: u16 = 5;
    /// `NFULA_PAYLOAD`.
    pub(super) const PAYLOAD: u16 = 9;
}

/// `struct nfgenmsg`: family, version, group.
const GENERIC: usize = 4;

/// Bytes of a packet that are copied: 40 of IPv6, 8 of UDP, 56 of the knock, and room for options.
pub const SNAPLEN: u32 = 192;

/// Bytes that wait to be read at most: at a flood some hundred packets, which is some milliseconds.
const RECV_BUFFER: usize = 512 * 1024;

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
        if setsockopt(&socket, RcvBufForce, &RECV_BUFFER).is_err() {
            setsockopt(&socket, RcvBuf, &RECV_BUFFER)?;
        }
        let mut log = Self { socket, buffer: vec![0; 16 * 1024] };
        log.configure(group, &[DefaultNla::new(number::COMMAND, vec![number::BIND])])?;
        let mode = [&SNAPLEN.to_be_bytes()[..], &[number::COPY_PACKET, 0]].concat();
        log.configure(
            group,
            &[
                DefaultNla::new(number::MODE, mode),
                DefaultNla::new(number::THRESHOLD, 1_u32.to_be_bytes().to_vec()),
                // The kernel reserves it for each packet; the whole of one fits.
                DefaultNla::new(number::BUFFER, 512_u32.to_be_bytes().to_vec()),
            ],
        )?;
        Ok(log)
    }

    fn configure(&mut self, group: u16, words: &[DefaultNla]) -> io::Result<()> {
        let request = message(number::CONFIG, NLM_F_REQUEST | NLM_F_ACK, group, words);
        send(self.socket.as_raw_fd(), &request, MsgFlags::empty())?;
        // The kernel answers before send() returns. Packets of the group may come before the answer.
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            for message in Messages(self.buffer.get(..length).unwrap_or_default()) {
                if message.kind == NLMSG_ERROR
                    && let Some((code, _)) = message.payload.split_first_chunk::<4>()
                {
                    return match i32::from_ne_bytes(*code) {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                    };
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

/// A message for a group.
fn message(kind: u16, flags: u16, group: u16, words: &[DefaultNla]) -> Vec<u8> {
    const HEADER: usize = 16;
    let length = HEADER + GENERIC + words.buffer_len();
    let mut header = NetlinkHeader::default();
    header.length = u32::try_from(length).unwrap_or(u32::MAX);
    header.message_type = kind;
    header.flags = flags;
    let mut bytes = vec![0; length];
    let (head, rest) = bytes.split_at_mut(HEADER);
    header.emit(head);
    let (generic, attributes) = rest.split_at_mut(GENERIC);
    // AF_UNSPEC, NFNETLINK_V0.
    generic.copy_from_slice(&[&[0, 0][..], &group.to_be_bytes()].concat());
    words.emit(attributes);
    bytes
}

/// The packets in what was read from a socket of NFLOG. What is none is passed over.
pub fn packets(bytes: &[u8], mut each: impl FnMut(&[u8])) {
    for message in Messages(bytes).filter(|message| message.kind == number::PACKET) {
        let attributes = message.payload.get(GENERIC..).unwrap_or_default();
        for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
            if attribute.kind() == number::PAYLOAD {
                each(attribute.value());
            }
        }
    }
}

/// The messages in one datagram of netlink, up to the first that cannot be read.
struct Messages<'a>(&'a [u8]);

struct Message<'a> {
    kind: u16,
    payload: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let buffer = NetlinkBuffer::new_checked(self.0).ok()?;
        // Each begins at a multiple of 4 bytes.
        let length = usize::try_from(buffer.length()).ok()?.next_multiple_of(4);
        let message = Message { kind: buffer.message_type(), payload: buffer.payload() };
        self.0 = self.0.get(length..).unwrap_or_default();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(payload: &[u8]) -> Vec<u8> {
        // NFULA_MARK before it, and a length that is no multiple of 4.
        let words =
            [DefaultNla::new(2, vec![0, 0, 0, 5]), DefaultNla::new(number::PAYLOAD, payload.to_vec())];
        message(number::PACKET, 0, 7, &words)
    }

    fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        packets(bytes, |packet| found.push(packet.to_vec()));
        found
    }

    #[test]
    fn packets_are_taken_out_of_their_messages() {
        let (one, two) = (packet(&[1; 5]), packet(&[2; 84]));
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
            let mut almost = packet(&[1; 60]);
            if let Some(place) = almost.get_mut(at) {
                *place = byte;
            }
            read(&almost);
        }
    }
}
