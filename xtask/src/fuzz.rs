//! Fuzzers, on the compiler that is there: libFuzzer's half of the instrumentation is in every rustc.

use std::process::{Command, Stdio};

use crate::prelude::*;

/// What there is to fuzz, `tests/fuzz/fuzz_targets/NAME.rs`.
pub(crate) const TARGETS: [&str; 13] = [
    "knock", "format2", "cache", "secret", "words", "rules", "packets", "config", "ini", "uri", "capture",
    "state", "frame",
];

/// How many seconds each target runs where nothing is said.
pub(crate) const USUAL: u64 = 60;

/// What cargo-fuzz gives to rustc, without the sanitizers, which only a nightly compiler has: none of our code can
/// break the promises that they watch. With several units, some of a crate's would lack the counters that others expect.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

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
    let fuzzers = Fuzzers::build(toolchain::root(), &TARGETS)?;
    progress!("fuzz targets over their committed corpora");
    for name in TARGETS {
        let (inputs, outcome) = fuzzers.run_corpus(name)?;
        let executions = outcome.nothing_found(name)?;
        ensure!(
            inputs > 0 && executions >= inputs,
            "fuzz {name}: {executions} executions for {inputs} inputs"
        );
        println!("fuzz {name}: {inputs} inputs, nothing found");
    }
    Ok(())
}

/// Runs these targets, all if none is named, as many at a time as there are processors. `keep`: each one's committed
/// corpus is replaced by the fewest inputs that reach as much.
pub(crate) fn run(names: &[String], time: Duration, keep: bool) -> Result<()> {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.extend(TARGETS);
    }
    let fuzzers = Fuzzers::build(toolchain::root(), &names)?;
    progress!("fuzzing {} targets for {} s each", names.len(), time.as_secs());
    let fuzz = |name: &str| {
        let executions = fuzzers.run(name, time)?.nothing_found(name)?;
        ensure!(executions > 0, "fuzz {name}: nothing was executed");
        println!("fuzz {name}: {executions} executions, nothing found");
        Ok(())
    };
    run::at_once(run::jobs(), names.iter().map(|name| || fuzz(name)))?;
    for name in names.iter().filter(|_| keep) {
        println!("fuzz {name}: {} inputs kept", fuzzers.minimise(name)?);
    }
    Ok(())
}

impl Outcome {
    /// How many inputs were executed; an error if one of them broke it.
    fn nothing_found(self, name: &str) -> Result<u64> {
        match self.crash {
            Some((input, said)) => bail!("fuzz {name}: {} breaks it\n{said}", input.display()),
            None => Ok(self.executions),
        }
    }
}

