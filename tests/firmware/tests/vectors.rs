//! The protocol's scenarios of both formats, as frames through the gateway's library, in both modes.

#[allow(dead_code)]
#[path = "../../../firmware/gateway/tests/gateway/frame.rs"]
mod frame;

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
};

use anyhow::{Result, bail, ensure};
use pkd_core::{Reason, UnixMillis, UnixSeconds, Verdict};
use pkd_gateway::{
    Action, Address, Config, DropReason, Endpoint, EthernetAddress, Floors, Format, Gateway, Inline, Instant,
    Interface, Mode, Network, Pass, Port, Protect, Protocol, Rule, Service, Services, Tables, TimeServer,
    TimeSource,
};
use pkd_tests::{bytes, format2, scenarios, unhex, word};

use frame::{Host, Path, SYN};

const GATEWAY: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const KNOCK_PORT: u16 = 40_000;
const SSH: u16 = 22;
/// Of classic datagrams, whose addresses do not count.
const SENDER: [u8; 4] = [198, 51, 100, 7];
const RECEIVER: [u8; 4] = [203, 0, 113, 9];

/// A rule and what happens to it, of either format.
struct Scenario {
    name: String,
    rule: Rule,
    own: Vec<Ipv4Addr>,
    capacity: usize,
    start: UnixMillis,
    steps: Vec<Step>,
}

enum Step {
    Restart { at: UnixMillis, saved: Floors },
    Datagram(Datagram),
}

struct Datagram {
    now: UnixMillis,
    port: u16,
    source: [u8; 4],
    destination: [u8; 4],
    payload: Vec<u8>,
    verdict: String,
}

fn millis(time: u64) -> UnixMillis {
    UnixMillis(time.saturating_mul(1_000))
}

fn rule(knock: pkd_core::Rule, format: Format) -> Rule {
    Rule { knock, format, ttl: 60, services: Services::NONE.with(0) }
}

/// Those of `verdicts.json`.
fn classic() -> Result<Vec<Scenario>> {
    let convert = |known: &pkd_tests::Scenario| {
        let steps = known.steps.iter().map(|step| {
            Ok(match step {
                pkd_tests::Step::Restart { restart, saved_floor } => {
                    let classic = saved_floor.map(UnixSeconds);
                    Step::Restart { at: millis(*restart), saved: Floors { classic, format2: None } }
                }
                pkd_tests::Step::Datagram { now, dst_port, payload_hex, verdict } => {
                    Step::Datagram(Datagram {
                        now: millis(*now),
                        port: *dst_port,
                        source: SENDER,
                        destination: RECEIVER,
                        payload: unhex(payload_hex)?,
                        verdict: verdict.clone(),
                    })
                }
            })
        });
        Ok(Scenario {
            name: known.name.clone(),
            rule: rule(known.rule()?, Format::Classic),
            own: Vec::new(),
            capacity: known.cache_capacity,
            start: millis(known.start),
            steps: steps.collect::<Result<_>>()?,
        })
    };
    scenarios()?.iter().map(convert).collect()
}

/// Those of `format2.json` over IPv4, and how many there are in all.
fn format2_over_ipv4() -> Result<(Vec<Scenario>, usize)> {
    let known = format2::known_answers()?.scenarios;
    let count = known.len();
    let mut scenarios = Vec::new();
    for known in known {
        let mut steps = Vec::new();
        for step in &known.steps {
            steps.push(match step {
                format2::Step::Restart { restart, saved_floor_ms } => {
                    let format2 = saved_floor_ms.map(UnixMillis);
                    Step::Restart { at: UnixMillis(*restart), saved: Floors { classic: None, format2 } }
                }
                format2::Step::Datagram {
                    now_ms,
                    dst_port,
                    source_hex,
                    destination_hex,
                    payload_hex,
                    verdict,
                } => {
                    let (Ok(source), Ok(destination)) = (bytes(source_hex), bytes(destination_hex)) else {
                        break;
                    };
                    let (now, payload) = (UnixMillis(*now_ms), unhex(payload_hex)?);
                    let (port, verdict) = (*dst_port, verdict.clone());
                    Step::Datagram(Datagram { now, port, source, destination, payload, verdict })
                }
            });
        }
        if steps.len() < known.steps.len() {
            // The gateway's own protocol is IPv4.
            continue;
        }
        let own = known.own_addresses()?.into_iter().map(|octets| match <[u8; 4]>::try_from(octets) {
            Ok(octets) => Ok(Ipv4Addr::from(octets)),
            Err(octets) => bail!("no address of IPv4: {octets:?}"),
        });
        let format = Format::Format2 { require: known.required()? };
        let knock = pkd_core::Rule::new(known.key()?, known.tag()?, known.window());
        scenarios.push(Scenario {
            name: known.name.clone(),
            rule: rule(knock, format),
            own: own.collect::<Result<_>>()?,
            capacity: known.capacity,
            start: UnixMillis(known.start_ms),
            steps,
        });
    }
    Ok((scenarios, count))
}

