//! The client as one static file for each kind of computer, with all features but the keyring, which is D-Bus on
//! Linux.

use crate::{
    openwrt::{self, Architecture, Panics, Zig},
    prelude::*,
};

/// Features of host-knock.
const FEATURES: &str = "desktop,pages";
/// Bytes that a file may have.
pub(crate) const LIMIT: u64 = 2 * 1024 * 1024;

/// Builds them into `target/clients`, pages beside them, and prints a table of sizes. No name: all.
pub(crate) fn run(named: Vec<&'static Architecture>) -> Result<()> {
    println!("| target | static knock |\n|---|---:|");
    for architecture in openwrt::or_all(named) {
        println!("| {} | {} bytes |", architecture.rust_target, size(architecture)?);
    }
    println!("they lie in target/clients");
    Ok(())
}

/// Builds one; returns its size in bytes, which has a limit.
pub(crate) fn size(architecture: &Architecture) -> Result<u64> {
    let target = architecture.rust_target;
    progress!("building knock for {target}");
    let built = Zig::find()?.build("host-knock", architecture, Panics::Described, FEATURES)?;
    let folder = at("target/clients");
    fs::create_dir_all(&folder)?;
    let size = fs::copy(built.join("knock"), folder.join(format!("knock-{target}")));
    let size = size.context("no knock was built")?;
    // The same for all.
    cmd!("cp -R {built}/share {folder}").quiet()?;
    ensure!(size < LIMIT, "knock has {size} bytes; {LIMIT} are allowed");
    Ok(size)
}
