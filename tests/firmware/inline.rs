//! Inline mode: between two NICs of QEMU's `virt` for 32-bit RISC-V, and between two VLANs on the one NIC of `mps2-an386`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pkd_core::{UnixMillis, UnixSeconds, format2::Bindings};
use pkd_gateway::{Config, Endpoint, Floors, Inline, Mode, Pass, Protect, RULES, Vlans};
use pkd_tests::Report;
use smoltcp::wire::EthernetAddress;

use crate::{
    attacks::{self, Attack, Cast, Fate},
    counters::FREE_STACK,
    format2::{self, Sealed},
    frame::{self, ACK, Flags, Host, Path, SYN, SYN_ACK},
    link::{Link, netdev},
    machine::{Board, Machine, TIMEOUT, Tools},
    scenario::{CLIENT, COUNTERS, GATEWAY, KNOCK_PORT, NAS, ROUTER, START, STRANGER, config, knock},
};

/// How many frames must be forwarded unchanged in each direction.
const FRAMES: u32 = 2_000;

/// The gateway in inline mode.
const INLINE: Host = Host { hardware: EthernetAddress([0x52, 0x54, 0, 0, 0, 1]), ..GATEWAY };

/// How the two sides are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sides {
    /// Each by its own NIC.
    Interfaces,
    /// By one NIC, as VLANs.
    Trunk,
}

/// The VLANs of the trunk, and a foreign one.
const OUTSIDE_VLAN: u16 = 10;
const INSIDE_VLAN: u16 = 20;
const OTHER_VLAN: u16 = 30;

pub(crate) fn checks(report: &mut Report, tools: &Tools, sides: Sides) {
    let name = match sides {
        Sides::Interfaces => "inline",
        Sides::Trunk => "trunk",
    };
    report.check(&format!("{name}: closed before a knock, then open to its sender only"), || {
        knock_opens(tools, sides)
    });
    report.check(&format!("{name}: a knock of format 2 opens, and a request to close ends that"), || {
        format2_opens_and_closes(tools, sides)
    });
    report.check(&format!("{name}: 2,000 frames are forwarded unchanged in each direction"), || {
        forwards_unchanged(tools, sides)
    });
    report.check(
        &format!("{name}: unchecked protocols are blocked, and only the inside can read the counters"),
        || blocked(tools, sides),
    );
    for protect in [Protect::Host, Protect::Services] {
        report.check(&format!("{name}: no attack reaches a protected host, {protect:?}"), || {
            attacks_stop(tools, sides, protect)
        });
    }
    if sides == Sides::Trunk {
        report.check("trunk: untagged frames and foreign VLANs are dropped", || stray(tools));
    }
}

fn inline(sides: Sides) -> Config<RULES> {
    let mut config = config();
    let vlans = match sides {
        Sides::Interfaces => None,
        Sides::Trunk => Some(Vlans { outside: OUTSIDE_VLAN, inside: INSIDE_VLAN }),
    };
    config.mode =
        Mode::Inline(Inline { vlans, protect: Protect::Services, ipv6: false, pass: Pass::default() });
    config.services[0].port = 22;
    config.services[0].inside = Endpoint { address: NAS.address.into(), port: 22 };
    config
}

struct Bridge {
    _machine: Machine,
    outside: Link,
    inside: Link,
    /// The number of the last datagram of [`passes`](Self::passes).
    last: u32,
}

impl Bridge {
    /// Starts a bridge that accepts knocks without a wait.
    fn start(tools: &Tools, sides: Sides) -> Result<Self> {
        Self::start_with(tools, sides, &inline(sides))
    }

