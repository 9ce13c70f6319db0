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

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    fuzz::{self, Fuzzers},
    run, toolchain,
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
pub(crate) fn run(names: &[&str]) -> Result<()> {
    let bugs = bugs()?;
    for name in names {
        ensure!(bugs.iter().any(|bug| bug.name == *name), "there is no tests/mutants/{name}.patch");
    }
    make(&bugs, |bug| names.is_empty() || names.contains(&bug.name.as_str()))
}

fn make(bugs: &[Bug], is_wanted: impl Fn(&Bug) -> bool) -> Result<()> {
    for target in fuzz::TARGETS {
        let catcher = format!("fuzz {target}");
        ensure!(
            bugs.iter().any(|bug| bug.catcher == catcher),
            "no bug is mutants for the fuzz target {target}"
        );
    }
    let ours = toolchain::root().canonicalize()?;
    let copy = ours.join("target/mutants/tree");
    let patch = |bug: &Bug, words: &[&str]| {
        run::quiet(run::command("git").args(["apply"]).args(words).arg(&bug.patch).current_dir(&copy))
            .with_context(|| format!("{} does not fit the tree any more", bug.patch.display()))
    };
    mirror(&ours, &copy)?;
    let whole = Fuzzers::build(&ours, fuzz::TARGETS)?;
    whole.lend_to(&copy)?;
    // Those that are not made now are not forgotten.
    bugs.iter().try_for_each(|bug| patch(bug, &["--check"]))?;
    for bug in bugs.iter().filter(|bug| is_wanted(bug)) {
        mirror(&ours, &copy)?;
        patch(bug, &[])?;
        let start = Instant::now();
        let caught = match bug.catcher.split_once(' ') {
            Some(("fuzz", target)) => caught_by_fuzzer(&whole, &copy, target),
            Some(("cargo", words)) => caught_by_cargo(&ours, &copy, words),
            Some(("vm", words)) => caught_by_vm(&copy, words),
            _ => bail!("{}: nothing is known that is called {:?}", bug.patch.display(), bug.catcher),
        };
        patch(bug, &["--reverse"])?;
        caught.with_context(|| format!("mutants {}: {}", bug.name, bug.broken))?;
        println!(
            "mutants {}: caught by {} after {} s ({})",
            bug.name,
            bug.catcher,
            start.elapsed().as_secs(),
            bug.broken
        );
    }
    Ok(())
}

fn bugs() -> Result<Vec<Bug>> {
    let folder = toolchain::root().join("tests/mutants").canonicalize()?;
    let mut bugs = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let patch = entry?.path();
        if patch.extension().is_none_or(|ending| ending != "patch") {
            continue;
        }
        let text = fs::read_to_string(&patch)?;
        let said = |word: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(word));
            line.map(str::to_owned).with_context(|| format!("{} does not say \"{word}\"", patch.display()))
        };
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        bugs.push(Bug {
            name,
            broken: said("Broken: ")?,
            catcher: said("Caught by: ")?,
            patch: patch.clone(),
        });
    }
    bugs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(bugs)
}

/// What broke must hold in the tree as it is.
fn caught_by_fuzzer(whole: &Fuzzers, copy: &Path, target: &str) -> Result<()> {
    let broken = Fuzzers::build(copy, &[target])?;
    let Some((input, _said)) = broken.run(target, FUZZING_TIME)?.crash else {
        bail!("the fuzz target {target} found nothing in {} s", FUZZING_TIME.as_secs());
    };
    if let Some((_, said)) = whole.try_input(target, &input)?.crash {
        bail!("what the fuzz target {target} found breaks the tree without the bug too\n{said}");
    }
    Ok(())
}

/// A command that passes in the tree as it is.
fn caught_by_cargo(ours: &Path, copy: &Path, words: &str) -> Result<()> {
    let cargo = |folder: &Path| -> Command {
        let mut cargo = run::command(env!("CARGO"));
        cargo.args(words.split(' ')).current_dir(folder);
        cargo
    };
    run::quiet(&mut cargo(ours)).context("it fails without the bug")?;
    // A tree that does not build shows nothing.
    let builds = run::output(cargo(copy).arg("--no-run")).map(drop);
    builds.context("with the bug it does not build")?;
    ensure!(run::quiet(&mut cargo(copy)).is_err(), "`cargo {words}` passes with it");
    Ok(())
}

/// A VM test that passes in the tree as it is, which other commands show. One of its checks has to fail: a guest that
/// does not boot shows nothing.
fn caught_by_vm(copy: &Path, words: &str) -> Result<()> {
    let (machine, part) = words.split_once(' ').context("a vm is a machine and a part")?;
    let mut cargo = run::command(env!("CARGO"));
    cargo.args(["xtask", "vm", "--part", part, machine]).current_dir(copy);
    let output = cargo.output().context("cannot start cargo")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let checks = said.lines().filter(|line| line.starts_with(&format!("{machine}: ")));
    let failed = checks.filter(|line| line.contains(": FAIL ")).count();
    ensure!(
        !output.status.success() && failed > 0,
        "no check fails\n{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Makes `copy` what git knows of `ours`. What is equal is not touched, so that cargo builds only what changed.
pub(crate) fn mirror(ours: &Path, copy: &Path) -> Result<()> {
    let mut git = run::command("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]).current_dir(ours);
    let listed = run::output(&mut git)?;
    let files: Vec<&str> = listed.split('\0').filter(|name| ours.join(name).is_file()).collect();
    ensure!(files.len() > 100, "git knows only {} files here", files.len());
    for name in &files {
        let (from, to) = (ours.join(name), copy.join(name));
        if !to.exists() || fs::read(&from)? != fs::read(&to)? {
            fs::create_dir_all(to.parent().context("a file in no folder")?)?;
            fs::copy(&from, &to)?;
        }
    }
    // Files that went would be built on.
    if copy.join(".git").exists() {
        let listed = run::output(
            run::command("git").args(["ls-files", "--others", "-z", "--exclude=target"]).current_dir(copy),
        )?;
        for name in listed.split('\0').filter(|name| !name.is_empty() && !files.contains(name)) {
            fs::remove_file(copy.join(name))?;
        }
    } else {
        // Without a repository of its own, git would apply patches to ours.
        run::quiet(run::command("git").args(["init", "--quiet"]).current_dir(copy))?;
    }
    Ok(())
}
