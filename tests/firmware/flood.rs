//! Forgeries as fast as they can be made, and honest knocks among them.

use anyhow::{Result, bail, ensure};

use crate::{
    frame::{self, Host, Path},
    machine::Tools,
    report::Report,
    scene::{GATEWAY, KNOCK_PORT, START, STRANGER, Scene, knock},
};

/// Forgeries before each knock of an honest sender.
const BURST: u64 = 250;
const HONEST: u8 = 20;
/// Times that an honest sender knocks at most: what comes faster than the board looks at it, its Ethernet controller loses.
const TRIES: u16 = 40;

pub(crate) fn claims(report: &mut Report, tools: &Tools) {
    report.claim("flood: honest senders get through among forgeries as fast as they can be made", || {
        flood(tools)
    });
}

fn flood(tools: &Tools) -> Result<String> {
    let mut scene = Scene::ready(tools)?;
    let mut forgeries = 0;
    let mut most = 0;
    for honest in 0..HONEST {
        let tries = insist(&mut scene, honest, &mut forgeries)?;
        most = most.max(tries);
    }
    ensure!(!scene.is_open(STRANGER, 5_001)?, "the forger gets through");
    let counters = scene.counters()?;
    let forged = counters.of("\"digest\"");
    ensure!(forged > 0 && forged <= forgeries, "{forged} of {forgeries} forgeries are counted");
    Ok(format!("{forgeries} forgeries, {forged} of them looked at; {most} tries at most"))
}

/// Knocks among forgeries and tries the door, as people do who find it closed; gives how often it took.
fn insist(scene: &mut Scene, honest: u8, forgeries: &mut u64) -> Result<u16> {
    // A cache tells 16 knocks of one second apart; these have twenty seconds.
    let time = START - 9 + u64::from(honest);
    for number in 1..=TRIES {
        for _ in 0..BURST {
            *forgeries += 1;
            let mut payload = knock(START, *forgeries);
            payload[55] ^= 1;
            send(scene, STRANGER, &payload)?;
        }
        send(scene, sender(honest), &knock(time, u64::MAX - *forgeries))?;
        if scene.is_open(sender(honest), 5_000 + number)? {
            return Ok(number);
        }
    }
    bail!("sender {honest} does not get through in {TRIES} tries")
}

fn sender(number: u8) -> Host {
    Host::new(3, [203, 0, 113, 100 + number])
}

fn send(scene: &Scene, from: Host, payload: &[u8]) -> Result<()> {
    scene.wire.send(&frame::udp(Path { from, from_port: 5_000, to: GATEWAY, to_port: KNOCK_PORT }, payload))
}
