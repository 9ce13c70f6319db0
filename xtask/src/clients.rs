//! The client as one static file for each kind of computer, with all features but the keyring, which is D-Bus on
//! Linux.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{
    openwrt::{self, ARCHITECTURES, Architecture, Panics, Zig},
    run, toolchain,
};

/// Features of host-knock.
const FEATURES: &str = "desktop,pages";
/// Bytes that a file may have.
const LIMIT: u64 = 2 * 1024 * 1024;

/// Builds them into `target/clients`, pages beside them, and prints a table of sizes. No name: all.
pub(crate) fn run(names: &[&str]) -> Result<()> {
    let architectures: Vec<&Architecture> = if names.is_empty() {
        ARCHITECTURES.iter().collect()
    } else {
        names.iter().map(|name| openwrt::find(name)).collect::<Result<_>>()?
    };
    println!("| target | static knock |");
    println!("|---|---:|");
    for architecture in architectures {
        let size = fs::metadata(build(architecture)?)?.len();
        println!("| {} | {size} bytes |", architecture.rust_target());
        ensure!(size < LIMIT, "knock has {size} bytes; {LIMIT} are allowed");
    }
    println!("they lie in target/clients");
    Ok(())
}

/// The target and the bytes of each.
pub(crate) fn sizes() -> Result<Vec<(&'static str, u64)>> {
    ARCHITECTURES
        .iter()
        .map(|architecture| Ok((architecture.rust_target(), fs::metadata(build(architecture)?)?.len())))
        .collect()
}

fn build(architecture: &Architecture) -> Result<PathBuf> {
    run::progress(&format!("building knock for {}", architecture.rust_target()));
    let built = Zig::find()?.build("host-knock", architecture, Panics::Described, Some(FEATURES))?;
    let folder = toolchain::root().join("target/clients");
    fs::create_dir_all(&folder)?;
    let program = folder.join(format!("knock-{}", architecture.rust_target()));
    fs::copy(built.join("knock"), &program).context("no knock was built")?;
    // The same for all.
    run::quiet(run::command("cp").arg("-R").arg(built.join("share")).arg(&folder))?;
    Ok(program)
}
