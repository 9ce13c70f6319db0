//! The sizes of what goes onto a router.

use std::fs;

use anyhow::Result;

use crate::{guest, host, kmod, machine, packages};

/// Builds for every machine and prints a table.
pub(crate) fn run() -> Result<()> {
    host::install_for_test()?;
    table()?;
    packages::run(&[], None)
}

/// The table alone, on a host that has what it takes.
pub(crate) fn table() -> Result<()> {
    println!("| machine | xt_pkd.ko .text | stack of a packet | libxt_pkd.so | knock |");
    println!("|---|---:|---:|---:|---:|");
    for machine in machine::named(&[])? {
        let module = kmod::build(machine)?;
        let figures = kmod::Figures::of(machine, &module)?;
        let artefacts = guest::artefacts(machine)?;
        let extension = fs::metadata(&artefacts.extension)?.len();
        let knock = fs::metadata(artefacts.programs.join("knock"))?.len();
        println!(
            "| {} | {} bytes | {} bytes | {extension} bytes | {knock} bytes |",
            machine.name, figures.text, figures.stack
        );
    }
    Ok(())
}
