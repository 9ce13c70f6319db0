//! Fuzzers, on the compiler that is there: libFuzzer's half of the instrumentation is in every rustc.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{run, toolchain};

/// What there is to fuzz, `tests/fuzz/fuzz_targets/NAME.rs`.
pub(crate) const TARGETS: &[&str] = &[
    "knock", "cache", "secret", "words", "rules", "packets", "config", "ini", "uri", "capture", "state",
    "frame",
];

/// How long each target runs where nothing is said.
pub(crate) const USUAL: Duration = Duration::from_mins(1);

/// What cargo-fuzz gives to rustc, without the sanitizers, which only a nightly compiler has: none of our code can
/// break the promises that they watch.
const FLAGS: &[&str] = &[
    "--cfg",
    "fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // Else some of a crate's units lack the counters that others expect.
    "-Ccodegen-units=1",
];

/// Where one clone's targets are built, and what they find is kept.
pub(crate) struct Fuzzers {
    /// The clone.
    root: PathBuf,
    programs: PathBuf,
    folder: PathBuf,
}

/// How a run ended.
pub(crate) struct Outcome {
    pub(crate) executions: u64,
    /// What broke: the input, and what was said about it.
    pub(crate) crash: Option<(PathBuf, String)>,
}

/// Runs each target once over its committed corpus. A target without inputs tests nothing and is an error.
pub(crate) fn run_corpora() -> Result<()> {
    let fuzzers = Fuzzers::build(toolchain::root(), TARGETS)?;
    run::progress("fuzz targets over their committed corpora");
    for name in TARGETS {
        let (inputs, outcome) = fuzzers.run_corpus(name)?;
        if let Some((input, said)) = outcome.crash {
            bail!("fuzz {name}: {} breaks it\n{said}", input.display());
        }
        ensure!(
            inputs > 0 && outcome.executions >= inputs,
            "fuzz {name}: {} executions for {inputs} inputs",
            outcome.executions
        );
        println!("fuzz {name}: {inputs} inputs, nothing found");
    }
    Ok(())
}

/// Runs each of these targets for `time` and replaces its committed corpus by the fewest inputs that reach as much.
pub(crate) fn keep(names: &[&str], time: Duration) -> Result<()> {
    run(names, time)?;
    let names = if names.is_empty() { TARGETS } else { names };
    let fuzzers = Fuzzers::build(toolchain::root(), names)?;
    for name in names {
        println!("fuzz {name}: {} inputs kept", fuzzers.minimise(name)?);
    }
    Ok(())
}

/// Runs these targets, all if none is named, as many at a time as there are processors.
pub(crate) fn run(names: &[&str], time: Duration) -> Result<()> {
    let names = if names.is_empty() { TARGETS } else { names };
    let fuzzers = Fuzzers::build(toolchain::root(), names)?;
    run::progress(&format!("fuzzing {} targets for {} s each", names.len(), time.as_secs()));
    let waiting = Mutex::new(names.to_vec());
    let next = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() { None } else { Some(waiting.remove(0)) }
    };
    let work = || -> Result<()> {
        while let Some(name) = next() {
            let outcome = fuzzers.run(name, time)?;
            if let Some((input, said)) = outcome.crash {
                bail!("fuzz {name}: {} breaks it\n{said}", input.display());
            }
            ensure!(outcome.executions > 0, "fuzz {name}: nothing was executed");
            println!("fuzz {name}: {} executions, nothing found", outcome.executions);
        }
        Ok(())
    };
    let workers = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let ends =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")));
        // All have ended before the first error is returned.
        ends.collect::<Vec<_>>().into_iter().collect()
    })
}

impl Fuzzers {
    /// Builds these targets of the clone in `root`.
    pub(crate) fn build(root: &Path, names: &[&str]) -> Result<Self> {
        if let Some(name) = names.iter().find(|name| !TARGETS.contains(name)) {
            bail!("there is no fuzz target {name}; there are {}", TARGETS.join(", "));
        }
        run::progress("building what fuzzers run");
        let root = root.canonicalize()?;
        let ours = root == toolchain::root().canonicalize()?;
        let folder = if ours { toolchain::target().join("fuzz") } else { root.join("target/fuzz") };
        let target = host_target()?;
        let mut cargo = run::command(env!("CARGO"));
        cargo
            .args(["build", "--quiet", "--release", "--locked", "--target", &target, "--target-dir"])
            .arg(&folder)
            .arg("--manifest-path")
            .arg(root.join("tests/fuzz/Cargo.toml"))
            .args(names.iter().flat_map(|name| ["--bin", name]))
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
            .current_dir(&root);
        run::quiet(&mut cargo).context("building tests/fuzz")?;
        Ok(Self { programs: folder.join(target).join("release"), folder, root })
    }

