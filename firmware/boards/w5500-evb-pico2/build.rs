//! Passes the linker scripts of this board to the linker.

use std::{env, fs, path::PathBuf};

fn main() {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    if env::var_os("CARGO_FEATURE_UPDATE").is_some() {
        // The linker knows the script by this name only.
        let made = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
        if let Err(error) = fs::copy(folder.join("update.x"), made.join("memory.x")) {
            println!("cargo::error=update.x: {error}");
        }
        println!("cargo::rustc-link-search={}", made.display());
    } else {
        println!("cargo::rustc-link-search={}", folder.display());
    }
    println!("cargo::rerun-if-changed=memory.x");
    println!("cargo::rerun-if-changed=update.x");
    for argument in ["-Tlink.x", "-Tdefmt.x", "--nmagic"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
