//! Whether a gateway accepts TCP, judged by the packets on its interfaces and not by a timeout.
//!
//! A dropped packet gets no answer, but on a slow host an open port is silent for a while, too. So the gateway's own
//! interfaces are watched. A packet was dropped if it has come in, everything that came in with it has been processed,
//! and nothing has gone out for it: no answer, and not the packet itself on its way to another host.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    libc::PACKET_OUTGOING,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket},
    unistd::Pid,
};
use socket2::{Domain, SockFilter, Socket, Type};

use crate::{namespace, process::LIMIT};

/// The port that marks are sent to. No test guards it, and it does not matter whether it answers.
const MARK_PORT: u16 = 1;

/// Connects to `to` from this address of a host; `None` if the gateway, in whose namespace the caller is, drops it.
/// Reading from the connection fails after [`LIMIT`].
///
/// # Errors
/// The connection was refused, or took longer than [`LIMIT`].
pub fn connect(host: &str, from: IpAddr, to: SocketAddr) -> Result<Option<TcpStream>> {
    let socket = namespace::at(host, || bind(from, to))?;
    connect_watched(socket, to, |from| namespace::at(host, || marks(from, to)))
}

/// Like [`connect`], from the gateway to itself.
///
/// # Errors
/// See [`connect`].
pub fn connect_here(from: IpAddr, to: SocketAddr) -> Result<Option<TcpStream>> {
    connect_watched(bind(from, to)?, to, |from| marks(from, to))
}

/// The socket belongs to the host's namespace, the caller is in the gateway's.
fn connect_watched(
    socket: Socket,
    to: SocketAddr,
    marks: impl FnOnce(IpAddr) -> Result<Vec<Socket>>,
) -> Result<Option<TcpStream>> {
    let own = address(&socket)?;
    let wires = Wires::watch(own.port())?;
    begin(&socket, to)?;
    // The kernel answers a SYN at once.
    if wires.fate(1, own, to, || marks(own.ip()))? == Fate::Dropped {
        return Ok(None);
    }
    wait_for(&socket, PollFlags::POLLOUT, Instant::now() + LIMIT)?;
    if let Some(error) = socket.take_error()? {
        return Err(error).context("the connection was refused");
    }
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(LIMIT))?;
    Ok(Some(socket.into()))
}

/// Sends data on a host's connection, and returns the answer; `None` if the gateway, in whose namespace the caller is,
/// drops it.
///
/// # Errors
/// The connection has ended, or there is no answer for [`LIMIT`].
pub fn ask(host: &str, stream: &mut TcpStream, words: &[u8]) -> Result<Option<String>> {
    let (own, to) = (without_scope(stream.local_addr()?), stream.peer_addr()?);
    let wires = Wires::watch(own.port())?;
    stream.write_all(words)?;
    // A receiver may delay its acknowledgement, but not for data that it receives twice.
    let fate = wires.fate(2, own, to, || namespace::at(host, || marks(own.ip(), to)))?;
    if fate == Fate::Dropped {
        return Ok(None);
    }
    stream.set_read_timeout(Some(LIMIT))?;
    let mut bytes = [0; 64];
    let length = stream.read(&mut bytes).context("the data was let in, but there is no answer")?;
    Ok(Some(String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned()))
}

/// A socket with a port of its own.
fn bind(from: IpAddr, to: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&own(from, to).into())?;
    Ok(socket)
}

/// Sends the first packet of a connection, without waiting.
fn begin(socket: &Socket, to: SocketAddr) -> Result<()> {
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => {
            Err(error).context("the connection was refused")
        }
        _ => Ok(()),
    }
}

/// An address of a host, any port; a link-local one is on the link of `to`.
pub(crate) fn own(from: IpAddr, to: SocketAddr) -> SocketAddr {
    let mut own = SocketAddr::new(from, 0);
    if let (SocketAddr::V6(own), SocketAddr::V6(to)) = (&mut own, to) {
        own.set_scope_id(to.scope_id());
    }
    own
}

