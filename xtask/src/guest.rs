//! The initial RAM file system of a guest: Debian's userland, the kernel modules it needs, and
//! what this workspace builds for it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    debian::Tree,
    kmod,
    machine::{Card, Machine, System},
    openwrt::{self, Panics, Zig},
    router, run, toolchain,
};

/// Kernel modules that a guest may want, besides ours; those they depend on come along. What a
/// kernel has built in is no file and is passed over.
const MODULES: &[&str] = &[
    "ip_tables",
    "ip6_tables",
    "iptable_filter",
    "ip6table_filter",
    "iptable_mangle",
    "ip6table_mangle",
    "xt_recent",
    "xt_tcpudp",
    "xt_conntrack",
    "ipt_REJECT",
    "ip6t_REJECT",
    // nf_tables asks the crypto layer for it by name, which modules.dep does not know.
    "crc32c_generic",
    "nf_tables",
    "nft_compat",
    "nft_ct",
    "nft_limit",
    "nft_log",
    "nfnetlink_log",
    "nft_reject_inet",
    "xt_mark",
];

/// What `/init` does before it hands over to `/main`.
const INIT: &str = "\
#!/bin/busybox sh
/bin/busybox mkdir -p /sbin /usr/sbin /usr/bin
/bin/busybox --install -s
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /run
mkdir -p /tmp /etc/dropbear /root
echo 'root:x:0:0:root:/root:/bin/sh' > /etc/passwd
echo 'nobody:*:65534:65534:nobody:/var:/bin/false' >> /etc/passwd
ip link set lo up
for module in {card}; do modprobe $module; done
exec /main </dev/null >/dev/console 2>&1
";

/// What this workspace builds for a machine's userland.
pub(crate) struct Artefacts {
    pub(crate) knock: PathBuf,
    /// The tests' program.
    pub(crate) vm: PathBuf,
    pub(crate) extension: PathBuf,
    /// One that knows revision 0 of the match only.
    pub(crate) old_extension: PathBuf,
}

/// What the programs of a guest are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Tests, which want a quick build.
    Tests,
    /// Measuring, as what is measured is built.
    Figures,
}

/// Builds them.
pub(crate) fn artefacts(machine: &Machine, purpose: Purpose) -> Result<Artefacts> {
    let tree = Tree::of(machine)?;
    run::progress(&format!("building knock, libxt_pkd.so and the tests' program for {}", machine.name));
    let folder = toolchain::root().join("target/extension").join(machine.name);
    let [knock, vm] = programs(machine, purpose)?;
    Ok(Artefacts {
        knock,
        vm,
        extension: extension(machine, &tree, &folder, "")?,
        old_extension: extension(machine, &tree, &folder.join("revision-0"), "-DPKD_REVISIONS=1")?,
    })
}

/// A guest to boot.
pub(crate) struct Guest {
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
}

impl Guest {
    /// Another initial RAM file system, with the files of this archive besides.
    pub(crate) fn with_more_files(&self, archive: &[u8]) -> Result<PathBuf> {
        let path = self.initrd.with_file_name("initrd-again");
        let mut bytes = fs::read(&self.initrd)?;
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(archive);
        fs::write(&path, bytes)?;
        Ok(path)
    }
}

/// What a guest has besides.
#[derive(Default)]
pub(crate) struct Extra<'a> {
    /// Names of its kernel's modules.
    pub(crate) needed: &'a [&'a str],
    /// Modules that were built for its kernel.
    pub(crate) modules: &'a [PathBuf],
    /// Extensions of its iptables.
    pub(crate) extensions: &'a [PathBuf],
}

/// Builds everything for `machine` and packs it, with the script `main` to run in it.
pub(crate) fn build(machine: &Machine, purpose: &str, main: &str) -> Result<Guest> {
    build_with(machine, purpose, main, &Extra::default())
}

