//! A gateway that goes wrong begins anew. An image of its own goes wrong in each life in another way.

use anyhow::ensure;

use crate::{
    machine::{Board, Machine, Tools},
    report::Report,
};

/// What each life is logged to end with.
const FAULTS: [(&str, &str); 3] = [
    ("a panic", "panic: "),
    ("a hard fault", "hard fault at"),
    ("a loop with interrupts masked", "the watchdog was not fed"),
];

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    let mut machine = match Machine::start(tools, Board::Mps2, |_| Ok(()), |_| Vec::new()) {
        Ok(machine) => machine,
        Err(error) => return report.fail("faults: setting up", &error),
    };
    for (boot, (name, words)) in FAULTS.into_iter().enumerate() {
        report.check(&format!("faults: {name} is logged, and the board begins anew"), || {
            machine.wait_for_line(|line| Ok(line.contains(&format!("boot {boot}"))))?;
            machine.wait_for_line(|line| Ok(line.contains(words)))
        });
    }
    report.check("faults: a watchdog that is fed does not bite", || {
        let line =
            machine.wait_for_line(|line| Ok(line.contains("boot") || line.contains("watchdog fed")))?;
        ensure!(line.contains("boot 3"), "{line}");
        let line =
            machine.wait_for_line(|line| Ok(line.contains("boot") || line.contains("watchdog fed")))?;
        ensure!(line.contains("no reset"), "{line}");
        Ok(line)
    });
}
