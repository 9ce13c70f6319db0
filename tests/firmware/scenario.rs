//! A one-arm gateway in QEMU, the hosts around it, and helpers for checks.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use pkd_core::{Key, Knock, KnockParams, LENGTH, Port, Tag, UnixSeconds, Window};
use pkd_gateway::{
    Address, Config, Endpoint, Format, Interface, Mode, Network, Protocol, RULES, Rule, Service, Services,
    TimeServer, TimeSource,
};
use smoltcp::wire::{ArpOperation, EthernetAddress};

use crate::{
    frame::{self, ACK, Flags, Host, Parsed, Path, SYN, SYN_ACK, Transport},
    link::{Link, netdev},
    machine::{Flash, Machine, TIMEOUT, Tools},
};

/// With QEMU's default MAC address.
pub(crate) const GATEWAY: Host =
    Host { hardware: EthernetAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56]), ..Host::new(1, [192, 168, 1, 9]) };
pub(crate) const NAS: Host = Host::new(2, [192, 168, 1, 20]);
/// The router is also the time server. The client and the stranger are behind it.
pub(crate) const ROUTER: Host = Host::new(3, [192, 168, 1, 1]);
pub(crate) const CLIENT: Host = Host::new(3, [203, 0, 113, 7]);
pub(crate) const STRANGER: Host = Host::new(3, [203, 0, 113, 8]);

pub(crate) const KNOCK_PORT: u16 = 40_000;
pub(crate) const SSH: u16 = 2_222;
pub(crate) const COUNTERS: u16 = 9_100;
/// The time at boot.
pub(crate) const START: u64 = 1_800_000_000;
/// How long no frame must arrive from a board that forwards nothing: there is no event to wait for.
pub(crate) const QUIET_TIME: Duration = Duration::from_millis(300);

pub(crate) fn config() -> Config<RULES> {
    Config {
        created: UnixSeconds(0),
        mode: Mode::OneArm,
        address: Address::Static(Interface {
            network: Network { address: GATEWAY.address, prefix: 24 },
            router: Some(ROUTER.address),
        }),
        knock_port: KNOCK_PORT,
        own_addresses: heapless::Vec::new(),
        address6: None,
        grant_prefix: 128,
        hosts: heapless::Vec::new(),
        answer_ping: true,
        time: TimeSource::Sntp(TimeServer { at: SocketAddrV4::new(ROUTER.address, 123), interval: 1 }),
        update: None,
        counters_network: Some(Network { address: GATEWAY.address, prefix: 24 }),
        counters_port: COUNTERS,
        services: [Service {
            name: heapless::String::try_from("ssh").unwrap_or_default(),
            protocol: Protocol::Tcp,
            port: SSH,
            inside: Endpoint { address: NAS.address.into(), port: 22 },
        }]
        .into_iter()
        .collect(),
        rules: [Rule {
            knock: pkd_core::Rule::new(key(), Tag(*b"SSHK"), Window::from_secs(10)),
            format: Format::Classic,
            ttl: 600,
            services: Services::NONE.with(0),
        }]
        .into_iter()
        .collect(),
    }
}

pub(crate) fn key() -> Key {
    let mut bytes = [0; Key::LENGTH];
    bytes[..4].copy_from_slice(b"test");
    Key::from_bytes(bytes)
}

pub(crate) fn knock(time: u64, nonce: u64) -> [u8; LENGTH] {
    let mut random = [0; 12];
    random[..8].copy_from_slice(&nonce.to_le_bytes());
    Knock::seal(
        &KnockParams { key: &key(), tag: Tag(*b"SSHK"), time: UnixSeconds(time), nonce: random },
        Port(KNOCK_PORT),
    )
}

/// A board, and the network around it.
pub(crate) struct Scenario {
    pub(crate) machine: Machine,
    pub(crate) link: Link,
    nonce: u64,
}

impl Scenario {
    /// Boots a board with the flash that `prepare` writes.
    pub(crate) fn start(tools: &Tools, prepare: impl FnOnce(&Flash) -> Result<()>) -> Result<Self> {
        Self::start_with(tools, &[], prepare)
    }

    fn start_with(
        tools: &Tools,
        arguments: &[&str],
        prepare: impl FnOnce(&Flash) -> Result<()>,
    ) -> Result<Self> {
        let mut link = None;
        let board = tools.board();
        let machine = Machine::start(tools, board, prepare, |folder| {
            link = Some(Link::new(folder, "net", vec![NAS, ROUTER], ROUTER));
            let mut all = vec!["-netdev".to_owned(), netdev(folder, "net")];
            all.extend(board.nic("net", GATEWAY.hardware));
            all.extend(arguments.iter().map(|&argument| argument.to_owned()));
            all
        })?;
        let link = link.context("no cable")??;
        Ok(Self { machine, link, nonce: 0 })
    }

