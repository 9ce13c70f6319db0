//! The initial RAM file system of a guest: Debian's userland, the kernel modules it needs, and
//! what this workspace builds for it.

use std::{collections::BTreeSet, os::unix::fs::symlink};

use crate::{
    debian::Tree,
    kernel::Built,
    kmod,
    machine::{Card, Machine, System},
    openwrt::{self, Panics, Zig},
    prelude::*,
    router,
    toolchain::Toolchain,
};

/// Kernel modules that a guest may want, besides ours; those they depend on come along. Built-in ones are skipped.
const MODULES: &str = "ip_tables ip6_tables iptable_filter ip6table_filter iptable_mangle ip6table_mangle
    xt_recent xt_tcpudp xt_conntrack ipt_REJECT ip6t_REJECT nf_tables nft_compat nft_ct nft_limit
    nft_log nfnetlink_log nft_reject_inet nft_chain_nat nft_nat nft_fib_inet xt_mark";

/// Modules that newer kernels have built into others: `nft_counter` is part of `nf_tables` since Linux 5.18. Of old,
/// `nf_tables` asks the crypto layer for `crc32c` by name, which modules.dep does not know.
const OLDER_MODULES: [&str; 2] = ["nft_counter", "crc32c_generic"];

/// What `/init` does before it hands over to `/main`.
const INIT: &str = include_str!("../scripts/init.sh");

/// What this workspace builds for a machine's userland.
pub(crate) struct Artefacts {
    pub(crate) knock: PathBuf,
    /// The tests' program.
    pub(crate) vm: PathBuf,
    pub(crate) extension: PathBuf,
    /// One that knows revision 0 of the match only.
    pub(crate) old_extension: PathBuf,
}

/// Builds them; with `to_measure` as releases are built, otherwise in less time.
pub(crate) fn artefacts(machine: &Machine, to_measure: bool) -> Result<Artefacts> {
    let include = Tree::of(machine)?.include();
    progress!("building knock, libxt_pkd.so and the tests' program for {}", machine.name);
    let folder = at("target/extension").join(machine.name);
    let extension = |out: &Path, extra: &str| match machine.system {
        System::Sources { architecture, .. } => {
            Zig::find()?.extension(openwrt::find(architecture)?, &include, out, extra)
        }
        _ => openwrt::extension(&format!("{}gcc", machine.cross), &[], &include, out, extra),
    };
    // `pkd-vm` measures what the kernel's part is made of (`make bench`), so it is built as that is.
    let (knock, vm) = if to_measure { ("small", machine.kernel_profile) } else { ("guest", "guest") };
    Ok(Artefacts {
        knock: programs(machine, "host-knock", knock)?.join("knock"),
        vm: programs(machine, "pkd-tests", vm)?.join("pkd-vm"),
        extension: extension(&folder, "")?,
        old_extension: extension(&folder.join("revision-0"), "-DPKD_REVISIONS=1")?,
    })
}

/// Builds a package for the machine, without features, as routers have it; answers with the folder of its programs.
fn programs(machine: &Machine, package: &str, profile: &str) -> Result<PathBuf> {
    match (&machine.system, machine.user_target) {
        (System::Sources { architecture, .. }, _) => {
            Zig::find()?.build(package, openwrt::find(architecture)?, Panics::Described, "")
        }
        (_, None) => {
            cmd!("{CARGO} build --quiet --locked --no-default-features --profile {profile} --bins --package {package}")
                .quiet()?;
            Ok(toolchain::target().join(profile))
        }
        (_, Some(target)) => {
            let linker = format!("{}gcc", machine.cross);
            Toolchain::find()?.build(package, target, profile, "std,panic_abort", &[], &linker)
        }
    }
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

/// Another match of iptables, for a guest to have besides.
pub(crate) struct Extra {
    pub(crate) module: PathBuf,
    pub(crate) extension: PathBuf,
    /// Names of its kernel's modules that it takes.
    pub(crate) needed: &'static [&'static str],
}

/// Builds everything for `machine` and packs it, with the script `main` to run in it.
pub(crate) fn build(machine: &Machine, purpose: &str, main: &str, extra: Option<&Extra>) -> Result<Guest> {
    let module = kmod::build(machine)?;
    build_with(machine, Tree::of(machine)?.kernel, &module, purpose, main, extra)
}

