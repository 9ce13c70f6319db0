//! Steps of `make test`: each has inputs, is timed, and is not repeated where its inputs are what they were when it
//! last passed on this machine.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::{
    cache, files,
    run::{CARGO, Run, cmd, progress},
    toolchain,
};

/// One thing to check.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// Files, folders that end in `/`, or [`ALL_FILES`], whose content the result depends on, besides [`ALWAYS`].
    pub(crate) inputs: &'static str,
    pub(crate) run: fn() -> Result<()>,
}

/// Inputs of every step.
const ALWAYS: &str = "Cargo.toml Cargo.lock .cargo/ xtask/ clippy.toml";

/// The whole tree.
pub(crate) const ALL_FILES: &str = "*";

/// Whether a step that passed before is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamps {
    Heed,
    Ignore,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Passed(Duration),
    Unchanged,
}

/// Runs the steps in their order, from the one called `from` if one is named. Stops at the first that fails; prints how
/// long each took either way.
pub(crate) fn run(steps: &[Step], from: Option<&str>, stamps: Stamps) -> Result<()> {
    let position = |name| steps.iter().position(|step| step.name == name);
    let first = from.map_or(Some(0), position).with_context(|| {
        let names: Vec<_> = steps.iter().map(|step| step.name).collect();
        format!("unknown step {:?}: expected one of {}", from.unwrap_or_default(), names.join(", "))
    })?;
    let tree = Tree::read(toolchain::root())?;
    let (mut ends, mut failure) = (Vec::new(), None);
    for step in steps.iter().skip(first) {
        match tree.run(step, stamps) {
            Ok(end) => ends.push((step.name, end)),
            Err(error) => {
                failure = Some((step.name, error));
                break;
            }
        }
    }
    print!("{}", summary(&ends, failure.as_ref().map(|(name, _)| *name)));
    if let Some((name, error)) = failure {
        return Err(error.context(format!("step {name} failed; `--from {name}` starts there again")));
    }
    ensure!(!ends.is_empty(), "no step was run");
    Ok(())
}

/// The time of each step and, in the last line, how many passed.
fn summary(ends: &[(&str, End)], failed: Option<&str>) -> String {
    let mut lines = vec!["\n| step | minutes |\n|---|---:|".to_owned()];
    let (mut passed, mut total) = (0, Duration::ZERO);
    for (name, end) in ends {
        if let End::Passed(time) = end {
            passed += 1;
            total += *time;
            lines.push(format!("| {name} | {:.1} |", minutes(*time)));
        } else {
            lines.push(format!("| {name} | unchanged |"));
        }
    }
    let unchanged = ends.len() - passed;
    let skipped = if unchanged > 0 { format!(", {unchanged} skipped") } else { String::new() };
    let (total, failed) = (minutes(total), usize::from(failed.is_some()));
    lines.join("\n")
        + &format!("\n| total | {total:.1} |\n\nsteps: {passed} passed, {failed} failed{skipped}\n")
}

fn minutes(time: Duration) -> f32 {
    time.as_secs_f32() / 60.0
}

/// How long these steps took when they last passed; `None` if one never did on this machine.
pub(crate) fn known_time(steps: &[Step]) -> Result<Option<Duration>> {
    let mut total = Duration::ZERO;
    for step in steps {
        match Stamp::read(step.name)? {
            Some(stamp) => total += stamp.time,
            None => return Ok(None),
        }
    }
    Ok(Some(total))
}

/// The files of a checkout, by path, with the hash of each.
struct Tree {
    files: BTreeMap<String, String>,
    toolchain: String,
}

impl Tree {
    fn read(root: &Path) -> Result<Self> {
        let mut hashes = BTreeMap::new();
        for path in listed(root)? {
            let file = root.join(&path);
            // A link counts by what it names; a file that was deleted and not committed, as empty.
            let content = match fs::symlink_metadata(&file) {
                Ok(about) if about.is_symlink() => {
                    fs::read_link(&file)?.to_string_lossy().into_owned().into()
                }
                Ok(_) => fs::read(&file).with_context(|| format!("cannot read {path}"))?,
                Err(_) => Vec::new(),
            };
            hashes.insert(path, files::hex(&Sha256::digest(content)));
        }
        // Cargo is the one that runs us; the guests' compiler may be another.
        let mut toolchain = cmd!("{CARGO} -vV").read()?;
        for mut program in [cmd!("rustc -vV"), cmd!("/usr/bin/rustc -vV"), cmd!("gcc --version")] {
            // One that is missing now may be installed by the step.
            toolchain += &program.read().unwrap_or_default();
        }
        Ok(Self { files: hashes, toolchain })
    }

