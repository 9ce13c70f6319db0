//! The network around the gateway, made of datagrams on Unix sockets: one a frame.

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

/// What the harness knows beyond frames: who answers ARP, and what the time server says.
pub(crate) struct Link {
    cable: Rc<Cable>,
    /// The VLAN that this is, on a trunk.
    vlan: Option<u16>,
    /// Hosts that answer ARP.
    pub(crate) hosts: Vec<Host>,
    /// The time server; it answers as it is told to.
    pub(crate) time: TimeServer,
}

/// What goes to one NIC.
struct Cable {
    socket: UnixDatagram,
    qemu: PathBuf,
    /// Frames of other VLANs than the one that was looked for.
    waiting: RefCell<VecDeque<Vec<u8>>>,
}

/// Where a tag lies in a frame (802.1Q): behind both addresses.
const TAG: std::ops::Range<usize> = 12..16;

fn tag(vlan: u16) -> [u8; 4] {
    let [high, low] = vlan.to_be_bytes();
    [0x81, 0, high, low]
}

/// A time server, and what it says.
pub(crate) struct TimeServer {
    pub(crate) host: Host,
    /// What it tells; `None`: it is silent.
    pub(crate) reports: Option<u64>,
    /// Makes its answer another one, in place.
    pub(crate) tamper: fn(&mut [u8; 48]),
    /// Answers so far.
    pub(crate) replies: usize,
}

/// QEMU's arguments for a NIC at the other end of [`Link::new`].
pub(crate) fn netdev(folder: &FilePath, name: &str) -> String {
    let path = |end| folder.join(format!("{name}-{end}")).display().to_string();
    format!(
        "dgram,id={name},local.type=unix,local.path={},remote.type=unix,remote.path={}",
        path("qemu"),
        path("here")
    )
}

impl Link {
    /// The end in `folder` of the cable `name`.
    pub(crate) fn new(folder: &FilePath, name: &str, hosts: Vec<Host>, time: Host) -> Result<Self> {
        let cable = Rc::new(Cable::new(folder, name)?);
        Ok(Self { cable, vlan: None, hosts, time: TimeServer::silent(time) })
    }

    /// Two VLANs of the cable `name`.
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

    /// Sends a frame, tagged on a trunk.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        match self.vlan {
            None => self.send_untagged(frame),
            Some(vlan) => {
                let (addresses, rest) = frame.split_at(TAG.start);
                self.send_untagged(&[addresses, &tag(vlan), rest].concat())
            }
        }
    }

    /// Sends a frame as it is.
    pub(crate) fn send_untagged(&self, frame: &[u8]) -> Result<()> {
        let end = Instant::now() + crate::machine::TIMEOUT;
        loop {
            match self.cable.socket.send_to(frame, &self.cable.qemu) {
                Ok(_) => return Ok(()),
                // QEMU has not made its end yet.
                Err(error) if Instant::now() < end && is_early(&error) => std::thread::yield_now(),
                Err(error) => return Err(error).context("sending a frame"),
            }
        }
    }

    /// The next frame, whatever it is, without its tag on a trunk; `None` after `limit`.
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

    /// Frames that came without a tag, or with that of no side.
    pub(crate) fn stray_frames(&self) -> Vec<Vec<u8>> {
        self.cable.waiting.borrow().iter().cloned().collect()
    }

    /// The next frame that is neither ARP nor a question for the time; those are answered.
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

    /// The next segment or datagram for which `wanted` holds; `None` after `limit`.
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

    /// Answers what hosts and time server are asked; `false`: the frame is about something else.
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
        // A limit of 0 would mean none.
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
    fn silent(host: Host) -> Self {
        Self { host, reports: None, tamper: |_| {}, replies: 0 }
    }
}

fn is_early(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}
