//! The recipes of `openwrt/feed` without `OpenWrt`'s SDK: GNU make runs them on the host, with the stand-ins of
//! `tests/fakes/sdk` for the SDK's own macros, and what they install is held against what `packages.rs` packs.

mod feeds_ci;
pub(crate) mod opkg;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    debian::Tree,
    kmod::{self, Figures},
    machine, openwrt, packages, run,
    toolchain::{self, Toolchain},
};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const RECIPE: &str = "openwrt/feed/net/pkd";
const LUCI_RECIPE: &str = "openwrt/feed/luci/luci-app-pkd";
/// What the first of them defines, and all of them.
const PACKAGES: [&str; 5] = ["kmod-ipt-pkd", "iptables-mod-pkd", "pkd", "pkdd", "pkd-knock"];
/// How deep `OpenWrt` looks for recipes in a feed.
const SCAN_DEPTH: usize = 5;

/// Runs the checks.
pub(crate) fn test() -> Result<()> {
    run::progress("OpenWrt's recipes, and scripts of routers");
    scripts()?;
    scan()?;
    let bench = Bench::new()?;
    versions(&bench)?;
    kernel_flags(&bench)?;
    links(&bench)?;
    for recipe in [RECIPE, LUCI_RECIPE] {
        run::quiet(bench.make(recipe).arg("all")).with_context(|| format!("the recipe {recipe}"))?;
    }
    compare(&bench)?;
    module(&bench)?;
    extension(&bench)?;
    removal(&bench)?;
    feeds_ci::test(&bench)
}

/// Every script that a router runs, and those that play a router's: `.shellcheckrc` has what is left out.
fn scripts() -> Result<()> {
    let root = toolchain::root();
    let mut scripts = Vec::new();
    for folder in ["openwrt/feed", "tests/fakes/openwrt/root"] {
        for path in files_below(&root.join(folder))? {
            let text = fs::read_to_string(&path)?;
            // What is sourced has no first line to tell by: it says dash, or lies where only scripts do.
            let is_script = text.starts_with("#!/bin/sh")
                || text.starts_with("# shellcheck shell=")
                || path.extension().is_some_and(|ending| ending == "sh")
                || path.components().any(|part| part.as_os_str() == "uci-defaults");
            if is_script {
                scripts.push(path);
            }
        }
    }
    ensure!(scripts.len() >= 18, "only {} scripts were found", scripts.len());
    run::quiet(run::command("shellcheck").current_dir(root).args(&scripts))?;
    run::quiet(run::command("shfmt").args(["-d", "-sr", "-s"]).args(&scripts))
}

/// `OpenWrt`'s scan of the whole project as a feed: it must find the recipes and nothing else.
fn scan() -> Result<()> {
    let mut found = BTreeSet::new();
    for path in files_below(toolchain::root())? {
        let below = path.strip_prefix(toolchain::root())?;
        let calls = ["call Build/DefaultTargets", "call BuildPackage", "call KernelPackage"];
        if below.components().count() <= SCAN_DEPTH && path.file_name().is_some_and(|name| name == "Makefile")
        {
            let text = fs::read_to_string(&path)?;
            if calls.iter().any(|call| text.contains(call)) {
                found.insert(below.with_file_name("").to_string_lossy().trim_end_matches('/').to_owned());
            }
        }
    }
    let expected: BTreeSet<String> = [RECIPE, LUCI_RECIPE].map(str::to_owned).into();
    ensure!(found == expected, "as a feed, the project has the recipes {found:?}");
    Ok(())
}

/// What make is called with: a compiler, a kernel, and folders in `target/feed`.
struct Bench {
    out: PathBuf,
    tools: PathBuf,
    kernel: PathBuf,
    variables: Vec<String>,
}

impl Bench {
    fn new() -> Result<Self> {
        let out = toolchain::target().join("feed");
        fs::create_dir_all(&out)?;
        // make works in other folders.
        let out = out.canonicalize()?;
        let tools = out.join("tools");
        fs::create_dir_all(&tools)?;
        let (rustc, cargo) = Toolchain::find()?.programs()?;
        for (name, program) in [("rustc", rustc), ("cargo", cargo)] {
            script(&tools.join(name), &format!("exec '{}' \"$@\"", program.display()))?;
        }
        let kernel = Tree::of(machine::find("x86_64-6.12")?)?.headers();
        let (release, _) = packages::kernel_release(&kernel)?;
        let version = packages::kernel_version(&kernel)?;
        let (version, rest) = version.split_once('~').context("a kernel's version without ~")?;
        let mark = rest.split('-').next().unwrap_or_default();
        let variables = vec![
            format!("TOPDIR={}", toolchain::root().canonicalize()?.join("tests/fakes/sdk").display()),
            format!("LINUX_DIR={}", kernel.display()),
            format!("LINUX_VERSION={version}"),
            format!("LINUX_VERMAGIC={mark}"),
            format!("LINUX_UNAME_VERSION={release}"),
        ];
        Ok(Self { out, tools, kernel, variables })
    }