    fn start_with(tools: &Tools, sides: Sides, config: &Config<RULES>) -> Result<Self> {
        let mut links = None;
        let prepare = |flash: &crate::machine::Flash| {
            flash.configure(config)?;
            let past = UnixSeconds(START - 1_000);
            flash.save_floors(Floors { classic: Some(past), format2: Some(UnixMillis(past.0 * 1_000)) })
        };
        let board = match sides {
            Sides::Interfaces => Board::Virt,
            Sides::Trunk => Board::Mps2,
        };
        let machine = Machine::start(tools, board, prepare, |folder| {
            let mac = |last: u8| EthernetAddress([0x52, 0x54, 0, 0, 0, last]);
            if sides == Sides::Trunk {
                let vlans = [(OUTSIDE_VLAN, vec![ROUTER]), (INSIDE_VLAN, vec![NAS])];
                links = Some(Link::trunk(folder, "net", vlans, ROUTER));
                let [option, nic] = board.nic("net", mac(1));
                return vec!["-netdev".to_owned(), netdev(folder, "net"), option, nic];
            }
            let outside = Link::new(folder, "outside", vec![ROUTER], ROUTER);
            let inside = Link::new(folder, "inside", vec![NAS], ROUTER);
            links = Some(outside.and_then(|outside| Ok([outside, inside?])));
            let nic = |name, last| {
                let [option, device] = board.nic(name, mac(last));
                ["-netdev".to_owned(), netdev(folder, name), option, device]
            };
            [nic("outside", 1), nic("inside", 2)].concat()
        })?;
        let [outside, inside] = links.context("no cables")??;
        let mut bridge = Self { _machine: machine, outside, inside, last: 0 };
        bridge.outside.time.reports = Some(START);
        let end = Instant::now() + TIMEOUT;
        while bridge.outside.time.replies == 0 {
            ensure!(Instant::now() < end, "no SNTP request");
            bridge.outside.next(Duration::from_millis(20))?;
        }
        // When this reply arrives, the gateway has handled the time server's reply.
        bridge.counters()?;
        Ok(bridge)
    }

    fn counters(&mut self) -> Result<String> {
        let path = Path { from: NAS, from_port: 20_000, to: INLINE, to_port: COUNTERS };
        for _ in 0..10 {
            self.inside.send(&frame::udp(path, b"?"))?;
            if let Some(seen) =
                self.inside.find(TIMEOUT / 10, |seen| seen.from == (INLINE.address, COUNTERS))?
            {
                return Ok(String::from_utf8(seen.payload)?);
            }
        }
        anyhow::bail!("no reply from the counters")
    }

    /// Sends a frame from outside. Returns whether it arrives inside before a datagram that is sent after it, and that is
    /// always forwarded.
    fn passes(&mut self, frame: &[u8]) -> Result<bool> {
        self.outside.send(frame)?;
        self.last += 1;
        let path = Path { from: CLIENT, from_port: 1_024, to: NAS, to_port: 80 };
        let last = frame::udp(path, &self.last.to_be_bytes());
        self.passes_before(frame, &last)
    }

    /// Returns whether a frame that was sent from outside arrives inside before `last`, which is always forwarded.
    fn passes_before(&mut self, frame: &[u8], last: &[u8]) -> Result<bool> {
        self.outside.send(last)?;
        let end = Instant::now() + TIMEOUT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let seen =
                self.inside.receive(left)?.context("a frame that is always forwarded did not arrive")?;
            if seen == frame || seen == last {
                return Ok(seen == frame);
            }
        }
    }

    /// Sends a frame from outside. Returns whether it arrives inside.
    fn ingress(&mut self, frame: &[u8], limit: Duration) -> Result<bool> {
        self.outside.send(frame)?;
        arrives(&self.inside, frame, limit)
    }

    /// Sends a frame from inside. Returns whether it arrives outside.
    fn egress(&mut self, frame: &[u8], limit: Duration) -> Result<bool> {
        self.inside.send(frame)?;
        arrives(&self.outside, frame, limit)
    }
}

fn arrives(link: &Link, frame: &[u8], limit: Duration) -> Result<bool> {
    let end = Instant::now() + limit;
    while let Some(seen) = link.receive(end.saturating_duration_since(Instant::now()))? {
        if seen == frame {
            return Ok(true);
        }
    }
    Ok(false)
}

fn to_nas(from: Host, from_port: u16, flags: Flags) -> Vec<u8> {
    frame::tcp(flags, Path { from, from_port, to: NAS, to_port: 22 }, b"in")
}

/// A datagram from outside to a port that nothing guards.
fn to_web(payload: &[u8]) -> Vec<u8> {
    frame::udp(Path { from: CLIENT, from_port: 1_025, to: NAS, to_port: 80 }, payload)
}