    /// Gives another clone that has built nothing yet what was built here: of that, crates from elsewhere are the same there.
    pub(crate) fn lend_to(&self, other: &Path) -> Result<()> {
        let theirs = other.join("target/fuzz");
        if theirs.exists() {
            return Ok(());
        }
        fs::create_dir_all(other.join("target"))?;
        run::quiet(run::command("cp").arg("-a").arg(&self.folder).arg(theirs))
    }

    /// Runs one target for a while.
    pub(crate) fn run(&self, name: &str, time: Duration) -> Result<Outcome> {
        let (corpus, artifacts) = (self.folder.join("corpus").join(name), self.folder.join("artifacts"));
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;
        let mut command = self.command(name);
        command.arg(corpus);
        command.args(self.committed(name));
        command
            .arg(format!("-max_total_time={}", time.as_secs()))
            .arg(format!("-artifact_prefix={}/{name}-", artifacts.display()))
            .args(["-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        self.outcome(name, &mut command)
    }

    /// Runs one target over its committed inputs alone; also returns how many they are.
    fn run_corpus(&self, name: &str) -> Result<(u64, Outcome)> {
        let folders = self.committed(name);
        let mut inputs = 0;
        for folder in &folders {
            inputs += u64::try_from(fs::read_dir(folder)?.count())?;
        }
        let mut command = self.command(name);
        command.args(folders).args(["-runs=0", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        Ok((inputs, self.outcome(name, &mut command)?))
    }

    /// Writes the committed corpus anew; returns how many inputs it has.
    fn minimise(&self, name: &str) -> Result<usize> {
        let (new, committed) =
            (self.folder.join("minimised").join(name), self.root.join("tests/fuzz/corpus").join(name));
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        fs::create_dir_all(&new)?;
        let mut command = self.command(name);
        // Long inputs reach little that short ones do not, and all of them are in git.
        command
            .args(["-set_cover_merge=1", "-use_counters=0", "-max_len=600"])
            .arg(&new)
            .arg(self.folder.join("corpus").join(name));
        command.args(self.committed(name));
        self.outcome(name, &mut command)?;
        let count = fs::read_dir(&new)?.count();
        ensure!(count > 0, "fuzz {name}: no input was kept");
        if committed.exists() {
            fs::remove_dir_all(&committed)?;
        }
        fs::create_dir_all(committed.parent().context("a corpus in no folder")?)?;
        run::quiet(run::command("cp").arg("-r").arg(new).arg(committed))?;
        Ok(count)
    }

    /// What a target begins with: the minimised corpus of earlier runs, and inputs that people wrote.
    fn committed(&self, name: &str) -> Vec<PathBuf> {
        let folders = ["corpus", "seeds"].map(|kind| self.root.join("tests/fuzz").join(kind).join(name));
        folders.into_iter().filter(|folder| folder.is_dir()).collect()
    }

    /// Gives one input to a target.
    pub(crate) fn try_input(&self, name: &str, input: &Path) -> Result<Outcome> {
        let mut command = self.command(name);
        command.arg("-print_final_stats=1").arg(input);
        self.outcome(name, &mut command)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = run::command(self.programs.join(name));
        command.stdout(Stdio::null()).current_dir(&self.folder);
        command
    }

    fn outcome(&self, name: &str, command: &mut Command) -> Result<Outcome> {
        let output = command.output().with_context(|| format!("cannot start the fuzz target {name}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        fs::write(self.folder.join(format!("{name}.log")), &said)?;
        let value = |word: &str| said.lines().find_map(|line| line.strip_prefix(word)).map(str::trim);
        let executions = value("stat::number_of_executed_units:").and_then(|n| n.parse().ok()).unwrap_or(0);
        if output.status.success() {
            return Ok(Outcome { executions, crash: None });
        }
        let input = said.lines().find_map(|line| line.split("Test unit written to ").nth(1));
        let lines: Vec<&str> = said.lines().collect();
        let start = lines
            .iter()
            .position(|line| line.contains("panicked at"))
            .unwrap_or(lines.len().saturating_sub(30));
        let end = lines.iter().position(|line| line.starts_with("stack backtrace")).unwrap_or(lines.len());
        let excerpt = lines.get(start..end.max(start)).unwrap_or_default().join("\n");
        Ok(Outcome { executions, crash: Some((input.unwrap_or("an input").into(), excerpt)) })
    }
}

/// Rust's name of this machine: with it, what runs while something is built is not instrumented.
fn host_target() -> Result<String> {
    let said = run::output(run::command("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what machine this is")
}