    /// GNU make with a recipe where it is, everything selected.
    fn make(&self, recipe: &str) -> Command {
        let mut make = self.make_in(&toolchain::root().join(recipe));
        make.arg(format!("OUT={}", self.out.display()))
            .arg(format!("TOOLS={}", self.tools.display()))
            .arg(format!("SELECTED={} luci-app-pkd", PACKAGES.join(" ")));
        make
    }

    fn make_in(&self, folder: &Path) -> Command {
        let mut make = run::command("make");
        make.arg("--no-print-directory").arg("-C").arg(folder).args(&self.variables);
        // The SDK knows nothing of ours; CARGO_HOME stays, it has the crates.
        for name in ["MAKEFLAGS", "MAKELEVEL", "CARGO_TARGET_DIR", "CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"] {
            make.env_remove(name);
        }
        make.env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
        make
    }

    /// The value of a variable of the recipe.
    fn show(&self, recipe: &str, variable: &str, others: &[&str]) -> Result<String> {
        let said = run::output(self.make(recipe).args(others).arg(format!("show-{variable}")))?;
        Ok(said.trim().to_owned())
    }

    fn root_of(&self, package: &str) -> PathBuf {
        self.out.join("installed").join(package)
    }

    /// A field of what the recipe says about a package.
    fn field(&self, package: &str, name: &str) -> Result<String> {
        field(&fs::read_to_string(self.out.join("meta").join(package))?, name)
    }
}

fn versions(bench: &Bench) -> Result<()> {
    for recipe in [RECIPE, LUCI_RECIPE] {
        let version = bench.show(recipe, "PKG_VERSION", &[])?;
        ensure!(version == VERSION, "{recipe} has the version {version:?}, the workspace {VERSION}");
    }
    Ok(())
}

/// Rust in the kernel is built as the VM tests build it, where the kernel's configuration is theirs.
fn kernel_flags(bench: &Bench) -> Result<()> {
    let all_of_x86 = ["ARCH=x86_64", "CONFIG_RETHUNK=y", "CONFIG_RETPOLINE=y", "CONFIG_X86_KERNEL_IBT=y"];
    let table: [(&str, &[&str]); 4] = [
        ("mipsel", &["ARCH=mipsel"]),
        ("x86_64", &all_of_x86),
        ("armhf", &["ARCH=arm", "CONFIG_arm_v7=y"]),
        ("arm64", &["ARCH=aarch64", "CONFIG_ARM64_BTI_KERNEL=y"]),
    ];
    for (name, variables) in table {
        let machine = machine::find(name)?;
        let show = |variable| bench.show(RECIPE, variable, variables);
        let flags = show("PKD_RUSTFLAGS")?;
        let flags: BTreeSet<&str> = flags.split_whitespace().collect();
        let expected: BTreeSet<&str> = machine.all_kernel_flags().into_iter().collect();
        ensure!(flags == expected, "the recipe's flags for {name}: {flags:?}, the vm's: {expected:?}");
        let target = show("PKD_RUST_TARGET")?;
        ensure!(target == machine.kernel_target, "the recipe's target for {name} is {target}");
        let profile = show("PKD_RUST_PROFILE")?;
        ensure!(profile == machine.kernel_profile, "the recipe's profile for {name} is {profile}");
    }
    let big_endian = bench.show(RECIPE, "PKD_RUST_TARGET", &["ARCH=mips"])?;
    ensure!(big_endian == "mips-unknown-linux-musl", "the recipe's target for mips is {big_endian}");
    let given = bench.show(RECIPE, "PKD_KERNEL_GIVES", &[])?;
    ensure!(given == kmod::KERNEL_GIVES.join(" "), "the recipe lets the Rust object want {given}");
    Ok(())
}

