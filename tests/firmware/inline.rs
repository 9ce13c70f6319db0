//! Two real ports, and the bridge between them: QEMU's `virt` for 32-bit RISC-V, with two virtio NICs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pkd_core::UnixSeconds;
use pkd_gateway::{Config, Endpoint, Inline, Mode, Pass, RULES};
use smoltcp::wire::EthernetAddress;

use crate::{
    frame::{self, ACK, Flags, Host, Path, SYN, SYN_ACK},
    machine::{Board, LIMIT, Machine, Tools},
    report::Report,
    scene::{CLIENT, COUNTERS, GATEWAY, KNOCK_PORT, NAS, ROUTER, SILENCE, START, STRANGER, config, knock},
    wire::{Wire, plug},
};

/// Frames that have to cross byte for byte.
const FRAMES: u32 = 2_000;

/// The gateway as the hosts of this lane see it.
const INLINE: Host = Host { hardware: EthernetAddress([0x52, 0x54, 0, 0, 0, 1]), ..GATEWAY };

pub(crate) fn claims(report: &mut Report, tools: &Tools) {
    report.claim("inline: closed before a knock, open after it, and to its sender alone", || job(tools));
    report.claim("inline: 2,000 frames cross each way, byte for byte", || cross(tools));
    report.claim(
        "inline: what cannot be judged does not cross, and the counters are read from the inside only",
        || held(tools),
    );
}

fn inline() -> Config<RULES> {
    let mut config = config();
    config.mode = Mode::Inline(Inline { vlans: None, pass: Pass::default() });
    config.services[0].port = 22;
    config.services[0].inside = Endpoint { address: NAS.address, port: 22 };
    config
}

struct Bridge {
    _machine: Machine,
    outside: Wire,
    inside: Wire,
}

impl Bridge {
    /// A bridge that accepts at once.
    fn start(tools: &Tools) -> Result<Self> {
        let mut wires = None;
        let prepare = |flash: &crate::machine::Flash| {
            flash.configure(&inline())?;
            flash.save_floor(UnixSeconds(START - 1_000))
        };
        let machine = Machine::start(tools, Board::Virt, prepare, |folder| {
            let outside = Wire::new(folder, "outside", vec![ROUTER], ROUTER);
            let inside = Wire::new(folder, "inside", vec![NAS], ROUTER);
            wires = Some((outside, inside));
            let nic = |name, last| {
                let device = format!("virtio-net-device,netdev={name},mac=52:54:00:00:00:0{last}");
                ["-netdev".to_owned(), plug(folder, name), "-device".to_owned(), device]
            };
            [nic("outside", 1), nic("inside", 2)].concat()
        })?;
        let (outside, inside) = wires.context("no cables")?;
        let mut bridge = Self { _machine: machine, outside: outside?, inside: inside? };
        bridge.outside.time.says = Some(START);
        let end = Instant::now() + LIMIT;
        while bridge.outside.time.answers == 0 {
            ensure!(Instant::now() < end, "it does not ask for the time");
            bridge.outside.next(Duration::from_millis(20))?;
        }
        // What is read over the inside is behind the answer.
        bridge.counters()?;
        Ok(bridge)
    }

    fn counters(&mut self) -> Result<String> {
        let path = Path { from: NAS, from_port: 20_000, to: INLINE, to_port: COUNTERS };
        for _ in 0..10 {
            self.inside.send(&frame::udp(path, b"?"))?;
            if let Some(seen) =
                self.inside.find(LIMIT / 10, |seen| seen.from == (INLINE.address, COUNTERS))?
            {
                return Ok(String::from_utf8(seen.payload)?);
            }
        }
        anyhow::bail!("the counters do not answer")
    }

    /// Whether a frame comes out on the inside.
    fn inwards(&mut self, frame: &[u8], limit: Duration) -> Result<bool> {
        self.outside.send(frame)?;
        arrives(&self.inside, frame, limit)
    }

