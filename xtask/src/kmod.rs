//! Builds `xt_pkd.ko` for a machine's kernel, and checks what a kernel would not forgive.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{debian::Tree, elf, machine::Machine, run, toolchain};

/// What the kernel gives to the Rust object. Anything else it wants would stop the module from
/// loading; a call of `pkd_panic_path_survived` would mean that some input can panic.
pub(crate) const KERNEL_GIVES: &[&str] = &[
    "memcpy",
    "memset",
    "memcmp",
    "memmove",
    "bcmp",
    "__x86_return_thunk",
    "pkd_cache_lock",
    "pkd_cache_unlock",
];

/// Builds the module and prints its figures.
pub(crate) fn show(machine: &'static Machine) -> Result<()> {
    let module = build(machine)?;
    println!("xt_pkd.ko for {}: {}", machine.name, Figures::of(machine, &module)?);
    Ok(())
}

/// What is measured of a module.
pub(crate) struct Figures {
    pub(crate) text: u64,
    pub(crate) stack: u64,
    deepest: Vec<String>,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, ".text {} bytes, stack of the packet path {} bytes", self.text, self.stack)
    }
}

impl Figures {
    pub(crate) fn of(machine: &Machine, module: &Path) -> Result<Self> {
        let text = elf::section_bytes(machine.cross, module, ".text")?;
        let (stack, deepest) = elf::stack_depth(machine.cross, module, &["pkd_mt", "pkd_mt_v1"])?;
        Ok(Self { text, stack, deepest })
    }

    pub(crate) fn within_limits(&self, machine: &Machine) -> Result<()> {
        if machine.text_limit != 0 && self.text >= machine.text_limit {
            bail!("the code of xt_pkd.ko takes {} bytes; {} are allowed", self.text, machine.text_limit);
        }
        if machine.stack_limit != 0 && self.stack >= machine.stack_limit {
            let way = self.deepest.join(" > ");
            let (stack, limit) = (self.stack, machine.stack_limit);
            bail!("a packet takes {stack} bytes of stack by way of {way}; {limit} are allowed");
        }
        Ok(())
    }
}

/// Builds the module for a kernel of one's own, of the machine's kind, in `target/kmod/own`.
pub(crate) fn build_for_own(machine: &Machine, kernel: &str) -> Result<()> {
    let kernel = Path::new(kernel).canonicalize().with_context(|| format!("no kernel in {kernel}"))?;
    let module = build_for(machine, &kernel, "own")?;
    println!("{}: {}", module.display(), Figures::of(machine, &module)?);
    Ok(())
}

/// Builds the module for the kernel in this folder, in `target/kmod/NAME`.
pub(crate) fn build_for(machine: &Machine, kernel: &Path, name: &str) -> Result<PathBuf> {
    if !kernel.join("Module.symvers").is_file() {
        bail!("{} is no built kernel and no folder of headers: Module.symvers is missing", kernel.display());
    }
    build_in(machine, kernel, name)
}

/// Builds the module for the kernel that the machine's vm boots.
pub(crate) fn build(machine: &Machine) -> Result<PathBuf> {
    let tree = Tree::of(machine)?;
    run::progress(&format!("building xt_pkd.ko for {} (Linux {})", machine.name, tree.release));
    build_in(machine, &tree.headers(), machine.name)
}

/// Builds the module. Warnings are errors, of the compiler as of modpost and objtool, and so is a
/// limit that is passed.
fn build_in(machine: &Machine, kernel: &Path, name: &str) -> Result<PathBuf> {
    let source = toolchain::root().join("linux/kmod");
    let folder = toolchain::root().join("target/kmod").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    for file in ["Kbuild", "pkd_verify.h", "xt_pkd.h", "xt_pkd_main.c"] {
        fs::copy(source.join(file), folder.join(file))?;
    }
    fs::copy(rust_object(machine, &folder)?, folder.join("pkd_verify.o_bin"))?;

    let mut make = run::command("make");
    make.arg("--no-print-directory")
        .arg("-C")
        .arg(kernel)
        .arg(format!("ARCH={}", machine.kernel_arch))
        .arg(format!("CROSS_COMPILE={}", machine.cross))
        .arg(format!("M={}", folder.display()))
        .arg(concat!("PKD_VERSION=", env!("CARGO_PKG_VERSION")))
        // Nobody reads the BTF of a test module, and pahole would have to be installed to make it.
        .args(["W=1", "KCFLAGS=-Werror", "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"])
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL");
    let output = make.output().context("cannot start make")?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("the kernel's make failed\n{said}");
    }
    if let Some(warning) = said.lines().find(|line| is_warning(line)) {
        bail!("the kernel's make warns: {warning}");
    }
    let module = folder.join("xt_pkd.ko");
    Figures::of(machine, &module)?.within_limits(machine)?;
    Ok(module)
}

/// Debian's headers come without the files that two of these are about; no code of ours is.
fn is_warning(line: &str) -> bool {
    const ABOUT_THE_HEADERS: &[&str] = &["the compiler differs", "Skipping BTF generation"];
    line.to_lowercase().contains("warning") && !ABOUT_THE_HEADERS.iter().any(|known| line.contains(known))
}

/// The one object of `linux/kmod/rust` itself; with fat LTO it holds all that is used of the
/// crates below it, and without the rest of the archive no compiler built-ins come along.
fn rust_object(machine: &Machine, folder: &Path) -> Result<PathBuf> {
    let toolchain = toolchain::Toolchain::find()?;
    let flags = machine.all_kernel_flags();
    let built = toolchain.build(
        "pkd-kmod",
        machine.kernel_target,
        machine.kernel_profile,
        "core",
        &flags,
        &format!("{}gcc", machine.cross),
    )?;
    let archive = built.join("libpkd_kmod.a");
    let ar = format!("{}ar", machine.cross);
    let members = run::output(run::command(&ar).arg("t").arg(&archive))?;
    let own: Vec<&str> = members.lines().filter(|name| name.starts_with("pkd_kmod-")).collect();
    let [object] = own[..] else {
        bail!("{} holds {} objects of pkd-kmod, one was expected", archive.display(), own.len());
    };
    run::quiet(run::command(&ar).arg("x").arg(&archive).arg(object).current_dir(folder))?;
    let object = folder.join(object);

    for symbol in elf::undefined(machine.cross, &object)? {
        if symbol == "pkd_panic_path_survived" {
            bail!("a panic path survives in the Rust object for {}", machine.name);
        }
        if !KERNEL_GIVES.contains(&symbol.as_str()) {
            bail!("the Rust object for {} wants {symbol}, which no kernel gives", machine.name);
        }
    }
    Ok(object)
}
