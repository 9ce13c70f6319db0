//! The kinds of router that packages are built for, by OpenWrt's own names, and how to compile for them:
//! static soft-float musl where the CPU has no floating point.

use std::process::Command;

use crate::{prelude::*, pypi, toolchain::Toolchain};

/// One of OpenWrt's `arch_packages`.
pub(crate) struct Architecture {
    pub(crate) name: &'static str,
    /// The machine whose kernels are of its kind.
    pub(crate) machine: &'static str,
    /// Rust's target for programs.
    pub(crate) rust_target: &'static str,
    /// What tells Zig of target and CPU, for C and for linking.
    pub(crate) zig: &'static str,
}

pub(crate) const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "mips_24kc",
        machine: "mips",
        rust_target: "mips-unknown-linux-musl",
        zig: "-target mips-linux-musleabi -mcpu=mips32r2+soft_float",
    },
    Architecture {
        name: "mipsel_24kc",
        machine: "mipsel",
        rust_target: "mipsel-unknown-linux-musl",
        zig: "-target mipsel-linux-musleabi -mcpu=mips32r2+soft_float",
    },
    Architecture {
        name: "arm_cortex-a7_neon-vfpv4",
        machine: "armhf",
        rust_target: "armv7-unknown-linux-musleabihf",
        zig: "-target arm-linux-musleabihf -mcpu=cortex_a7",
    },
    Architecture {
        name: "aarch64_cortex-a53",
        machine: "arm64",
        rust_target: "aarch64-unknown-linux-musl",
        zig: "-target aarch64-linux-musl -mcpu=cortex_a53",
    },
    Architecture {
        name: "x86_64",
        machine: "x86_64",
        rust_target: "x86_64-unknown-linux-musl",
        zig: "-target x86_64-linux-musl -mcpu=x86_64",
    },
];

/// The architecture of this name.
pub(crate) fn find(name: &str) -> Result<&'static Architecture> {
    ARCHITECTURES.iter().find(|architecture| architecture.name == name).with_context(|| {
        let known: Vec<_> = ARCHITECTURES.iter().map(|architecture| architecture.name).collect();
        format!("no packages are built for {name:?}, only for {}", known.join(", "))
    })
}

/// These, or all where there is none.
pub(crate) fn or_all(named: Vec<&'static Architecture>) -> Vec<&'static Architecture> {
    if named.is_empty() { ARCHITECTURES.iter().collect() } else { named }
}

/// Static at a fixed address: a position-independent program of MIPS carries 60 KB of relocations.
pub(crate) const STATIC: &[&str] = &[
    "-Zunstable-options",
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    // musl's start files are Zig's, there are none beside a compiler without this target.
    "-Clink-self-contained=no",
    "-Clink-arg=-Wl,-z,norelro",
    // Nothing unwinds.
    "-Cforce-unwind-tables=n",
];

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
        files::empty(target)?;
        Ok(Self { target: Some(target.canonicalize()?), ..Self::find()? })
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.folder.join("ziglang/zig")
    }

    /// The C compiler, as make's and configure's `CC`.
    pub(crate) fn cc(&self, architecture: &Architecture) -> String {
        format!("{} cc {}", self.program().display(), architecture.zig)
    }

    /// A tool beside the compiler (`ar`, `ranlib`), as configure takes it.
    pub(crate) fn tool(&self, name: &str) -> String {
        format!("{} {name}", self.program().display())
    }

    /// Keeps what Zig keeps between runs in our cache.
    pub(crate) fn environment(command: &mut Command) -> Result<&mut Command> {
        let folder = cache::folder()?.join("zig");
        Ok(command.env("ZIG_GLOBAL_CACHE_DIR", &folder).env("ZIG_LOCAL_CACHE_DIR", &folder))
    }

    /// Builds a package's programs, static and small, with these features instead of the usual ones; answers with
    /// their folder.
    pub(crate) fn build(
        &self,
        package: &str,
        architecture: &Architecture,
        panics: Panics,
        features: &str,
    ) -> Result<PathBuf> {
        let panic = match panics {
            Panics::Silent => "-Cpanic=immediate-abort",
            Panics::Described => "-Cpanic=abort",
        };
        self.build_for(package, architecture.rust_target, &[STATIC, &[panic]].concat(), features)
    }

    /// The same for any target of Rust's, with these flags.
    pub(crate) fn build_for(
        &self,
        package: &str,
        target: &str,
        flags: &[&str],
        features: &str,
    ) -> Result<PathBuf> {
        let toolchain = Toolchain::find()?;
        let inputs =
            [target, &toolchain.version, &flags.join(" "), &self.folder.to_string_lossy(), "no places"];
        let folder = match &self.target {
            Some(clean) => clean.clone(),
            None => cache::entry(&format!("cargo-{target}"), &inputs, |_, _| Ok(()))?,
        };
        let zigbuild = self.folder.join("bin/cargo-zigbuild");
        let features = if features.is_empty() { vec![] } else { vec!["--features", features] };
        let mut cargo = cmd!("{zigbuild} zigbuild --quiet --locked --package {package} --bins --profile tiny
                              --target {target} -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size
                              --no-default-features {features...}");
        // Since 1.2.3 musl has 64 bits of time on every machine; without this word the crate libc, and the standard library
        // on it, ask for 32, and a clock beyond January 2038 is a panic.
        cargo
            .env("RUST_LIBC_UNSTABLE_MUSL_V1_2_3", "1")
            .env("CARGO_ZIGBUILD_ZIG_PATH", self.program())
            .env("CARGO_ZIGBUILD_CACHE_DIR", cache::folder()?.join("cargo-zigbuild"));
        let _lock = toolchain.environment(Self::environment(&mut cargo)?, &folder, flags)?;
        cargo.quiet().with_context(|| format!("cannot build {package} for {target}"))?;
        let programs = folder.join(target).join("tiny");
        for file in fs::read_dir(&programs)? {
            let path = file?.path();
            if path.is_file() && path.extension().is_none_or(|ending| ending == "exe") {
                toolchain::names_no_place(&path)?;
            }
        }
        Ok(programs)
    }

    /// Builds `libxt_pkd.so` for a router's iptables, see [`extension`].
    pub(crate) fn extension(
        &self,
        architecture: &Architecture,
        include: &Path,
        out: &Path,
        extra: &str,
    ) -> Result<PathBuf> {
        // Without -dynamic the extension would get a C library of its own, with a stderr of its own. The Makefile's own
        // flags are for GNU ld.
        let cc = format!("{} -dynamic", self.cc(architecture));
        extension(&cc, &["LDFLAGS=-s -Wl,--gc-sections -Wl,-z,norelro"], include, out, extra)
    }
}

/// Builds `libxt_pkd.so` into `out`. `include`: where `xtables.h` is; `extra`: more words for the compiler.
pub(crate) fn extension(
    cc: &str,
    settings: &[&str],
    include: &Path,
    out: &Path,
    extra: &str,
) -> Result<PathBuf> {
    fs::create_dir_all(out)?;
    let (out, sources) = (out.canonicalize()?, at("linux/iptables"));
    let flags = format!("-I{} {extra}", include.display());
    let mut make = cmd!(
        "make --silent --always-make -C {sources} CC={cc} XTABLES_CFLAGS={flags} OUT={out} {settings...}"
    );
    Zig::environment(&mut make)?.env_remove("MAKEFLAGS").quiet()?;
    Ok(out.join("libxt_pkd.so"))
}
