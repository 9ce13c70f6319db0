//! A real Linux host behind an inline gateway: what it answers to is what an attacker gets. Every frame of the table is sent to it
//! twice, without the gateway and through it.

#[allow(clippy::unwrap_used, dead_code, reason = "a test of the library, too, which uses all of it")]
#[path = "../../../firmware/gateway/tests/gateway/attacks.rs"]
mod attacks;
#[allow(dead_code, reason = "a test of the library, too, which uses all of it")]
#[path = "../../../firmware/gateway/tests/gateway/frame.rs"]
mod frame;
#[allow(clippy::unwrap_used, dead_code, reason = "a test of the library, too, which uses all of it")]
#[path = "../../../firmware/gateway/tests/gateway/frame6.rs"]
mod frame6;
#[allow(clippy::unwrap_used, dead_code, reason = "a test of the library, too, which uses all of it")]
#[path = "../../../firmware/gateway/tests/gateway/harness.rs"]
mod harness;

use std::{
    collections::BTreeSet,
    net::{TcpListener, UdpSocket},
    time::{Duration, Instant as Time},
};

use anyhow::{Context, Result, ensure};
use pkd_gateway::{Action, Config, Instant, Port, Protect};
use pkd_netns::{
    namespace::{self, As},
    process::{LIMIT, shell},
    wire::Wire,
};
use smoltcp::wire::{ArpOperation, EthernetAddress};

use attacks::{Cast, DNS, Fate, NAS6, SSH};
use frame::{Host, Path, SYN};
use harness::{CLIENT, GATEWAY, KNOCK_PORT, NAS, READY, RULES, START, STRANGER, Small, SmallTables};

/// The printer's name for the host that is not there: nobody answers for it.
const PRINTER: Host = Host::new(9, [192, 168, 1, 21]);
const CAST: Cast =
    Cast { nas: NAS, printer: PRINTER, attacker: STRANGER, gateway: GATEWAY, knock_port: KNOCK_PORT };

/// The path between the attacker and the host: a cable, or the gateway.
struct Line<'a> {
    wire: &'a Wire,
    gateway: Option<Small<'a>>,
    fences: u16,
}

impl Line<'_> {
    /// Sends a frame from outside.
    fn send(&mut self, frame: &[u8]) -> Result<()> {
        let mut bytes = frame.to_vec();
        let action = match &mut self.gateway {
            None => Action::Forward(Port::Inside),
            Some(gateway) => gateway.on_frame(READY, Port::Outside, &mut bytes),
        };
        match action {
            Action::Forward(Port::Inside) | Action::ForwardAndLocal(Port::Inside) => self.wire.send(&bytes),
            _ => Ok(()),
        }
    }

    /// What the host has sent to the outside since the last call. The host handles frames in their order, so its answer to a
    /// question that always passes comes after all others.
    fn answers(&mut self) -> Result<Vec<Vec<u8>>> {
        self.fences += 1;
        let [high, low] = self.fences.to_be_bytes();
        let asker = Host {
            address: [192, 168, 1, 1].into(),
            hardware: EthernetAddress([2, 0, 0, 0, high, low | 0x80]),
        };
        let all = Host { hardware: EthernetAddress([0xff; 6]), ..NAS };
        self.send(&frame::arp(ArpOperation::Request, asker, all))?;
        let (mut seen, end) = (Vec::new(), Time::now() + LIMIT);
        loop {
            let left = end.saturating_duration_since(Time::now());
            ensure!(left > Duration::ZERO, "the host does not answer ARP");
            let Some(mut frame) = self.wire.receive(left)? else { continue };
            let is_fence = frame.starts_with(&asker.hardware.0);
            if let Some(gateway) = &mut self.gateway
                && !matches!(
                    gateway.on_frame(READY, Port::Inside, &mut frame),
                    Action::Forward(Port::Outside) | Action::ForwardAndLocal(Port::Outside)
                )
            {
                continue;
            }
            if is_fence {
                return Ok(seen);
            }
            seen.push(frame);
        }
    }

    /// The names of the attacks that the host answers with something to the attacker.
    fn answered(&mut self) -> Result<BTreeSet<&'static str>> {
        let mut names = BTreeSet::new();
        self.answers()?;
        for attack in attacks::attacks(CAST) {
            self.send(&attack.frame)?;
            let router = STRANGER.hardware.0;
            if self.answers()?.iter().any(|frame| frame.starts_with(&router) && frame[12..14] != [8, 6]) {
                names.insert(attack.name);
            }
        }
        Ok(names)
    }
}

