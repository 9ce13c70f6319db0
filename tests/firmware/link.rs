//! The network around the gateway. Each frame is a datagram on a Unix socket.

use std::{
    cell::RefCell,
    collections::VecDeque,
    os::unix::net::UnixDatagram,
    path::{Path as FilePath, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol};

use crate::frame::{self, Host, Parsed, Path, Transport};

/// A side of the gateway: its hosts, which answer ARP, and its time server.
pub(crate) struct Link {
    cable: Rc<Cable>,
    /// The VLAN of this side, on a trunk.
    vlan: Option<u16>,
    /// The hosts that answer ARP.
    pub(crate) hosts: Vec<Host>,
    /// The time server.
    pub(crate) time: TimeServer,
}

/// The connection to one NIC.
struct Cable {
    socket: UnixDatagram,
    qemu: PathBuf,
    /// Received frames that the last reader did not want, because they have other tags.
    waiting: RefCell<VecDeque<Vec<u8>>>,
}

/// The position of a VLAN tag: after both MAC addresses (802.1Q).
const TAG: std::ops::Range<usize> = 12..16;

fn tag(vlan: u16) -> [u8; 4] {
    let [high, low] = vlan.to_be_bytes();
    [0x81, 0, high, low]
}

/// A time server.
pub(crate) struct TimeServer {
    pub(crate) host: Host,
    /// The time that it reports. `None`: it does not reply.
    pub(crate) reports: Option<u64>,
    /// Changes each reply in place.
    pub(crate) tamper: fn(&mut [u8; 48]),
    /// The number of replies so far.
    pub(crate) replies: usize,
}

/// QEMU's arguments for a NIC that is connected to [`Link::new`].
pub(crate) fn netdev(folder: &FilePath, name: &str) -> String {
    let path = |end| folder.join(format!("{name}-{end}")).display().to_string();
    format!(
        "dgram,id={name},local.type=unix,local.path={},remote.type=unix,remote.path={}",
        path("qemu"),
        path("here")
    )
}

impl Link {
    /// Creates the socket `name` in `folder`.
    pub(crate) fn new(folder: &FilePath, name: &str, hosts: Vec<Host>, time: Host) -> Result<Self> {
        let cable = Rc::new(Cable::new(folder, name)?);
        Ok(Self { cable, vlan: None, hosts, time: TimeServer::silent(time) })
    }

    /// Creates the socket `name` in `folder`, shared by two VLANs.
    pub(crate) fn trunk(
        folder: &FilePath,
        name: &str,
        sides: [(u16, Vec<Host>); 2],
        time: Host,
    ) -> Result<[Self; 2]> {
        let cable = Rc::new(Cable::new(folder, name)?);
        Ok(sides.map(|(vlan, hosts)| Self {
            cable: Rc::clone(&cable),
            vlan: Some(vlan),
            hosts,
            time: TimeServer::silent(time),
        }))
    }

    /// Sends a frame. On a trunk, adds the tag.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        match self.vlan {
            None => self.send_untagged(frame),
            Some(vlan) => {
                let (addresses, rest) = frame.split_at(TAG.start);
                self.send_untagged(&[addresses, &tag(vlan), rest].concat())
            }
        }
    }

    /// Sends a frame unchanged.
    pub(crate) fn send_untagged(&self, frame: &[u8]) -> Result<()> {
        let end = Instant::now() + crate::machine::TIMEOUT;
        loop {
            match self.cable.socket.send_to(frame, &self.cable.qemu) {
                Ok(_) => return Ok(()),
                // QEMU has not created its socket yet.
                Err(error) if Instant::now() < end && is_early(&error) => std::thread::yield_now(),
                Err(error) => return Err(error).context("sending a frame"),
            }
        }
    }

    /// Receives any frame, on a trunk without its tag. Returns `None` after `limit`.
    pub(crate) fn receive(&self, limit: Duration) -> Result<Option<Vec<u8>>> {
        let Some(vlan) = self.vlan else { return self.cable.receive(limit) };
        let is_ours = |frame: &Vec<u8>| frame.get(TAG) == Some(&tag(vlan)[..]);
        let waiting = {
            let mut frames = self.cable.waiting.borrow_mut();
            frames.iter().position(is_ours).and_then(|at| frames.remove(at))
        };
        let end = Instant::now() + limit;
        let mut next = waiting;
        loop {
            if let Some(mut frame) = next {
                if is_ours(&frame) {
                    frame.drain(TAG);
                    return Ok(Some(frame));
                }
                self.cable.waiting.borrow_mut().push_back(frame);
            }
            next = self.cable.receive(end.saturating_duration_since(Instant::now()))?;
            if next.is_none() {
                return Ok(None);
            }
        }
    }

    /// Received frames that have no tag, or the tag of neither side.
    pub(crate) fn stray_frames(&self) -> Vec<Vec<u8>> {
        self.cable.waiting.borrow().iter().cloned().collect()
    }

    /// Receives a frame, after answering ARP and SNTP requests. Returns `None` after `limit`.
    pub(crate) fn next(&mut self, limit: Duration) -> Result<Option<Vec<u8>>> {
        let end = Instant::now() + limit;
        loop {
            let Some(frame) = self.receive(end.saturating_duration_since(Instant::now()))? else {
                return Ok(None);
            };
            if !self.answer(&frame)? {
                return Ok(Some(frame));
            }
        }
    }

    /// Receives a segment or datagram that is `wanted`. Returns `None` after `limit`.
    pub(crate) fn find(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Parsed) -> bool,
    ) -> Result<Option<Parsed>> {
        let end = Instant::now() + limit;
        while let Some(frame) = self.next(end.saturating_duration_since(Instant::now()))? {
            if let Some(seen) = frame::parse(&frame).filter(&wanted) {
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }

    /// Answers an ARP or SNTP request. Returns `false` if the frame is something else.
    pub(crate) fn answer(&mut self, frame: &[u8]) -> Result<bool> {
        let Ok(ethernet) = EthernetFrame::new_checked(frame) else { return Ok(true) };
        if ethernet.ethertype() == EthernetProtocol::Arp {
            self.answer_arp(ethernet.payload())?;
            return Ok(true);
        }
        let Some(seen) = frame::parse(frame) else { return Ok(false) };
        if seen.transport != Transport::Udp || seen.to != (self.time.host.address, 123) {
            return Ok(false);
        }
        let (Some(says), Some(cookie)) = (self.time.reports, seen.payload.get(40..48)) else {
            return Ok(true);
        };
        let mut answer = [0; 48];
        // Version 4, server; stratum 2.
        answer[..2].copy_from_slice(&[0x24, 2]);
        answer[24..32].copy_from_slice(cookie);
        let era = u32::try_from((says + 2_208_988_800) & 0xffff_ffff)?;
        answer[40..44].copy_from_slice(&era.to_be_bytes());
        (self.time.tamper)(&mut answer);
        let asker = Host { hardware: seen.hardware.0, address: seen.from.0 };
        let path = Path { from: self.time.host, from_port: 123, to: asker, to_port: seen.from.1 };
        self.send(&frame::udp(path, &answer))?;
        self.time.replies += 1;
        Ok(true)
    }

    fn answer_arp(&self, bytes: &[u8]) -> Result<()> {
        let Ok(packet) = ArpPacket::new_checked(bytes) else { return Ok(()) };
        let Ok(ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: hardware,
            source_protocol_addr: address,
            target_protocol_addr: asked,
            ..
        }) = ArpRepr::parse(&packet)
        else {
            return Ok(());
        };
        match self.hosts.iter().find(|host| host.address == asked) {
            Some(host) => self.send(&frame::arp(ArpOperation::Reply, *host, Host { hardware, address })),
            None => Ok(()),
        }
    }
}

impl Cable {
    fn new(folder: &FilePath, name: &str) -> Result<Self> {
        let socket = UnixDatagram::bind(folder.join(format!("{name}-here")))?;
        socket.set_write_timeout(Some(crate::machine::TIMEOUT))?;
        Ok(Self { socket, qemu: folder.join(format!("{name}-qemu")), waiting: RefCell::default() })
    }

    fn receive(&self, limit: Duration) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0; 2_048];
        // A timeout of 0 would mean "no timeout".
        self.socket.set_read_timeout(Some(limit.max(Duration::from_micros(1))))?;
        match self.socket.recv(&mut frame) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                Ok(None)
            }
            Err(error) => Err(error).context("receiving a frame"),
        }
    }
}

impl TimeServer {
    /// One that does not reply.
    pub(crate) fn silent(host: Host) -> Self {
        Self { host, reports: None, tamper: |_| {}, replies: 0 }
    }
}

fn is_early(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}
