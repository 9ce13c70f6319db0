//! `make bench`: what things take, each figure with its unit, and what it is beside in the same run.

mod guests;
mod pknock;
mod plot;
mod sizes;
mod times;

use crate::{
    document, firmware,
    prelude::*,
    row::{self, Row},
};

/// Figures that one command makes, `cargo xtask bench NAME`: a place of that name in the document, and what stands
/// below its table.
type Part = (&'static str, fn() -> Result<Vec<Row>>, &'static str);

const PARTS: [Part; 5] = [
    ("checks", checks, ""),
    ("packets", || of_guests(guests::packets), ""),
    ("times", times::rows, plot::SHOWN),
    ("constant-time", times::constant_time, ""),
    ("sizes", sizes::rows, ""),
];

/// All of it, or one part, to `docs/benchmarks.md`; the other places stay.
pub(crate) fn run(part: Option<&str>) -> Result<()> {
    let is_wanted = |name: &str| part.is_none_or(|part| part == name);
    if !PARTS.iter().any(|(name, ..)| is_wanted(name)) && !is_wanted("firmware") {
        let (names, part) = (PARTS.map(|(name, ..)| name).join(", "), part.unwrap_or_default());
        anyhow::bail!("bench has no part {part:?}; there are {names}, firmware");
    }
    PARTS.iter().filter(|(name, ..)| is_wanted(name)).try_for_each(measure)?;
    if is_wanted("firmware") { firmware::write_figures() } else { Ok(()) }
}

fn measure((name, rows, below): &Part) -> Result<()> {
    let table = row::table(&rows()?);
    print!("{table}");
    let date = cmd!("date --utc +%Y-%m-%d").read()?;
    let text = format!("Measured on {}, on {}.\n\n{table}\n{below}", date.trim(), machine()?);
    document::write("docs/benchmarks.md", name, &text)
}

/// What the figures were measured on: processor, kernel, compilers.
fn machine() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let model = model.context("no model name in /proc/cpuinfo")?;
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = cmd!("uname -sr").read()?;
    let rustc = cmd!("rustc --version").read()?;
    let rustc = rustc.split(' ').nth(1).unwrap_or_default();
    let qemu = cmd!("qemu-system-x86_64 --version").read()?;
    let qemu = qemu.lines().next().unwrap_or_default().trim_start_matches("QEMU emulator version ");
    Ok(format!("{count} of {model}, {}, rustc {rustc}, QEMU {qemu}", kernel.trim()))
}

/// What is counted in a guest, held to its limits. With Linux 6.1, where nothing else runs meanwhile: beside 6.12 it would count the
/// kernel too. The boards' limits are part of their own tests, and a module's of its build.
pub(crate) fn counted() -> Result<()> {
    print!("{}", row::table(&guests::checks("x86_64")?));
    Ok(())
}

/// What is counted is held to its limits, and what is timed runs to its end.
pub(crate) fn test() -> Result<()> {
    counted()?;
    print!("{}", row::table(&sizes::kernel()?));
    progress!("benchmarks, a few rounds of each");
    cmd!("{CARGO} test --quiet --locked --bench constant_time --bench format2 --bench latency --bench knock_latency")
        .show()
        .context("a benchmark does not run")
}

fn checks() -> Result<Vec<Row>> {
    let mut rows = of_guests(guests::checks)?;
    rows.extend(firmware::check_rows()?);
    Ok(rows)
}

fn of_guests(rows: fn(&str) -> Result<Vec<Row>>) -> Result<Vec<Row>> {
    Ok(["x86_64", "mipsel"].map(rows).into_iter().collect::<Result<Vec<_>>>()?.concat())
}
