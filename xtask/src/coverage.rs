//! `make coverage`: which lines the tests run, by crate.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{document, installed, prelude::*};

/// The folder of each crate's own code. Boards and the kernel module are run in QEMU, where nothing is counted.
const CRATES: &[(&str, &str)] = &[
    ("pkd-core", "pkd-core/src/"),
    ("pkd-packet", "packet/src/"),
    ("pkd-sntp", "sntp/src/"),
    ("pkd-uri", "uri/src/"),
    ("host-knock", "host-knock/src/"),
    ("pktables", "linux/pktables/src/"),
    ("pkdd", "linux/pkdd/src/"),
    ("pkd-board", "firmware/board/src/"),
    ("pkd-gateway", "firmware/gateway/src/"),
    ("pkd-gateway-config", "firmware/config/src/"),
];

/// Runs all tests of these crates with counters and writes the rates to `docs/testing.md`.
pub(crate) fn run() -> Result<()> {
    progress!("running the tests, and counting which lines they run");
    // Only tools of rustc's own version of LLVM read what it counts.
    let said = cmd!("rustc -vV").read()?;
    let version = said.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    let version = version.and_then(|version| version.split('.').next());
    let version = version.context("rustc does not say which LLVM it has")?;
    let program = installed::program("cargo-llvm-cov", "0.8.6")?;
    let mut folders = vec![program.parent().context("it lies in no folder")?.to_owned()];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let file = toolchain::root().canonicalize()?.join("target/coverage.json");
    let packages = CRATES.iter().flat_map(|(name, _)| ["--package", name]);
    // Counters are in a mapped file from the start (`%c`): pkdd may not write files later, and what is killed would lose
    // its own.
    cmd!("{CARGO} llvm-cov test --locked --json --summary-only --ignore-run-fail --failure-mode all --output-path {file} {packages...}")
        .env("LLVM_PROFILE_FILE_NAME", "pkd-%p-%m%c.profraw")
        .env("RUSTFLAGS", "-Cllvm-args=-runtime-counter-relocation")
        .env("PATH", std::env::join_paths(folders)?)
        .env("LLVM_COV", format!("/usr/bin/llvm-cov-{version}"))
        .env("LLVM_PROFDATA", format!("/usr/bin/llvm-profdata-{version}"))
        .show()
        .context("the tests with counters")?;
    let table = table(&lines(&serde_json::from_str(&fs::read_to_string(&file)?)?)?);
    print!("{table}");
    document::write("docs/testing.md", "coverage", &table)
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
        *entry = (entry.0 + count("covered")?, entry.1 + count("count")?);
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
        files.extend([file("pkd-core/src/wire.rs", 10), file("elsewhere/src/lib.rs", 1)]);
        let counted = lines(&json!({ "data": [{ "files": files }] })).unwrap();
        assert_eq!(counted["pkd-core"], (19, 20));
        assert!(table(&counted).contains("| pkd-core | 95.0 % | 20 |"), "{}", table(&counted));
        assert!(lines(&json!({ "data": [{ "files": &files[1..CRATES.len()] }] })).is_err());
    }
}
