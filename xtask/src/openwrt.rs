//! The kinds of router that packages are built for, by OpenWrt's own names, and how to compile for them:
//! static soft-float musl where the CPU has no floating point.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    cache, pypi, run,
    toolchain::{self, Toolchain},
};

/// One of OpenWrt's `arch_packages`.
pub(crate) struct Architecture {
    pub(crate) name: &'static str,
    /// The machine whose kernels are of its kind.
    pub(crate) machine: &'static str,
    /// Rust's target for programs.
    rust_target: &'static str,
    /// Zig's target and CPU, for C and for linking.
    zig_target: &'static str,
    zig_cpu: &'static str,
    /// The prefix of binutils that know its objects.
    pub(crate) binutils: &'static str,
}

impl Architecture {
    pub(crate) fn rust_target(&self) -> &'static str {
        self.rust_target
    }

    /// What tells Zig of it.
    pub(crate) fn zig_words(&self) -> String {
        format!("-target {} -mcpu={}", self.zig_target, self.zig_cpu)
    }
}

pub(crate) const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "mips_24kc",
        machine: "mips",
        rust_target: "mips-unknown-linux-musl",
        zig_target: "mips-linux-musleabi",
        zig_cpu: "mips32r2+soft_float",
        binutils: "mips-linux-gnu-",
    },
    Architecture {
        name: "mipsel_24kc",
        machine: "mipsel",
        rust_target: "mipsel-unknown-linux-musl",
        zig_target: "mipsel-linux-musleabi",
        zig_cpu: "mips32r2+soft_float",
        binutils: "mipsel-linux-gnu-",
    },
    Architecture {
        name: "arm_cortex-a7_neon-vfpv4",
        machine: "armhf",
        rust_target: "armv7-unknown-linux-musleabihf",
        zig_target: "arm-linux-musleabihf",
        zig_cpu: "cortex_a7",
        binutils: "arm-linux-gnueabihf-",
    },
    Architecture {
        name: "aarch64_cortex-a53",
        machine: "arm64",
        rust_target: "aarch64-unknown-linux-musl",
        zig_target: "aarch64-linux-musl",
        zig_cpu: "cortex_a53",
        binutils: "aarch64-linux-gnu-",
    },
    Architecture {
        name: "x86_64",
        machine: "x86_64",
        rust_target: "x86_64-unknown-linux-musl",
        zig_target: "x86_64-linux-musl",
        zig_cpu: "x86_64",
        binutils: "",
    },
];

/// The architecture of this name.
pub(crate) fn find(name: &str) -> Result<&'static Architecture> {
    ARCHITECTURES.iter().find(|architecture| architecture.name == name).with_context(|| {
        let known: Vec<_> = ARCHITECTURES.iter().map(|architecture| architecture.name).collect();
        format!("no packages are built for {name:?}, only for {}", known.join(", "))
    })
}

/// What a program's panic does.
#[derive(Clone, Copy)]
pub(crate) enum Panics {
    /// It ends the program at once, without the 80 KB that would describe it.
    Silent,
    /// It says what and where.
    Described,
}

/// The C compiler and linker for all of them: one program that brings musl along.
pub(crate) struct Zig {
    folder: PathBuf,
    /// Where cargo builds; without it in the cache, where what did not change is not built again.
    target: Option<PathBuf>,
}

impl Zig {
    pub(crate) fn find() -> Result<Self> {
        let folder = pypi::folder("zig", &["ziglang==0.17.1", "cargo-zigbuild==0.24.0"])?;
        Ok(Self { folder, target: None })
    }

    /// The same, with an empty folder that cargo builds everything in.
    pub(crate) fn find_clean(target: &Path) -> Result<Self> {
        if target.exists() {
            std::fs::remove_dir_all(target)?;
        }
        std::fs::create_dir_all(target)?;
        Ok(Self { target: Some(target.canonicalize()?), ..Self::find()? })
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.folder.join("ziglang/zig")
    }

    /// The C compiler, as make's and configure's `CC`.
    pub(crate) fn cc(&self, architecture: &Architecture) -> String {
        format!("{} cc {}", self.program().display(), architecture.zig_words())
    }

    /// The C compiler as a command.
    pub(crate) fn command(&self, architecture: &Architecture) -> Result<Command> {
        let mut command = run::command(self.program());
        command.args(["cc", "-target", architecture.zig_target]);
        command.arg(format!("-mcpu={}", architecture.zig_cpu));
        Self::environment(&mut command)?;
        Ok(command)
    }

