//! How long a knock takes to open, in networks of their own.

use anyhow::{Context, Result};

use crate::{host, run, toolchain};

/// Prints a table: the least, the median, the most.
pub(crate) fn run() -> Result<()> {
    host::install_for_test()?;
    println!("| from a knock until a connection is there | least | median | most |");
    println!("|---|---:|---:|---:|");
    let mut cargo = run::command(env!("CARGO"));
    cargo.args(["bench", "--quiet", "--locked", "--package", "pkdd", "--bench", "latency"]);
    run::shown(cargo.current_dir(toolchain::root())).context("the times of pkdd")
}