/// The same with this kernel, and with an `xt_pkd.ko` that was built for it.
pub(crate) fn build_with(
    machine: &Machine,
    kernel: Built,
    module: &Path,
    purpose: &str,
    main: &str,
    extra: Option<&Extra>,
) -> Result<Guest> {
    let tree = Tree::of(machine)?;
    let artefacts = artefacts(machine, purpose == "bench")?;

    let folder = at("target/guest").join(format!("{}-{purpose}", machine.name));
    let (root, initrd) = (folder.join("root"), folder.join("initrd"));
    files::empty(&folder)?;
    fs::create_dir(&root)?;
    userland(&tree, &root)?;
    kernel_modules(&kernel, module, machine.card, extra, &root)?;
    for program in [&artefacts.knock, &artefacts.vm] {
        files::copy_into(program, &root.join("usr/bin"))?;
    }
    let extensions = extensions(&root)?;
    for extension in extra.map(|extra| &extra.extension).into_iter().chain([&artefacts.extension]) {
        files::copy_into(extension, &extensions)?;
    }
    files::copy_into(&artefacts.old_extension, &root.join("usr/lib/pkd-revision-0"))?;
    files::script(&root.join("init"), &INIT.replace("{card}", &machine.card.modules.join(" ")))?;
    files::script(&root.join("main"), main)?;
    for empty in ["proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir_all(root.join(empty))?;
    }
    if purpose == "vm" {
        router::furnish(machine, &kernel.headers, &root)?;
    }
    let pack = "find . -print0 | LC_ALL=C sort -z | cpio --quiet --null --create --format=newc --owner=0:0 > ../initrd";
    cmd!("sh -c {pack}").current_dir(&root).quiet()?;
    fs::remove_dir_all(&root)?;
    Ok(Guest { kernel: kernel.image, initrd })
}

fn userland(tree: &Tree, root: &Path) -> Result<()> {
    for name in ["bin", "sbin", "etc", "lib", "lib64", "usr/bin", "usr/sbin", "usr/lib"] {
        let (from, to) = (tree.root.join(name), root.join(name));
        if !from.exists() {
            continue;
        }
        fs::create_dir_all(&to)?;
        let mut entries = files::list(&from)?;
        entries.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with("modules") && !name.starts_with("linux-kbuild")
        });
        if !entries.is_empty() {
            cmd!("cp -a {entries...} {to}").quiet()?;
        }
    }
    Ok(symlink("busybox", root.join("bin/sh"))?)
}

fn kernel_modules(
    kernel: &Built,
    module: &Path,
    card: &Card,
    extra: Option<&Extra>,
    root: &Path,
) -> Result<()> {
    let Built { modules, release, .. } = kernel;
    let target = root.join("lib/modules").join(release);
    for file in needed(modules, card, extra.map(|extra| extra.needed).unwrap_or_default())? {
        copy_module(&modules.join(&file), &target.join(&file))?;
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        files::copy(&modules.join(list), &target.join(list))?;
    }
    for module in extra.map(|extra| extra.module.as_path()).into_iter().chain([module]) {
        copy_module(
            module,
            &target.join("extra").join(module.file_name().context("a module without a name")?),
        )?;
    }
    cmd!("/sbin/depmod -b {root} {release}").quiet()
}

/// Newer kernels of Debian come with compressed modules; depmod lists what it finds without the ending.
fn copy_module(from: &Path, to: &Path) -> Result<()> {
    files::copy(from, to)?;
    if files::has_ending(to, "xz") { cmd!("xz --decompress {to}").quiet() } else { Ok(()) }
}

/// The files of [`MODULES`], of those [`OLDER_MODULES`] that the kernel has, of the card's driver, of `extra`, and of all
/// that they depend on, relative to `folder`.
fn needed(folder: &Path, card: &Card, extra: &[&str]) -> Result<BTreeSet<String>> {
    let root = folder.ancestors().nth(3).context("no root above lib/modules")?;
    let release = folder.file_name().context("no kernel release")?;
    // The package leaves the list of dependencies to its installation.
    if !folder.join("modules.dep").exists() {
        cmd!("/sbin/depmod -b {root} {release}").quiet()?;
    }
    let order = fs::read_to_string(folder.join("modules.order"))?;
    let merged_since = OLDER_MODULES.into_iter().filter(|name| order.contains(&format!("/{name}.ko")));
    let names =
        MODULES.split_whitespace().chain(merged_since).chain(card.modules.iter().chain(extra).copied());
    let said = cmd!(
        "/sbin/modprobe --config /dev/null --dirname {root} --set-version {release}
                     --show-depends --all {names...}"
    )
    .read()?;
    // Only modules with a file: built-in ones are listed as such.
    let paths = said.lines().filter_map(|line| line.strip_prefix("insmod ")).map(str::trim);
    paths.map(|path| Ok(Path::new(path).strip_prefix(folder)?.to_string_lossy().into_owned())).collect()
}

/// Where the guest's iptables looks for extensions.
fn extensions(root: &Path) -> Result<PathBuf> {
    let lib = root.join("usr/lib");
    let of_debian = files::list(&lib)?.into_iter().map(|folder| folder.join("xtables"));
    let mut folders = std::iter::once(lib.join("iptables")).chain(of_debian);
    folders.find(|path| path.is_dir()).context("the userland has no folder of iptables extensions")
}
