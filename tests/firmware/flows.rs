//! Many flows in few slots.

use anyhow::{Context, Result, ensure};
use pkd_tests::Report;

use crate::{
    frame::{ACK, FIN_ACK, RST, SYN},
    machine::{TIMEOUT, Tools},
    scenario::{CLIENT, START, Scenario},
};

/// How many flows are opened.
const FLOWS: u16 = 10_000;

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check("flows: 10,000 flows fit 1,024 slots, and an established flow is kept", || many(tools));
}

fn many(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    ensure!(scenario.knock(CLIENT, START)? == "accept", "the knock was not accepted");
    scenario.connect(CLIENT, 5_001)?;
    for flow in 0..FLOWS {
        let port = 10_000 + flow;
        // A third stays half open, a third is reset, a third is closed by both sides.
        match flow % 3 {
            0 => drop(scenario.segment(CLIENT, port, SYN, TIMEOUT)?.with_context(|| format!("flow {flow}"))?),
            1 => {
                scenario.segment(CLIENT, port, SYN, TIMEOUT)?.with_context(|| format!("flow {flow}"))?;
                scenario.segment(CLIENT, port, RST, TIMEOUT)?.with_context(|| format!("flow {flow}"))?;
            }
            _ => {
                let nat_port = scenario.connect(CLIENT, port).with_context(|| format!("flow {flow}"))?;
                scenario.segment(CLIENT, port, FIN_ACK, TIMEOUT)?.with_context(|| format!("flow {flow}"))?;
                scenario.answer(nat_port, FIN_ACK)?.with_context(|| format!("flow {flow}"))?;
            }
        }
    }
    scenario.segment(CLIENT, 5_001, ACK, TIMEOUT)?.context("the established flow is gone")?;
    let counters = scenario.counters()?;
    let (new, there) = (counters.of("pkd_new_flows_total"), counters.of("pkd_flows"));
    ensure!(new == u64::from(FLOWS) + 1, "{new} new flows were counted");
    ensure!(there <= 1_024, "{there} flows in the table");
    Ok(format!("{there} flows in the table at the end"))
}
