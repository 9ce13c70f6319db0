//! Forgeries as fast as they can be made, and honest knocks among them.

use anyhow::{Result, bail, ensure};

use crate::{
    frame::{self, Host, Path},
    machine::Tools,
    report::Report,
    scenario::{GATEWAY, KNOCK_PORT, START, STRANGER, Scenario, knock},
};

/// Forgeries before each knock of an honest sender.
const BURST: u64 = 250;
const HONEST: u8 = 20;
/// Times that an honest sender knocks at most: what comes faster than the board looks at it, its Ethernet controller loses.
const TRIES: u16 = 40;

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check("flood: honest senders get through among forgeries as fast as they can be made", || {
        flood(tools)
    });
}

fn flood(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    let mut forgeries = 0;
    let mut most = 0;
    for honest in 0..HONEST {
        let tries = knock_until_open(&mut scenario, honest, &mut forgeries)?;
        most = most.max(tries);
    }
    ensure!(!scenario.is_open(STRANGER, 5_001)?, "the forger gets through");
    let counters = scenario.counters()?;
    let forged = counters.of("\"digest\"");
    ensure!(forged > 0 && forged <= forgeries, "{forged} of {forgeries} forgeries are counted");
    Ok(format!("{forgeries} forgeries, {forged} of them looked at; {most} tries at most"))
}

/// Knocks among forgeries and tries the door, as people do who find it closed; gives how often it took.
fn knock_until_open(scenario: &mut Scenario, honest: u8, forgeries: &mut u64) -> Result<u16> {
    // A cache tells 16 knocks of one second apart; these have twenty seconds.
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
    bail!("sender {honest} does not get through in {TRIES} tries")
}

fn sender(number: u8) -> Host {
    Host::new(3, [203, 0, 113, 100 + number])
}

fn send(scenario: &Scenario, from: Host, payload: &[u8]) -> Result<()> {
    scenario
        .link
        .send(&frame::udp(Path { from, from_port: 5_000, to: GATEWAY, to_port: KNOCK_PORT }, payload))
}
