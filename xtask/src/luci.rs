//! The pages of `LuCI` in a headless browser, with a fake of the rest of it around them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{cache, run, toolchain};

/// Seconds. Each wait inside has a limit of its own; this one ends what got stuck between them.
const LIMIT: &str = "900";

/// Runs the tests. Pictures of the pages lie in `target/luci` then.
pub(crate) fn test() -> Result<()> {
    let folder = toolchain::root().join("tests/luci");
    let modules = modules(&folder)?;
    run::progress("pages of LuCI");
    let files = tests(&folder)?;
    ensure!(!files.is_empty(), "no tests in {}", folder.display());
    // The pages have pkdd check what they are about to save.
    let pkdd = daemon()?;
    let mut node = run::command("timeout");
    node.args(["--kill-after=10", LIMIT, "node", "--test", "--test-reporter=spec"])
        .args(files)
        .current_dir(&folder)
        .env("PKD_LUCI_MODULES", modules)
        .env("PKD_LUCI_PKDD", pkdd)
        .env("PKD_LUCI_SHOTS", toolchain::root().join("target/luci"));
    let said = run::shown_and_kept(&mut node).context("the tests of the LuCI pages")?;
    let passed = said.lines().rev().find_map(|line| line.split_once("pass ")?.1.trim().parse::<u32>().ok());
    ensure!(passed.is_some_and(|count| count > 0), "no test of the LuCI pages ran");
    Ok(())
}

fn daemon() -> Result<PathBuf> {
    let mut cargo = run::command(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--package", "pkdd"]).current_dir(toolchain::root());
    run::quiet(&mut cargo)?;
    Ok(toolchain::target().join("debug/pkdd").canonicalize()?)
}

/// What the lock file names, fetched by npm and checked against its hashes. No script of a package is run.
fn modules(folder: &Path) -> Result<PathBuf> {
    const FILES: [&str; 2] = ["package.json", "package-lock.json"];
    let texts = FILES
        .map(|name| fs::read_to_string(folder.join(name)).with_context(|| format!("cannot read {name}")))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let inputs: Vec<&str> = texts.iter().map(String::as_str).collect();
    cache::entry("luci-npm", &inputs, |unfinished, _| {
        run::progress("fetching what the tests of the LuCI pages are run with");
        for (name, text) in FILES.iter().zip(&texts) {
            fs::write(unfinished.join(name), text)?;
        }
        run::quiet(
            run::command("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(unfinished),
        )
    })
}

fn tests(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".test.js") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
