//! Real TCP connections through the gateway: smoltcp on both ends, and a link that loses and reorders frames.

use std::{collections::VecDeque, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use pkd_tests::Report;
use smoltcp::{
    iface::{Config as InterfaceConfig, Interface, SocketHandle, SocketSet},
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::tcp,
    time::Instant,
    wire::{ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol, HardwareAddress, IpCidr},
};

use crate::{
    frame::{self, Host},
    machine::{TIMEOUT, Tools},
    scenario::{CLIENT, GATEWAY, NAS, SSH, START, Scenario},
};

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check("TCP: 2 MiB are transferred in each direction without loss", || {
        transfer(tools, 2 << 20, Impairment::none())
    });
    report.check("TCP: 512 KiB are transferred in each direction with 1 % loss and 2 % reordering", || {
        transfer(tools, 512 << 10, Impairment { loss: 10, reorder: 20, ..Impairment::none() })
    });
}

/// Loss and reordering of frames, in thousandths.
struct Impairment {
    loss: u32,
    reorder: u32,
    state: u32,
    held: Option<Vec<u8>>,
    count: (u32, u32),
}

impl Impairment {
    fn none() -> Self {
        Self { loss: 0, reorder: 0, state: 0x1234_5678, held: None, count: (0, 0) }
    }

    /// A reproducible random number: xorshift.
    fn thousandth(&mut self) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        self.state % 1_000
    }

    /// Adds a frame. Returns the frames that arrive now.
    fn pass(&mut self, frame: Vec<u8>) -> Vec<Vec<u8>> {
        let chance = self.thousandth();
        if chance < self.loss {
            self.count.0 += 1;
            return Vec::new();
        }
        if chance < self.loss + self.reorder && self.held.is_none() {
            self.count.1 += 1;
            self.held = Some(frame);
            return Vec::new();
        }
        std::iter::once(frame).chain(self.held.take()).collect()
    }
}

/// The frames from and to one host.
#[derive(Default)]
struct FrameQueue {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for FrameQueue {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Frame, Sending<'_>)> {
        Some((Frame(self.received.pop_front()?), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1_514;
        capabilities
    }
}

/// A host with its own TCP.
pub(crate) struct TcpHost {
    host: Host,
    queue: FrameQueue,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
}

impl TcpHost {
    pub(crate) fn new(host: Host) -> Self {
        let mut queue = FrameQueue::default();
        let config = InterfaceConfig::new(HardwareAddress::Ethernet(host.hardware));
        let mut interface = Interface::new(config, &mut queue, Instant::now());
        // All addresses are on the same network; the harness answers ARP with the gateway's MAC address.
        interface.update_ip_addrs(|addresses| {
            // There is room for one address.
            let _full = addresses.push(IpCidr::new(host.address.into(), 0));
        });
        // The LAN9118 buffers 12 KiB of frames, and smoltcp's TCP does not slow down after losses.
        let buffer = || tcp::SocketBuffer::new(vec![0; 4 * 1_460]);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self { host, queue, interface, sockets, socket }
    }

    pub(crate) fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    pub(crate) fn connect(&mut self, address: Ipv4Addr, port: u16, from_port: u16) -> Result<()> {
        let context = self.interface.context();
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.socket);
        socket.connect(context, (address, port), from_port).map_err(|error| anyhow::anyhow!("{error:?}"))
    }

    /// Runs the host's stack, and sends its frames.
    fn poll(&mut self, scenario: &mut Scenario, impairment: &mut Impairment) -> Result<()> {
        self.interface.poll(Instant::now(), &mut self.queue, &mut self.sockets);
        while let Some(frame) = self.queue.sent.pop_front() {
            if let Some(answer) = self.answer_arp(&frame) {
                self.queue.received.push_back(answer);
                continue;
            }
            for frame in impairment.pass(frame) {
                scenario.link.send(&frame)?;
            }
        }
        Ok(())
    }

    fn answer_arp(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        if ethernet.ethertype() != EthernetProtocol::Arp {
            return None;
        }
        let ArpRepr::EthernetIpv4 { target_protocol_addr, .. } =
            ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).ok()?).ok()?
        else {
            return None;
        };
        Some(frame::arp(ArpOperation::Reply, Host { address: target_protocol_addr, ..GATEWAY }, self.host))
    }

    /// Sends a request, and returns everything received until the other side closes.
    pub(crate) fn ask(
        &mut self,
        scenario: &mut Scenario,
        address: Ipv4Addr,
        port: u16,
        request: &[u8],
    ) -> Result<String> {
        self.connect(address, port, 45_000)?;
        let mut replies = ask_all(scenario, &mut [(self, request)])?;
        replies.pop().context("no reply")
    }
}

