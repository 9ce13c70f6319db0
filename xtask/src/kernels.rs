//! The table of kernels in `linux/kmod/README.md`: a row for each machine, written once all that runs there has passed.

use std::sync::{Mutex, PoisonError};

use crate::{
    document,
    kmod::Figures,
    machine::{self, Machine},
    prelude::*,
};

const DOCUMENT: &str = "linux/kmod/README.md";
const PLACE: &str = "kernels";

const HEAD: &str =
    "| machine | kernel | architecture | byte order | what ran | checks passed | `.text` | stack of a packet |
|---|---|---|---|---|---:|---:|---:|
";

/// Rows that are not in the document yet.
static NEW: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps the row of a machine on whose kernel, of this release, so many checks have passed.
pub(crate) fn passed(machine: &Machine, release: &str, checks: u32, module: &Path) -> Result<()> {
    let Figures { text, stack, .. } = Figures::of(machine, module)?;
    let order = if machine.is_big_endian() { "big-endian" } else { "little-endian" };
    let (name, architecture, parts) =
        (machine.name, machine.architecture(), machine.parts.replace(' ', ", "));
    let row =
        format!("| {name} | {release} | {architecture} | {order} | {parts} | {checks} | {text} | {stack} |");
    NEW.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    Ok(())
}

/// Puts the rows that were kept into the document.
pub(crate) fn write() -> Result<()> {
    let new = std::mem::take(&mut *NEW.lock().unwrap_or_else(PoisonError::into_inner));
    if new.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = machine::all().map(|machine| machine.name).collect();
    document::write(DOCUMENT, PLACE, &with_rows(&document::read(DOCUMENT, PLACE)?, &new, &names))
}

/// The table with these rows in the place of those of the same machines, in the order of `names`; others go.
fn with_rows(table: &str, new: &[String], names: &[&str]) -> String {
    let rows = |name: &&str| {
        new.iter().map(String::as_str).chain(table.lines()).find(|row| machine_of(row) == Some(*name))
    };
    names.iter().filter_map(rows).fold(HEAD.to_owned(), |text, row| text + row + "\n")
}

/// The machine that a row is about.
fn machine_of(row: &str) -> Option<&str> {
    row.strip_prefix("| ")?.split(" | ").next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_row_replaces_the_machines_own_and_others_stay() {
        let table = format!("{HEAD}| b | 1 |\n| gone | 1 |\n");
        let new = with_rows(&table, &["| a | 2 |".to_owned()], &["a", "b", "c"]);
        assert_eq!(new, format!("{HEAD}| a | 2 |\n| b | 1 |\n"));
        assert_eq!(
            with_rows(&new, &["| b | 3 |".to_owned()], &["a", "b"]),
            format!("{HEAD}| a | 2 |\n| b | 3 |\n")
        );
    }

    #[test]
    fn every_machine_has_a_row_and_every_row_a_machine() -> Result<()> {
        let table = document::read(DOCUMENT, PLACE)?;
        let rows = table.trim().strip_prefix(HEAD).context("the table has another head")?;
        let rows: Vec<_> = rows.lines().map(machine_of).collect();
        let machines: Vec<_> = machine::all().map(|machine| Some(machine.name)).collect();
        ensure!(
            rows == machines,
            "{DOCUMENT} has rows for {rows:?}, and there are {machines:?}: `cargo xtask vm MACHINE` writes a row"
        );
        Ok(())
    }
}