impl Fuzzers {
    /// Builds these targets of the clone in `root`.
    pub(crate) fn build(root: &Path, names: &[&str]) -> Result<Self> {
        progress!("building what fuzzers run");
        let root = root.canonicalize()?;
        let ours = root == toolchain::root().canonicalize()?;
        let folder = if ours { toolchain::target().join("fuzz") } else { root.join("target/fuzz") };
        let said = cmd!("rustc -vV").read()?;
        let target = said.lines().find_map(|line| line.strip_prefix("host: "));
        // With the target named, what runs while something is built is not instrumented.
        let target = target.context("rustc does not say what machine this is")?;
        let (manifest, bins) =
            (root.join("tests/fuzz/Cargo.toml"), names.iter().flat_map(|name| ["--bin", name]));
        cmd!(
            "{CARGO} build --quiet --release --locked --target {target} --target-dir {folder}
              --manifest-path {manifest} {bins...}"
        )
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.replace(' ', "\x1f"))
        .current_dir(&root)
        .quiet()
        .context("building tests/fuzz")?;
        Ok(Self { programs: folder.join(target).join("release"), folder, root })
    }

    /// Gives another clone that has built nothing yet what was built here: of that, crates from elsewhere are the same there.
    pub(crate) fn lend_to(&self, other: &Path) -> Result<()> {
        let (ours, theirs) = (&self.folder, other.join("target/fuzz"));
        if theirs.exists() {
            return Ok(());
        }
        fs::create_dir_all(other.join("target"))?;
        cmd!("cp -a {ours} {theirs}").quiet()
    }

    /// Runs one target for a while.
    pub(crate) fn run(&self, name: &str, time: Duration) -> Result<Outcome> {
        let (corpus, artifacts) = (self.folder.join("corpus").join(name), self.folder.join("artifacts"));
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;
        let (seconds, committed) = (time.as_secs().to_string(), self.committed(name));
        let program = self.programs.join(name);
        self.outcome(
            name,
            cmd!("{program} {corpus} {committed...} -max_total_time={seconds} -artifact_prefix={artifacts}/{name}-
                  -max_len=4096 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1"),
        )
    }

    /// Runs one target over its committed inputs alone; also returns how many they are.
    fn run_corpus(&self, name: &str) -> Result<(u64, Outcome)> {
        let (program, folders) = (self.programs.join(name), self.committed(name));
        let mut inputs = 0;
        for folder in &folders {
            inputs += files::list(folder)?.len() as u64;
        }
        let run = cmd!("{program} {folders...} -runs=0 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1");
        Ok((inputs, self.outcome(name, run)?))
    }

    /// Writes the committed corpus anew; returns how many inputs it has.
    fn minimise(&self, name: &str) -> Result<usize> {
        let (program, found, old) =
            (self.programs.join(name), self.folder.join("corpus").join(name), self.committed(name));
        let new = self.folder.join("minimised").join(name);
        files::empty(&new)?;
        // Long inputs reach little that short ones do not, and all of them are in git.
        let merge = cmd!("{program} -set_cover_merge=1 -use_counters=0 -max_len=600 {new} {found} {old...}");
        self.outcome(name, merge)?;
        let kept = files::list(&new)?;
        ensure!(!kept.is_empty(), "fuzz {name}: no input was kept");
        let committed = self.root.join("tests/fuzz/corpus").join(name);
        files::empty(&committed)?;
        kept.iter().try_for_each(|input| files::copy_into(input, &committed))?;
        Ok(kept.len())
    }

    /// What a target begins with: the minimised corpus of earlier runs, and inputs that people wrote.
    fn committed(&self, name: &str) -> Vec<PathBuf> {
        let folders = ["corpus", "seeds"].map(|kind| self.root.join("tests/fuzz").join(kind).join(name));
        folders.into_iter().filter(|folder| folder.is_dir()).collect()
    }

    /// Gives one input to a target.
    pub(crate) fn try_input(&self, name: &str, input: &Path) -> Result<Outcome> {
        let program = self.programs.join(name);
        self.outcome(name, cmd!("{program} -print_final_stats=1 {input}"))
    }

    fn outcome(&self, name: &str, mut command: Command) -> Result<Outcome> {
        let output = command.stdout(Stdio::null()).current_dir(&self.folder).finish()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        fs::write(self.folder.join(format!("{name}.log")), &said)?;
        let lines: Vec<&str> = said.lines().collect();
        let value = |word: &str| lines.iter().find_map(|line| line.strip_prefix(word)).map(str::trim);
        let executions = value("stat::number_of_executed_units:").and_then(|n| n.parse().ok()).unwrap_or(0);
        if output.status.success() {
            return Ok(Outcome { executions, crash: None });
        }
        let input = lines.iter().find_map(|line| line.split("Test unit written to ").nth(1));
        let place = |what: &dyn Fn(&str) -> bool| lines.iter().position(|line| what(line));
        let start = place(&|line| line.contains("panicked at")).unwrap_or(lines.len().saturating_sub(30));
        let end = place(&|line| line.starts_with("stack backtrace")).unwrap_or(lines.len());
        let excerpt = lines.get(start..end.max(start)).unwrap_or_default().join("\n");
        Ok(Outcome { executions, crash: Some((input.unwrap_or("an input").into(), excerpt)) })
    }
}
