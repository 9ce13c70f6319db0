//! A netlink socket to netfilter: requests and transactions.

use std::{os::fd::OwnedFd, time::Duration};

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use rustix::{
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, netlink, recv, send,
        socket_with,
        sockopt::{
            Timeout, set_socket_send_buffer_size, set_socket_send_buffer_size_force, set_socket_timeout,
        },
    },
};

use crate::message::{Attributes, Message, attribute, kind};

/// The kernel answers at once; this only limits the wait for a lost answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The kernel sends at most 32 KiB at a time (`netlink_dump()`).
const BUFFER: usize = 32 * 1024;

/// What every socket can send at once, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// The generation counter of the ruleset, modulo 2³².
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(pub(crate) u32);

/// The answer to one request.
pub(crate) type Reply = Result<Message, Errno>;

/// An operation of a transaction.
pub(crate) struct Operation {
    pub(crate) message: Message,
    /// Flags besides those that every operation has.
    pub(crate) flags: u16,
}

/// Why a transaction failed.
pub(crate) enum Abort {
    /// The ruleset is of another generation by now.
    Outdated,
    /// The kernel refuses.
    Refused(Errno),
}

pub(crate) struct Connection {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
    /// Bytes that the socket's buffer has room for.
    room: usize,
}

impl Connection {
    pub(crate) fn open() -> Result<Self, Errno> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::NETFILTER),
        )?;
        set_socket_timeout(&socket, Timeout::Recv, Some(TIMEOUT))?;
        connect(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER], room: SEND_BUFFER })
    }

    /// The number that the kernel knows the socket by.
    #[cfg(feature = "rules")]
    pub(crate) fn port(&self) -> Result<u32, Errno> {
        let address = rustix::net::getsockname(&self.socket)?;
        netlink::SocketAddrNetlink::try_from(address).map(|address| address.pid())
    }

    /// Sends several requests at once. Each gets one message as answer.
    pub(crate) fn request<const N: usize>(&mut self, requests: [Message; N]) -> Result<[Reply; N], Errno> {
        let mut bytes = Vec::new();
        let sequences = requests.map(|message| self.append(&mut bytes, message, NLM_F_REQUEST));
        self.send(&bytes)?;
        let mut answers = [const { None }; N];
        // Without permission, all requests get one common answer.
        while answers.iter().any(Option::is_none) && !answers.contains(&Some(Err(Errno::PERM))) {
            self.receive(|header, payload| {
                let place = sequences.iter().position(|sequence| *sequence == header.sequence_number);
                let Some(answer) = place.and_then(|place| answers.get_mut(place)) else { return };
                match payload {
                    NetlinkPayload::InnerMessage(message) => *answer = Some(Ok(message)),
                    NetlinkPayload::Error(error) => *answer = errno(error.raw_code()).map(Err),
                    _ => {}
                }
            })?;
        }
        Ok(answers.map(|answer| answer.unwrap_or(Err(Errno::PERM))))
    }

    /// Sends a request that is answered with an acknowledgement only.
    pub(crate) fn acknowledged(&mut self, message: Message, flags: u16) -> Result<(), Errno> {
        let mut bytes = Vec::new();
        let sequence = self.append(&mut bytes, message, NLM_F_REQUEST | NLM_F_ACK | flags);
        self.send(&bytes)?;
        let mut outcome = None;
        while outcome.is_none() {
            self.receive(|header, payload| {
                if let NetlinkPayload::Error(error) = payload
                    && header.sequence_number == sequence
                {
                    outcome = Some(errno(error.raw_code()));
                }
            })?;
        }
        outcome.flatten().map_or(Ok(()), Err)
    }

    /// Lists all objects of a kind. If they change meanwhile the request is repeated, so the result is consistent.
    pub(crate) fn dump(&mut self, message: &Message) -> Result<Vec<Message>, Errno> {
        self.dump_some(message, &mut |_| true)
    }

    /// The objects of a list that are wanted.
    pub(crate) fn dump_some(
        &mut self,
        message: &Message,
        is_wanted: &mut dyn FnMut(Attributes<'_>) -> bool,
    ) -> Result<Vec<Message>, Errno> {
        loop {
            let mut bytes = Vec::new();
            let sequence = self.append(&mut bytes, message.clone(), NLM_F_REQUEST | NLM_F_DUMP);
            self.send(&bytes)?;
            let mut found = Vec::new();
            let (mut end, mut interrupted) = (None, false);
            while end.is_none() {
                self.receive(|header, payload| {
                    if header.sequence_number != sequence {
                        return;
                    }
                    interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                    match payload {
                        NetlinkPayload::InnerMessage(message) if is_wanted(message.attributes()) => {
                            found.push(message);
                        }
                        NetlinkPayload::Done(done) => end = Some(errno(done.code)),
                        NetlinkPayload::Error(error) => end = Some(errno(error.raw_code())),
                        _ => {}
                    }
                })?;
            }
            match end.flatten() {
                Some(Errno::INTR) => {}
                Some(error) => return Err(error),
                None if interrupted => {}
                None => return Ok(found),
            }
        }
    }

    /// Commits all operations, of which there must be one, or none, and only if the ruleset is still of this generation.
    pub(crate) fn commit(&mut self, generation: Generation, operations: Vec<Operation>) -> Result<(), Abort> {
        let mut bytes = Vec::new();
        let generation = DefaultNla::new(attribute::BATCH_GENERATION, generation.0.to_be_bytes().to_vec());
        let begin = Message::frame(kind::BATCH_BEGIN, &[generation]);
        let begin = self.append(&mut bytes, begin, NLM_F_REQUEST);
        // Errors are always answered. One acknowledgement at the end is enough: many would not fit into the socket's buffer.
        let last = operations.len().checked_sub(1);
        let mut end = begin;
        for (index, Operation { message, flags }) in operations.into_iter().enumerate() {
            let acknowledge = if Some(index) == last { NLM_F_ACK } else { 0 };
            end = self.append(&mut bytes, message, NLM_F_REQUEST | acknowledge | flags);
        }
        let after = self.append(&mut bytes, Message::frame(kind::BATCH_END, &[]), NLM_F_REQUEST);
        self.send(&bytes).map_err(Abort::Refused)?;
        let mut outcome = None;
        let mut is_over = false;
        while !is_over {
            self.receive(|header, payload| {
                let NetlinkPayload::Error(error) = payload else { return };
                let number = header.sequence_number;
                // An error of the batch concerns all operations, and may be the only one.
                is_over |= number == end || number == begin;
                // Sequence numbers wrap around.
                if number.wrapping_sub(begin) <= after.wrapping_sub(begin) {
                    outcome = outcome.or(errno(error.raw_code()));
                }
            })
            .map_err(Abort::Refused)?;
        }
        match outcome {
            None => Ok(()),
            // The number differs on MIPS.
            Some(Errno::RESTART) => Err(Abort::Outdated),
            Some(error) => Err(Abort::Refused(error)),
        }
    }

    /// Returns the sequence number, which identifies the answer.
    fn append(&mut self, bytes: &mut Vec<u8>, message: Message, flags: u16) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut whole = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        whole.finalize();
        let start = bytes.len();
        bytes.resize(start.saturating_add(whole.buffer_len().next_multiple_of(4)), 0);
        if let Some(place) = bytes.get_mut(start..) {
            whole.serialize(place);
        }
        self.sequence
    }

    /// The kernel takes a message whole, and only if the socket's buffer has room for it and for what it keeps beside it.
    fn send(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let room = bytes.len().saturating_mul(2);
        if room > self.room {
            // Beyond the system's limit for everyone, which 2,000 elements of a set reach, only who may change rules anyway.
            let forced = set_socket_send_buffer_size_force(&self.socket, room);
            forced.or_else(|_| set_socket_send_buffer_size(&self.socket, room))?;
            self.room = room;
        }
        retry_on_intr(|| send(&self.socket, bytes, SendFlags::empty())).map(drop)
    }

    /// Receives one datagram. It may also contain answers to abandoned requests.
    fn receive(&mut self, mut each: impl FnMut(NetlinkHeader, NetlinkPayload<Message>)) -> Result<(), Errno> {
        let (socket, buffer) = (&self.socket, self.buffer.as_mut_slice());
        let (length, whole) = retry_on_intr(|| recv(socket, &mut *buffer, RecvFlags::TRUNC))?;
        if whole > length {
            return Err(Errno::MSGSIZE);
        }
        let mut rest = self.buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let first = NetlinkBuffer::new_checked(rest).map_err(|_| Errno::BADMSG)?;
            let step =
                usize::try_from(first.length()).map_or(rest.len(), |length| length.next_multiple_of(4));
            let message = NetlinkMessage::deserialize(rest).map_err(|_| Errno::BADMSG)?;
            each(message.header, message.payload);
            rest = rest.get(step..).unwrap_or_default();
        }
        Ok(())
    }
}

