//! `make demo`: the main job in network namespaces, with the programs of this workspace.

use std::process::Command;

use crate::prelude::*;

/// Shows the transcript.
pub(crate) fn run() -> Result<()> {
    command()?.show().context("the demo failed")
}

/// Builds what it takes, in a profile that builds quickly; returns the command that prints the transcript.
pub(crate) fn command() -> Result<Command> {
    progress!("building pkdd and knock");
    // Of knock only what a router has: profiles and the desktop's keyring would take a minute more.
    cmd!(
        "{CARGO} build --locked --no-default-features --features pkdd/rules
          --package pkdd --package host-knock --package pkd-netns"
    )
    .show()?;
    let programs = toolchain::target().join("debug");
    Ok(cmd!("{programs}/pkd-demo {programs}/pkdd {programs}/knock"))
}