/// The same, with more in it.
pub(crate) fn build_with(machine: &Machine, purpose: &str, main: &str, extra: &Extra<'_>) -> Result<Guest> {
    let tree = Tree::of(machine)?;
    let module = kmod::build(machine)?;
    let of = if purpose == "bench" { Purpose::Figures } else { Purpose::Tests };
    let artefacts = artefacts(machine, of)?;

    let folder = toolchain::root().join("target/guest").join(format!("{}-{purpose}", machine.name));
    let root = folder.join("root");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&root)?;
    userland(&tree, &root)?;
    kernel_modules(&tree, &module, machine.card, extra, &root)?;
    for program in [&artefacts.knock, &artefacts.vm] {
        fs::copy(program, root.join("usr/bin").join(program.file_name().context("no name")?))?;
    }
    fs::copy(&artefacts.extension, extensions(&root)?.join("libxt_pkd.so"))?;
    for extension in extra.extensions {
        fs::copy(extension, extensions(&root)?.join(extension.file_name().context("no name")?))?;
    }
    fs::create_dir_all(root.join("usr/lib/pkd-revision-0"))?;
    fs::copy(&artefacts.old_extension, root.join("usr/lib/pkd-revision-0/libxt_pkd.so"))?;
    script(&root.join("init"), &INIT.replace("{card}", &machine.card.modules.join(" ")))?;
    script(&root.join("main"), main)?;
    for empty in ["proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir_all(root.join(empty))?;
    }
    if purpose == "vm" {
        router::furnish(machine, &tree.headers(), &root)?;
    }

    let initrd = folder.join("initrd");
    let pack = "find . -print0 | LC_ALL=C sort -z | cpio --quiet --null --create --format=newc --owner=0:0";
    let mut shell = run::command("sh");
    shell.args(["-c", &format!("{pack} > ../initrd")]).current_dir(&root);
    run::quiet(&mut shell)?;
    fs::remove_dir_all(&root)?;
    Ok(Guest { kernel: tree.kernel(), initrd })
}

fn userland(tree: &Tree, root: &Path) -> Result<()> {
    for name in ["bin", "sbin", "etc", "lib", "lib64", "usr/bin", "usr/sbin", "usr/lib"] {
        let from = tree.root.join(name);
        if from.exists() {
            let to = root.join(name);
            fs::create_dir_all(&to)?;
            copy(&from, &to, &["modules", "linux-kbuild"])?;
        }
    }
    symlink("busybox", root.join("bin/sh"))?;
    Ok(())
}

/// Copies a folder's content, but for the entries whose names begin with one of `without`.
fn copy(from: &Path, to: &Path, without: &[&str]) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if !without.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            run::quiet(run::command("cp").arg("-a").arg(entry.path()).arg(to))?;
        }
    }
    Ok(())
}

fn kernel_modules(tree: &Tree, module: &Path, card: &Card, extra: &Extra<'_>, root: &Path) -> Result<()> {
    let target = root.join("lib/modules").join(&tree.release);
    fs::create_dir_all(&target)?;
    for file in needed(&tree.modules(), card, extra.needed)? {
        let to = target.join(&file);
        fs::create_dir_all(to.parent().context("a module in no folder")?)?;
        fs::copy(tree.modules().join(&file), &to)?;
        // Newer kernels of Debian come with compressed modules; depmod lists what it finds below.
        if to.extension().is_some_and(|ending| ending == "xz") {
            run::quiet(run::command("xz").arg("--decompress").arg(&to))?;
        }
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        fs::copy(tree.modules().join(list), target.join(list))?;
    }
    fs::create_dir_all(target.join("extra"))?;
    fs::copy(module, target.join("extra/xt_pkd.ko"))?;
    for module in extra.modules {
        fs::copy(module, target.join("extra").join(module.file_name().context("no name")?))?;
    }
    run::quiet(run::command("/sbin/depmod").arg("-b").arg(root).arg(&tree.release))
}