/// Through the links of `feeds/` and `package/feeds/`, as in an SDK, the recipe finds its tree.
fn links(bench: &Bench) -> Result<()> {
    let sdk = bench.out.join("sdk");
    if sdk.exists() {
        fs::remove_dir_all(&sdk)?;
    }
    let root = toolchain::root().canonicalize()?;
    // The whole project as a feed, and openwrt/feed of it.
    for (feed, to, below) in [("whole", root.clone(), RECIPE), ("part", root.join("openwrt/feed"), "net/pkd")]
    {
        fs::create_dir_all(sdk.join("feeds"))?;
        symlink(to, sdk.join("feeds").join(feed))?;
        let installed = sdk.join("package/feeds").join(feed);
        fs::create_dir_all(&installed)?;
        symlink(Path::new("../../../feeds").join(feed).join(below), installed.join("pkd"))?;
        let tree = run::output(bench.make_in(&installed.join("pkd")).args(["OUT=/none", "show-PKD_TREE"]))?;
        ensure!(
            Path::new(tree.trim()) == root,
            "as the feed {feed}, the recipe takes its sources from {tree}"
        );
    }
    Ok(())
}

/// The recipes and `packages.rs` make the same packages: names, dependencies, files, modes and scripts.
fn compare(bench: &Bench) -> Result<()> {
    let packages = packages::build(openwrt::find("x86_64")?, Some(&bench.kernel))?;
    let names: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let expected: BTreeSet<&str> = PACKAGES.into_iter().chain(["luci-app-pkd"]).collect();
    ensure!(names == expected, "packages.rs makes {names:?}, the recipes {expected:?}");
    for package in &packages {
        let name = package.name.as_str();
        let (control, data) = unpack(&package.ipk, &bench.out.join("ipk").join(name))?;
        let (ours, theirs) = (contents(&bench.root_of(name))?, contents(&data)?);
        let paths = |files: &BTreeMap<PathBuf, u32>| {
            files.iter().map(|(path, mode)| format!("{} {mode:o}", path.display())).collect::<BTreeSet<_>>()
        };
        let (ours, theirs) = (paths(&ours), paths(&theirs));
        let differ: Vec<&String> = ours.symmetric_difference(&theirs).collect();
        ensure!(
            differ.is_empty(),
            "{name}: only in one of recipe and .ipk, or with another mode: {differ:?}"
        );
        ensure!(!ours.is_empty(), "{name} is empty");
        same_texts(name, &bench.root_of(name), &data)?;

        let text = fs::read_to_string(control.join("control"))?;
        for key in ["Version", "Architecture"] {
            let (ours, theirs) = (bench.field(name, key)?, field(&text, key)?);
            ensure!(ours == theirs, "{key} of {name}: {ours:?} in the recipe, {theirs:?} in the .ipk");
        }
        let ours = dependencies(&bench.field(name, "Depends")?);
        let theirs = dependencies(&field(&text, "Depends").unwrap_or_default());
        ensure!(ours == theirs, "dependencies of {name}: {ours:?} in the recipe, {theirs:?} in the .ipk");
        let conffiles = fs::read_to_string(control.join("conffiles")).unwrap_or_default();
        // What both do after the installation: one text comes with OpenWrt's own around it.
        let ours = fs::read_to_string(bench.out.join(format!("meta/{name}.postinst")))?;
        let theirs = fs::read_to_string(control.join("postinst"))?;
        let own = ours.trim_start_matches("#!/bin/sh").trim();
        let has = if own.is_empty() { !theirs.contains("init.d/pkd") } else { theirs.contains(own) };
        ensure!(has, "postinst of {name}: {ours:?} in the recipe, {theirs:?} in the .ipk");
        let ours = fs::read_to_string(bench.out.join(format!("meta/{name}.conffiles")))?;
        ensure!(ours.trim() == conffiles.trim(), "conffiles of {name}: {ours:?} and {conffiles:?}");
    }
    Ok(())
}

/// What is no binary must be the same to the byte.
fn same_texts(name: &str, ours: &Path, theirs: &Path) -> Result<()> {
    for path in contents(ours)?.keys() {
        let (own, other) = (fs::read(ours.join(path))?, fs::read(theirs.join(path))?);
        ensure!(
            own == other || own.starts_with(b"\x7fELF") && other.starts_with(b"\x7fELF"),
            "{name}: {} has other bytes in the .ipk",
            path.display()
        );
    }
    Ok(())
}

/// As a set, each without spaces. `OpenWrt` adds libc to all but kernel modules by itself.
fn dependencies(text: &str) -> BTreeSet<String> {
    text.replace(" (", "(")
        .split([',', ' '])
        .filter(|word| !word.is_empty() && *word != "libc")
        .map(str::to_owned)
        .collect()
}

