//! `make bench`: what things take, each figure with its unit, and what it is beside in the same run.

mod guests;
mod machine;
mod pknock;
mod plot;
pub(crate) mod sizes;
mod times;

use std::{fmt::Write as _, fs, process::Command};

use anyhow::{Context, Result};

use crate::{firmware, host, run, toolchain};

/// One figure.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) value: String,
    /// The limit, or the ratio to another figure of this run.
    pub(crate) beside: String,
    /// Where it was measured.
    pub(crate) place: String,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, value: impl Into<String>, place: impl Into<String>) -> Self {
        Self { what: what.into(), value: value.into(), beside: String::new(), place: place.into() }
    }

    pub(crate) fn beside(mut self, beside: impl Into<String>) -> Self {
        self.beside = beside.into();
        self
    }
}

/// Figures that one command makes.
struct Part {
    title: &'static str,
    command: &'static str,
    rows: fn() -> Result<Vec<Row>>,
}

const PARTS: &[Part] = &[
    Part { title: "A check, in instructions", command: "cargo xtask bench checks", rows: checks },
    Part { title: "A packet through an iptables rule", command: "cargo xtask bench packets", rows: packets },
    Part { title: "From a knock to a connection", command: "cargo xtask bench times", rows: times::rows },
    Part {
        title: "Whether time tells a secret",
        command: "cargo xtask bench constant-time",
        rows: times::constant_time,
    },
    Part { title: "Sizes", command: "cargo xtask bench sizes", rows: sizes::rows },
];

/// All of it, to `docs/benchmarks.md`.
pub(crate) fn run() -> Result<()> {
    host::install_for_test()?;
    let mut text = format!(
        "# Benchmarks\n\nWritten by `make bench` on {}, on {}. Figures of other machines differ; the ratios, of one run each, differ less.\n",
        machine::date()?,
        machine::description()?
    );
    text.push_str(
        "\nInstructions are counted by QEMU (`-icount shift=0`), so a busy machine does not change them. Times are of network namespaces on \
         the machine above.\n",
    );
    for part in PARTS {
        write!(text, "\n## {}\n\n`{}`\n\n{}", part.title, part.command, table(&(part.rows)()?))?;
        if part.title.starts_with("From a knock") {
            text.push_str(
                "\n![Honest knocks granted within a second, against forgeries a second](flood.svg)\n",
            );
        }
    }
    fs::write(toolchain::root().join("docs/benchmarks.md"), &text)?;
    firmware::write_figures()?;
    println!("{text}\nthis is docs/benchmarks.md now");
    Ok(())
}

/// One part, printed.
pub(crate) fn part(name: &str) -> Result<()> {
    host::install_for_test()?;
    let part = PARTS.iter().find(|part| part.command.ends_with(&format!(" {name}")));
    let part = part.with_context(|| {
        let names: Vec<_> = PARTS.iter().filter_map(|part| part.command.rsplit(' ').next()).collect();
        format!("bench has no part {name:?}; there are {}", names.join(", "))
    })?;
    print!("{}", table(&(part.rows)()?));
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let head = "| figure | value | beside it | measured on |\n|---|---:|---|---|\n".to_owned();
    rows.iter().fold(head, |text, Row { what, value, beside, place }| {
        text + &format!("| {what} | {value} | {beside} | {place} |\n")
    })
}

/// Lines that a program prints behind `row: `, in pieces.
fn printed(command: &mut Command) -> Result<Vec<Vec<String>>> {
    let text = run::output(command)?;
    let rows = text.lines().filter_map(|line| line.strip_prefix("row: "));
    Ok(rows.map(|row| row.split('|').map(|piece| piece.trim().to_owned()).collect()).collect())
}

fn checks() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for name in ["x86_64", "mipsel"] {
        rows.extend(guests::checks(name)?);
    }
    rows.extend(firmware::check_rows()?);
    Ok(rows)
}

fn packets() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for name in ["x86_64", "mipsel"] {
        rows.extend(guests::packets(name)?);
    }
    Ok(rows)
}
