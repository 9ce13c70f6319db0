//! `make coverage`: which lines the tests run, by crate.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{document, installed::Program, run, toolchain};

const LLVM_COV: Program = Program { name: "cargo-llvm-cov", version: "0.8.6" };

/// The folder of each crate's own code. Boards and the kernel module are run in QEMU, where nothing is counted.
const CRATES: &[(&str, &str)] = &[
    ("pkd-core", "pkd-core/src/"),
    ("pkd-packet", "packet/src/"),
    ("pkd-sntp", "sntp/src/"),
    ("host-knock", "host-knock/src/"),
    ("pktables", "linux/pktables/src/"),
    ("pkdd", "linux/pkdd/src/"),
    ("pkd-gateway", "firmware/gateway/src/"),
    ("pkd-gateway-config", "firmware/config/src/"),
];

/// Runs all tests of these crates with counters and writes the rates to `docs/testing.md`.
pub(crate) fn run() -> Result<()> {
    run::progress("running the tests, and counting which lines they run");
    let version = llvm_version()?;
    let mut cov = run::command(env!("CARGO"));
    let program = LLVM_COV.path()?;
    let mut folders = vec![program.parent().context("it lies in no folder")?.to_owned()];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    cov.args([
        "llvm-cov",
        "test",
        "--locked",
        "--json",
        "--summary-only",
        "--ignore-run-fail",
        "--output-path",
    ]);
    let file = toolchain::root().canonicalize()?.join("target/coverage.json");
    cov.arg(&file).args(CRATES.iter().flat_map(|(name, _)| ["--package", name]));
    cov.env("PATH", std::env::join_paths(folders)?)
        .env("LLVM_COV", format!("/usr/bin/llvm-cov-{version}"))
        .env("LLVM_PROFDATA", format!("/usr/bin/llvm-profdata-{version}"))
        .current_dir(toolchain::root());
    run::shown(&mut cov).context("the tests with counters")?;
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    let table = table(&lines(&report)?);
    print!("{table}");
    document::write(&toolchain::root().join("docs/testing.md"), "coverage", &table)
}

/// The version of LLVM that rustc has; only tools of the same version read what it counts.
fn llvm_version() -> Result<String> {
    let said = run::output(run::command("rustc").arg("-vV"))?;
    let version = said.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    let major = version.and_then(|version| version.split('.').next());
    major.map(str::to_owned).context("rustc does not say which LLVM it has")
}

/// Lines that were run and lines there are, by crate.
fn lines(report: &Value) -> Result<BTreeMap<&'static str, (u64, u64)>> {
    let files = report["data"][0]["files"].as_array().context("the report has no files")?;
    let mut lines = BTreeMap::new();
    for file in files {
        let name = file["filename"].as_str().context("a file without a name")?;
        // Paths are absolute.
        let Some((own, _)) = CRATES.iter().find(|(_, folder)| name.contains(&format!("/{folder}"))) else {
            continue;
        };
        let count =
            |key: &str| file["summary"]["lines"][key].as_u64().with_context(|| format!("{name}: no {key}"));
        let entry: &mut (u64, u64) = lines.entry(*own).or_default();
        entry.0 += count("covered")?;
        entry.1 += count("count")?;
    }
    for (name, _) in CRATES {
        ensure!(lines.get(name).is_some_and(|(covered, _)| *covered > 0), "no line of {name} was run");
    }
    Ok(lines)
}

fn table(lines: &BTreeMap<&str, (u64, u64)>) -> String {
    let head = "| crate | lines run by tests | of |\n|---|---:|---:|\n".to_owned();
    lines.iter().fold(head, |table, (name, (covered, count))| {
        let tenths = covered * 1000 / (*count).max(1);
        table + &format!("| {name} | {}.{} % | {count} |\n", tenths / 10, tenths % 10)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_added_up_by_crate_and_a_crate_without_any_is_an_error() {
        let file = |name: &str, covered: u64| json!({ "filename": format!("/x/{name}"), "summary": { "lines": { "covered": covered, "count": 10 } } });
        let mut files: Vec<Value> =
            CRATES.iter().map(|(_, folder)| file(&format!("{folder}lib.rs"), 9)).collect();
        files.push(file("pkd-core/src/wire.rs", 10));
        files.push(file("elsewhere/src/lib.rs", 1));
        let report = json!({ "data": [{ "files": files }] });
        let counted = lines(&report).unwrap();
        assert_eq!(counted["pkd-core"], (19, 20));
        assert!(table(&counted).contains("| pkd-core | 95.0 % | 20 |"), "{}", table(&counted));
        let report = json!({ "data": [{ "files": &files[1..CRATES.len()] }] });
        assert!(lines(&report).is_err());
    }
}
