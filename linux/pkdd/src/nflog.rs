//! Packets from firewall rules, over the kernel's NFLOG (`linux/netfilter/nfnetlink_log.h`).

use std::{
    io,
    num::NonZeroU32,
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

/// Constants of `linux/netfilter/nfnetlink_log.h`. Attribute values of more than one byte are big endian.
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
    /// `NFULA_IFINDEX_INDEV`.
    pub(super) const ARRIVED_ON: u16 = 4;
    /// `NFULA_PAYLOAD`.
    pub(super) const PAYLOAD: u16 = 9;
}

/// `struct nfgenmsg`: family, version, group.
const GENERIC: usize = 4;

/// Bytes copied of each packet: 40 of IPv6, 8 of UDP, 56 of the knock, and the rest for options.
pub const SNAPLEN: u32 = 192;

/// Size of the receive buffer in bytes. In a flood it holds several hundred packets, a few milliseconds.
const RECV_BUFFER: usize = 512 * 1024;

/// A socket bound to an NFLOG group.
#[derive(Debug)]
pub struct Nflog {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// A packet from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged<'a> {
    /// The packet, from its IP header on.
    pub packet: &'a [u8],
    /// The kernel's index of the interface that it arrived on; `None`: it is from this host.
    pub interface: Option<NonZeroU32>,
}

/// The result of [`Nflog::receive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// One or more packets.
    Some,
    /// No packets were queued.
    Nothing,
    /// The buffer was full, and the kernel dropped packets.
    Overrun,
}

impl Nflog {
    /// Binds to the group. The kernel delivers each packet at once, without batching.
    ///
    /// # Errors
    /// `PermissionDenied` without `CAP_NET_ADMIN` in the user namespace that owns the network namespace, `ResourceBusy`
    /// if another program is bound to the group.
    pub fn open(group: u16) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // RcvBufForce needs CAP_NET_ADMIN in the initial user namespace; RcvBuf is limited, but enough.
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
                // The kernel allocates it for each packet; one packet fits.
                DefaultNla::new(number::BUFFER, 512_u32.to_be_bytes().to_vec()),
            ],
        )?;
        Ok(log)
    }

    fn configure(&mut self, group: u16, attributes: &[DefaultNla]) -> io::Result<()> {
        let request = message(number::CONFIG, NLM_F_REQUEST | NLM_F_ACK, group, attributes);
        send(self.socket.as_raw_fd(), &request, MsgFlags::empty())?;
        // The kernel answers before send() returns. Packets of the group may precede the answer.
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

    /// Reads one datagram from the kernel, without waiting, and passes its packets to `each`.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn receive(&mut self, mut each: impl FnMut(Logged<'_>)) -> io::Result<Received> {
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

/// A netlink message for a group.
fn message(kind: u16, flags: u16, group: u16, attributes: &[DefaultNla]) -> Vec<u8> {
    const HEADER: usize = 16;
    let length = HEADER + GENERIC + attributes.buffer_len();
    let mut header = NetlinkHeader::default();
    header.length = u32::try_from(length).unwrap_or(u32::MAX);
    header.message_type = kind;
    header.flags = flags;
    let mut bytes = vec![0; length];
    let (head, rest) = bytes.split_at_mut(HEADER);
    header.emit(head);
    let (generic, body) = rest.split_at_mut(GENERIC);
    // AF_UNSPEC, NFNETLINK_V0.
    generic.copy_from_slice(&[&[0, 0][..], &group.to_be_bytes()].concat());
    attributes.emit(body);
    bytes
}

/// Passes the packets in a datagram from an NFLOG socket to `each`. Other messages are skipped.
pub fn packets(bytes: &[u8], mut each: impl FnMut(Logged<'_>)) {
    for message in Messages(bytes).filter(|message| message.kind == number::PACKET) {
        let attributes = message.payload.get(GENERIC..).unwrap_or_default();
        let mut interface = None;
        // The kernel puts the payload last.
        for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
            match attribute.kind() {
                number::ARRIVED_ON => {
                    let index = attribute.value().try_into().map_or(0, u32::from_be_bytes);
                    interface = NonZeroU32::new(index);
                }
                number::PAYLOAD => each(Logged { packet: attribute.value(), interface }),
                _ => {}
            }
        }
    }
}

/// The messages in a netlink datagram, up to the first invalid one.
struct Messages<'a>(&'a [u8]);

struct Message<'a> {
    kind: u16,
    payload: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let buffer = NetlinkBuffer::new_checked(self.0).ok()?;
        // Messages are aligned to 4 bytes.
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
        packet_on(&[0, 0, 1, 3], payload)
    }

    fn packet_on(interface: &[u8], payload: &[u8]) -> Vec<u8> {
        // NFULA_MARK precedes them.
        let attributes = [
            DefaultNla::new(2, vec![0, 0, 0, 5]),
            DefaultNla::new(number::ARRIVED_ON, interface.to_vec()),
            DefaultNla::new(number::PAYLOAD, payload.to_vec()),
        ];
        message(number::PACKET, 0, 7, &attributes)
    }

    fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        packets(bytes, |logged| found.push(logged.packet.to_vec()));
        found
    }

    #[test]
    fn packets_are_extracted_from_their_messages() {
        let (one, two) = (packet(&[1; 5]), packet(&[2; 84]));
        assert_eq!(read(&one), [vec![1; 5]]);
        assert_eq!(read(&[&one[..], &two].concat()), [vec![1; 5], vec![2; 84]]);
        // The second message is truncated.
        assert_eq!(read(&[&one[..], &two[..two.len() - 4]].concat()), [vec![1; 5]]);
    }

    #[test]
    fn the_interface_is_a_number_above_0_of_4_bytes() {
        // the attribute, the interface
        let rows: [(&[u8], Option<u32>); 6] = [
            (&[0, 0, 0, 3], Some(3)),
            (&[1, 2, 3, 4], Some(0x0102_0304)),
            (&[0, 0, 0, 0], None),
            (&[], None),
            (&[0, 0, 3], None),
            (&[0, 0, 0, 3, 0], None),
        ];
        for (bytes, expected) in rows {
            // That of one packet says nothing about the next.
            let both =
                [packet_on(bytes, &[1]), message(number::PACKET, 0, 7, &[DefaultNla::new(9, vec![2])])];
            let mut found = Vec::new();
            packets(&both.concat(), |logged| found.push(logged.interface.map(NonZeroU32::get)));
            assert_eq!(found, [expected, None], "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic_or_an_endless_loop(
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
