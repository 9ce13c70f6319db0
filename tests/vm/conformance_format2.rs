//! The scenarios of format 2, through the kernel: its clock is set to each step's.
//!
//! The packets go over the loopback, from and to any address. Two rules look at them, one for each request.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use pkd_core::{
    Port, UnixMillis,
    format2::{Bindings, Keys, Knock, KnockParams, Request},
};
use pkd_tests::{
    Report,
    format2::{Scenario, Step, known_answers},
    unhex,
};

use crate::{
    firewall::{Back, Firewall},
    gateway,
    network::{Family, coarse_millis, now, set_clock, set_clock_millis, shell, wait},
    packet,
    status::{CAPACITY, Status},
    wire::Wire,
};

/// A slow machine may let a millisecond that matters pass while a packet travels; then the scenario begins again.
const TRIES: usize = 40;

/// Without memory, what matters may be the millisecond in which the module starts.
const STARTS: usize = 200;

/// Scenarios start long before they knock.
const SLACK: u64 = 5_000;

const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn checks(report: &mut Report) {
    let (clock, start) = match now() {
        Ok(clock) => (clock, Instant::now()),
        Err(error) => return report.fail("reading the clock", &error),
    };
    let all = match known_answers() {
        Ok(known) => known.scenarios,
        Err(error) => return report.fail("reading the scenarios of format 2", &error),
    };
    let mut ran = 0;
    for scenario in &all {
        match obstacle(scenario) {
            Ok(Some(obstacle)) => report.skip(&format!("format 2: scenario {:?}: {obstacle}", scenario.name)),
            Ok(None) => report.check(&format!("format 2: scenario: {}", scenario.name), || {
                ran += 1;
                walk(scenario)
            }),
            Err(error) => report.fail(&scenario.name, &error),
        }
    }
    report.check("format 2: all scenarios ran that a kernel can run", || {
        // One of those known is not for kernels.
        ensure!(ran + 1 >= all.len() && ran >= 19, "{ran} of {}", all.len());
        Ok(format!("{ran} of {}", all.len()))
    });
    report.check("the clock is set back to what it was", || {
        set_clock(clock + start.elapsed().as_secs())?;
        Ok(format!("{}", now()?))
    });
}

/// Why a kernel cannot run it.
fn obstacle(scenario: &Scenario) -> Result<Option<String>> {
    let own = scenario.own_addresses()?.len();
    Ok((own > 0).then(|| format!("{own} addresses outside of NAT, which a rule does not have")))
}

fn walk(scenario: &Scenario) -> Result<String> {
    let here = Addresses::of(scenario)?;
    here.change("add")?;
    let walked = (0..TRIES).find_map(|_| match try_walk(scenario) {
        Ok(true) => Some(Ok(format!("{} steps", scenario.steps.len()))),
        Ok(false) => None,
        Err(error) => Some(Err(error)),
    });
    for family in [Family::V4, Family::V6] {
        Firewall::new(family, Back::Legacy).flush()?;
    }
    here.change("del")?;
    walked.with_context(|| format!("in {TRIES} tries the clock never stood still for a step"))?
}

/// The destinations of a scenario, for which this machine stands.
struct Addresses(Vec<IpAddr>);

impl Addresses {
    fn of(scenario: &Scenario) -> Result<Self> {
        let mut all = Vec::new();
        for step in &scenario.steps {
            if let Step::Datagram { destination_hex, .. } = step {
                all.push(address(destination_hex)?);
            }
        }
        all.sort_unstable();
        all.dedup();
        Ok(Self(all))
    }

    fn change(&self, verb: &str) -> Result<()> {
        for address in &self.0 {
            let length = if address.is_ipv4() { 32 } else { 128 };
            shell(&format!("ip addr {verb} {address}/{length} dev lo"))?;
        }
        Ok(())
    }
}

fn address(digits: &str) -> Result<IpAddr> {
    let bytes = unhex(digits)?;
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Ok(Ipv4Addr::from(bytes).into());
    }
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| anyhow::anyhow!("no address: {digits}"))?;
    Ok(Ipv6Addr::from(bytes).into())
}

/// `false`: the clock went on during a step, and nothing is known.
fn try_walk(scenario: &Scenario) -> Result<bool> {
    let began = start(scenario, scenario.start_ms)?;
    let latest = settable(scenario, scenario.start_ms)? + SLACK;
    ensure!(began <= latest, "the module started at {began}, after {latest}");
    fill(scenario)?;
    for (row, step) in scenario.steps.iter().enumerate() {
        match step {
            Step::Restart { restart, saved_floor_ms: Some(floor) } => {
                start(scenario, *restart)?;
                gateway::restore(&format!("floor2-ms {floor}"))?;
            }
            Step::Restart { restart, saved_floor_ms: None } => start_exactly(scenario, *restart)?,
            Step::Datagram { now_ms, dst_port, source_hex, destination_hex, payload_hex, verdict } => {
                let (from, to) = (address(source_hex)?, address(destination_hex)?);
                let packet = packet::udp_packet(from, to, *dst_port, &unhex(payload_hex)?)?;
                let clock = settable(scenario, *now_ms)?;
                let (actual, end) = verdict_at(clock, to, &packet).with_context(|| format!("step {row}"))?;
                if actual != *verdict && end != clock {
                    return Ok(false);
                }
                ensure!(actual == *verdict, "step {row}: {actual}, not {verdict}");
            }
        }
    }
    Ok(true)
}

