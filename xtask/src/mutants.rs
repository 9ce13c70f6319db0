//! Bugs introduced on purpose, each a patch in `tests/mutants`, and the tests that must catch them.
//!
//! A file begins with two lines before the patch:
//!
//! ```text
//! Broken: what is wrong with it
//! Caught by: fuzz TARGET
//! ```
//!
//! or `Caught by: cargo ARGUMENTS`, or `Caught by: vm MACHINE PART`.

use crate::{
    fuzz::{self, Fuzzers},
    prelude::*,
    steps,
};

/// Fuzzers find each of these bugs within seconds; this is the limit.
const FUZZING_TIME: Duration = Duration::from_mins(2);

/// A patch, and what it says of itself.
struct Bug {
    name: String,
    patch: PathBuf,
    broken: String,
    catcher: String,
}

/// Applies these patches one after the other to a copy of the tree, all if none is named; fails if one is not caught.
pub(crate) fn run(names: &[String]) -> Result<()> {
    let bugs = bugs()?;
    for name in names {
        ensure!(bugs.iter().any(|bug| bug.name == *name), "there is no tests/mutants/{name}.patch");
    }
    for target in fuzz::TARGETS {
        let has = bugs.iter().any(|bug| bug.catcher == format!("fuzz {target}"));
        ensure!(has, "no bug is made for the fuzz target {target}");
    }
    let ours = toolchain::root().canonicalize()?;
    let copy = ours.join("target/mutants/tree");
    let apply = |bug: &Bug, words: &[&str]| {
        let patch = &bug.patch;
        cmd!("git apply {words...} {patch}")
            .current_dir(&copy)
            .quiet()
            .with_context(|| format!("{} does not fit the tree any more", patch.display()))
    };
    mirror(&ours, &copy)?;
    let whole = Fuzzers::build(&ours, &fuzz::TARGETS)?;
    whole.lend_to(&copy)?;
    // Those that are not made now are not forgotten.
    bugs.iter().try_for_each(|bug| apply(bug, &["--check"]))?;
    for bug in bugs.iter().filter(|bug| names.is_empty() || names.contains(&bug.name)) {
        let Bug { name, broken, catcher, patch } = bug;
        mirror(&ours, &copy)?;
        apply(bug, &[])?;
        let start = Instant::now();
        let caught = match catcher.split_once(' ') {
            Some(("fuzz", target)) => caught_by_fuzzer(&whole, &copy, target),
            Some(("cargo", words)) => caught_by_cargo(&ours, &copy, words),
            Some(("vm", words)) => caught_by_vm(&copy, words),
            _ => bail!("{}: nothing is known that is called {catcher:?}", patch.display()),
        };
        apply(bug, &["--reverse"])?;
        caught.with_context(|| format!("mutants {name}: {broken}"))?;
        let seconds = start.elapsed().as_secs();
        println!("mutants {name}: caught by {catcher} after {seconds} s ({broken})");
    }
    Ok(())
}

fn bugs() -> Result<Vec<Bug>> {
    let read = |patch: PathBuf| {
        let text = fs::read_to_string(&patch)?;
        let said = |word: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(word));
            line.map(str::to_owned).with_context(|| format!("{} does not say \"{word}\"", patch.display()))
        };
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Bug { name, broken: said("Broken: ")?, catcher: said("Caught by: ")?, patch })
    };
    let folder = at("tests/mutants").canonicalize()?;
    files::with_ending(&folder, "patch")?.into_iter().map(read).collect()
}

/// What broke must hold in the tree as it is.
fn caught_by_fuzzer(whole: &Fuzzers, copy: &Path, target: &str) -> Result<()> {
    ensure!(fuzz::TARGETS.contains(&target), "there is no fuzz target {target}");
    let broken = Fuzzers::build(copy, &[target])?;
    let Some((input, _said)) = broken.run(target, FUZZING_TIME)?.crash else {
        bail!("the fuzz target {target} found nothing in {} s", FUZZING_TIME.as_secs());
    };
    if let Some((_, said)) = whole.try_input(target, &input)?.crash {
        bail!("what the fuzz target {target} found breaks the tree without the bug too\n{said}");
    }
    Ok(())
}

/// Where the programs of a tree are built. In a folder for all, cargo would take those of one tree for another's.
fn programs_of(tree: &Path) -> PathBuf {
    tree.join("target")
}

/// A command that passes in the tree as it is.
fn caught_by_cargo(ours: &Path, copy: &Path, words: &str) -> Result<()> {
    let cargo = |folder: &Path, more: &[&str]| {
        let words = words.split(' ');
        cmd!("{CARGO} {words...} {more...}")
            .current_dir(folder)
            .env("CARGO_TARGET_DIR", programs_of(folder))
            .quiet()
    };
    cargo(ours, &[]).context("it fails without the bug")?;
    // A tree that does not build shows nothing.
    cargo(copy, &["--no-run"]).context("with the bug it does not build")?;
    ensure!(cargo(copy, &[]).is_err(), "`cargo {words}` passes with it");
    Ok(())
}

/// A VM test that passes in the tree as it is, which other commands show. One of its checks has to fail: a guest that
/// does not boot shows nothing.
fn caught_by_vm(copy: &Path, words: &str) -> Result<()> {
    let (machine, part) = words.split_once(' ').context("a vm is a machine and a part")?;
    let output = cmd!("{CARGO} xtask vm --part {part} {machine}")
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", programs_of(copy))
        .finish()?;
    let said = run::text_of(&output);
    let mut checks = said.lines().filter(|line| line.starts_with(&format!("{machine}: ")));
    let failed = checks.any(|line| line.contains(": FAIL "));
    ensure!(!output.status.success() && failed, "no check fails\n{said}");
    Ok(())
}

/// Makes `copy` what git knows of `ours`. What is equal is not touched, so that cargo builds only what changed.
pub(crate) fn mirror(ours: &Path, copy: &Path) -> Result<()> {
    let names: Vec<_> = steps::listed(ours)?.into_iter().filter(|name| ours.join(name).is_file()).collect();
    for name in &names {
        let (from, to) = (ours.join(name), copy.join(name));
        if !to.exists() || fs::read(&from)? != fs::read(&to)? {
            files::copy(&from, &to)?;
        }
    }
    if !copy.join(".git").exists() {
        // Without a repository of its own, git would apply patches to ours.
        return cmd!("git init --quiet").current_dir(copy).quiet();
    }
    // Files that went would be built on.
    let listed = cmd!("git ls-files --others -z --exclude=target").current_dir(copy).read()?;
    for name in listed.split('\0').filter(|name| !name.is_empty() && !names.iter().any(|own| own == name)) {
        fs::remove_file(copy.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{machine, vm};

    #[test]
    fn every_bug_names_a_test_that_exists() -> Result<()> {
        let bugs = bugs()?;
        ensure!(bugs.len() > 10, "only {} bugs", bugs.len());
        for Bug { name, catcher, .. } in bugs {
            let exists = match catcher.split_once(' ') {
                Some(("fuzz", target)) => fuzz::TARGETS.contains(&target),
                Some(("cargo", words)) => words.starts_with("test "),
                Some(("vm", words)) => words
                    .split_once(' ')
                    .is_some_and(|(name, part)| machine::find(name).is_ok() && vm::PARTS.contains(&part)),
                _ => false,
            };
            ensure!(exists, "{name}: nothing is called {catcher:?}");
        }
        Ok(())
    }
}