/// A host as people have them: with a second address, a container's bridge, IPv6, and services at all addresses.
fn set_up_host() -> Result<()> {
    shell("ip netns add nas && ip link add line type veth peer name eth0 && ip link set eth0 netns nas")?;
    shell("echo 1 > /proc/sys/net/ipv6/conf/line/disable_ipv6 && ip link set line up promisc on")?;
    let inside = |command: &str| shell(&format!("nsenter --net=/run/netns/nas {command}")).map(drop);
    namespace::at("nas", || {
        for (setting, value) in
            [("ipv4/ip_forward", "1"), ("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")]
        {
            std::fs::write(format!("/proc/sys/net/{setting}"), value).with_context(|| setting.to_owned())?;
        }
        Ok(())
    })?;
    inside(&format!("ip link set eth0 address {}", colons(NAS.hardware)))?;
    inside("ip link set lo up")?;
    inside("ip link set eth0 up")?;
    inside("ip link add docker0 type bridge")?;
    inside("ip link set docker0 up")?;
    for (address, device) in [
        ("192.168.1.20/24", "eth0"),
        ("10.9.8.7/32", "eth0"),
        ("169.254.3.4/16", "eth0"),
        ("172.17.0.1/16", "docker0"),
        ("172.17.0.2/32", "lo"),
    ] {
        inside(&format!("ip addr add {address} dev {device}"))?;
    }
    for address in [format!("{NAS6}/64"), "fe80::20/64".to_owned()] {
        inside(&format!("ip addr add {address} dev eth0 nodad"))?;
    }
    let router = colons(STRANGER.hardware);
    inside(&format!("ip neigh add 192.168.1.1 lladdr {router} dev eth0 nud permanent"))?;
    inside(&format!("ip -6 neigh add fe80::1 lladdr {router} dev eth0 nud permanent"))?;
    inside("ip route add default via 192.168.1.1")?;
    inside("ip -6 route add default via fe80::1 dev eth0")
}

/// A MAC address as `ip` reads it.
fn colons(hardware: EthernetAddress) -> String {
    hardware.to_string().replace('-', ":")
}

fn config(protect: Protect) -> Config<RULES> {
    let mut config = harness::inline();
    attacks::configure(&mut config, CAST, protect);
    config
}

#[test]
fn a_linux_host_answers_attacks_and_gets_none_of_them_through_the_gateway() -> Result<()> {
    let path =
        concat!(module_path!(), "::a_linux_host_answers_attacks_and_gets_none_of_them_through_the_gateway");
    if namespace::enter(path, As::RootIfPossible, None)?.is_some() {
        return Ok(());
    }
    shell("mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns")?;
    set_up_host()?;
    // They listen until the test ends.
    let _services = namespace::at("nas", || {
        let listen = |port: u16| TcpListener::bind(("::", port)).with_context(|| format!("port {port}"));
        Ok((listen(SSH)?, listen(80)?, UdpSocket::bind(("::", DNS))?))
    })?;

    let wire = Wire::open("line")?;
    let without = Line { wire: &wire, gateway: None, fences: 0 }.answered()?;
    println!("without the gateway, the host answers {} attacks: {without:#?}", without.len());
    for expected in [
        "a SYN to the service",
        "the service at another address of the host",
        "the service in a container behind the host",
        // Of a service behind a priority tag.
        "the same of IPv6",
        "the service of IPv6",
        "a ping",
    ] {
        ensure!(without.contains(expected), "{expected}: no answer, so the test shows nothing");
    }

    for (protect, fences) in [(Protect::Host, 1_000), (Protect::Services, 2_000)] {
        let (mut tables, config) = (SmallTables::new(), config(protect));
        let mut gateway = Small::new(&mut tables, &config, GATEWAY.hardware, START.into());
        ensure!(gateway.set_time(Instant(0), harness::millis(START)).is_ok());
        let mut line = Line { wire: &wire, gateway: Some(gateway), fences };
        // The host introduces itself with its answers; its IPv6 address with one to a question for it.
        line.answers()?;
        for introduction in attacks::introductions(CAST) {
            let gateway = line.gateway.as_mut().context("there is one")?;
            let _action = gateway.on_frame(READY, Port::Inside, &mut introduction.clone());
        }
        let with = line.answered()?;
        let may: BTreeSet<&str> = attacks::attacks(CAST)
            .iter()
            .filter(|attack| {
                (if protect == Protect::Host { attack.host } else { attack.services }) == Fate::Passes
            })
            .map(|attack| attack.name)
            .collect();
        let through: Vec<_> = with.difference(&may).collect();
        ensure!(through.is_empty(), "{protect:?}: the host answers {through:?}");

        // A knock opens the service, and only it.
        let gateway = line.gateway.as_mut().context("there is one")?;
        harness::open(gateway, READY, CLIENT, "SSHK");
        for (port, is_open) in [(SSH, true), (80, protect == Protect::Services)] {
            let path = Path { from: CLIENT, from_port: 5_001, to: NAS, to_port: port };
            line.send(&frame::tcp(SYN, path, b""))?;
            let answers = line.answers()?;
            let opened =
                answers.iter().any(|frame| frame.len() > 47 && frame[12..14] == [8, 0] && frame[23] == 6);
            ensure!(opened == is_open, "{protect:?}, port {port}: {answers:02x?}");
        }
    }
    Ok(())
}