/// The files of [`MODULES`], of the card's driver, of `extra`, and of all that they depend on, relative to `folder`.
fn needed(folder: &Path, card: &Card, extra: &[&str]) -> Result<BTreeSet<String>> {
    // The package leaves the list of dependencies to its installation; depmod wants lib/modules.
    if !folder.join("modules.dep").exists() {
        let root = folder.ancestors().nth(3).context("no root above lib/modules")?;
        let release = folder.file_name().context("no kernel release")?;
        run::quiet(run::command("/sbin/depmod").arg("-b").arg(root).arg(release))?;
    }
    let dependencies = fs::read_to_string(folder.join("modules.dep"))?;
    let built_in = fs::read_to_string(folder.join("modules.builtin"))?;
    let mut needed = BTreeSet::new();
    for name in MODULES.iter().chain(card.modules).chain(extra) {
        let file = format!("/{name}.ko");
        let line = dependencies.lines().find(|line| {
            line.split(':').next().is_some_and(|own| own.trim_end_matches(".xz").ends_with(&file))
        });
        match line {
            Some(line) => {
                needed.extend(line.split([':', ' ']).filter(|word| !word.is_empty()).map(str::to_owned));
            }
            None if built_in.lines().any(|own| own.ends_with(&file)) => {}
            None => bail!("{} has no module {name}", folder.display()),
        }
    }
    Ok(needed)
}

/// `knock`, as routers have it, and `pkd-vm` for the machine. The second measures what the kernel's part is made of (`make bench`), so it is built
/// as that is.
fn programs(machine: &Machine, purpose: Purpose) -> Result<[PathBuf; 2]> {
    let build = |package: &str, program: &str, profile: &str| -> Result<PathBuf> {
        let folder = match (&machine.system, machine.user_target) {
            (System::Sources { architecture, .. }, _) => {
                Zig::find()?.build(package, openwrt::find(architecture)?, Panics::Described, Some(""))?
            }
            (System::Packages(_) | System::BuiltKernel { .. }, None) => {
                let mut cargo = run::command(env!("CARGO"));
                cargo.args([
                    "build",
                    "--quiet",
                    "--locked",
                    "--no-default-features",
                    "--profile",
                    profile,
                    "--bins",
                ]);
                run::quiet(cargo.args(["--package", package]).current_dir(toolchain::root()))?;
                toolchain::target().join(profile)
            }
            (System::Packages(_) | System::BuiltKernel { .. }, Some(target)) => toolchain::Toolchain::find()?
                .build(package, target, profile, "std,panic_abort", &[], &format!("{}gcc", machine.cross))?,
        };
        Ok(folder.join(program))
    };
    let (knock, tests) = match purpose {
        Purpose::Tests => ("guest", "guest"),
        Purpose::Figures => ("small", machine.kernel_profile),
    };
    Ok([build("host-knock", "knock", knock)?, build("pkd-tests", "pkd-vm", tests)?])
}

/// Builds `libxt_pkd.so` into `out`.
fn extension(machine: &Machine, tree: &Tree, out: &Path, extra: &str) -> Result<PathBuf> {
    if let System::Sources { architecture, .. } = machine.system {
        let architecture = openwrt::find(architecture)?;
        return openwrt::extension(&Zig::find()?, architecture, &tree.include(), out, extra);
    }
    fs::create_dir_all(out)?;
    let out = out.canonicalize()?;
    let mut make = run::command("make");
    make.args(["--silent", "--always-make", "-C"])
        .arg(toolchain::root().join("linux/iptables"))
        .arg(format!("CC={}gcc", machine.cross))
        .arg(format!("XTABLES_CFLAGS=-I{} {extra}", tree.include().display()))
        .arg(format!("OUT={}", out.display()))
        .env_remove("MAKEFLAGS");
    run::quiet(&mut make)?;
    Ok(out.join("libxt_pkd.so"))
}

/// Where the guest's iptables looks for extensions.
fn extensions(root: &Path) -> Result<PathBuf> {
    let of_openwrt = root.join("usr/lib/iptables");
    if of_openwrt.is_dir() {
        return Ok(of_openwrt);
    }
    for entry in fs::read_dir(root.join("usr/lib"))? {
        let folder = entry?.path().join("xtables");
        if folder.is_dir() {
            return Ok(folder);
        }
    }
    bail!("the userland has no folder of iptables extensions")
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
