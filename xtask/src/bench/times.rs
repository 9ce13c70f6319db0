//! How long things take on this machine.

use std::process::Command;

use super::plot;
use crate::{prelude::*, row::Row};

/// How long a knock takes to open, and knock to knock, in networks of their own; how many honest knocks get through a flood,
/// as a plot; and what strangers get while others change the firewall.
pub(super) fn rows() -> Result<Vec<Row>> {
    progress!("knocking, in namespaces");
    let pieces = bench("pkdd", "latency")?;
    let (points, mut rows): (Vec<_>, Vec<_>) =
        pieces.into_iter().partition(|pieces| pieces.first().is_some_and(|first| first == "flood"));
    plot::flood(&points)?;
    progress!("floods in format 2, in namespaces");
    rows.extend(bench("pkdd", "format2")?);
    progress!("flushes, and 1,000 random disturbances of each firewall");
    let mut disturbances = cmd!(
        "{CARGO} test --quiet --locked --package pkdd --test net -- --nocapture
                                 rules_that_were_flushed chaos::"
    );
    disturbances.env("PKD_FLUSHES", "200").env("PKD_CHAOS", "1000");
    rows.extend(printed(&mut disturbances).context("the disturbances of pkdd")?);
    progress!("getting in, in namespaces");
    rows.extend(bench("host-knock", "knock_latency")?);
    let row = |pieces: &Vec<String>| match &pieces[..] {
        [what, value, beside] => Ok(Row::new(what, value, "this machine, namespaces").beside(beside)),
        _ => bail!("this is no row: {pieces:?}"),
    };
    rows.iter().map(row).collect()
}

/// Welch's t of comparisons, see `pkd-core/benches/constant_time.rs`.
pub(super) fn constant_time() -> Result<Vec<Row>> {
    progress!("comparing, for dudect's method");
    let row = |pieces: &Vec<String>| match &pieces[..] {
        [what, t] => Ok(Row::new(what, format!("t = {t}"), "this machine")
            .beside("below 4.5: no difference is seen; above 10: there is one")),
        _ => bail!("this is no row: {pieces:?}"),
    };
    bench("pkd-core", "constant_time")?.iter().map(row).collect()
}

fn bench(package: &str, bench: &str) -> Result<Vec<Vec<String>>> {
    printed(&mut cmd!("{CARGO} bench --quiet --locked --package {package} --bench {bench}"))
        .with_context(|| format!("the benchmark of {package}"))
}

/// Lines of several pieces that a command prints.
fn printed(command: &mut Command) -> Result<Vec<Vec<String>>> {
    let text = command.read()?;
    // Network namespaces take `row: ` off the lines that they hand out.
    let rows = text.lines().map(|line| line.strip_prefix("row: ").unwrap_or(line));
    let rows = rows.filter(|line| line.contains(" | "));
    Ok(rows.map(|row| row.split('|').map(|piece| piece.trim().to_owned()).collect()).collect())
}
