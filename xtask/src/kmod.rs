//! Builds `xt_pkd.ko` for a machine's kernel, and checks what a kernel would not forgive.

use std::fmt;

use crate::{checkpatch, debian::Tree, elf, machine::Machine, prelude::*, toolchain::Toolchain, unstable};

/// What the kernel gives to the Rust object. Anything else it wants would stop the module from
/// loading; a call of `pkd_panic_path_survived` would mean that some input can panic.
pub(crate) const KERNEL_GIVES: &str =
    "memcpy memset memcmp memmove bcmp __x86_return_thunk pkd_cache_lock pkd_cache_unlock";

/// Where `Kbuild` looks for the Rust object.
pub(crate) const OBJECT: &str = "pkd_verify.o_bin";

/// What a kernel that looks for data races gives to the Rust object.
fn kcsan_gives() -> Vec<String> {
    let mut given: Vec<_> = KERNEL_GIVES.split(' ').map(str::to_owned).collect();
    given.extend(["init", "memcpy", "memmove", "memset"].map(|name| format!("__tsan_{name}")));
    for kind in ["", "unaligned_", "volatile_", "unaligned_volatile_"] {
        for access in ["read", "write", "read_write"] {
            given.extend([1, 2, 4, 8, 16].map(|bytes| format!("__tsan_{kind}{access}{bytes}")));
        }
    }
    given
}

/// Builds the module and prints its figures.
pub(crate) fn show(machine: &'static Machine) -> Result<()> {
    let module = build(machine)?;
    println!("xt_pkd.ko for {}: {}", machine.name, Figures::of(machine, &module)?);
    Ok(())
}

/// What is measured of a module.
pub(crate) struct Figures {
    pub(crate) text: u64,
    /// Of the packet path.
    pub(crate) stack: u64,
    deepest: Vec<String>,
    /// Of any function: most for a rule of format 2 that is added, by a process.
    any_stack: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            ".text {} bytes, stack of the packet path {} bytes, of a rule that is added {}",
            self.text, self.stack, self.any_stack
        )
    }
}

impl Figures {
    pub(crate) fn of(machine: &Machine, module: &Path) -> Result<Self> {
        let text = elf::section_bytes(machine.cross, module, ".text")?;
        // Newer kernels merge the sections of functions when they link the module, and calls no longer name what they call.
        // An installed module is alone; that it can be followed is checked.
        let beside = module.with_extension("o");
        let object = if beside.exists() { beside } else { module.to_owned() };
        let (stack, deepest) =
            elf::stack_depth(machine.cross, &object, &["pkd_mt", "pkd_mt_v1", "pkd_mt_v2"])?;
        let is_followed = deepest.iter().any(|function| function.starts_with("pkd_verify"));
        ensure!(is_followed, "the calls in {} end at {}", object.display(), deepest.join(" > "));
        let (any_stack, _) = elf::stack_depth(machine.cross, &object, &[])?;
        Ok(Self { text, stack, deepest, any_stack })
    }

    pub(crate) fn within_limits(&self, machine: &Machine) -> Result<()> {
        let Self { text, stack, deepest, any_stack } = self;
        let Machine { text_limit, stack_limit, .. } = machine;
        ensure!(
            *text_limit == 0 || text < text_limit,
            "the code of xt_pkd.ko takes {text} bytes; {text_limit} are allowed"
        );
        ensure!(
            *stack_limit == 0 || stack < stack_limit,
            "a packet takes {stack} bytes of stack by way of {}; {stack_limit} are allowed",
            deepest.join(" > ")
        );
        ensure!(
            *stack_limit == 0 || any_stack < &(2 * stack_limit),
            "some function takes {any_stack} bytes of stack; {} are allowed",
            2 * stack_limit
        );
        Ok(())
    }
}

/// Builds the module for a kernel of one's own, of the machine's kind, in `target/kmod/own`.
pub(crate) fn build_for_own(machine: &Machine, kernel: &Path) -> Result<()> {
    let module = build_for(machine, kernel, "own")?;
    println!("{}: {}", module.display(), Figures::of(machine, &module)?);
    Ok(())
}

/// Builds the module for the kernel in this folder, in `target/kmod/NAME`.
pub(crate) fn build_for(machine: &Machine, kernel: &Path, name: &str) -> Result<PathBuf> {
    let kernel = kernel.canonicalize().with_context(|| format!("no kernel in {}", kernel.display()))?;
    if !kernel.join("Module.symvers").is_file() {
        bail!("{} is no built kernel and no folder of headers: Module.symvers is missing", kernel.display());
    }
    build_in(machine, &kernel, name)
}

