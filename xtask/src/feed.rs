//! The recipes of `openwrt/feed` without `OpenWrt`'s SDK: make runs them on the host, and what they install is held
//! against what `packages.rs` packs.

mod bench;
mod feeds_ci;
pub(crate) mod opkg;

use std::{
    collections::BTreeSet,
    os::unix::fs::{MetadataExt, symlink},
};

use crate::{
    kmod::{self, Figures},
    machine, openwrt, packages,
    prelude::*,
    sdk::{self, Kernel, LUCI_RECIPE, RECIPE, VERSION, field},
};
use bench::Bench;

/// How deep `OpenWrt` looks for recipes in a feed.
const SCAN_DEPTH: usize = 5;

/// Runs the checks.
pub(crate) fn test() -> Result<()> {
    progress!("OpenWrt's recipes, and scripts of routers");
    scripts()?;
    scan()?;
    let bench = Bench::new()?;
    for recipe in [RECIPE, LUCI_RECIPE] {
        let version = bench.show(recipe, "PKG_VERSION", &[])?;
        ensure!(version == VERSION, "{recipe} has the version {version:?}, the workspace {VERSION}");
    }
    kernel_flags(&bench)?;
    links(&bench)?;
    for recipe in [RECIPE, LUCI_RECIPE] {
        bench.make(recipe)?.arg("all").quiet().with_context(|| format!("the recipe {recipe}"))?;
    }
    compare(&bench)?;
    module(&bench)?;
    extension(&bench)?;
    removal(&bench)?;
    feeds_ci::test(&bench, &own_packages())
}

/// Those of the recipe [`RECIPE`].
fn own_packages() -> Vec<&'static str> {
    sdk::PACKAGES.into_iter().filter(|name| *name != "luci-app-pkd").collect()
}

/// Every script that a router runs, and those that play a router's: `.shellcheckrc` has what is left out.
fn scripts() -> Result<()> {
    let mut scripts = Vec::new();
    for folder in ["openwrt/feed", "tests/fakes/openwrt/root"] {
        for path in files::below(&at(folder))? {
            let text = fs::read_to_string(&path)?;
            // What is sourced has no first line to tell by: it says dash, or lies where only scripts do.
            let is_script = text.starts_with("#!/bin/sh")
                || text.starts_with("# shellcheck shell=")
                || files::has_ending(&path, "sh")
                || path.components().any(|part| part.as_os_str() == "uci-defaults");
            scripts.extend(is_script.then_some(path));
        }
    }
    ensure!(scripts.len() >= 18, "only {} scripts were found", scripts.len());
    let listed = &scripts;
    cmd!("shellcheck {listed...}").quiet()?;
    cmd!("shfmt -d -sr -s {listed...}").quiet()
}

/// `OpenWrt`'s scan of the whole project as a feed: it must find the recipes and nothing else.
fn scan() -> Result<()> {
    let calls = ["call Build/DefaultTargets", "call BuildPackage", "call KernelPackage"];
    let mut found = BTreeSet::new();
    for path in files::below(toolchain::root())? {
        let below = path.strip_prefix(toolchain::root())?;
        if below.components().count() <= SCAN_DEPTH && path.ends_with("Makefile") {
            let text = fs::read_to_string(&path)?;
            if calls.iter().any(|call| text.contains(call)) {
                found.extend(below.parent().map(Path::to_owned));
            }
        }
    }
    let expected: BTreeSet<PathBuf> = [RECIPE, LUCI_RECIPE].map(PathBuf::from).into();
    ensure!(found == expected, "as a feed, the project has the recipes {found:?}");
    Ok(())
}