    /// Of a board that runs already.
    pub(crate) fn around(machine: Machine, link: Link) -> Self {
        Self { machine, link, nonce: 0 }
    }

    /// Boots a board with a saved floor in the past, and sets its time, so that it accepts knocks without a wait.
    pub(crate) fn ready(tools: &Tools) -> Result<Self> {
        Self::ready_with(tools, &[])
    }

    /// The same, with additional arguments for QEMU.
    pub(crate) fn ready_with(tools: &Tools, arguments: &[&str]) -> Result<Self> {
        let mut scenario = Self::start_with(tools, arguments, |flash| {
            flash.configure(&config())?;
            flash.save_floors(UnixSeconds(START - 1_000).into())
        })?;
        scenario.serve_time(START)?;
        scenario.wait_for_host()?;
        Ok(scenario)
    }

    /// Sets the time server's time, and waits until the gateway has received it in a reply to a new request.
    pub(crate) fn serve_time(&mut self, time: u64) -> Result<()> {
        self.link.time.reports = Some(time);
        let before = self.link.time.replies;
        let end = Instant::now() + TIMEOUT;
        while self.link.time.replies == before {
            ensure!(Instant::now() < end, "no SNTP request; last log line: {:?}", self.machine.log()?.last());
            self.link.next(Duration::from_millis(20))?;
        }
        // When the counters arrive, the gateway has handled the time server's reply.
        self.counters().map(drop)
    }

    /// Sets the gateway's clock to this time, unless it already shows it. Returns `false` if the gateway rejects the time as too
    /// early.
    pub(crate) fn set_clock(&mut self, time: u64) -> Result<bool> {
        self.link.time.reports = Some(time);
        let end = Instant::now() + TIMEOUT;
        loop {
            let before = self.counters()?;
            if before.clock() == time {
                return Ok(true);
            }
            ensure!(Instant::now() < end, "the clock shows {}, expected {time}", before.clock());
            self.serve_time(time)?;
            let after = self.counters()?;
            if after.clock() != time && after.of("time_rejected") > before.of("time_rejected") {
                return Ok(false);
            }
        }
    }

    /// Waits until a board that has just booted can send and receive.
    pub(crate) fn wait_for_link(&mut self) -> Result<()> {
        self.machine.wait_for_log("link up")?;
        self.wait_for_host()
    }

    /// Tells the gateway the inside host's MAC address.
    pub(crate) fn wait_for_host(&mut self) -> Result<()> {
        self.link.send(&frame::arp(ArpOperation::Reply, NAS, GATEWAY))?;
        self.counters().map(drop)
    }

    /// Reads the counters over UDP, as an inside host.
    pub(crate) fn counters(&mut self) -> Result<Counters> {
        self.nonce += 1;
        let from_port = 20_000 + u16::try_from(self.nonce % 10_000)?;
        let path = Path { from: NAS, from_port, to: GATEWAY, to_port: COUNTERS };
        // Repeated, because the gateway may not know yet where to send the first reply.
        for _ in 0..10 {
            self.link.send(&frame::udp(path, b"?"))?;
            let answer = self.link.find(TIMEOUT / 10, |seen| {
                seen.to == (NAS.address, from_port) && seen.from == (GATEWAY.address, COUNTERS)
            })?;
            if let Some(answer) = answer {
                return Ok(Counters(String::from_utf8(answer.payload)?));
            }
        }
        bail!("no reply from the counters; last log line: {:?}", self.machine.log()?.last())
    }

    /// Sends a payload to a port, and returns the verdict or drop reason that was counted.
    pub(crate) fn verdict(&mut self, from: Host, port: u16, payload: &[u8]) -> Result<String> {
        let before = self.counters()?;
        self.link.send(&frame::udp(Path { from, from_port: 5_000, to: GATEWAY, to_port: port }, payload))?;
        let after = self.counters()?;
        let increased = after.increased(&before, |name| {
            name.starts_with("pkd_knocks_total")
                || name.contains("\"no_time\"")
                || name.contains("\"unsolicited\"")
        });
        let [one] = &increased[..] else { bail!("expected one counter to increase: {increased:?}") };
        Ok(one.split('"').nth(1).unwrap_or_default().to_owned())
    }

