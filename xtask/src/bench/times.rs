//! How long things take on this machine.

use anyhow::{Context, Result};

use super::{plot, printed};
use crate::{row::Row, run, toolchain};

/// How long a knock takes to open, and knock to knock, in networks of their own; how many honest knocks get through a flood,
/// as a plot; and what strangers get while others change the firewall.
pub(super) fn rows() -> Result<Vec<Row>> {
    let mut rows = knocks()?;
    rows.extend(disturbances()?);
    run::progress("getting in, in namespaces");
    let mut cargo = run::command(env!("CARGO"));
    cargo.args(["bench", "--quiet", "--locked", "--package", "host-knock", "--bench", "knock_latency"]);
    rows.extend(in_namespaces(printed(cargo.current_dir(toolchain::root())).context("the times of knock")?)?);
    Ok(rows)
}

fn knocks() -> Result<Vec<Row>> {
    run::progress("knocking, in namespaces");
    let mut cargo = run::command(env!("CARGO"));
    cargo.args(["bench", "--quiet", "--locked", "--package", "pkdd", "--bench", "latency"]);
    let pieces = printed(cargo.current_dir(toolchain::root())).context("the times of pkdd")?;
    let (points, rows): (Vec<_>, Vec<_>) =
        pieces.into_iter().partition(|pieces| pieces.first().is_some_and(|first| first == "flood"));
    plot::flood(&points)?;
    in_namespaces(rows)
}

/// How long the rules are away after a flush, and whether a stranger gets in during random disturbances.
fn disturbances() -> Result<Vec<Row>> {
    run::progress("flushes, and 1,000 random disturbances of each firewall");
    let mut cargo = run::command(env!("CARGO"));
    cargo.args(["test", "--quiet", "--locked", "--package", "pkdd", "--test", "net", "--", "--nocapture"]);
    cargo.args(["rules_that_were_flushed", "chaos::"]).current_dir(toolchain::root());
    cargo.env("PKD_FLUSHES", "200").env("PKD_CHAOS", "1000");
    in_namespaces(printed(&mut cargo).context("the disturbances of pkdd")?)
}

fn in_namespaces(rows: Vec<Vec<String>>) -> Result<Vec<Row>> {
    rows.into_iter()
        .map(|pieces| match &pieces[..] {
            [what, value, beside] => Ok(Row::new(what, value, "this machine, namespaces").beside(beside)),
            _ => anyhow::bail!("this is no row: {pieces:?}"),
        })
        .collect()
}

/// Welch's t of comparisons, see `pkd-core/benches/constant_time.rs`.
pub(super) fn constant_time() -> Result<Vec<Row>> {
    run::progress("comparing, for dudect's method");
    let mut cargo = run::command(env!("CARGO"));
    cargo.args(["bench", "--quiet", "--locked", "--package", "pkd-core", "--bench", "constant_time"]);
    let rows = printed(cargo.current_dir(toolchain::root()))?;
    rows.into_iter()
        .map(|pieces| match &pieces[..] {
            [what, t] => Ok(Row::new(what, format!("t = {t}"), "this machine")
                .beside("below 4.5: no difference is seen; above 10: there is one")),
            _ => anyhow::bail!("this is no row: {pieces:?}"),
        })
        .collect()
}
