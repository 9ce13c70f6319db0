//! A flood of forged knocks, with honest knocks in between.

use anyhow::{Result, bail, ensure};
use pkd_tests::Report;

use crate::{
    frame::{self, Host, Path},
    machine::Tools,
    scenario::{GATEWAY, KNOCK_PORT, START, STRANGER, Scenario, knock},
};

/// Forgeries before each honest knock.
const BURST: u64 = 250;
const HONEST: u8 = 20;
/// How often an honest sender tries at most. The Ethernet controller drops frames that arrive faster than the board handles them.
const TRIES: u16 = 40;

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check("flood: honest senders get through a flood of forgeries", || flood(tools));
}

fn flood(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    let mut forgeries = 0;
    let mut most = 0;
    for honest in 0..HONEST {
        let tries = knock_until_open(&mut scenario, honest, &mut forgeries)?;
        most = most.max(tries);
    }
    ensure!(!scenario.is_open(STRANGER, 5_001)?, "the forger can connect");
    let counters = scenario.counters()?;
    let forged = counters.of("\"digest\"");
    ensure!(forged > 0 && forged <= forgeries, "{forged} of {forgeries} forgeries were counted");
    Ok(format!("{forgeries} forgeries, {forged} of them checked; at most {most} tries"))
}

/// Knocks during the flood until the port is open. Returns the number of tries.
fn knock_until_open(scenario: &mut Scenario, honest: u8, forgeries: &mut u64) -> Result<u16> {
    // A cache holds 16 knocks of the same second, so these are spread over twenty seconds.
    let time = START - 9 + u64::from(honest);
    for number in 1..=TRIES {
        for _ in 0..BURST {
            *forgeries += 1;
            let mut payload = knock(START, *forgeries);
            payload[55] ^= 1;
            send(scenario, STRANGER, &payload)?;
        }
        send(scenario, sender(honest), &knock(time, u64::MAX - *forgeries))?;
        if scenario.is_open(sender(honest), 5_000 + number)? {
            return Ok(number);
        }
    }
    bail!("sender {honest} did not get through in {TRIES} tries")
}

fn sender(number: u8) -> Host {
    Host::new(3, [203, 0, 113, 100 + number])
}

fn send(scenario: &Scenario, from: Host, payload: &[u8]) -> Result<()> {
    scenario
        .link
        .send(&frame::udp(Path { from, from_port: 5_000, to: GATEWAY, to_port: KNOCK_PORT }, payload))
}
