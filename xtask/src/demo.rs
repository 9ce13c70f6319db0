//! `make demo`: the main job in network namespaces, with the programs of this workspace.

use std::{process::Command, thread};

use crate::{host::Missing, prelude::*};

/// Installs what is missing while it builds, for the two take as long, and shows the transcript.
pub(crate) fn run(missing: &Missing) -> Result<()> {
    thread::scope(|scope| {
        let installation = scope.spawn(|| missing.install());
        let built = build();
        installation.join().map_err(|_| anyhow!("installing has panicked"))?.and(built)
    })?;
    programs().show().context("the demo failed")
}

/// Builds what it takes; returns the command that prints the transcript.
#[cfg(feature = "picture")]
pub(crate) fn command() -> Result<Command> {
    build()?;
    Ok(programs())
}

/// In a profile that builds quickly.
fn build() -> Result<()> {
    progress!("building pkdd and knock");
    // Of knock only what a router has: profiles and the desktop's keyring would take a minute more.
    cmd!(
        "{CARGO} build --locked --no-default-features --features pkdd/rules
          --package pkdd --package host-knock --package pkd-netns --bin pkdd --bin knock --bin pkd-demo"
    )
    .show()
}

fn programs() -> Command {
    let programs = toolchain::target().join("debug");
    cmd!("{programs}/pkd-demo {programs}/pkdd {programs}/knock")
}
