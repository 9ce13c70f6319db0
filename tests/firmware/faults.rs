//! Failures end in a reset. A separate image fails in a different way on each boot.

use anyhow::ensure;
use pkd_tests::Report;

use crate::machine::{Board, Machine, Tools};

/// The failure of each boot, and the line that it logs.
const FAULTS: [(&str, &str); 4] = [
    ("a panic", "panic: "),
    ("a hard fault", "hard fault at"),
    ("a loop with interrupts masked", "watchdog timeout"),
    ("a stack overflow", "stack overflow"),
];

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    let mut machine = match Machine::start(tools, Board::Mps2, |_| Ok(()), |_| Vec::new()) {
        Ok(machine) => machine,
        Err(error) => return report.fail("faults: setup", &error),
    };
    for (boot, (name, words)) in FAULTS.into_iter().enumerate() {
        report.check(&format!("faults: {name} is logged and resets the board"), || {
            machine.wait_for_line(|line| Ok(line.contains(&format!("boot {boot}"))))?;
            machine.wait_for_line(|line| Ok(line.contains(words)))
        });
    }
    report.check("faults: the watchdog does not fire while it is fed", || {
        let line =
            machine.wait_for_line(|line| Ok(line.contains("boot") || line.contains("watchdog fed")))?;
        ensure!(line.contains("boot 4"), "{line}");
        let line =
            machine.wait_for_line(|line| Ok(line.contains("boot") || line.contains("watchdog fed")))?;
        ensure!(line.contains("no reset"), "{line}");
        Ok(line)
    });
}