    fn run(&self, step: &Step, stamps: Stamps) -> Result<End> {
        let key = self.key(step)?;
        if stamps == Stamps::Heed
            && let Some(stamp) = Stamp::read(step.name)?
            && stamp.key == key
        {
            let (name, time) = (step.name, minutes(stamp.time));
            progress!("{name}: its inputs are unchanged since it passed ({time:.1} minutes)");
            return Ok(End::Unchanged);
        }
        progress!("step {}", step.name);
        let start = Instant::now();
        (step.run)()?;
        let time = start.elapsed();
        // What was changed meanwhile was perhaps not seen by the step.
        if Self::read(toolchain::root())?.key(step)? == key {
            Stamp { key, time }.write(step.name)?;
        }
        Ok(End::Passed(time))
    }

    /// A hash of all that the step's result depends on.
    fn key(&self, step: &Step) -> Result<String> {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        };
        add(step.name);
        add(&self.toolchain);
        let mut count = 0;
        for (path, content) in self.files.iter().filter(|(path, _)| step.reads(path)) {
            add(path);
            add(content);
            count += 1;
        }
        ensure!(count > 0, "step {} has no inputs", step.name);
        Ok(files::hex(&hash.finalize()))
    }
}

impl Step {
    /// Whether the file at this path is one of its inputs.
    fn reads(&self, path: &str) -> bool {
        self.inputs.split_whitespace().chain(ALWAYS.split(' ')).any(|input| {
            input == ALL_FILES || path == input || input.ends_with('/') && path.starts_with(input)
        })
    }
}

/// The files that git tracks or would add.
fn listed(root: &Path) -> Result<Vec<String>> {
    let listed = cmd!("git ls-files --cached --others --exclude-standard -z").current_dir(root).read();
    let listed = listed.context("a checkout by git is needed, to tell what changed")?;
    let files: Vec<String> = listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    ensure!(files.len() > 100, "git lists only {} files", files.len());
    Ok(files)
}

/// A record that a step passed.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    key: String,
    time: Duration,
}

impl Stamp {
    fn read(step: &str) -> Result<Option<Self>> {
        let file = cache::folder()?.join("stamps").join(step);
        if !file.exists() {
            return Ok(None);
        }
        Ok(Self::parse(&fs::read_to_string(&file)?))
    }

    /// `None` for a damaged stamp: the step is run again.
    fn parse(text: &str) -> Option<Self> {
        let (key, seconds) = text.trim_end().split_once(' ')?;
        Some(Self { key: key.to_owned(), time: Duration::from_secs(seconds.parse().ok()?) })
    }