fn knock_opens(tools: &Tools, sides: Sides) -> Result<String> {
    let mut bridge = Bridge::start(tools, sides)?;
    ensure!(!bridge.passes(&to_nas(CLIENT, 5_001, SYN))?, "open before the knock");
    let path = Path { from: CLIENT, from_port: 5_000, to: NAS, to_port: KNOCK_PORT };
    let datagram = frame::udp(path, &knock(START, 1));
    ensure!(!bridge.passes(&datagram)?, "the knock was forwarded");
    ensure!(bridge.ingress(&to_nas(CLIENT, 5_002, SYN), TIMEOUT)?, "closed after the knock");
    let answer = frame::tcp(SYN_ACK, Path { from: NAS, from_port: 22, to: CLIENT, to_port: 5_002 }, b"out");
    ensure!(bridge.egress(&answer, TIMEOUT)?, "the reply was not forwarded");
    ensure!(bridge.ingress(&to_nas(CLIENT, 5_002, ACK), TIMEOUT)?, "the flow does not continue");
    ensure!(!bridge.passes(&to_nas(STRANGER, 5_003, SYN))?, "open for a stranger");
    let counters = bridge.counters()?;
    ensure!(counters.contains("pkd_knocks_total{verdict=\"accept\"} 1"), "{counters}");
    let free = counters.lines().find_map(|line| line.strip_prefix("pkd_stack_free_bytes "));
    let free: u64 = free.context("no counter of the stack")?.parse()?;
    ensure!(free >= FREE_STACK, "{free} bytes of the stack were never used: expected at least {FREE_STACK}");
    Ok("with a knock to the host".to_owned())
}

fn format2_opens_and_closes(tools: &Tools, sides: Sides) -> Result<String> {
    let both = Bindings::SOURCE | Bindings::DESTINATION;
    let mut bridge = Bridge::start_with(tools, sides, &format2::upgraded(inline(sides), both))?;
    let sealed = |sealed: Sealed| Sealed { bindings: both, to: NAS, ..sealed };
    let path = |from| Path { from, from_port: 5_000, to: NAS, to_port: KNOCK_PORT };
    let open = sealed(Sealed::OPEN).at(0);
    let captured = frame::udp(path(STRANGER), &open);
    ensure!(!bridge.passes(&captured)?, "the captured knock was forwarded");
    ensure!(!bridge.passes(&to_nas(STRANGER, 5_001, SYN))?, "open for a stranger");
    ensure!(!bridge.passes(&frame::udp(path(CLIENT), &open))?, "the knock was forwarded");
    ensure!(bridge.ingress(&to_nas(CLIENT, 5_002, SYN), TIMEOUT)?, "closed after the knock");
    let close = frame::udp(path(CLIENT), &sealed(Sealed::CLOSE).at(1));
    ensure!(!bridge.passes(&close)?, "the request to close was forwarded");
    ensure!(!bridge.passes(&to_nas(CLIENT, 5_003, SYN))?, "open after the request to close");
    ensure!(bridge.passes(&to_nas(CLIENT, 5_002, ACK))?, "the established flow ended too");
    let counters = bridge.counters()?;
    for name in ["digest", "accept", "close"] {
        let line = format!("pkd_knocks_total{{verdict=\"{name}\"}} 1");
        ensure!(counters.lines().any(|known| known == line), "{name}: {counters}");
    }
    Ok("both addresses bound".to_owned())
}

fn forwards_unchanged(tools: &Tools, sides: Sides) -> Result<String> {
    let mut bridge = Bridge::start(tools, sides)?;
    let start = Instant::now();
    for number in 0..FRAMES {
        let length = usize::try_from(number * 37 % 1_473)?;
        let payload: Vec<u8> =
            (0..length).map(|at| u8::try_from((at * 7 + length) % 251).unwrap_or_default()).collect();
        let port = u16::try_from(number)? + 1_024;
        let incoming = frame::udp(Path { from: CLIENT, from_port: port, to: NAS, to_port: 80 }, &payload);
        ensure!(bridge.ingress(&incoming, TIMEOUT)?, "ingress: frame {number} did not arrive");
        let outgoing = frame::udp(Path { from: NAS, from_port: 80, to: CLIENT, to_port: port }, &payload);
        ensure!(bridge.egress(&outgoing, TIMEOUT)?, "egress: frame {number} did not arrive");
    }
    Ok(format!("{:.1} s for both directions", start.elapsed().as_secs_f64()))
}