/// Rust in the kernel is built as the VM tests build it, where the kernel's configuration is theirs.
fn kernel_flags(bench: &Bench) -> Result<()> {
    for (name, variables) in [
        ("mipsel", "ARCH=mipsel"),
        ("x86_64", "ARCH=x86_64 CONFIG_RETHUNK=y CONFIG_RETPOLINE=y CONFIG_X86_KERNEL_IBT=y"),
        ("armhf", "ARCH=arm CONFIG_arm_v7=y"),
        ("arm64", "ARCH=aarch64 CONFIG_ARM64_BTI_KERNEL=y"),
    ] {
        let machine = machine::find(name)?;
        let variables: Vec<&str> = variables.split(' ').collect();
        let show = |variable| bench.show(RECIPE, variable, &variables);
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
    ensure!(given == kmod::KERNEL_GIVES, "the recipe lets the Rust object want {given}");
    Ok(())
}

/// Through the links of `feeds/` and `package/feeds/`, as in an SDK, the recipe finds its tree.
fn links(bench: &Bench) -> Result<()> {
    let (sdk, root) = (bench.out.join("sdk"), toolchain::root().canonicalize()?);
    files::empty(&sdk)?;
    // The whole project as a feed, and openwrt/feed of it.
    for (feed, to, below) in [("whole", root.clone(), RECIPE), ("part", root.join("openwrt/feed"), "net/pkd")]
    {
        let installed = sdk.join("package/feeds").join(feed);
        fs::create_dir_all(&installed)?;
        fs::create_dir_all(sdk.join("feeds"))?;
        symlink(to, sdk.join("feeds").join(feed))?;
        symlink(Path::new("../../../feeds").join(feed).join(below), installed.join("pkd"))?;
        let tree = bench.make_in(&installed.join("pkd"))?.args(["OUT=/none", "show-PKD_TREE"]).read()?;
        let is_ours = Path::new(tree.trim()) == root;
        ensure!(is_ours, "as the feed {feed}, the recipe takes its sources from {tree}");
    }
    Ok(())
}

/// What the recipes build for this computer and what is packed are the same packages: names, dependencies, files, modes
/// and scripts.
fn compare(bench: &Bench) -> Result<()> {
    let packages = packages::build(openwrt::find("x86_64")?, Some(&bench.kernel))?;
    ensure!(packages.len() == sdk::PACKAGES.len(), "{} packages", packages.len());
    for package in &packages {
        let name = package.name.as_str();
        let root = bench.root_of(name);
        let (control, data) = unpack(&package.ipk, &bench.out.join("ipk").join(name))?;
        let (ours, theirs) = (contents(&root)?, contents(&data)?);
        let differ: Vec<_> = ours.symmetric_difference(&theirs).collect();
        ensure!(
            differ.is_empty(),
            "{name}: only in one of recipe and .ipk, or with another mode: {differ:?}"
        );
        ensure!(!ours.is_empty(), "{name} is empty");
        for (path, _) in &ours {
            let (own, other) = (fs::read(root.join(path))?, fs::read(data.join(path))?);
            let are_binaries = [&own, &other].iter().all(|bytes| bytes.starts_with(b"\x7fELF"));
            ensure!(own == other || are_binaries, "{name}: {} has other bytes in the .ipk", path.display());
        }
        let text = fs::read_to_string(control.join("control"))?;
        for key in ["Version", "Architecture", "Depends"] {
            let ours = words(&bench.field(name, key)?);
            let theirs = words(&field(&text, key).unwrap_or_default());
            ensure!(ours == theirs, "{key} of {name}: {ours:?} in the recipe, {theirs:?} in the .ipk");
        }
        // What both do: one text comes with OpenWrt's own around it.
        for script in ["postinst", "prerm", "postrm"] {
            let ours = bench.meta(&format!("{name}.{script}"))?;
            let theirs = fs::read_to_string(control.join(script))?;
            let own = ours.trim_start_matches("#!/bin/sh").trim();
            let has = if own.is_empty() { !theirs.contains("init.d/pkd") } else { theirs.contains(own) };
            ensure!(has, "{script} of {name}: {ours:?} in the recipe, {theirs:?} in the .ipk");
        }
        let ours = bench.meta(&format!("{name}.conffiles"))?;
        let theirs = fs::read_to_string(control.join("conffiles")).unwrap_or_default();
        ensure!(ours.trim() == theirs.trim(), "conffiles of {name}: {ours:?} and {theirs:?}");
    }
    Ok(())
}

/// The words of a field, without their order. `OpenWrt` adds libc to all but kernel modules by itself.
fn words(text: &str) -> BTreeSet<String> {
    let text = text.replace(" (", "(");
    let words = text.split([',', ' ']).filter(|word| !word.is_empty() && *word != "libc");
    words.map(str::to_owned).collect()
}

fn module(bench: &Bench) -> Result<()> {
    let kernel = Kernel::of(&bench.kernel)?.package_version();
    let depends = bench.field("kmod-ipt-pkd", "Depends")?;
    ensure!(
        depends.contains(&format!("kernel (={kernel})")),
        "the module does not depend on its kernel alone, but on {depends:?}"
    );
    let mut modules = files::below(&bench.root_of("kmod-ipt-pkd"))?;
    modules.retain(|path| files::has_ending(path, "ko"));
    let [module] = &modules[..] else { anyhow::bail!("there are the modules {modules:?}") };
    let version = cmd!("/sbin/modinfo -F version {module}").read()?;
    ensure!(version.trim() == VERSION, "the module's version is {version:?}");
    let machine = machine::find("x86_64")?;
    Figures::of(machine, module)?.within_limits(machine)
}

fn extension(bench: &Bench) -> Result<()> {
    let library = bench.root_of("iptables-mod-pkd").join("usr/lib/iptables/libxt_pkd.so");
    let said = cmd!("readelf -lW -d {library}").read()?;
    ensure!(!said.contains("GNU_RELRO"), "the extension has RELRO, which pads it");
    let needed: Vec<&str> = said.lines().filter(|line| line.contains("(NEEDED)")).collect();
    ensure!(needed.iter().all(|line| line.contains("[libc.so")), "the extension needs {needed:?}");
    Ok(())
}

/// What is done before the service goes, with a `uci` that only says how it is called.
fn removal(bench: &Bench) -> Result<()> {
    const GOES: &str = "-q delete firewall.pkd\ncommit firewall\n";
    let script = bench.out.join("meta/pkd.prerm");
    for (row, variables, result, expected) in [
        ("removed", "", "return 0", GOES),
        ("removed, and there was no section", "", "return 1", "-q delete firewall.pkd\n"),
        ("upgraded", "PKG_UPGRADE=1", "return 0", ""),
        ("in an image that is being made", "IPKG_INSTROOT=/image", "return 0", ""),
    ] {
        // The end is said, so nothing in there exits; its status counts, so nothing fails.
        let text = format!("{variables}\nuci() {{ echo \"$*\"; {result}; }}\n. \"$1\" && echo end");
        let said = cmd!("sh -c {text} sh {script}").read()?;
        ensure!(said == format!("{expected}end\n"), "the service is {row}, and this is done: {said:?}");
    }
    for package in own_packages().iter().filter(|name| !["pkd", "pkdd"].contains(*name)) {
        for ending in ["prerm", "postrm"] {
            let script = bench.meta(&format!("{package}.{ending}"))?;
            ensure!(script.is_empty(), "{package} does something as it goes: {script}");
        }
    }
    Ok(())
}

/// Takes an .ipk apart; answers with the folders of its control files and of its data.
fn unpack(ipk: &Path, to: &Path) -> Result<(PathBuf, PathBuf)> {
    let (control, data) = (to.join("control"), to.join("data"));
    for (folder, part) in [(&control, "control"), (&data, "data")] {
        files::empty(folder)?;
        let read = "tar -xzOf \"$1\" \"./$2.tar.gz\" | tar -xzp --no-same-owner -C \"$3\"";
        cmd!("sh -c {read} sh {ipk} {part} {folder}").quiet()?;
    }
    Ok((control, data))
}

/// The files below a folder, relative to it, each with its mode.
fn contents(folder: &Path) -> Result<BTreeSet<(PathBuf, String)>> {
    let entry = |path: PathBuf| {
        let mode = fs::metadata(&path)?.mode() & 0o7777;
        Ok((path.strip_prefix(folder)?.to_owned(), format!("{mode:o}")))
    };
    files::below(folder)?.into_iter().map(entry).collect()
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
            assert_eq!(words(one) == words(other), *same, "row {row}");
        }
    }
}
