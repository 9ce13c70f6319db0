//! A Rust compiler for targets that are not the host's.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{cache, machine::Machine, run};

/// A compiler that has the standard library's source, which every foreign target is built from.
pub(crate) struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
    version: String,
}

impl Toolchain {
    /// The compiler on the PATH if it has `rust-src`, else Debian's with the package `rust-web-src`.
    pub(crate) fn find() -> Result<Self> {
        let candidates = [("rustc", "cargo"), ("/usr/bin/rustc", "/usr/bin/cargo")];
        for (rustc, cargo) in candidates {
            let Ok(sysroot) = run::output(run::command(rustc).args(["--print", "sysroot"])) else {
                continue;
            };
            if Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir() {
                let version = run::output(run::command(rustc).arg("-vV"))?;
                return Ok(Self { rustc: rustc.into(), cargo: cargo.into(), version });
            }
        }
        bail!(
            "no Rust compiler here has the standard library's source: \
             `rustup component add rust-src`, or install rustc-web, cargo-web and rust-web-src"
        )
    }

    /// `cargo build` of one package for `target`. `crates`: what to build of the standard library.
    /// Answers with the folder of the artefacts.
    pub(crate) fn build(
        &self,
        package: &str,
        target: &str,
        profile: &str,
        crates: &str,
        flags: &[&str],
        machine: &Machine,
    ) -> Result<PathBuf> {
        // Cargo itself rebuilds what changed in there; compilers and flags get folders of their own.
        let inputs = [target, &self.version, &flags.join(" ")];
        let folder = cache::entry(&format!("cargo-{target}"), &inputs, |_, _| Ok(()))?;
        let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace(['-', '.'], "_"));
        let mut cargo: Command = run::command(&self.cargo);
        cargo
            .args(["build", "--quiet", "--locked", "--package", package, "--profile", profile])
            .args(["--target", target, "-Z", &format!("build-std={crates}")])
            .current_dir(root())
            .env("RUSTC", &self.rustc)
            // -Z flags on a stable compiler: the same source that the kernel and OpenWrt build so.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", &folder)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env(linker, format!("{}gcc", machine.cross))
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTFLAGS");
        run::quiet(&mut cargo).with_context(|| format!("cannot build {package} for {target}"))?;
        Ok(folder.join(target).join(profile))
    }
}

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
