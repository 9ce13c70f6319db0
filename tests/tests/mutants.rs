//! The patches in `mutants/` apply. Checked here because `make mutants` takes long.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

#[test]
fn every_mutant_applies_and_names_its_test() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut count = 0;
    for entry in fs::read_dir(root.join("tests/mutants"))? {
        let patch = entry?.path();
        let text = fs::read_to_string(&patch)?;
        for word in ["Broken: ", "Caught by: "] {
            ensure!(text.lines().any(|line| line.starts_with(word)), "{}: no line {word:?}", patch.display());
        }
        let mut git = Command::new("git");
        git.args(["apply", "--check"]).arg(patch.canonicalize()?).current_dir(&root);
        let output = git.output().context("cannot run git")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        count += 1;
    }
    ensure!(count > 10, "only {count} mutants");
    Ok(())
}
