//! `make bench`: what things take, each figure with its unit, and what it is beside in the same run.

mod guests;
mod machine;
mod pknock;
mod plot;
mod sizes;
mod times;

use std::process::Command;

use anyhow::{Context, Result};

use crate::{document, firmware, row::Row, run, toolchain};

/// Figures that one command makes, `cargo xtask bench NAME`; the document has a place of that name.
struct Part {
    name: &'static str,
    /// What stands below its table.
    below: &'static str,
    rows: fn() -> Result<Vec<Row>>,
}

const PARTS: &[Part] = &[
    Part { name: "checks", below: "", rows: checks },
    Part { name: "packets", below: "", rows: packets },
    Part { name: "times", below: plot::SHOWN, rows: times::rows },
    Part { name: "constant-time", below: "", rows: times::constant_time },
    Part { name: "sizes", below: "", rows: sizes::rows },
];

/// All of it, to `docs/benchmarks.md`.
pub(crate) fn run() -> Result<()> {
    PARTS.iter().try_for_each(measure)?;
    firmware::write_figures()
}

/// One part; its place in the document is new, the others stay.
pub(crate) fn part(name: &str) -> Result<()> {
    let part = PARTS.iter().find(|part| part.name == name).with_context(|| {
        let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        format!("bench has no part {name:?}; there are {}, firmware", names.join(", "))
    })?;
    measure(part)
}

fn measure(part: &Part) -> Result<()> {
    let table = table(&(part.rows)()?);
    print!("{table}");
    let text = format!(
        "Measured on {}, on {}.\n\n{table}\n{}",
        machine::date()?,
        machine::description()?,
        part.below
    );
    document::write(&toolchain::root().join("docs/benchmarks.md"), part.name, &text)
}

fn table(rows: &[Row]) -> String {
    let head = "| figure | value | beside it | measured on |\n|---|---:|---|---|\n".to_owned();
    rows.iter().fold(head, |text, Row { what, value, beside, place }| {
        text + &format!("| {what} | {value} | {beside} | {place} |\n")
    })
}

/// Lines of several pieces that a program prints.
fn printed(command: &mut Command) -> Result<Vec<Vec<String>>> {
    let text = run::output(command)?;
    // Network namespaces take `row: ` off the lines that they hand out.
    let rows = text.lines().map(|line| line.strip_prefix("row: ").unwrap_or(line));
    let rows = rows.filter(|line| line.contains(" | "));
    Ok(rows.map(|row| row.split('|').map(|piece| piece.trim().to_owned()).collect()).collect())
}

/// What is counted in a guest, held to its limits. With Linux 6.1, where nothing else runs meanwhile: beside 6.12 it would count the
/// kernel too. The boards' limits are part of their own tests, and a module's of its build.
pub(crate) fn counted() -> Result<()> {
    print!("{}", table(&guests::checks("x86_64")?));
    Ok(())
}

/// What is counted is held to its limits, and what is timed runs to its end.
pub(crate) fn test() -> Result<()> {
    counted()?;
    print!("{}", table(&sizes::kernel()?));
    run::progress("benchmarks, a few rounds of each");
    let mut cargo = run::command(env!("CARGO"));
    cargo.args(["test", "--quiet", "--locked"]);
    cargo.args(["constant_time", "latency", "knock_latency"].iter().flat_map(|name| ["--bench", name]));
    run::shown(cargo.current_dir(toolchain::root())).context("a benchmark does not run")
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
