//! Passes the linker scripts of this board to the linker.

use std::{env, path::PathBuf};

fn main() {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!("cargo::rustc-link-search={}", folder.display());
    println!("cargo::rerun-if-changed=memory.x");
    for argument in ["-Tlink.x", "--nmagic"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
