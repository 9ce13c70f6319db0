//! The conformance table, through the firmware: its clock is set by the time server.

use anyhow::{Result, anyhow, bail, ensure};
use pkd_core::UnixSeconds;
use pkd_gateway::TimeSource;
use pkd_tests::{Scenario, Step, scenarios, unhex};

use crate::{
    machine::Tools,
    report::Report,
    scene::{CLIENT, KNOCK_PORT, Scene, config},
};

/// Scenarios of smaller caches than this tell of their size.
const CAPACITY: usize = 256;

/// How often a scenario is begun anew because the board's clock went on before a datagram was judged. The board asks for
/// the time every second, so this many times in a row only a host that hardly runs does that.
const TRIES: usize = 10;

pub(crate) fn claims(report: &mut Report, tools: &Tools) {
    let all = match scenarios() {
        Ok(all) => all,
        Err(error) => return report.failed("reading the scenarios", &error),
    };
    let fitting: Vec<&Scenario> = all.iter().filter(|scenario| scenario.cache_capacity == CAPACITY).collect();
    if fitting.is_empty() {
        report.failed("reading the scenarios", &anyhow!("none has a cache of {CAPACITY} entries"));
    }
    for scenario in fitting {
        report.claim(&format!("scenario: {}", scenario.name), || {
            for _ in 0..TRIES {
                if let Some(seen) = walk(tools, scenario)? {
                    return seen.shown();
                }
            }
            bail!("the clock went on within a step in each of {TRIES} tries")
        });
    }
}

/// Datagrams by what could be asked about them.
#[derive(Default)]
struct Seen {
    /// The board gave the verdict of the scenario.
    judged: usize,
    /// They came at a port or time that the board does not look at, and were not accepted.
    passed_over: usize,
}

impl Seen {
    fn shown(&self) -> Result<String> {
        ensure!(self.judged > 0, "no datagram was judged");
        let Self { judged, passed_over } = self;
        Ok(format!("{judged} judged, {passed_over} at a time or port that the gateway does not look at"))
    }
}

/// Walks through a scenario; `None`: the clock went on within a step, so the verdict there says nothing.
fn walk(tools: &Tools, scenario: &Scenario) -> Result<Option<Seen>> {
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
    let wake = |scene: &mut Scene, time: u64| {
        if without_clock { scene.wait_for_link() } else { scene.tell_time(time) }
    };
    wake(&mut scene, scenario.start)?;
    let mut seen = Seen::default();
    for (row, step) in scenario.steps.iter().enumerate() {
        match step {
            Step::Restart { restart, saved_floor } => {
                scene.machine.flash.erase_floor()?;
                if let Some(floor) = saved_floor {
                    scene.machine.flash.save_floor(UnixSeconds(*floor))?;
                }
                scene.machine.reset()?;
                wake(&mut scene, *restart)?;
            }
            Step::Datagram { now, dst_port, payload_hex, verdict } => {
                let believed = without_clock || scene.set_clock(*now)?;
                let answers = scene.wire.time.answers;
                let given = scene.verdict(CLIENT, *dst_port, &unhex(payload_hex)?)?;
                if !believed || *dst_port != KNOCK_PORT {
                    // The gateway did not believe so early a time, or no knock is looked for at that port; whatever it
                    // says for a reason, it must not accept.
                    seen.passed_over += 1;
                    ensure!(given != "accept" && verdict != "Accept", "step {row}: {given}, not {verdict}");
                } else if given == verdict.to_lowercase() {
                    seen.judged += 1;
                } else {
                    let stood = without_clock
                        || scene.counters()?.clock() == *now && scene.wire.time.answers == answers;
                    ensure!(!stood, "step {row}: {given}, not {verdict}");
                    return Ok(None);
                }
            }
        }
    }
    Ok(Some(seen))
}