    /// Sends a knock with this time, and returns its verdict.
    pub(crate) fn knock(&mut self, from: Host, time: u64) -> Result<String> {
        self.nonce += 1;
        let payload = knock(time, self.nonce);
        self.verdict(from, KNOCK_PORT, &payload)
    }

    /// Sends a client's segment to SSH. Returns what the inside host receives.
    pub(crate) fn segment(
        &mut self,
        from: Host,
        from_port: u16,
        flags: Flags,
        limit: Duration,
    ) -> Result<Option<Parsed>> {
        let path = Path { from, from_port, to: GATEWAY, to_port: SSH };
        self.link.send(&frame::tcp(flags, path, b"in"))?;
        self.link.find(limit, |seen| seen.to == (NAS.address, 22) && seen.transport == Transport::Tcp(flags))
    }

    /// Sends the inside host's reply. Returns what the client receives.
    pub(crate) fn answer(&mut self, nat_port: u16, flags: Flags) -> Result<Option<Parsed>> {
        let path = Path { from: NAS, from_port: 22, to: GATEWAY, to_port: nat_port };
        self.link.send(&frame::tcp(flags, path, b"out"))?;
        self.link.find(TIMEOUT, |seen| {
            seen.from == (GATEWAY.address, SSH) && seen.transport == Transport::Tcp(flags)
        })
    }

    /// Completes a handshake. Returns the client's port as the inside host sees it.
    pub(crate) fn connect(&mut self, from: Host, from_port: u16) -> Result<u16> {
        let syn = self.segment(from, from_port, SYN, TIMEOUT)?.context("the SYN was not forwarded")?;
        ensure!(syn.from.0 == GATEWAY.address, "the inside host received {syn:?}");
        let nat_port = syn.from.1;
        let answer = self.answer(nat_port, SYN_ACK)?.context("the reply was not forwarded")?;
        ensure!(answer.to == (from.address, from_port), "the reply was sent to {answer:?}");
        self.segment(from, from_port, ACK, TIMEOUT)?.context("the ACK was not forwarded")?;
        Ok(nat_port)
    }

    /// Whether a new flow is forwarded.
    pub(crate) fn is_open(&mut self, from: Host, from_port: u16) -> Result<bool> {
        let path = Path { from, from_port, to: GATEWAY, to_port: SSH };
        self.link.send(&frame::tcp(SYN, path, b"in"))?;
        let is_forwarded =
            |seen: &Parsed| seen.to == (NAS.address, 22) && seen.transport == Transport::Tcp(SYN);
        Ok(self
            .until_handled()?
            .iter()
            .filter_map(|frame| frame::parse(frame))
            .any(|seen| is_forwarded(&seen)))
    }

    /// What the gateway sends until it has handled all that was sent to it: until it answers a request that was sent last.
    pub(crate) fn until_handled(&mut self) -> Result<Vec<Vec<u8>>> {
        self.nonce += 1;
        let from_port = 20_000 + u16::try_from(self.nonce % 10_000)?;
        let request = frame::udp(Path { from: NAS, from_port, to: GATEWAY, to_port: COUNTERS }, b"?");
        let mut frames = Vec::new();
        // Repeated, because in a flood the Ethernet controller drops it like any other frame.
        for _ in 0..10 {
            self.link.send(&request)?;
            let end = Instant::now() + TIMEOUT / 10;
            while let Some(frame) = self.link.next(end.saturating_duration_since(Instant::now()))? {
                let is_answer = frame::parse(&frame).is_some_and(|seen| {
                    seen.to == (NAS.address, from_port) && seen.from == (GATEWAY.address, COUNTERS)
                });
                if is_answer {
                    return Ok(frames);
                }
                frames.push(frame);
            }
        }
        bail!("no reply from the counters; last log line: {:?}", self.machine.log()?.last())
    }
}

/// The counters' text.
pub(crate) struct Counters(pub(crate) String);

impl Counters {
    fn lines(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
    }

    pub(crate) fn of(&self, name: &str) -> u64 {
        self.lines().find(|(known, _)| known.contains(name)).map_or(0, |(_, value)| value)
    }

    /// The time of the gateway's clock, or 0 if it is not set.
    pub(crate) fn clock(&self) -> u64 {
        self.of("pkd_clock_seconds")
    }

    /// The names of the counters that are greater than `before`.
    fn increased(&self, before: &Self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        self.lines()
            .filter(|(name, value)| wanted(name) && before.of(name) < *value)
            .map(|(name, _)| name.to_owned())
            .collect()
    }
}
