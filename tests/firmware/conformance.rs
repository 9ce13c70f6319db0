//! The conformance table, through the firmware: its clock is set by the time server.

use anyhow::{Result, ensure};
use pkd_core::UnixSeconds;
use pkd_gateway::TimeSource;
use pkd_tests::{Scenario, Step, scenarios, unhex};

use crate::{
    machine::Tools,
    report::Report,
    scene::{CLIENT, KNOCK_PORT, Scene, config},
};

/// Scenarios of smaller guards than this tell of their size.
const CAPACITY: usize = 256;

pub(crate) fn claims(report: &mut Report, tools: &Tools) {
    let all = match scenarios() {
        Ok(all) => all,
        Err(error) => return report.failed("reading the scenarios", &error),
    };
    for scenario in all.iter().filter(|scenario| scenario.guard_capacity == CAPACITY) {
        report.claim(&format!("scenario: {}", scenario.name), || walk(tools, scenario));
    }
}

fn walk(tools: &Tools, scenario: &Scenario) -> Result<String> {
    let rule = scenario.rule()?;
    let without_clock = rule.window.as_secs() == 0;
    let mut config = config();
    config.rules[0].key = rule.key;
    config.rules[0].tag = rule.tag;
    config.rules[0].window = rule.window;
    if without_clock {
        config.time = TimeSource::None;
        // The latest that is known to have been, without a clock.
        config.made = UnixSeconds(scenario.start);
    }
    let mut scene = Scene::start(tools, |flash| flash.configure(&config))?;
    if !without_clock {
        scene.tell_time(scenario.start)?;
    }
    let mut disbelieved = 0;
    for (row, step) in scenario.steps.iter().enumerate() {
        match step {
            Step::Restart { restart, saved_floor } => {
                scene.machine.flash.erase_floor()?;
                if let Some(floor) = saved_floor {
                    scene.machine.flash.save_floor(UnixSeconds(*floor))?;
                }
                scene.machine.reset()?;
                if !without_clock {
                    scene.tell_time(*restart)?;
                }
            }
            Step::Datagram { now, dst_port, payload_hex, verdict } => {
                let refused = scene.counters()?.of("time_refused");
                if !without_clock {
                    scene.tell_time(*now)?;
                }
                let given = scene.verdict(CLIENT, *dst_port, &unhex(payload_hex)?)?;
                if scene.counters()?.of("time_refused") > refused || *dst_port != KNOCK_PORT {
                    // The gateway did not believe so early a time, or no knock is looked for at that port; whatever it
                    // says for a reason, it must not accept.
                    disbelieved += 1;
                    ensure!(given != "accept" && verdict != "Accept", "step {row}: {given}, not {verdict}");
                } else {
                    ensure!(given == verdict.to_lowercase(), "step {row}: {given}, not {verdict}");
                }
            }
        }
    }
    Ok(format!(
        "{} steps, {disbelieved} of them at a time or port that the gateway does not look at",
        scenario.steps.len()
    ))
}
