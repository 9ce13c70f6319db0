//! The protocol's test vectors, through the firmware. The time server sets the board's clock.

use anyhow::{Result, anyhow, bail, ensure};
use pkd_core::UnixSeconds;
use pkd_gateway::TimeSource;
use pkd_tests::Report;
use pkd_tests::{Step, scenarios, unhex};

use crate::{
    machine::Tools,
    scenario::{CLIENT, KNOCK_PORT, Scenario, config},
};

/// Vectors for smaller replay caches depend on the size of the cache, so only these run here.
const CAPACITY: usize = 256;

/// How often a vector is restarted because the board's clock advanced before a datagram was checked. The board asks for
/// the time every second, so only a starved host fails this many times in a row.
const TRIES: usize = 10;

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    let all = match scenarios() {
        Ok(all) => all,
        Err(error) => return report.fail("reading the test vectors", &error),
    };
    let vectors: Vec<_> = all.iter().filter(|vector| vector.cache_capacity == CAPACITY).collect();
    if vectors.is_empty() {
        report.fail("reading the test vectors", &anyhow!("none has a cache of {CAPACITY} entries"));
    }
    for vector in vectors {
        report.check(&format!("test vector: {}", vector.name), || {
            for _ in 0..TRIES {
                if let Some(tally) = replay(tools, vector)? {
                    return tally.summary();
                }
            }
            bail!("the clock advanced within a step in each of {TRIES} tries")
        });
    }
}

/// How many datagrams could be compared with the vector.
#[derive(Default)]
struct Tally {
    /// The board's verdict is the vector's.
    compared: usize,
    /// Sent to a port, or at a time, that the board does not check; not accepted.
    skipped: usize,
}

impl Tally {
    fn summary(&self) -> Result<String> {
        ensure!(self.compared > 0, "no datagram was compared");
        let Self { compared, skipped } = self;
        Ok(format!("{compared} compared, {skipped} at a time or port that the gateway does not check"))
    }
}

/// Runs one vector. Returns `None` if the clock advanced within a step, because then the verdict proves nothing.
fn replay(tools: &Tools, vector: &pkd_tests::Scenario) -> Result<Option<Tally>> {
    let rule = vector.rule()?;
    let without_clock = rule.window().as_secs() == 0;
    let mut config = config();
    config.rules[0].knock = rule;
    if without_clock {
        config.time = TimeSource::None;
        // Without a clock, the baseline is the time at which the configuration was created.
        config.created = UnixSeconds(vector.start);
    }
    let mut scenario = Scenario::start(tools, |flash| flash.configure(&config))?;
    let wait_until_ready = |scenario: &mut Scenario, time: u64| {
        if without_clock { scenario.wait_for_link() } else { scenario.serve_time(time) }
    };
    wait_until_ready(&mut scenario, vector.start)?;
    let mut tally = Tally::default();
    for (row, step) in vector.steps.iter().enumerate() {
        match step {
            Step::Restart { restart, saved_floor } => {
                scenario.machine.flash.erase_floor()?;
                if let Some(floor) = saved_floor {
                    scenario.machine.flash.save_floors(UnixSeconds(*floor).into())?;
                }
                scenario.machine.reset()?;
                wait_until_ready(&mut scenario, *restart)?;
            }
            Step::Datagram { now, dst_port, payload_hex, verdict } => {
                let clock_set = without_clock || scenario.set_clock(*now)?;
                let replies = scenario.link.time.replies;
                let actual = scenario.verdict(CLIENT, *dst_port, &unhex(payload_hex)?)?;
                if !clock_set || *dst_port != KNOCK_PORT {
                    // The gateway rejected a time that is too early, or does not expect knocks at that port. Its reason
                    // may differ from the vector's, but it must not accept.
                    tally.skipped += 1;
                    ensure!(
                        actual != "accept" && verdict != "Accept",
                        "step {row}: {actual}, expected {verdict}"
                    );
                } else if actual == verdict.to_lowercase() {
                    tally.compared += 1;
                } else {
                    let clock_unchanged = without_clock
                        || scenario.counters()?.clock() == *now && scenario.link.time.replies == replies;
                    ensure!(!clock_unchanged, "step {row}: {actual}, expected {verdict}");
                    return Ok(None);
                }
            }
        }
    }
    Ok(Some(tally))
}
