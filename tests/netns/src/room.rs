//! A room of its own for each test: a network, mounts and processes that nobody else sees, and that end with it.
//!
//! The test starts itself again inside, by `unshare`.

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

/// Names the test that is to be held inside.
const INSIDE: &str = "PKD_ROOM";

/// What it names where a whole program runs inside.
const PROGRAM: &str = "program";

/// Who the test is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// Root of a user namespace that belongs to the test, whoever started it.
    RootOfTheRoom,
    /// Root itself, where root started the test.
    RootIfPossible,
}

/// Holds a test in a room of its own: `None` says that we are inside, and should go on; else it was held there, and this
/// is what it said. `path` is the test's, with the crate's name before it; `programs` comes before all other folders of
/// the PATH inside.
///
/// # Errors
/// There are no namespaces, the test failed inside, or there is none of this path.
pub fn enter(path: &str, who: As, programs: Option<&Path>) -> Result<Option<String>> {
    let (_, path) = path.split_once("::").context("a path without a crate")?;
    if env::var_os(INSIDE).is_some_and(|inside| inside == path) {
        return Ok(None);
    }
    let mut unshare = unshare(who, programs)?;
    unshare.args([path, "--exact", "--nocapture", "--test-threads=1"]);
    let output = unshare
        .env(INSIDE, path)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .context("cannot run unshare")?;
    let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{path} inside: {}\n{told}", output.status);
    ensure!(told.contains("1 passed"), "{path} was not held:\n{told}");
    Ok(Some(told))
}

/// Whether this process is a program that [`enter_program`] started.
#[must_use]
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some_and(|inside| inside == PROGRAM)
}

/// Runs this program once more, in namespaces of its own, with these arguments and with its output shown.
///
/// # Errors
/// Returns an error if there are no namespaces here or if the program fails.
pub fn enter_program(who: As, arguments: &[&OsStr]) -> Result<()> {
    let mut unshare = unshare(who, None)?;
    let status = unshare.args(arguments).env(INSIDE, PROGRAM).status().context("cannot run unshare")?;
    ensure!(status.success(), "it failed inside its namespaces ({status})");
    Ok(())
}

/// This program in new namespaces, to which its arguments are still to be added.
fn unshare(who: As, programs: Option<&Path>) -> Result<Command> {
    let mut unshare = Command::new("unshare");
    if who == As::RootOfTheRoom || !is_root()? {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    unshare.arg(env::current_exe()?).env("PATH", path(programs)?);
    Ok(unshare)
}

/// Does something where another host is, one that `ip netns` knows; programs that it starts are there too.
///
/// # Errors
/// There is no such host, or it failed.
pub fn at<T: Send>(host: &str, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            setns(File::open(Path::new("/run/netns").join(host))?, CloneFlags::CLONE_NEWNET)?;
            act()
        });
        there.join().map_err(|_| anyhow!("a panic at {host}"))?
    })
}

/// The room's programs come first; firewalls are where root looks.
fn path(programs: Option<&Path>) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = programs.map(Path::to_owned).into_iter().chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    Ok(env::join_paths(folders.chain(env::split_paths(&path)))?)
}

/// Whether root runs us, as far as we can see.
///
/// # Errors
/// `id` does not run.
pub fn is_root() -> Result<bool> {
    Ok(text(&Command::new("id").arg("-u").output()?.stdout).trim() == "0")
}
