//! The conformance table, through the kernel: its clock is set to each step's.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pkd_core::{Knock, KnockParams, Port, UnixSeconds};
use pkd_tests::{Report, Scenario, Step, scenarios, unhex};

use crate::{
    gateway::{self, Gateway},
    network::{now, set_clock, wait},
    packet,
    status::{CAPACITY, Status},
};

/// A slow machine may let the second pass while a datagram travels; then the scenario begins again.
const TRIES: usize = 20;

const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn checks(report: &mut Report, gateway: &Gateway<'_>) {
    let (clock, start) = match now() {
        Ok(clock) => (clock, Instant::now()),
        Err(error) => return report.fail("reading the clock", &error),
    };
    let all = match scenarios() {
        Ok(all) => all,
        Err(error) => return report.fail("reading the scenarios", &error),
    };
    let mut ran = 0;
    for scenario in &all {
        report.check(&format!("scenario: {}", scenario.name), || {
            ran += 1;
            walk(gateway, scenario)
        });
    }
    report.check("all scenarios ran", || {
        ensure!(ran == all.len() && ran >= 16, "{ran} of {}", all.len());
        Ok(format!("{ran} of {}", all.len()))
    });
    report.check("the clock is set back to what it was", || {
        set_clock(clock + start.elapsed().as_secs())?;
        Ok(format!("{}", now()?))
    });
}

fn walk(gateway: &Gateway<'_>, scenario: &Scenario) -> Result<String> {
    for _ in 0..TRIES {
        if try_walk(gateway, scenario)? {
            return Ok(format!("{} steps", scenario.steps.len()));
        }
    }
    bail!("in {TRIES} tries the clock never stood still for a step")
}

/// `false`: the second passed during a step, or many of them at the start, and nothing is known.
fn try_walk(gateway: &Gateway<'_>, scenario: &Scenario) -> Result<bool> {
    let without_clock = scenario.rule()?.window().as_secs() == 0;
    let rule = format!(
        "-A INPUT -p udp -m pkd --key 0x{} --tag 0x{} --window {}",
        hex(scenario.rule()?.key().as_bytes()),
        hex(&scenario.rule()?.tag().0),
        scenario.rule()?.window().as_secs()
    );
    let start = |at: u64| {
        gateway.firewall.flush()?;
        gateway::unload()?;
        // Only the module's load reads the clock here.
        set_clock(settable(at, without_clock)?)?;
        gateway::load()?;
        let loaded = now()?;
        gateway.firewall.run(&rule)?;
        Ok::<bool, anyhow::Error>(loaded == settable(at, without_clock)?)
    };
    if !start(scenario.start)? {
        // What matters is the floor, which the file shows; scenarios start long before they knock.
        if Status::read()?.cache()?.floor >= scenario.start + 15 {
            return Ok(false);
        }
    }
    fill(gateway, scenario)?;
    for (row, step) in scenario.steps.iter().enumerate() {
        match step {
            Step::Restart { restart, saved_floor } => {
                if !start(*restart)? && saved_floor.is_none() {
                    return Ok(false);
                }
                if let Some(floor) = saved_floor {
                    gateway::restore(&format!("floor {floor}"))?;
                }
            }
            Step::Datagram { now: clock, dst_port, payload_hex, verdict } => {
                let payload = unhex(payload_hex)?;
                let clock = settable(*clock, without_clock)?;
                set_clock(clock)?;
                let actual =
                    gateway.verdict_of(&payload, *dst_port).with_context(|| format!("step {row}"))?;
                if now()? != clock && !without_clock {
                    return Ok(false);
                }
                ensure!(actual == verdict, "step {row}: {actual}, not {verdict}");
            }
        }
    }
    Ok(true)
}

/// Leaves a cache as much room as the scenario's has: the rest is taken by knocks that are later than all of the
/// scenario's, and so never leave it.
fn fill(gateway: &Gateway<'_>, scenario: &Scenario) -> Result<()> {
    if scenario.steps.len() <= scenario.cache_capacity.min(CAPACITY) {
        return Ok(());
    }
    let fillers = CAPACITY.checked_sub(scenario.cache_capacity).context("no kernel has so large a cache")?;
    let mut last = scenario.start;
    let mut port = 0;
    for step in &scenario.steps {
        match step {
            Step::Datagram { now, dst_port, .. } => (last, port) = (last.max(*now), *dst_port),
            Step::Restart { .. } => {
                bail!("what fills a cache would be the floor after a restart");
            }
        }
    }
    let rule = scenario.rule()?;
    let time = UnixSeconds(last + 1_000);
    set_clock(time.0)?;
    let before = Status::read()?.counters["Accept"];
    for number in 0..fillers {
        let mut nonce = [0xf1; 12];
        nonce[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let params = KnockParams { key: rule.key(), tag: rule.tag(), time, nonce };
        let knock = Knock::seal(&params, Port(port));
        let (from, to) = (gateway.family.client(), gateway.family.router());
        gateway.network.at_client(|| packet::send(from, to, port, &knock))?;
    }
    let all = before + fillers as u64;
    wait(LIMIT, Status::read, |status| status.counters["Accept"] >= all).map(drop)
}

/// The clock can be set neither before the machine's own start nor, on 32-bit machines, beyond
/// 2038; a rule that does not look at the clock gets the nearest that can be.
fn settable(clock: u64, without_clock: bool) -> Result<u64> {
    const LEAST: u64 = 100_000;
    const MOST: u64 = 2_100_000_000;
    if without_clock {
        return Ok(clock.clamp(LEAST, MOST));
    }
    ensure!((LEAST..MOST).contains(&clock), "the kernel's clock cannot be set to {clock}");
    Ok(clock)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
}