    fn write(&self, step: &str) -> Result<()> {
        let folder = cache::folder()?.join("stamps");
        fs::create_dir_all(&folder)?;
        // Renamed into place, so that a run that is stopped leaves no half of one.
        let unfinished = folder.join(format!("{step}.{}", std::process::id()));
        fs::write(&unfinished, format!("{} {}\n", self.key, self.time.as_secs()))?;
        Ok(fs::rename(unfinished, folder.join(step))?)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::test;

    #[test]
    fn every_tracked_file_is_an_input_of_a_step_of_make_test() -> Result<()> {
        // Not by way of what all steps read.
        let reads = |path: &str| {
            test::QUICK.iter().chain(test::ALL).any(|step| step.inputs != ALL_FILES && step.reads(path))
        };
        let documents = test::QUICK.iter().find(|step| step.name == "documents").unwrap();
        let files = listed(toolchain::root())?;
        for path in &files {
            assert!(documents.reads(path), "documents does not read {path}");
            // Texts are checked by that step alone.
            let is_text = ["LICENSES/", ".git", ".editorconfig", "docs/", "Makefile", ".ci/"]
                .iter()
                .any(|start| path.starts_with(start))
                || Path::new(path).extension().is_some_and(|ending| ending == "md");
            assert!(is_text || reads(path), "no step but documents reads {path}");
        }
        Ok(())
    }

    #[test]
    fn a_change_is_seen_by_the_steps_that_it_can_break() {
        let rows = [
            ("pkd-core/src/replay.rs", "unit corpora packages firmware vm vm-mips counted"),
            ("host-knock/src/main.rs", "unit packages firmware vm vm-mips"),
            ("linux/pkdd/src/daemon.rs", "unit corpora packages feed vm"),
            ("linux/kmod/xt_pkd_main.c", "feed vm vm-mips counted"),
            ("openwrt/feed/net/pkd/Makefile", "feed"),
            ("openwrt/feed/luci/luci-app-pkd/Makefile", "feed packages vm luci"),
            ("linux/kmod/rust/src/ffi.rs", "format feed vm vm-mips counted"),
            ("tests/luci/browser.js", "luci"),
            ("firmware/boards/Cargo.lock", "firmware"),
            ("xtask/src/main.rs", "format unit corpora luci feed packages firmware vm"),
        ];
        for (path, steps) in rows {
            for name in steps.split(' ') {
                let step = test::QUICK.iter().find(|step| step.name == name);
                assert!(step.is_some_and(|step| step.reads(path)), "{name} does not read {path}");
            }
        }
    }

    #[test]
    fn a_changed_input_changes_the_key_and_another_file_does_not() -> Result<()> {
        let step = Step { name: "one", inputs: "a/ b", run: || Ok(()) };
        let tree = |files: &[(&str, &str)], toolchain: &str| Tree {
            files: files.iter().map(|(path, hash)| ((*path).to_owned(), (*hash).to_owned())).collect(),
            toolchain: toolchain.to_owned(),
        };
        let key = |files: &[(&str, &str)]| tree(files, "rustc 1").key(&step);
        let before = key(&[("a/x", "1"), ("b", "2"), ("c", "3")])?;
        assert_eq!(before, key(&[("a/x", "1"), ("b", "2"), ("c", "4")])?, "another file");
        for (row, files) in [
            [("a/x", "9"), ("b", "2")],
            [("a/x", "1"), ("b", "9")],
            [("a/y", "1"), ("b", "2")],
            [("a/x", "1"), ("Cargo.lock", "2")],
        ]
        .iter()
        .enumerate()
        {
            assert_ne!(before, key(files)?, "row {row}");
        }
        assert_ne!(before, tree(&[("a/x", "1"), ("b", "2")], "rustc 2").key(&step)?, "another compiler");
        assert!(key(&[("c", "3")]).is_err(), "a step without inputs would never be run again");
        Ok(())
    }

    #[test]
    fn a_damaged_stamp_counts_as_none() {
        assert_eq!(
            Stamp::parse("ab 61\n"),
            Some(Stamp { key: "ab".to_owned(), time: Duration::from_secs(61) })
        );
        for text in ["", "ab", "ab x", "ab -1"] {
            assert_eq!(Stamp::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_step_that_fails_ends_the_run_and_is_named() {
        let steps = [
            Step { name: "good", inputs: ALL_FILES, run: || Ok(()) },
            Step { name: "broken", inputs: ALL_FILES, run: || bail!("broken on purpose") },
            Step { name: "never", inputs: ALL_FILES, run: || panic!("it was run") },
        ];
        let error = run(&steps, Some("broken"), Stamps::Ignore).unwrap_err();
        assert!(format!("{error:#}").contains("step broken failed"), "{error:#}");
        assert!(run(&steps, Some("brokn"), Stamps::Ignore).is_err());
        assert!(run(&[], None, Stamps::Ignore).is_err(), "nothing was checked");
    }

    #[test]
    fn the_last_line_counts_the_steps() {
        let ends = [("a", End::Passed(Duration::from_secs(90))), ("b", End::Unchanged)];
        let text = summary(&ends, Some("c"));
        assert!(
            text.contains("| a | 1.5 |") && text.ends_with("steps: 1 passed, 1 failed, 1 skipped\n"),
            "{text}"
        );
    }
}
