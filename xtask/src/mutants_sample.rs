//! `make mutants-sample`: how many small changes of the code the tests notice, by cargo-mutants.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{document, installed::Program, run, toolchain};

const CARGO_MUTANTS: Program = Program { name: "cargo-mutants", version: "27.0.0" };

/// A crate, and the percentage of mutants that its tests have to notice.
const CRATES: &[(&str, u64)] =
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
    noticed: u64,
    missed: Vec<String>,
}

/// Tries a sample for each of these crates, all of [`CRATES`] if none is named, and writes the rates to `docs/testing.md`.
/// The same `seed` chooses the same mutants of the same code.
pub(crate) fn run(seed: u64, names: &[&str]) -> Result<()> {
    let program = CARGO_MUTANTS.path()?;
    if let Some(name) = names.iter().find(|name| !CRATES.iter().any(|(own, _)| own == *name)) {
        let known: Vec<_> = CRATES.iter().map(|(name, _)| *name).collect();
        bail!("no mutants are made of {name:?}: expected one of {}", known.join(", "));
    }
    let mut rates = BTreeMap::new();
    for (name, _) in CRATES.iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
        let rate = one(&program, name, seed)?;
        for missed in &rate.missed {
            println!("{name}: not noticed: {missed}");
        }
        rates.insert(*name, rate);
    }
    let table = table(&rates, seed);
    print!("{table}");
    if names.is_empty() {
        document::write(&toolchain::root().join("docs/testing.md"), "mutants", &table)?;
    }
    Ok(())
}

fn one(program: &Path, name: &str, seed: u64) -> Result<Rate> {
    let root = toolchain::root().canonicalize()?;
    let cargo_mutants = |words: &[&str]| {
        let mut command = run::command(program);
        command.args(["mutants", "--package", name]).args(words).current_dir(&root);
        command
    };
    let listed = run::output(&mut cargo_mutants(&["--list"]))?;
    let count = listed.lines().count();
    ensure!(count > 0, "cargo-mutants finds nothing to change in {name}");
    let shards = count.div_ceil(SAMPLE).max(1);
    let shard = format!("{}/{shards}", usize::try_from(seed)? % shards);
    run::progress(&format!("{name}: a sample of {} of {count} mutants", count.div_ceil(shards)));
    let out = root.join("target/mutants-sample").join(name);
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir_all(&out)?;
    let mut command = run::command("timeout");
    command.args(["--signal=INT", "--kill-after=60", LIMIT]).arg(program).args([
        "mutants",
        "--package",
        name,
    ]);
    command.args(["--shard", &shard, "--sharding", "round-robin", "--timeout", TIMEOUT, "--jobs", "1"]);
    command.arg("--output").arg(&out).current_dir(&root);
    // It exits with 2 where a mutant was missed and with 3 where one timed out, and `timeout` with 124 at the limit:
    // what was tried until then is counted.
    let output = command.output().context("cannot start cargo-mutants")?;
    ensure!(
        matches!(output.status.code(), Some(0 | 2 | 3 | 124)),
        "cargo-mutants failed for {name}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    rate(&serde_json::from_str(&fs::read_to_string(out.join("mutants.out/outcomes.json"))?)?)
}

/// Reads cargo-mutants' outcomes; what does not build counts neither way.
fn rate(outcomes: &Value) -> Result<Rate> {
    let mut rate = Rate::default();
    for outcome in outcomes["outcomes"].as_array().context("no outcomes")? {
        // The tree as it is comes first, as the word "Baseline".
        let Some(mutant) = outcome["scenario"].get("Mutant") else { continue };
        match outcome["summary"].as_str() {
            Some("CaughtMutant" | "Timeout") => rate.noticed += 1,
            Some("MissedMutant") => rate.missed.push(mutant["name"].as_str().context("no name")?.to_owned()),
            Some("Unviable") => {}
            other => bail!("an outcome that is not known: {other:?}"),
        }
    }
    ensure!(rate.noticed > 0, "not one mutant was noticed");
    Ok(rate)
}

fn table(rates: &BTreeMap<&str, Rate>, seed: u64) -> String {
    let head = format!("Seed {seed}.\n\n| crate | mutants tried | noticed | goal |\n|---|---:|---:|---:|\n");
    rates.iter().fold(head, |table, (name, Rate { noticed, missed })| {
        let tried = noticed + missed.len() as u64;
        let goal = CRATES.iter().find(|(own, _)| own == name).map_or(0, |(_, goal)| *goal);
        table + &format!("| {name} | {tried} | {} % | {goal} % |\n", noticed * 100 / tried.max(1))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn outcomes_are_counted_and_none_that_was_noticed_is_an_error() {
        let of = |summaries: &[&str]| {
            let mut outcomes = vec![json!({ "scenario": "Baseline", "summary": "Success" })];
            outcomes.extend(summaries.iter().map(
                |summary| json!({ "scenario": { "Mutant": { "name": "replace x" } }, "summary": summary }),
            ));
            rate(&json!({ "outcomes": outcomes }))
        };
        let rate = of(&["CaughtMutant", "Timeout", "MissedMutant", "Unviable"]).unwrap();
        assert_eq!(rate, Rate { noticed: 2, missed: vec!["replace x".to_owned()] });
        for summaries in [&[][..], &["MissedMutant"], &["Unviable"], &["CaughtMutant", "Surprise"]] {
            assert!(of(summaries).is_err(), "{summaries:?}");
        }
        let table = table(&BTreeMap::from([("pkd-core", rate)]), 7);
        assert!(table.contains("| pkd-core | 3 | 66 % | 100 % |"), "{table}");
    }
}
