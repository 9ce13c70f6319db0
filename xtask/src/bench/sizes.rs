//! The sizes of what goes onto a router or a board.

use std::fs;

use anyhow::Result;

use crate::{clients, firmware, guest, kmod, machine, packages, row::Row};

/// Of every artefact.
pub(super) fn rows() -> Result<Vec<Row>> {
    let mut rows = kernel()?;
    for (architecture, package, installed, packed) in packages::sizes()? {
        rows.push(
            Row::new(format!("package {package}"), format!("{installed} bytes"), architecture)
                .beside(format!("installed; {packed} bytes as .ipk")),
        );
    }
    for (target, bytes) in clients::sizes()? {
        rows.push(
            Row::new("knock, static, for desks", format!("{bytes} bytes"), target).beside("at most 2097152"),
        );
    }
    rows.extend(firmware::memory_rows()?);
    Ok(rows)
}

/// The module, the extension, and the programs that VM tests run, for every machine.
pub(super) fn kernel() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for machine in machine::named(&[])? {
        let module = kmod::build(machine)?;
        let figures = kmod::Figures::of(machine, &module)?;
        let artefacts = guest::artefacts(machine, guest::Purpose::Figures)?;
        let extension = fs::metadata(&artefacts.extension)?.len();
        let knock = fs::metadata(&artefacts.knock)?.len();
        let limit = match machine.text_limit {
            0 => String::new(),
            limit => format!("at most {limit}"),
        };
        let row = |what: &str, bytes: u64| Row::new(what, format!("{bytes} bytes"), machine.name);
        rows.extend([
            row("xt_pkd.ko, .text", figures.text).beside(limit),
            row("stack of a packet's way through xt_pkd.ko", figures.stack).beside("at most 1024"),
            row("libxt_pkd.so", extension),
            row("knock, as the vm has it", knock),
        ]);
    }
    Ok(rows)
}