fn address(socket: &Socket) -> Result<SocketAddr> {
    socket.local_addr()?.as_socket().map(without_scope).context("a socket without an address")
}

/// As it is in packets.
fn without_scope(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

/// Sends a mark from each processor. Earlier packets have been processed when all marks have come in: a veth has one
/// queue per processor, and each is processed in order.
fn marks(from: IpAddr, mut to: SocketAddr) -> Result<Vec<Socket>> {
    to.set_port(MARK_PORT);
    let here = Pid::from_raw(0);
    let allowed = sched_getaffinity(here)?;
    let mut marks = Vec::new();
    for processor in 0..CpuSet::count() {
        if allowed.is_set(processor)? {
            let mut one = CpuSet::new();
            one.set(processor)?;
            sched_setaffinity(here, &one)?;
            let mark = bind(from, to)?;
            begin(&mark, to)?;
            marks.push(mark);
        }
    }
    sched_setaffinity(here, &allowed)?;
    Ok(marks)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It was answered or forwarded.
    LetIn,
    Dropped,
}

/// Captures the packets of one connection, and marks, on all interfaces of the current namespace.
struct Wires(Socket);

impl Wires {
    /// `port` is the client's.
    fn watch(port: u16) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let all = socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll)?;
        let wires = Self(all.into());
        // Other packets could fill the buffer: a flood, or the answers to earlier tries, which all leave at once when
        // neighbour discovery ends.
        let filter = packets_of(port).map(|(code, yes, no, word)| SockFilter::new(code, yes, no, word));
        wires.0.attach_filter(&filter)?;
        // So could packets that arrived before the filter was attached.
        while wires.receive(&mut [])?.is_some() {}
        Ok(wires)
    }

    /// The fate of data or a SYN from `own`. `copies` of it have to come in before `marks` are sent.
    fn fate(
        &self,
        copies: usize,
        own: SocketAddr,
        to: SocketAddr,
        marks: impl FnOnce() -> Result<Vec<Socket>>,
    ) -> Result<Fate> {
        let limit = Instant::now() + LIMIT;
        let mut end = None;
        for _ in 0..copies {
            loop {
                let seen = self.next(limit).with_context(|| format!("nothing of {own} came in"))?;
                if seen.lets_in(own, end) {
                    return Ok(Fate::LetIn);
                }
                if !seen.goes_out && seen.source == own && seen.length > 0 {
                    end = Some(seen.number.wrapping_add(seen.length));
                    break;
                }
            }
        }
        let sent = marks()?;
        let mut missing = sent.iter().map(address).collect::<Result<Vec<_>>>()?;
        while !missing.is_empty() {
            let seen = self.next(limit).with_context(|| format!("no mark of {own} reached {to}"))?;
            if seen.lets_in(own, end) {
                return Ok(Fate::LetIn);
            }
            missing.retain(|mark| seen.goes_out || seen.source != *mark);
        }
        Ok(Fate::Dropped)
    }

    /// The length of the next packet and its interface; `None`: there is none now.
    fn receive(&self, bytes: &mut [u8]) -> Result<Option<(usize, Option<LinkAddr>)>> {
        loop {
            return match recvfrom::<LinkAddr>(self.0.as_raw_fd(), bytes) {
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Ok(None),
                received => Ok(Some(received?)),
            };
        }
    }

    fn next(&self, limit: Instant) -> Result<Segment> {
        let mut bytes = [0; 128];
        loop {
            wait_for(&self.0, PollFlags::POLLIN, limit)?;
            let Some((length, link)) = self.receive(&mut bytes)? else { continue };
            let goes_out = link.context("a packet of no interface")?.pkttype() == PACKET_OUTGOING;
            let packet = bytes.get(..length).unwrap_or_default();
            if let Some(segment) = Segment::read(packet, goes_out) {
                return Ok(segment);
            }
        }
    }
}