/// Leaves a cache as much room as the scenario's has, as in [`conformance`](crate::conformance).
fn fill(scenario: &Scenario) -> Result<()> {
    if scenario.steps.len() <= scenario.capacity.min(CAPACITY) {
        return Ok(());
    }
    let fillers = CAPACITY.checked_sub(scenario.capacity).context("no kernel has so large a cache")?;
    let mut last = scenario.start_ms;
    let mut ends = None;
    for step in &scenario.steps {
        match step {
            Step::Datagram { now_ms, dst_port, source_hex, destination_hex, .. } => {
                (last, ends) =
                    (last.max(*now_ms), Some((address(source_hex)?, address(destination_hex)?, *dst_port)));
            }
            Step::Restart { .. } => bail!("what fills a cache would be the floor after a restart"),
        }
    }
    let (from, to, port) = ends.context("a scenario without datagrams")?;
    let keys = Keys::new(&scenario.key()?, scenario.tag()?);
    let time = last + 1_000_000;
    set_clock_millis(time)?;
    let (wire, before) = (Wire::open_to(to)?, Status::read()?.counters["Accept"]);
    for number in 0..fillers {
        let mut nonce = [0xf2; 12];
        nonce[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let bindings = Bindings::SOURCE | Bindings::DESTINATION;
        let params = KnockParams { time: UnixMillis(time), nonce, bindings, request: Request::Open };
        let knock = pkd_core::format2::Addresses::with(from, to, |ends| {
            Knock::seal(&keys, &params, Port(port), ends)
        });
        let knock = knock.context("addresses of two families")?;
        wire.send(&packet::udp_packet(from, to, port, &knock)?)?;
    }
    let all = before + fillers as u64;
    wait(LIMIT, Status::read, |status| status.counters["Accept"] >= all).map(drop)
}

/// What both rules say together about a packet, and the clock afterwards.
fn verdict_at(clock: u64, to: IpAddr, packet: &[u8]) -> Result<(&'static str, u64)> {
    let wire = Wire::open_to(to)?;
    set_clock_millis(clock)?;
    // Reading brings the hints up to date.
    let before = Status::read()?;
    set_clock_millis(clock)?;
    wire.send(packet)?;
    let end = coarse_millis()?;
    // The rule that matches is the last that sees the packet.
    let is_complete = |moved: &Vec<(&str, u64)>| match moved[..] {
        [("Accept", 1)] => true,
        _ => moved.iter().map(|(_, by)| by).sum::<u64>() == 2,
    };
    let moved = wait(LIMIT, || Ok(Status::read()?.moved_since(&before)), is_complete)?;
    let verdict = match moved[..] {
        [("Accept", 1)] => "Open",
        [("Close", 1), ("Request", 1)] => "Close",
        [(reason, 2)] => reason,
        // The clock went on between the rules.
        _ if end != clock => "unclear",
        _ => bail!("the two rules say {moved:?}"),
    };
    Ok((verdict, end))
}

/// Loads the module at this time, and adds the rules; when it started.
fn start(scenario: &Scenario, at: u64) -> Result<u64> {
    load(settable(scenario, at)?)?;
    add_rules(scenario)?;
    began(scenario)
}

/// The same so that it starts in exactly this millisecond: until it does, earlier by what it was late.
fn start_exactly(scenario: &Scenario, at: u64) -> Result<()> {
    let mut early = 0;
    for _ in 0..STARTS {
        load(at - early)?;
        add_rules(scenario)?;
        let began = began(scenario)?;
        if began == at {
            return Ok(());
        }
        early = (early + began).saturating_sub(at);
    }
    bail!("in {STARTS} tries the module never started in the right millisecond")
}

fn load(at: u64) -> Result<()> {
    gateway::unload()?;
    set_clock_millis(at)?;
    gateway::load()
}

/// As the floor says, for the window of all rules.
fn began(scenario: &Scenario) -> Result<u64> {
    let floor = Status::read()?.format2_floor.context("no floor to save")?;
    Ok(floor - u64::from(scenario.window) * 1_000)
}

fn add_rules(scenario: &Scenario) -> Result<()> {
    let Scenario { key_hex, tag_hex, window, require, .. } = scenario;
    let require =
        if require.is_empty() { String::new() } else { format!(" --require {}", require.join(",")) };
    for family in [Family::V4, Family::V6] {
        let firewall = Firewall::new(family, Back::Legacy);
        for request in ["open", "close"] {
            firewall.run(&format!(
                "-t mangle -A PREROUTING -i lo -p udp -m pkd --key 0x{key_hex} --tag 0x{tag_hex} --window {window} \
                 --format 2{require} --request {request} -j DROP"
            ))?;
        }
        firewall.run("-t mangle -A PREROUTING -i lo -p udp -j DROP")?;
    }
    Ok(())
}

/// The clock cannot be set to every time; a rule that does not look at it gets the nearest that can be.
fn settable(scenario: &Scenario, clock: u64) -> Result<u64> {
    const LEAST: u64 = 100_000_000;
    const MOST: u64 = 2_100_000_000_000;
    if scenario.window == 0 {
        return Ok(clock.clamp(LEAST, MOST));
    }
    ensure!((LEAST..MOST).contains(&clock), "the kernel's clock cannot be set to {clock} ms");
    Ok(clock)
}
