//! Namespaces for a test: its own network, mounts and processes, which end with it.
//!
//! The test starts itself again inside, with `unshare`.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns};

use crate::process::text;

/// The environment variable with the name of the test that runs inside.
const INSIDE: &str = "PKD_NAMESPACE";

/// Its value if a whole program runs inside.
const PROGRAM: &str = "program";

/// The user inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// Root of a new user namespace, even if root started the test.
    RootInNamespace,
    /// Real root if root started the test, otherwise root of a new user namespace.
    RootIfPossible,
}

/// Runs a test in new namespaces and returns its output; inside, returns `None`, and the test goes on. `path` is the
/// test's path with the name of its crate. `programs` is put at the start of the PATH inside.
///
/// # Errors
/// Namespaces are not available, the test failed inside, or there is no test with this path.
pub fn enter(path: &str, user: As, programs: Option<&Path>) -> Result<Option<String>> {
    let (_, path) = path.split_once("::").context("a test path without a crate")?;
    if env::var_os(INSIDE).is_some_and(|inside| inside == path) {
        return Ok(None);
    }
    let mut unshare = unshare(user, programs)?;
    unshare.args([path, "--exact", "--nocapture", "--test-threads=1"]);
    let output = unshare
        .env(INSIDE, path)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .context("cannot run unshare")?;
    let shown = format!("{}{}", text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{path} in its namespaces: {}\n{shown}", output.status);
    ensure!(shown.contains("1 passed"), "{path} did not run:\n{shown}");
    Ok(Some(shown))
}

/// Whether [`enter_program`] started this process.
#[must_use]
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some_and(|inside| inside == PROGRAM)
}

/// Runs this program again in new namespaces, with these arguments. Its output is shown.
///
/// # Errors
/// Namespaces are not available, or the program failed.
pub fn enter_program(user: As, arguments: &[&OsStr]) -> Result<()> {
    let mut unshare = unshare(user, None)?;
    let status = unshare.args(arguments).env(INSIDE, PROGRAM).status().context("cannot run unshare")?;
    ensure!(status.success(), "the program failed in its namespaces ({status})");
    Ok(())
}

/// A command that runs this program in new namespaces, without arguments yet.
fn unshare(user: As, programs: Option<&Path>) -> Result<Command> {
    let mut unshare = Command::new("unshare");
    if user == As::RootInNamespace || !is_root()? {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    unshare.arg(env::current_exe()?).env("PATH", path(programs)?);
    Ok(unshare)
}

/// Calls a function in the network namespace of another host, which `ip netns` has created. Programs that it starts run
/// there too.
///
/// # Errors
/// There is no such host, or the function failed.
pub fn at<T: Send>(host: &str, call: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(File::open(Path::new("/run/netns").join(host))?, CloneFlags::CLONE_NEWNET)?;
            call()
        });
        thread.join().map_err(|_| anyhow!("a panic at {host}"))?
    })
}

/// The PATH inside: `programs`, then root's folders, where firewall programs are, then the usual ones.
fn path(programs: Option<&Path>) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = programs.map(Path::to_owned).into_iter().chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    Ok(env::join_paths(folders.chain(env::split_paths(&path)))?)
}

/// Whether this process runs as root, possibly of a user namespace.
///
/// # Errors
/// `id` cannot be run.
pub fn is_root() -> Result<bool> {
    Ok(text(&Command::new("id").arg("-u").output()?.stdout).trim() == "0")
}