fn wait_for(socket: &Socket, event: PollFlags, limit: Instant) -> Result<()> {
    loop {
        let left = limit.saturating_duration_since(Instant::now());
        ensure!(left > Duration::ZERO, "no packet after {} s", LIMIT.as_secs());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket.as_fd(), event)], left) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
}

/// A packet filter program (`linux/filter.h`; code, jump if true, jump if false, operand) that accepts TCP from or to this
/// port, and marks.
fn packets_of(port: u16) -> [(u16, u8, u8, u32); 18] {
    let (port, mark) = (port.into(), MARK_PORT.into());
    [
        // The version of IP.
        (0x30, 0, 0, 0),
        (0x54, 0, 0, 0xf0),
        (0x15, 0, 4, 0x40),
        // IPv4's protocol, and the length of its header.
        (0x30, 0, 0, 9),
        (0x15, 0, 12, 6),
        (0xb1, 0, 0, 0),
        (0x05, 0, 0, 4),
        (0x15, 0, 9, 0x60),
        // IPv6's next header.
        (0x30, 0, 0, 6),
        (0x15, 0, 7, 6),
        (0x01, 0, 0, 40),
        // The two ports.
        (0x48, 0, 0, 0),
        (0x15, 3, 0, port),
        (0x48, 0, 0, 2),
        (0x15, 1, 0, port),
        (0x15, 0, 1, mark),
        // Accept the whole packet, or drop it.
        (0x06, 0, 0, 0xffff),
        (0x06, 0, 0, 0),
    ]
}

/// A TCP segment on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    goes_out: bool,
    source: SocketAddr,
    destination: SocketAddr,
    number: u32,
    /// Bytes of data; a SYN counts as one, as it does in sequence numbers.
    length: u32,
    /// The sequence number up to which its sender has received everything.
    acknowledges: Option<u32>,
}

impl Segment {
    /// Parses a packet that starts with its IP header; `None` if it is not TCP.
    fn read(packet: &[u8], goes_out: bool) -> Option<Self> {
        const TCP: u8 = 6;
        let (header, whole, source, destination): (usize, usize, IpAddr, IpAddr) = match packet.first()? >> 4
        {
            4 if *packet.get(9)? == TCP => (
                usize::from(packet.first()? & 15) * 4,
                two(packet, 2)?.into(),
                Ipv4Addr::from(*packet.get(12..)?.first_chunk()?).into(),
                Ipv4Addr::from(*packet.get(16..)?.first_chunk()?).into(),
            ),
            6 if *packet.get(6)? == TCP => (
                40,
                usize::from(two(packet, 4)?) + 40,
                Ipv6Addr::from(*packet.get(8..)?.first_chunk::<16>()?).into(),
                Ipv6Addr::from(*packet.get(24..)?.first_chunk::<16>()?).into(),
            ),
            _ => return None,
        };
        let segment = packet.get(header..)?;
        let (offset, flags) = (usize::from(segment.get(12)? >> 4) * 4, segment.get(13)?);
        let (begins, acknowledges) = (flags & 2 != 0, flags & 16 != 0);
        let data = u32::try_from(whole.checked_sub(header + offset)?).ok()?;
        Some(Self {
            goes_out,
            source: SocketAddr::new(source, two(segment, 0)?),
            destination: SocketAddr::new(destination, two(segment, 2)?),
            number: four(segment, 4)?,
            length: data + u32::from(begins),
            acknowledges: if acknowledges { Some(four(segment, 8)?) } else { None },
        })
    }

    /// Whether this segment shows that data from `own` up to the sequence number `end` was let in.
    fn lets_in(&self, own: SocketAddr, end: Option<u32>) -> bool {
        let Some(end) = end.filter(|_| self.goes_out) else { return false };
        // Sequence numbers wrap around.
        let has = self.acknowledges.is_some_and(|number| number.wrapping_sub(end) < 1 << 31);
        // When the data is forwarded, only its destination changes.
        self.destination == own && has || self.source == own && self.length > 0
    }
}

fn two(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn four(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests;