/// The error of a netlink code, which is negative; zero is success.
fn errno(code: i32) -> Option<Errno> {
    (code != 0).then(|| Errno::from_raw_os_error(code.saturating_neg()))
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NetlinkSerializable as _;

    use super::*;
    use crate::message::text;

    #[test]
    fn messages_are_padded_and_numbered() -> Result<(), Errno> {
        let mut connection = Connection::open()?;
        let mut bytes = Vec::new();
        // The second is padded to a multiple of 4: its last attribute is not.
        let messages = [
            (Message::frame(kind::BATCH_BEGIN, &[]), 1),
            (Message::new(kind::GET_SET, &[text(1, "fw4x")]), 5),
        ];
        let mut expected = Vec::new();
        for (number, (message, flags)) in (1_u32..).zip(messages) {
            let length = u32::try_from(16 + message.buffer_len()).expect("it is short");
            expected.extend(length.to_ne_bytes());
            expected.extend([message.message_type(), flags].map(u16::to_ne_bytes).concat());
            expected.extend(number.to_ne_bytes());
            expected.extend(0_u32.to_ne_bytes());
            let start = expected.len();
            expected.resize(start + message.buffer_len(), 0);
            message.serialize(&mut expected[start..]);
            expected.resize(expected.len().next_multiple_of(4), 0);
            assert_eq!(connection.append(&mut bytes, message, flags), number);
        }
        assert_eq!(bytes, expected);
        Ok(())
    }

    #[test]
    fn sequence_numbers_wrap_around() -> Result<(), Errno> {
        let mut connection = Connection::open()?;
        connection.sequence = u32::MAX;
        assert_eq!(connection.append(&mut Vec::new(), Message::frame(kind::BATCH_END, &[]), 0), 0);
        Ok(())
    }

    #[test]
    fn a_code_is_a_negative_errno() {
        let rows = [(0, None), (-2, Some(Errno::NOENT)), (-1, Some(Errno::PERM)), (-17, Some(Errno::EXIST))];
        for (code, expected) in rows {
            assert_eq!(errno(code), expected, "{code}");
        }
    }
}