/// Builds the module for the kernel that the machine's vm boots.
pub(crate) fn build(machine: &Machine) -> Result<PathBuf> {
    let tree = Tree::of(machine)?;
    progress!("building xt_pkd.ko for {} (Linux {})", machine.name, tree.kernel.release);
    if machine.has_built_kernel() {
        checkpatch::run(&tree.kernel.headers)?;
    }
    build_in(machine, &tree.kernel.headers, machine.name)
}

/// Where the module for a machine's own kernel is.
pub(crate) fn built(machine: &Machine) -> PathBuf {
    at("target/kmod").join(machine.name).join("xt_pkd.ko")
}

/// Builds the module. Warnings are errors, of the compiler as of sparse, modpost and objtool, and so is a limit that is
/// passed.
fn build_in(machine: &Machine, kernel: &Path, name: &str) -> Result<PathBuf> {
    let folder = at("target/kmod").join(name);
    files::empty(&folder)?;
    let folder = folder.canonicalize()?;
    copy_sources(&folder)?;
    rust_object(machine, &folder.join(OBJECT))?;

    let Machine { kernel_arch, cross, .. } = machine;
    let version = env!("CARGO_PKG_VERSION");
    // A kernel that the host's tools do not fit has its own, in a root around it.
    let (enter, kernel, inside) = match unstable::root_around(kernel) {
        Some(root) => {
            let (enter, inside) = unstable::entering(root, &folder);
            (enter, Path::new("/").join(kernel.strip_prefix(root)?), inside)
        }
        None => (Vec::new(), kernel.to_owned(), folder.clone()),
    };
    // Nobody reads the BTF of a test module, and pahole would have to be installed to make it.
    let output = cmd!(
        "env {enter...} make --no-print-directory -C {kernel} ARCH={kernel_arch} CROSS_COMPILE={cross} M={inside}
                       PKD_VERSION={version} W=1 C=1 KCFLAGS=-Werror CONFIG_DEBUG_INFO_BTF_MODULES= modules"
    )
    .env_remove("MAKEFLAGS")
    .env_remove("MAKELEVEL")
    .finish()?;
    let said = run::text_of(&output);
    ensure!(output.status.success(), "the kernel's make failed\n{said}");
    has_no_warning(&said)?;
    let module = folder.join("xt_pkd.ko");
    Figures::of(machine, &module)?.within_limits(machine)?;
    Ok(module)
}

/// Fails for a line with a warning about our code.
pub(crate) fn has_no_warning(said: &str) -> Result<()> {
    // Debian's headers lack the files behind the first two, and on MIPS the kernel's make passes macros to sparse that it
    // predefines.
    const ABOUT_THE_HEADERS: &[&str] =
        &["the compiler differs", "Skipping BTF generation", "builtin:1:9: warning: preprocessor token"];
    let mut warnings = said.lines().filter(|line| line.to_lowercase().contains("warning"));
    match warnings.find(|line| !ABOUT_THE_HEADERS.iter().any(|known| line.contains(known))) {
        Some(warning) => bail!("the kernel's make warns: {warning}"),
        None => Ok(()),
    }
}

/// Copies what the kernel's make reads, besides [`OBJECT`].
pub(crate) fn copy_sources(folder: &Path) -> Result<()> {
    for file in files::list(&at("linux/kmod"))? {
        if files::has_ending(&file, "c") || files::has_ending(&file, "h") || file.ends_with("Kbuild") {
            files::copy_into(&file, folder)?;
        }
    }
    Ok(())
}

/// The one object of `linux/kmod/rust` itself; with fat LTO it holds all that is used of the
/// crates below it. It is taken out and checked as OpenWrt's recipe does it. Answers with the compiler.
pub(crate) fn rust_object(machine: &Machine, object: &Path) -> Result<Toolchain> {
    let cross = machine.cross;
    let (profile, flags) = (machine.kernel_profile, machine.all_kernel_flags());
    let (toolchain, linker) = (Toolchain::find()?, format!("{cross}gcc"));
    let (target, given) = if machine.thread_sanitizer {
        (toolchain.with_thread_sanitizer(machine.kernel_target)?, kcsan_gives())
    } else {
        (machine.kernel_target.to_owned(), KERNEL_GIVES.split(' ').map(str::to_owned).collect())
    };
    let built = toolchain.build("pkd-kmod", &target, profile, "core", &flags, &linker)?;
    let archive = built.join("libpkd_kmod.a");
    let script = at("openwrt/feed/net/pkd/kernel-object.sh");
    cmd!("sh {script} {archive} {object} {given...}")
        .env("AR", format!("{cross}ar"))
        .env("NM", format!("{cross}nm"))
        .quiet()
        .with_context(|| format!("the Rust object for {}", machine.name))?;
    Ok(toolchain)
}