fn module(bench: &Bench) -> Result<()> {
    let kernel = packages::kernel_version(&bench.kernel)?;
    let depends = bench.field("kmod-ipt-pkd", "Depends")?;
    ensure!(
        depends.contains(&format!("kernel (={kernel})")),
        "the module does not depend on its kernel alone, but on {depends:?}"
    );
    let root = bench.root_of("kmod-ipt-pkd");
    let modules: Vec<PathBuf> =
        contents(&root)?.into_keys().filter(|path| path.extension().is_some_and(|e| e == "ko")).collect();
    let [module] = &modules[..] else {
        anyhow::bail!("there are the modules {modules:?}");
    };
    let module = root.join(module);
    let version = run::output(run::command("/sbin/modinfo").args(["-F", "version"]).arg(&module))?;
    ensure!(version.trim() == VERSION, "the module's version is {version:?}");
    let machine = machine::find("x86_64")?;
    Figures::of(machine, &module)?.within_limits(machine)
}

fn extension(bench: &Bench) -> Result<()> {
    let library = bench.root_of("iptables-mod-pkd").join("usr/lib/iptables/libxt_pkd.so");
    let said = run::output(run::command("readelf").args(["-lW", "-d"]).arg(library))?;
    ensure!(!said.contains("GNU_RELRO"), "the extension has RELRO, which pads it");
    let needed: Vec<&str> = said.lines().filter(|line| line.contains("(NEEDED)")).collect();
    ensure!(needed.iter().all(|line| line.contains("[libc.so")), "the extension needs {needed:?}");
    Ok(())
}

/// What is done before the service goes, with a `uci` that only says how it is called.
fn removal(bench: &Bench) -> Result<()> {
    const GOES: &str = "-q delete firewall.pkd\ncommit firewall\n";
    let table = [
        ("removed", "", "return 0", GOES),
        ("removed, and there was no section", "", "return 1", "-q delete firewall.pkd\n"),
        ("upgraded", "PKG_UPGRADE=1", "return 0", ""),
        ("in an image that is being made", "IPKG_INSTROOT=/image", "return 0", ""),
    ];
    let script = bench.out.join("meta/pkd.prerm");
    for (row, variables, result, expected) in table {
        // The end is said, so nothing in there exits; its status counts, so nothing fails.
        let text = format!("{variables}\nuci() {{ echo \"$*\"; {result}; }}\n. \"$1\" && echo end");
        let said = run::output(run::command("sh").args(["-c", &text, "sh"]).arg(&script))?;
        ensure!(said == format!("{expected}end\n"), "the service is {row}, and this is done: {said:?}");
    }
    for package in PACKAGES.iter().filter(|name| **name != "pkd") {
        let script = fs::read_to_string(bench.out.join(format!("meta/{package}.prerm")))?;
        ensure!(script.is_empty(), "{package} does something before it goes: {script}");
    }
    Ok(())
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// Takes an .ipk apart; answers with the folders of its control files and of its data.
fn unpack(ipk: &Path, to: &Path) -> Result<(PathBuf, PathBuf)> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    let (control, data) = (to.join("control"), to.join("data"));
    for (folder, part) in [(&control, "control"), (&data, "data")] {
        fs::create_dir_all(folder)?;
        let read = "tar -xzOf \"$1\" \"./$2.tar.gz\" | tar -xzp --no-same-owner -C \"$3\"";
        run::quiet(run::command("sh").args(["-c", read, "sh"]).arg(ipk).arg(part).arg(folder))?;
    }
    Ok((control, data))
}

/// The files below a folder, relative to it, each with its mode.
fn contents(folder: &Path) -> Result<BTreeMap<PathBuf, u32>> {
    files_below(folder)?
        .into_iter()
        .map(|path| Ok((path.strip_prefix(folder)?.to_owned(), fs::metadata(&path)?.mode() & 0o7777)))
        .collect()
}

/// All files below a folder; links are not followed, and what git or Cargo keep is left out.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_file() {
            files.push(entry.path());
        } else if kind.is_dir() && entry.file_name() != ".git" && entry.file_name() != "target" {
            files.extend(files_below(&entry.path())?);
        }
    }
    Ok(files)
}

/// The value of `NAME: value` in a control file.
fn field(text: &str, name: &str) -> Result<String> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
        .with_context(|| format!("there is no field {name} in\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_compared_without_their_order_and_libc() {
        let rows = [
            ("libc, kernel (=6.6~ab-r1), kmod-ipt-core", "kmod-ipt-core kernel (=6.6~ab-r1)", true),
            ("kernel (=6.6~ab-r1)", "kernel (=6.6~ab-r2)", false),
            ("kernel (=6.6~ab-r1)", "kernel", false),
            ("libc", "", true),
        ];
        for (row, (one, other, same)) in rows.iter().enumerate() {
            assert_eq!(dependencies(one) == dependencies(other), *same, "row {row}");
        }
    }
}
