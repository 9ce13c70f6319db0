//! `make mutants-sample`: how many small changes of the code the tests notice, by cargo-mutants.

use std::collections::BTreeMap;

use crate::{document, installed, prelude::*};

/// A crate, and the percentage of mutants that its tests have to notice.
const CRATES: &[(&str, usize)] =
    &[("pkd-core", 100), ("pkd-gateway", 90), ("pkdd", 90), ("pktables", 90), ("host-knock", 90)];

/// Mutants of each crate that are tried.
const SAMPLE: usize = 24;

/// Seconds that the tests of one mutant may take; a mutant that makes them hang is noticed.
const TIMEOUT: &str = "300";

/// Minutes for each crate, after which no further mutant is tried.
const LIMIT: &str = "20m";

/// How the mutants of one crate ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rate {
    noticed: usize,
    missed: Vec<String>,
}

/// Tries a sample for each of these crates, all of [`CRATES`] if none is named, and writes the rates to `docs/testing.md`.
/// The same `seed` chooses the same mutants of the same code.
pub(crate) fn run(seed: usize, names: &[String]) -> Result<()> {
    let is_named = |name: &str| names.iter().any(|own| own == name);
    if let Some(name) = names.iter().find(|name| !CRATES.iter().any(|(own, _)| own == name)) {
        let known: Vec<_> = CRATES.iter().map(|(name, _)| *name).collect();
        bail!("no mutants are made of {name:?}: expected one of {}", known.join(", "));
    }
    let program = installed::program("cargo-mutants", "27.0.0")?;
    let mut rates = BTreeMap::new();
    for (name, _) in CRATES.iter().filter(|(name, _)| names.is_empty() || is_named(name)) {
        let rate = one(&program, name, seed)?;
        rate.missed.iter().for_each(|missed| println!("{name}: not noticed: {missed}"));
        rates.insert(*name, rate);
    }
    let table = table(&rates, seed);
    print!("{table}");
    if names.is_empty() { document::write("docs/testing.md", "mutants", &table) } else { Ok(()) }
}

fn one(program: &Path, name: &str, seed: usize) -> Result<Rate> {
    let count = cmd!("{program} mutants --package {name} --list").read()?.lines().count();
    ensure!(count > 0, "cargo-mutants finds nothing to change in {name}");
    let shards = count.div_ceil(SAMPLE).max(1);
    let shard = format!("{}/{shards}", seed % shards);
    progress!("{name}: a sample of {} of {count} mutants", count.div_ceil(shards));
    let out = toolchain::root().canonicalize()?.join("target/mutants-sample").join(name);
    files::empty(&out)?;
    // It exits with 2 where a mutant was missed and with 3 where one timed out, and `timeout` with 124 at the limit:
    // what was tried until then is counted.
    let output = cmd!(
        "timeout --signal=INT --kill-after=60 {LIMIT} {program} mutants --package {name} --shard {shard}
                       --sharding round-robin --timeout {TIMEOUT} --jobs 1 --output {out}"
    )
    .finish()?;
    ensure!(
        matches!(output.status.code(), Some(0 | 2 | 3 | 124)),
        "cargo-mutants failed for {name}\n{}",
        run::text_of(&output)
    );
    rate(&out.join("mutants.out"))
}

/// Reads cargo-mutants' lists; what does not build counts neither way.
fn rate(folder: &Path) -> Result<Rate> {
    let lines = |list: &str| -> Result<Vec<String>> {
        let text = fs::read_to_string(folder.join(list)).with_context(|| format!("no {list}"))?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    let noticed = lines("caught.txt")?.len() + lines("timeout.txt")?.len();
    ensure!(noticed > 0, "not one mutant was noticed");
    Ok(Rate { noticed, missed: lines("missed.txt")? })
}

fn table(rates: &BTreeMap<&str, Rate>, seed: usize) -> String {
    let head = format!("Seed {seed}.\n\n| crate | mutants tried | noticed | goal |\n|---|---:|---:|---:|\n");
    rates.iter().fold(head, |table, (name, Rate { noticed, missed })| {
        let tried = noticed + missed.len();
        let goal = CRATES.iter().find(|(own, _)| own == name).map_or(0, |(_, goal)| *goal);
        table + &format!("| {name} | {tried} | {} % | {goal} % |\n", noticed * 100 / tried.max(1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_and_none_that_was_noticed_is_an_error() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("pkd-mutants-{}", std::process::id()));
        let of = |caught: &str, timeout: &str, missed: &str| -> Result<Rate> {
            files::empty(&folder)?;
            for (list, text) in [("caught.txt", caught), ("timeout.txt", timeout), ("missed.txt", missed)] {
                fs::write(folder.join(list), text)?;
            }
            rate(&folder)
        };
        let found = of("replace x\n", "replace y\n", "replace z\n")?;
        assert_eq!(found, Rate { noticed: 2, missed: vec!["replace z".to_owned()] });
        assert!(of("", "", "replace z\n").is_err());
        fs::remove_dir_all(&folder)?;
        assert!(rate(&folder).is_err());
        let table = table(&BTreeMap::from([("pkd-core", found)]), 7);
        assert!(table.contains("| pkd-core | 3 | 66 % | 100 % |"), "{table}");
        Ok(())
    }
}
