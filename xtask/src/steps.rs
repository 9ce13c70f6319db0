//! Steps of `make test`: each has inputs, is timed, and is not repeated where its inputs are what they were when it
//! last passed on this machine.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::prelude::*;

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

/// How a step ended: after this time, or not run because nothing has changed.
type End = Option<Duration>;

/// Runs the steps in their order, from the one called `from` if one is named. Stops at the first that fails; prints how
/// long each took either way. `again`: those too that passed with the same inputs.
pub(crate) fn run(steps: &[Step], from: Option<&str>, again: bool) -> Result<()> {
    let position = |name| steps.iter().position(|step| step.name == name);
    let first = from.map_or(Some(0), position).with_context(|| {
        let names: Vec<_> = steps.iter().map(|step| step.name).collect();
        format!("unknown step {:?}: expected one of {}", from.unwrap_or_default(), names.join(", "))
    })?;
    let tree = Tree::read(toolchain::root())?;
    let mut ends = Vec::new();
    for step in &steps[first..] {
        match tree.run(step, again) {
            Ok(end) => ends.push((step.name, end)),
            Err(error) => {
                print!("{}", summary(&ends, 1));
                let name = step.name;
                return Err(error.context(format!("step {name} failed; `--from {name}` starts there again")));
            }
        }
    }
    print!("{}", summary(&ends, 0));
    ensure!(!ends.is_empty(), "no step was run");
    Ok(())
}

/// The time of each step and, in the last line, how many passed.
fn summary(ends: &[(&str, End)], failed: usize) -> String {
    let line = |name: &str, time: Duration| format!("| {name} | {:.1} |\n", minutes(time));
    let lines = ends.iter().map(|(name, end)| match end {
        Some(time) => line(name, *time),
        None => format!("| {name} | unchanged |\n"),
    });
    let head = "\n| step | minutes |\n|---|---:|\n".to_owned() + &lines.collect::<String>();
    let (total, passed) =
        (ends.iter().filter_map(|(_, end)| *end).sum(), ends.iter().filter(|end| end.1.is_some()).count());
    let skipped = match ends.len() - passed {
        0 => String::new(),
        count => format!(", {count} skipped"),
    };
    head + &line("total", total) + &format!("\nsteps: {passed} passed, {failed} failed{skipped}\n")
}

fn minutes(time: Duration) -> f32 {
    time.as_secs_f32() / 60.0
}

/// How long these steps took when they last passed; `None` if one never did on this machine.
pub(crate) fn known_time(steps: &[Step]) -> Result<Option<Duration>> {
    let stamps = steps.iter().map(|step| Stamp::read(step.name)).collect::<Result<Vec<_>>>()?;
    Ok(stamps.into_iter().map(|stamp| stamp.map(|stamp| stamp.time)).sum())
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
                    fs::read_link(&file)?.into_os_string().into_encoded_bytes()
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

    fn run(&self, step: &Step, again: bool) -> Result<End> {
        let (name, key) = (step.name, self.key(step)?);
        let stamp = Stamp::read(name)?.filter(|stamp| !again && stamp.key == key);
        if let Some(stamp) = stamp {
            progress!(
                "{name}: its inputs are unchanged since it passed ({:.1} minutes)",
                minutes(stamp.time)
            );
            return Ok(None);
        }
        progress!("step {name}");
        let start = Instant::now();
        (step.run)()?;
        let time = start.elapsed();
        // What was changed meanwhile was perhaps not seen by the step.
        if Self::read(toolchain::root())?.key(step)? == key {
            Stamp { key, time }.write(name)?;
        }
        Ok(Some(time))
    }

    /// A hash of all that the step's result depends on.
    fn key(&self, step: &Step) -> Result<String> {
        let inputs: Vec<_> = self.files.iter().filter(|(path, _)| step.reads(path)).collect();
        ensure!(!inputs.is_empty(), "step {} has no inputs", step.name);
        let inputs = inputs.into_iter().flat_map(|(path, content)| [path.as_str(), content]);
        let mut hash = Sha256::new();
        for text in [step.name, &self.toolchain].into_iter().chain(inputs) {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        }
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
pub(crate) fn listed(root: &Path) -> Result<Vec<String>> {
    let listed = cmd!("git ls-files --cached --others --exclude-standard -z").current_dir(root).read();
    let listed = listed.context("a checkout by git is needed, to tell what changed")?;
    let files: Vec<String> = listed.split_terminator('\0').map(str::to_owned).collect();
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
        if file.exists() { Ok(Self::parse(&fs::read_to_string(&file)?)) } else { Ok(None) }
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
            ("pkd-core/src/replay.rs", "unit corpora packages firmware vm counted"),
            ("host-knock/src/main.rs", "unit packages firmware vm"),
            ("linux/pkdd/src/daemon.rs", "unit corpora packages feed vm"),
            ("linux/kmod/xt_pkd_main.c", "feed vm counted"),
            ("openwrt/feed/net/pkd/Makefile", "feed"),
            ("openwrt/feed/luci/luci-app-pkd/Makefile", "feed packages vm luci"),
            ("linux/kmod/rust/src/ffi.rs", "format feed vm counted"),
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
        for other in [
            [("a/x", "9"), ("b", "2")],
            [("a/x", "1"), ("b", "9")],
            [("a/y", "1"), ("b", "2")],
            [("a/x", "1"), ("Cargo.lock", "2")],
        ] {
            assert_ne!(before, key(&other)?, "{other:?}");
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
        let error = run(&steps, Some("broken"), true).unwrap_err();
        assert!(format!("{error:#}").contains("step broken failed"), "{error:#}");
        assert!(run(&steps, Some("brokn"), true).is_err());
        assert!(run(&[], None, true).is_err(), "nothing was checked");
    }

    #[test]
    fn the_last_line_counts_the_steps() {
        let text = summary(&[("a", Some(Duration::from_secs(90))), ("b", None)], 1);
        assert!(
            text.contains("| a | 1.5 |") && text.ends_with("steps: 1 passed, 1 failed, 1 skipped\n"),
            "{text}"
        );
    }
}
