//! Programs, and waiting for what they do.

use std::{
    env,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// How long anything may take before a test gives up.
pub const LIMIT: Duration = Duration::from_mins(1);

/// Calls `ask` until `is_it` accepts its answer.
///
/// # Errors
/// `ask` failed, or it took longer than [`LIMIT`].
pub fn wait<T: std::fmt::Debug>(
    what: &str,
    mut ask: impl FnMut() -> Result<T>,
    is_it: impl Fn(&T) -> bool,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        let answer = ask()?;
        if is_it(&answer) {
            return Ok(answer);
        }
        ensure!(begin.elapsed() < LIMIT, "{what}: after {} s it is still {answer:?}", LIMIT.as_secs());
        // Leaves the processor to other programs.
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a line of sh, and returns its output.
///
/// # Errors
/// The command failed.
pub fn shell(line: &str) -> Result<String> {
    let output = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{line}: {}", text(&output.stderr));
    }
    Ok(text(&output.stdout))
}

/// A number from the environment, with which the full tests raise the size of a test.
///
/// # Errors
/// It is not a number.
pub fn number(name: &str, default: u64) -> Result<u64> {
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}: expected a number")),
        Err(_) => Ok(default),
    }
}

/// A program's output as text.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A child process that is killed when this is dropped.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// The path of `knock`.
///
/// # Errors
/// `knock` cannot be built.
pub fn knock_program() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || built("host-knock", "knock").map_err(|error| format!("{error:#}"));
    BUILT.get_or_init(build).clone().map_err(anyhow::Error::msg)
}

/// Builds a program of a package, in the test's target folder and profile.
///
/// # Errors
/// The program cannot be built.
pub fn built(package: &str, name: &str) -> Result<PathBuf> {
    let test = env::current_exe()?;
    // Tests are in `deps`.
    let folder = test.parent().and_then(|deps| deps.parent()).context("no folder")?;
    let program = folder.join(name);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--package", package, "--bin", name, "--target-dir"]);
    cargo.arg(folder.parent().context("no target folder")?);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    ensure!(cargo.status()?.success(), "{package} is not built");
    ensure!(program.is_file(), "there is no {}", program.display());
    Ok(program)
}