    /// A tool beside the compiler (`ar`, `ranlib`), as configure takes it.
    pub(crate) fn tool(&self, name: &str) -> String {
        format!("{} {name}", self.program().display())
    }

    /// Keeps what Zig keeps between runs in our cache.
    pub(crate) fn environment(command: &mut Command) -> Result<()> {
        let folder = cache::folder()?.join("zig");
        command.env("ZIG_GLOBAL_CACHE_DIR", &folder).env("ZIG_LOCAL_CACHE_DIR", &folder);
        Ok(())
    }

    /// Builds a package's programs, static and small, with these features instead of the usual ones where any are
    /// said; answers with their folder.
    pub(crate) fn build(
        &self,
        package: &str,
        architecture: &Architecture,
        panics: Panics,
        features: Option<&str>,
    ) -> Result<PathBuf> {
        // Static at a fixed address: a position-independent program of MIPS carries 60 KB of
        // relocations.
        const FLAGS: &[&str] = &[
            "-Zunstable-options",
            "-Crelocation-model=static",
            "-Ctarget-feature=+crt-static",
            // musl's start files are Zig's, there are none beside a compiler without this target.
            "-Clink-self-contained=no",
            "-Clink-arg=-Wl,-z,norelro",
            // Nothing unwinds.
            "-Cforce-unwind-tables=n",
        ];
        let toolchain = Toolchain::find()?;
        let target = architecture.rust_target;
        let panic = match panics {
            Panics::Silent => "-Cpanic=immediate-abort",
            Panics::Described => "-Cpanic=abort",
        };
        let flags = [FLAGS, &[panic]].concat();
        let inputs = [target, toolchain.version(), &flags.join(" "), &self.folder.to_string_lossy()];
        let folder = match &self.target {
            Some(clean) => clean.clone(),
            None => cache::entry(&format!("cargo-{target}"), &inputs, |_, _| Ok(()))?,
        };
        let mut cargo = run::command(self.folder.join("bin/cargo-zigbuild"));
        cargo
            .args(["zigbuild", "--quiet", "--locked", "--package", package, "--bins", "--profile", "tiny"])
            .args(["--target", target, "-Zbuild-std=std,panic_abort"])
            .arg("-Zbuild-std-features=optimize_for_size")
            .args(features.iter().flat_map(|features| ["--no-default-features", "--features", features]))
            .current_dir(toolchain::root())
            // Since 1.2.3 musl has 64 bits of time on every machine; without this word the crate libc, and the standard library
            // on it, ask for 32, and a clock beyond January 2038 is a panic.
            .env("RUST_LIBC_UNSTABLE_MUSL_V1_2_3", "1")
            .env("CARGO_ZIGBUILD_ZIG_PATH", self.program())
            .env("CARGO_ZIGBUILD_CACHE_DIR", cache::folder()?.join("cargo-zigbuild"));
        Self::environment(&mut cargo)?;
        toolchain.environment(&mut cargo, &folder, &flags)?;
        run::quiet(&mut cargo)
            .with_context(|| format!("cannot build {package} for {}", architecture.name))?;
        Ok(folder.join(target).join("tiny"))
    }
}

/// Builds `libxt_pkd.so` for a router's iptables into `out`. `include`: where `xtables.h` is; `extra`:
/// more words for the compiler.
pub(crate) fn extension(
    zig: &Zig,
    architecture: &Architecture,
    include: &Path,
    out: &Path,
    extra: &str,
) -> Result<PathBuf> {
    std::fs::create_dir_all(out)?;
    let out = out.canonicalize()?;
    let mut make = run::command("make");
    make.args(["--silent", "--always-make", "-C"])
        .arg(toolchain::root().join("linux/iptables"))
        // Without -dynamic the extension would get a C library of its own, with a stderr of its own.
        .arg(format!("CC={} -dynamic", zig.cc(architecture)))
        .arg(format!("XTABLES_CFLAGS=-I{} {extra}", include.display()))
        // The Makefile's own are for GNU ld.
        .arg("LDFLAGS=-s -Wl,--gc-sections -Wl,-z,norelro")
        .arg(format!("OUT={}", out.display()))
        .env_remove("MAKEFLAGS");
    Zig::environment(&mut make)?;
    run::quiet(&mut make)?;
    Ok(out.join("libxt_pkd.so"))
}
