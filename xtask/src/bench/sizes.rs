//! The sizes of what goes onto a router or a board.

use crate::{
    clients, firmware, guest, kmod, machine, openwrt::ARCHITECTURES, packages, prelude::*, row::Row,
};

/// Of every artefact.
pub(super) fn rows() -> Result<Vec<Row>> {
    let mut rows = kernel()?;
    for architecture in ARCHITECTURES {
        for package in packages::build(architecture, None)? {
            let packed = fs::metadata(&package.ipk)?.len();
            let row = Row::new(
                format!("package {}", package.name),
                format!("{} bytes", package.installed),
                architecture.name,
            );
            rows.push(row.beside(format!("installed; {packed} bytes as .ipk")));
        }
    }
    for client in clients::all() {
        let bytes = format!("{} bytes", clients::size(&client)?);
        let limit = format!("at most {}", clients::LIMIT);
        rows.push(Row::new("knock, one file, for desks", bytes, client.target).beside(limit));
    }
    rows.extend(firmware::memory_rows()?);
    Ok(rows)
}

/// The module, the extension, and the programs that VM tests run, for every machine.
pub(super) fn kernel() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for machine in machine::or_all(Vec::new()) {
        let figures = kmod::Figures::of(machine, &kmod::build(machine)?)?;
        let built = guest::artefacts(machine, true)?;
        let limit = match machine.text_limit {
            0 => String::new(),
            limit => format!("at most {limit}"),
        };
        let row = |what: &str, bytes: u64| Row::new(what, format!("{bytes} bytes"), machine.name);
        rows.extend([
            row("xt_pkd.ko, .text", figures.text).beside(limit),
            row("stack of a packet's way through xt_pkd.ko", figures.stack).beside("at most 1024"),
            row("libxt_pkd.so", fs::metadata(&built.extension)?.len()),
            row("knock, as the vm has it", fs::metadata(&built.knock)?.len()),
        ]);
    }
    Ok(rows)
}
