//! Many flows through few slots.

use anyhow::{Context, Result, ensure};

use crate::{
    frame::{ACK, FIN_ACK, RST, SYN},
    machine::{LIMIT, Tools},
    report::Report,
    scene::{CLIENT, START, Scene},
};

/// Flows that come and go.
const FLOWS: u16 = 10_000;

pub(crate) fn claims(report: &mut Report, tools: &Tools) {
    report.claim("flows: 10,000 pass through 1,024 slots, and an established one stays", || many(tools));
}

fn many(tools: &Tools) -> Result<String> {
    let mut scene = Scene::ready(tools)?;
    ensure!(scene.knock(CLIENT, START)? == "accept", "no knock is accepted");
    scene.connect(CLIENT, 5_001)?;
    for flow in 0..FLOWS {
        let port = 10_000 + flow;
        // Some stay half open, some are broken off, some are closed by both sides.
        match flow % 3 {
            0 => drop(scene.segment(CLIENT, port, SYN, LIMIT)?.with_context(|| format!("flow {flow}"))?),
            1 => {
                scene.segment(CLIENT, port, SYN, LIMIT)?.with_context(|| format!("flow {flow}"))?;
                scene.segment(CLIENT, port, RST, LIMIT)?.with_context(|| format!("flow {flow}"))?;
            }
            _ => {
                let nat_port = scene.connect(CLIENT, port).with_context(|| format!("flow {flow}"))?;
                scene.segment(CLIENT, port, FIN_ACK, LIMIT)?.with_context(|| format!("flow {flow}"))?;
                scene.answer(nat_port, FIN_ACK)?.with_context(|| format!("flow {flow}"))?;
            }
        }
    }
    scene.segment(CLIENT, 5_001, ACK, LIMIT)?.context("the established flow is gone")?;
    let counters = scene.counters()?;
    let (new, there) = (counters.of("pkd_new_flows_total"), counters.of("pkd_flows"));
    ensure!(new == u64::from(FLOWS) + 1, "{new} new flows are counted");
    ensure!(there <= 1_024, "{there} flows are there");
    Ok(format!("{there} are left"))
}