fn blocked(tools: &Tools, sides: Sides) -> Result<String> {
    let mut bridge = Bridge::start(tools, sides)?;
    let with = |kind: u16| {
        let mut frame = frame::udp(Path { from: CLIENT, from_port: 1, to: NAS, to_port: 80 }, b"");
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        frame
    };
    for (row, kind) in [0x86dd, 0x88cc, 0x8100, 0x8864].into_iter().enumerate() {
        ensure!(!bridge.passes(&with(kind))?, "row {row}: {kind:#x} was forwarded");
    }
    let path = Path { from: CLIENT, from_port: 5_000, to: INLINE, to_port: COUNTERS };
    bridge.outside.send(&frame::udp(path, b"?"))?;
    ensure!(bridge.passes(&to_web(b"after the request"))?, "a datagram to another port did not arrive");
    // The gateway has handled that request; and then this one, and would have answered the other before.
    bridge.counters()?;
    let last = frame::udp(Path { from: NAS, from_port: 80, to: CLIENT, to_port: 1_024 }, b"last");
    bridge.inside.send(&last)?;
    let end = Instant::now() + TIMEOUT;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let seen = bridge.outside.receive(left)?.context("no frame from inside")?;
        if seen == last {
            break;
        }
        let answer = frame::parse(&seen).filter(|seen| seen.from == (INLINE.address, COUNTERS));
        ensure!(answer.is_none(), "a host outside got a reply: {answer:?}");
    }
    Ok("IPv6, LLDP, a VLAN, PPPoE".to_owned())
}

/// The frames of the library's tests, of which each is followed by one that is to pass.
fn attacks_stop(tools: &Tools, sides: Sides, protect: Protect) -> Result<String> {
    let cast = Cast {
        nas: NAS,
        printer: Host::new(9, [192, 168, 1, 21]),
        attacker: STRANGER,
        gateway: INLINE,
        knock_port: KNOCK_PORT,
    };
    let mut config = inline(sides);
    attacks::configure(&mut config, cast, protect);
    let mut bridge = Bridge::start_with(tools, sides, &config)?;
    for introduction in attacks::introductions(cast) {
        ensure!(bridge.egress(&introduction, TIMEOUT)?, "an inside host cannot introduce itself");
    }
    let (mut stopped, mut passed) = (0, 0);
    for (number, Attack { name, frame, host, services }) in (0_u32..).zip(attacks::attacks(cast)) {
        let expected = if protect == Protect::Host { host } else { services };
        bridge.outside.send(&frame)?;
        let given = bridge.passes_before(&frame, &attacks::always_passes(cast, number))?;
        ensure!(given == (expected == Fate::Passes), "{name}: passes: {given}");
        if given { passed += 1 } else { stopped += 1 }
    }
    ensure!(stopped > 0 && passed > 0, "{stopped} stopped, {passed} passed");
    Ok(format!("{stopped} stopped, {passed} to pass"))
}

fn stray(tools: &Tools) -> Result<String> {
    let mut bridge = Bridge::start(tools, Sides::Trunk)?;
    let path = |from_port| Path { from: CLIENT, from_port, to: NAS, to_port: 80 };
    let (untagged, other) = (frame::udp(path(1), b"stray"), frame::udp(path(2), b"stray"));
    bridge.outside.send_untagged(&untagged)?;
    let [high, low] = OTHER_VLAN.to_be_bytes();
    bridge.outside.send_untagged(&[&other[..12], &[0x81, 0, high, low], &other[12..]].concat())?;
    let good = frame::udp(path(3), b"good");
    ensure!(bridge.ingress(&good, TIMEOUT)?, "a frame from outside was not forwarded");
    // The frames left in the queue belong to neither side.
    let counters = bridge.counters()?;
    let left: Vec<_> =
        bridge.inside.stray_frames().into_iter().filter(|frame| frame.ends_with(b"stray")).collect();
    ensure!(left.is_empty(), "{left:02x?} came out");
    ensure!(counters.contains("pkd_dropped_total{reason=\"not_for_us\"} 2"), "{counters}");
    Ok("2 kinds".to_owned())
}
