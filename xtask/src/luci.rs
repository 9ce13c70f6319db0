//! The pages of `LuCI` in a headless browser, with a fake of the rest of it around them.

use crate::prelude::*;

/// Seconds. Each wait inside has a limit of its own; this one ends what got stuck between them.
const LIMIT: &str = "900";

/// Runs the tests. Pictures of the pages lie in `target/luci` then.
pub(crate) fn test() -> Result<()> {
    let folder = at("tests/luci");
    let modules = modules(&folder)?;
    progress!("pages of LuCI");
    let mut tests = files::with_ending(&folder, "js")?;
    tests.retain(|path| path.to_string_lossy().ends_with(".test.js"));
    ensure!(!tests.is_empty(), "no tests in {}", folder.display());
    // The pages have pkdd check what they are about to save.
    cmd!("{CARGO} build --quiet --locked --package pkdd").quiet()?;
    let said = cmd!("timeout --kill-after=10 {LIMIT} node --test --test-reporter=spec {tests...}")
        .current_dir(&folder)
        .env("PKD_LUCI_MODULES", modules)
        .env("PKD_LUCI_PKDD", toolchain::target().join("debug/pkdd").canonicalize()?)
        .env("PKD_LUCI_SHOTS", at("target/luci"))
        .show_and_read()
        .context("the tests of the LuCI pages")?;
    let passed = said.lines().rev().find_map(|line| line.split_once("pass ")?.1.trim().parse::<u32>().ok());
    ensure!(passed.is_some_and(|count| count > 0), "no test of the LuCI pages ran");
    Ok(())
}

/// What the lock file names, fetched by npm and checked against its hashes. No script of a package is run.
fn modules(folder: &Path) -> Result<PathBuf> {
    let read =
        |name: &str| fs::read_to_string(folder.join(name)).with_context(|| format!("cannot read {name}"));
    let (package, lock) = (read("package.json")?, read("package-lock.json")?);
    cache::entry("luci-npm", &[&package, &lock], |unfinished, _| {
        progress!("fetching what the tests of the LuCI pages are run with");
        fs::write(unfinished.join("package.json"), &package)?;
        fs::write(unfinished.join("package-lock.json"), &lock)?;
        cmd!("npm ci --ignore-scripts --no-audit --no-fund").current_dir(unfinished).quiet()
    })
}