/// What was compared with the vectors, and what could not be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    scenarios: usize,
    verdicts: BTreeSet<String>,
    /// To a port that the gateway does not check knocks at.
    other_ports: usize,
    /// At a time that the gateway does not take from a time server.
    other_times: usize,
}

/// The host behind the gateway.
const INSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 20);

const INLINE: Inline = Inline {
    vlans: None,
    protect: Protect::Host,
    ipv6: true,
    pass: Pass { ethertypes: [0; 8], protocols: [0; 8] },
};

fn config(scenario: &Scenario, mode: Mode) -> Result<Config<1>> {
    let mut config = Config::new();
    config.mode = mode;
    config.address = Address::Dhcp;
    config.knock_port = KNOCK_PORT;
    config.own_addresses = scenario.own.iter().copied().collect();
    if scenario.rule.knock.window().as_secs() == 0 {
        // Without a clock, the configuration's creation is where the wait begins.
        config.created = UnixSeconds(scenario.start.0 / 1_000);
    } else {
        let at = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 123), 123);
        config.time = TimeSource::Sntp(TimeServer { at, interval: 64 });
    }
    let service = Service {
        name: heapless::String::new(),
        protocol: Protocol::Tcp,
        port: SSH,
        inside: Endpoint { address: INSIDE.into(), port: SSH },
    };
    ensure!(config.services.push(service).is_ok() && config.rules.push(scenario.rule.clone()).is_ok());
    Ok(config)
}

fn run<const KNOCKS: usize>(scenario: &Scenario, mode: Mode, tally: &mut Tally) -> Result<()> {
    let config = config(scenario, mode)?;
    let has_clock = config.time != TimeSource::None;
    let mut tables = Tables::<8, 4, 1, KNOCKS>::new();
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY, Floors::default());
    let mut uptime = 0;
    ensure!(!has_clock || gateway.set_time(Instant(0), scenario.start).is_ok(), "the first time is refused");
    for (row, step) in scenario.steps.iter().enumerate() {
        uptime += 1;
        match step {
            Step::Restart { at, saved } => {
                tables = Tables::new();
                gateway = Gateway::new(&mut tables, &config, GATEWAY, *saved);
                // Without a floor, a time before the configuration's is possible.
                let _in_the_past = !has_clock || gateway.set_time(Instant(uptime), *at).is_ok();
            }
            Step::Datagram(datagram) => {
                let is_set = !has_clock || gateway.set_time(Instant(uptime), datagram.now).is_ok();
                let given = send(&mut gateway, Instant(uptime), datagram);
                let name = format!("{}, step {row}, {mode:?}", scenario.name);
                if is_set && datagram.port == KNOCK_PORT {
                    let Action::Knock(outcome) = given else { bail!("{name}: {given:?}") };
                    let open = "Open".to_owned();
                    let word = if outcome.verdict == Verdict::Accept && has_format2(&scenario.rule) {
                        open
                    } else {
                        word(outcome.verdict)
                    };
                    ensure!(word == datagram.verdict, "{name}: {word}, expected {}", datagram.verdict);
                    let acts = matches!(outcome.verdict, Verdict::Accept | Verdict::Close);
                    ensure!(outcome.sender.is_some() == acts, "{name}: {outcome:?}");
                    check_grant(&mut gateway, Instant(uptime), datagram, outcome.verdict, &name)?;
                    tally.verdicts.insert(word);
                    continue;
                }
                let acts = matches!(given, Action::Knock(outcome) if outcome.sender.is_some());
                ensure!(!acts && !["Accept", "Open", "Close"].contains(&datagram.verdict.as_str()), "{name}");
                let counter = if is_set { &mut tally.other_ports } else { &mut tally.other_times };
                *counter += 1;
            }
        }
    }
    tally.scenarios += 1;
    Ok(())
}

