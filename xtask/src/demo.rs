//! `make demo`: the main job in network namespaces, with the programs of this workspace.

use anyhow::{Context, Result};

use crate::{run, toolchain};

/// Builds what it takes, in a profile that builds quickly, and shows the transcript.
pub(crate) fn run() -> Result<()> {
    run::progress("building pkdd and knock");
    let mut cargo = run::command(env!("CARGO"));
    // Of knock only what a router has: profiles and the desktop's keyring would take a minute more.
    cargo.args(["build", "--locked", "--no-default-features", "--features", "pkdd/rules"]);
    cargo.args(["--package", "pkdd", "--package", "host-knock", "--package", "pkd-netns"]);
    run::shown(cargo.current_dir(toolchain::root()))?;
    let programs = toolchain::target().join("debug");
    let mut demo = run::command(programs.join("pkd-demo"));
    run::shown(demo.arg(programs.join("pkdd")).arg(programs.join("knock"))).context("the demo failed")
}
