//! A gateway that goes wrong begins anew. An image of its own goes wrong in each life in another way.

use anyhow::ensure;

use crate::{
    machine::{Board, Machine, Tools},
    report::Report,
};

/// What each life is logged to end with.
const ENDS: [(&str, &str); 3] = [
    ("a panic", "panic: "),
    ("a hard fault", "hard fault at"),
    ("a loop with interrupts masked", "the watchdog was not fed"),
];

pub(crate) fn claims(report: &mut Report, tools: &Tools) {
    let mut machine = match Machine::start(tools, Board::Mps2, |_| Ok(()), |_| Vec::new()) {
        Ok(machine) => machine,
        Err(error) => return report.failed("faults: setting up", &error),
    };
    for (life, (name, words)) in ENDS.into_iter().enumerate() {
        report.claim(&format!("faults: {name} is logged, and the board begins anew"), || {
            machine.line(|line| Ok(line.contains(&format!("life {life}"))))?;
            machine.line(|line| Ok(line.contains(words)))
        });
    }
    report.claim("faults: a watchdog that is fed does not bite", || {
        let line = machine.line(|line| Ok(line.contains("life") || line.contains("bite")))?;
        ensure!(line.contains("life 3"), "{line}");
        let line = machine.line(|line| Ok(line.contains("life") || line.contains("bite")))?;
        ensure!(line.contains("does not bite"), "{line}");
        Ok(line)
    });
}