fn has_format2(rule: &Rule) -> bool {
    matches!(rule.format, Format::Format2 { .. })
}

fn path(datagram: &Datagram, to: Ipv4Addr, to_port: u16) -> Path {
    Path {
        from: Host { hardware: EthernetAddress([2, 0, 0, 0, 0, 3]), address: datagram.source.into() },
        from_port: 5_000,
        to: Host { hardware: GATEWAY, address: to },
        to_port,
    }
}

/// Sends a datagram to a gateway that has the address it was sent to.
fn send<const KNOCKS: usize>(
    gateway: &mut Gateway<'_, 8, 4, 1, KNOCKS>,
    now: Instant,
    datagram: &Datagram,
) -> Action {
    let address = Ipv4Addr::from(datagram.destination);
    let interface = Interface { network: Network { address, prefix: 24 }, router: None };
    assert_eq!(gateway.set_interface(Some(interface)), Ok(()));
    let path = path(datagram, address, datagram.port);
    gateway.on_frame(now, Port::Outside, &mut frame::udp(path, &datagram.payload))
}

/// After an accepted knock its sender gets on, and after a request to close not.
fn check_grant<const KNOCKS: usize>(
    gateway: &mut Gateway<'_, 8, 4, 1, KNOCKS>,
    now: Instant,
    datagram: &Datagram,
    verdict: Verdict,
    name: &str,
) -> Result<()> {
    let expected = match verdict {
        Verdict::Accept => false,
        Verdict::Close => true,
        Verdict::Ignore(_) => return Ok(()),
    };
    let mut path = path(datagram, datagram.destination.into(), SSH);
    if gateway.config().mode != Mode::OneArm {
        let inside = EthernetAddress([2, 0, 0, 0, 0, 2]);
        path.to = Host { hardware: inside, address: INSIDE };
    }
    // With another port each time, so that no flow exists.
    let from_port = 10_000 + u16::try_from(now.0)?;
    let syn = frame::tcp(SYN, Path { from_port, ..path }, b"");
    let action = gateway.on_frame(now, Port::Outside, &mut syn.clone());
    // One-arm, a sender with a grant is told apart by the inside host's missing address.
    ensure!((action == Action::Drop(DropReason::NoGrant)) == expected, "{name}: {action:?}");
    Ok(())
}

fn run_all(scenarios: &[Scenario]) -> Result<Tally> {
    let mut tally = Tally::default();
    for mode in [Mode::OneArm, Mode::Inline(INLINE)] {
        for scenario in scenarios {
            match scenario.capacity {
                2 => run::<2>(scenario, mode, &mut tally)?,
                4 => run::<4>(scenario, mode, &mut tally)?,
                16 => run::<16>(scenario, mode, &mut tally)?,
                256 => run::<256>(scenario, mode, &mut tally)?,
                other => bail!("{}: unexpected cache capacity {other}", scenario.name),
            }
        }
    }
    Ok(tally)
}

/// The reasons of a format's rules, and what it does otherwise.
fn words(others: &[&str], reasons: &[Reason]) -> BTreeSet<String> {
    let reasons = reasons.iter().map(|reason| format!("{reason:?}"));
    others.iter().map(|word| (*word).to_owned()).chain(reasons).collect()
}

#[test]
fn every_classic_scenario_gets_its_verdicts_as_frames_in_both_modes() {
    let scenarios = classic().unwrap();
    assert!(scenarios.len() >= 16, "a scenario was lost");
    let tally = run_all(&scenarios).unwrap();
    assert_eq!(tally.scenarios, 2 * scenarios.len());
    let reasons = [Reason::Length, Reason::Tag, Reason::Window, Reason::Replay, Reason::Digest];
    assert_eq!(tally.verdicts, words(&["Accept"], &reasons));
    assert_eq!((tally.other_ports, tally.other_times), (2, 2));
}

#[test]
fn every_scenario_of_format_2_gets_its_verdicts_as_frames_in_both_modes() {
    let (scenarios, count) = format2_over_ipv4().unwrap();
    assert!(count >= 20, "a scenario was lost");
    assert_eq!(scenarios.len(), count - 1, "all but that of IPv6");
    let tally = run_all(&scenarios).unwrap();
    assert_eq!(tally.scenarios, 2 * scenarios.len());
    assert_eq!(tally.verdicts, words(&["Open", "Close"], &Reason::ALL));
    assert_eq!((tally.other_ports, tally.other_times), (2, 0));
}