    /// Whether a frame comes out on the outside.
    fn outwards(&mut self, frame: &[u8], limit: Duration) -> Result<bool> {
        self.inside.send(frame)?;
        arrives(&self.outside, frame, limit)
    }
}

fn arrives(wire: &Wire, frame: &[u8], limit: Duration) -> Result<bool> {
    let end = Instant::now() + limit;
    while let Some(seen) = wire.receive(end.saturating_duration_since(Instant::now()))? {
        if seen == frame {
            return Ok(true);
        }
    }
    Ok(false)
}

fn to_nas(from: Host, from_port: u16, flags: Flags) -> Vec<u8> {
    frame::tcp(flags, Path { from, from_port, to: NAS, to_port: 22 }, b"in")
}

fn job(tools: &Tools) -> Result<String> {
    let mut bridge = Bridge::start(tools)?;
    ensure!(!bridge.inwards(&to_nas(CLIENT, 5_001, SYN), SILENCE)?, "it is open before the knock");
    let path = Path { from: CLIENT, from_port: 5_000, to: NAS, to_port: KNOCK_PORT };
    let datagram = frame::udp(path, &knock(START, 1));
    ensure!(!bridge.inwards(&datagram, SILENCE)?, "the knock is seen behind");
    ensure!(bridge.inwards(&to_nas(CLIENT, 5_002, SYN), LIMIT)?, "it is closed after the knock");
    let answer = frame::tcp(SYN_ACK, Path { from: NAS, from_port: 22, to: CLIENT, to_port: 5_002 }, b"out");
    ensure!(bridge.outwards(&answer, LIMIT)?, "the answer does not come back");
    ensure!(bridge.inwards(&to_nas(CLIENT, 5_002, ACK), LIMIT)?, "the flow does not go on");
    ensure!(!bridge.inwards(&to_nas(STRANGER, 5_003, SYN), SILENCE)?, "it is open for a stranger");
    let counters = bridge.counters()?;
    ensure!(counters.contains("pkd_knocks_total{verdict=\"accept\"} 1"), "{counters}");
    Ok("a knock at the host itself".to_owned())
}

fn cross(tools: &Tools) -> Result<String> {
    let mut bridge = Bridge::start(tools)?;
    let start = Instant::now();
    for number in 0..FRAMES {
        let length = usize::try_from(number * 37 % 1_458)?;
        let payload: Vec<u8> =
            (0..length).map(|at| u8::try_from((at * 7 + length) % 251).unwrap_or_default()).collect();
        let port = u16::try_from(number)? + 1_024;
        let inwards = frame::udp(Path { from: CLIENT, from_port: port, to: NAS, to_port: 80 }, &payload);
        ensure!(bridge.inwards(&inwards, LIMIT)?, "frame {number} does not get in");
        let outwards = frame::udp(Path { from: NAS, from_port: 80, to: CLIENT, to_port: port }, &payload);
        ensure!(bridge.outwards(&outwards, LIMIT)?, "frame {number} does not get out");
    }
    Ok(format!("{:.1} s for both ways", start.elapsed().as_secs_f64()))
}

fn held(tools: &Tools) -> Result<String> {
    let mut bridge = Bridge::start(tools)?;
    let with = |kind: u16| {
        let mut frame = frame::udp(Path { from: CLIENT, from_port: 1, to: NAS, to_port: 80 }, b"");
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        frame
    };
    for (row, kind) in [0x86dd, 0x88cc, 0x8100, 0x8864].into_iter().enumerate() {
        ensure!(!bridge.inwards(&with(kind), SILENCE)?, "row {row}: {kind:#x} gets in");
    }
    let path = Path { from: CLIENT, from_port: 5_000, to: INLINE, to_port: COUNTERS };
    bridge.outside.send(&frame::udp(path, b"?"))?;
    let answer = bridge.outside.find(SILENCE, |seen| seen.from == (INLINE.address, COUNTERS))?;
    ensure!(answer.is_none(), "somebody from outside gets {answer:?}");
    Ok("IPv6, LLDP, a VLAN, PPPoE".to_owned())
}