/// Sends and receives what there is now. Frames for other hosts are lost.
pub(crate) fn exchange(scenario: &mut Scenario, hosts: &mut [&mut TcpHost]) -> Result<()> {
    let mut clear = Impairment::none();
    for host in &mut *hosts {
        host.poll(scenario, &mut clear)?;
    }
    deliver(scenario, hosts, &mut clear)
}

/// Sends each host's request over its connection, and returns everything that each receives until the other side closes.
pub(crate) fn ask_all(scenario: &mut Scenario, clients: &mut [(&mut TcpHost, &[u8])]) -> Result<Vec<String>> {
    let mut replies = vec![Vec::new(); clients.len()];
    let mut sent = vec![0; clients.len()];
    let end = std::time::Instant::now() + TIMEOUT;
    let mut is_open = true;
    while is_open {
        ensure!(
            std::time::Instant::now() < end,
            "incomplete replies: {:?}",
            replies.iter().map(|reply| String::from_utf8_lossy(reply)).collect::<Vec<_>>()
        );
        let mut hosts: Vec<&mut TcpHost> = clients.iter_mut().map(|(host, _)| &mut **host).collect();
        exchange(scenario, &mut hosts)?;
        is_open = false;
        for (((host, request), reply), sent) in clients.iter_mut().zip(&mut replies).zip(&mut sent) {
            let socket = host.socket();
            if socket.may_send() && *sent < request.len() {
                *sent +=
                    socket.send_slice(&request[*sent..]).map_err(|error| anyhow::anyhow!("{error:?}"))?;
            }
            while socket.can_recv() {
                let received = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
                reply.extend(received.map_err(|error| anyhow::anyhow!("{error:?}"))?);
            }
            if *sent > 0 && !socket.may_recv() {
                socket.close();
            }
            // A connection that was refused is closed, too.
            is_open |= socket.is_open();
        }
    }
    replies.into_iter().map(|reply| Ok(String::from_utf8(reply)?)).collect()
}

/// Delivers received frames to their hosts.
fn deliver(scenario: &mut Scenario, hosts: &mut [&mut TcpHost], impairment: &mut Impairment) -> Result<()> {
    // Only wait for the first frame.
    let mut limit = Duration::from_millis(2);
    while let Some(frame) = scenario.link.receive(limit)? {
        limit = Duration::ZERO;
        let Some(host) = hosts.iter_mut().find(|host| frame.get(..6) == Some(&host.host.hardware.0[..]))
        else {
            scenario.link.answer(&frame)?;
            continue;
        };
        if frame.get(12..14) == Some(&[8, 6]) || frame::parse(&frame).is_some_and(|seen| seen.to.1 == 123) {
            scenario.link.answer(&frame)?;
            continue;
        }
        host.queue.received.extend(impairment.pass(frame));
    }
    Ok(())
}

/// Sends `length` bytes in both directions at the same time.
fn transfer(tools: &Tools, length: usize, mut impairment: Impairment) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    ensure!(scenario.knock(CLIENT, START)? == "accept", "the knock was not accepted");
    let (mut client, mut server) = (TcpHost::new(CLIENT), TcpHost::new(NAS));
    server.socket().listen(22).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    client.connect(GATEWAY.address, SSH, 46_000)?;
    let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at * 7 / 3 % 251).unwrap_or_default()).collect();
    // Bytes sent by each host, and received by each host.
    let mut sent = [0, 0];
    let mut received = [Vec::new(), Vec::new()];
    let start = std::time::Instant::now();
    while received.iter().any(|received| received.len() < length) {
        if start.elapsed() > 8 * TIMEOUT {
            bail!("stalled after {} and {} bytes", received[0].len(), received[1].len());
        }
        client.poll(&mut scenario, &mut impairment)?;
        server.poll(&mut scenario, &mut impairment)?;
        deliver(&mut scenario, &mut [&mut client, &mut server], &mut impairment)?;
        for (index, end) in [&mut client, &mut server].into_iter().enumerate() {
            let socket = end.socket();
            if socket.can_send() {
                sent[index] +=
                    socket.send_slice(&bytes[sent[index]..]).map_err(|error| anyhow::anyhow!("{error:?}"))?;
            }
            if socket.can_recv() {
                let part = socket.recv(|part| (part.len(), part.to_vec()));
                received[index].extend(part.map_err(|error| anyhow::anyhow!("{error:?}"))?);
            }
        }
    }
    ensure!(received.iter().all(|received| *received == bytes), "the received bytes differ");
    scenario.machine.log().context("after the transfer")?;
    #[allow(clippy::cast_precision_loss)] // a few MiB
    let rate = (2 * length) as f64 / start.elapsed().as_secs_f64() / 1_048_576.0;
    Ok(format!("{rate:.1} MiB/s, {} frames lost, {} reordered", impairment.count.0, impairment.count.1))
}
