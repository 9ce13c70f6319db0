//! What a router installs: the packages of `openwrt/feed` without OpenWrt's SDK, as .ipk for opkg and as .apk
//! for apk. nfpm writes both formats; written here is what it does not know: the index and OpenWrt's names.

mod pack;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    debian::Tree,
    kmod, machine,
    openwrt::{self, ARCHITECTURES, Architecture, Panics, Zig},
    run, toolchain,
};
use pack::{index, pack};

/// Of these packages; the SDK counts its own in the recipe.
const RELEASE: &str = "r1";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Bytes that all programs, scripts and pages of a gate may take once installed on mipsel, and its extension.
const USERLAND_LIMIT: u64 = 1024 * 1024;
const EXTENSION_LIMIT: u64 = 16 * 1024;

/// As CONTRIBUTING.md has it.
const GPL: &str = "GPL-2.0-only";
const EITHER: &str = "MIT OR Apache-2.0";

/// A gate that was installed before what it needs starts now, and one that runs gets the new version.
const RELOAD_GATE: &str = "\
if [ -z \"${IPKG_INSTROOT}\" ] && [ -x /etc/init.d/pkd ] && /etc/init.d/pkd enabled; then
\t/etc/init.d/pkd reload
fi
true
";

/// One package, in both formats.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) ipk: PathBuf,
    /// Bytes of its files.
    pub(crate) installed: u64,
}

/// What goes into a package.
struct Recipe {
    name: &'static str,
    description: &'static str,
    license: &'static str,
    version: String,
    /// `None`: the same on every router.
    architecture: Option<&'static str>,
    /// Names, each with the exact version where there must be no other.
    depends: Vec<(String, Option<String>)>,
    files: Vec<File>,
    /// What is done once the files are there.
    after_installation: &'static str,
    /// What is done before the files go, and not at an upgrade.
    before_removal: &'static str,
}

struct File {
    from: PathBuf,
    to: String,
    mode: u32,
    /// The user's to change: never replaced.
    is_config: bool,
}

/// `packages ARCH...`: builds them and prints a table of sizes. `kernel`: a built kernel of the one
/// architecture that is named, for which there is a kernel module too.
pub(crate) fn run(names: &[&str], kernel: Option<&str>) -> Result<()> {
    let architectures: Vec<&Architecture> = if names.is_empty() {
        ARCHITECTURES.iter().collect()
    } else {
        names.iter().map(|name| openwrt::find(name)).collect::<Result<_>>()?
    };
    ensure!(
        kernel.is_none() || architectures.len() == 1,
        "--kernel takes the one architecture that the kernel is for"
    );
    println!("| architecture | package | installed | .ipk |");
    println!("|---|---|---:|---:|");
    for architecture in architectures {
        let packages = build(architecture, kernel.map(Path::new))?;
        for package in &packages {
            let size = fs::metadata(&package.ipk)?.len();
            println!(
                "| {} | {} | {} bytes | {size} bytes |",
                architecture.name, package.name, package.installed
            );
        }
    }
    println!("they lie in target/packages");
    Ok(())
}

/// The architecture, the name, and the bytes of every package, installed and as `.ipk`.
pub(crate) fn sizes() -> Result<Vec<(&'static str, String, u64, u64)>> {
    let mut sizes = Vec::new();
    for architecture in ARCHITECTURES {
        for package in build(architecture, None)? {
            let packed = fs::metadata(&package.ipk)?.len();
            sizes.push((architecture.name, package.name.clone(), package.installed, packed));
        }
    }
    Ok(sizes)
}

/// Builds the packages of one architecture into `target/packages/NAME`, and checks their sizes.
pub(crate) fn build(architecture: &'static Architecture, kernel: Option<&Path>) -> Result<Vec<Package>> {
    let folder = toolchain::root().join("target/packages").join(architecture.name);
    build_into(&Zig::find()?, architecture, kernel, &folder)
}

/// Builds those of every architecture, which checks their sizes, and twice.
pub(crate) fn check_all() -> Result<()> {
    ARCHITECTURES.iter().try_for_each(is_reproducible)
}

/// Builds them twice, each time from nothing, in folders of their own: the same bytes must come out.
fn is_reproducible(architecture: &'static Architecture) -> Result<()> {
    let target = toolchain::root().join("target");
    let built = ["packages", "packages-again"].map(|name| -> Result<_> {
        let clean = target.join(format!("{name}-cargo"));
        let folder = target.join(name).join(architecture.name);
        let packages = build_into(&Zig::find_clean(&clean)?, architecture, None, &folder)?;
        fs::remove_dir_all(clean)?;
        Ok((folder, packages))
    });
    let [first, again] = built;
    let ((_, first), (again, _)) = (first?, again?);
    let folder = first.first().and_then(|package| package.ipk.parent()).context("no package")?;
    let mut compared = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let other = fs::read(again.join(entry.file_name()));
        ensure!(
            other.is_ok_and(|bytes| fs::read(entry.path()).is_ok_and(|own| own == bytes)),
            "{} has other bytes when it is built a second time",
            entry.path().display()
        );
        compared += 1;
    }
    ensure!(compared > 2 * first.len(), "only {compared} files were compared");
    Ok(())
}

fn build_into(
    zig: &Zig,
    architecture: &'static Architecture,
    kernel: Option<&Path>,
    folder: &Path,
) -> Result<Vec<Package>> {
    run::progress(&format!("building packages for {}", architecture.name));
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let work = folder.join("work");
    fs::create_dir_all(&work)?;
    let recipes = [
        service(&work)?,
        extension(zig, architecture, &work)?,
        daemon(zig, architecture, &work)?,
        client(zig, architecture, &work)?,
        luci()?,
    ];
    let packages: Vec<Package> =
        recipes.iter().map(|recipe| pack(recipe, &work, folder)).collect::<Result<_>>()?;
    // The client is for those who knock elsewhere.
    let gate = packages.iter().filter(|package| package.name != "pkd-knock");
    let userland: u64 = gate.map(|package| package.installed).sum();
    ensure!(
        architecture.name != "mipsel_24kc" || userland < USERLAND_LIMIT,
        "all of a gate's userland takes {userland} bytes; {USERLAND_LIMIT} are allowed"
    );
    let mut packages = packages;
    if let Some(kernel) = kernel {
        packages.push(pack(&module(architecture, kernel, &work)?, &work, folder)?);
    }
    fs::remove_dir_all(&work)?;
    index(folder)?;
    Ok(packages)
}

/// The service: scripts, the same on every router.
fn service(work: &Path) -> Result<Recipe> {
    const ROOT: &str = "openwrt/feed/net/pkd/root";
    let mut files = tree(&toolchain::root().join(ROOT), "")?;
    for file in &mut files {
        file.is_config = file.to == "/etc/config/pkd";
        if file.to == "/usr/sbin/pkd" {
            let text = fs::read_to_string(&file.from)?.replace("@VERSION@", VERSION);
            file.from = work.join("pkd.sh");
            fs::write(&file.from, text)?;
        }
    }
    Ok(Recipe {
        name: "pkd",
        description: "Port knocking: service, configuration and firewall4 rules",
        license: GPL,
        version: VERSION.to_owned(),
        architecture: None,
        depends: named(&["firewall4", "pkdd"]),
        files,
        after_installation: "",
        before_removal: "\
[ -n \"${IPKG_INSTROOT}\" ] || [ \"$PKG_UPGRADE\" = 1 ] || { uci -q delete firewall.pkd && uci commit firewall; }
",
    })
}

/// The extension of iptables.
fn extension(zig: &Zig, architecture: &'static Architecture, work: &Path) -> Result<Recipe> {
    // xtables.h is the same for every architecture.
    let headers = Tree::of(machine::find("mipsel")?)?;
    let built = openwrt::extension(zig, architecture, &headers.include(), work, "")?;
    let size = fs::metadata(&built)?.len();
    ensure!(size < EXTENSION_LIMIT, "libxt_pkd.so has {size} bytes; {EXTENSION_LIMIT} are allowed");
    Ok(Recipe {
        name: "iptables-mod-pkd",
        description: "iptables and ip6tables: the match pkd",
        license: GPL,
        version: VERSION.to_owned(),
        architecture: Some(architecture.name),
        depends: named(&["libc", "iptables", "kmod-ipt-pkd"]),
        files: vec![File::new(built, "/usr/lib/iptables/libxt_pkd.so", 0o644)],
        after_installation: RELOAD_GATE,
        before_removal: "",
    })
}

/// A program as it goes onto flash.
fn program(
    zig: &Zig,
    package: &str,
    name: &str,
    architecture: &'static Architecture,
    features: Option<&str>,
    work: &Path,
) -> Result<PathBuf> {
    let built = zig.build(package, architecture, Panics::Silent, features)?.join(name);
    let folder = work.join("programs");
    fs::create_dir_all(&folder)?;
    let program = folder.join(name);
    fs::copy(built, &program)?;
    if architecture.name.starts_with("mips") {
        // What describes each procedure to debuggers of this CPU, a tenth of the file. One strip knows both
        // orders of bytes.
        let words = ["--remove-section=.pdr", "--remove-section=.mdebug.abi32", "--remove-section=.comment"];
        run::quiet(run::command("mipsel-linux-gnu-strip").args(words).arg(&program))?;
    }
    Ok(program)
}

/// The client, without its desktop features.
fn client(zig: &Zig, architecture: &'static Architecture, work: &Path) -> Result<Recipe> {
    let built = program(zig, "host-knock", "knock", architecture, Some(""), work)?;
    Ok(Recipe {
        name: "pkd-knock",
        description: "The knock command: opens a port that pkd guards elsewhere",
        license: EITHER,
        version: VERSION.to_owned(),
        architecture: Some(architecture.name),
        depends: Vec::new(),
        files: vec![File::new(built, "/usr/bin/knock", 0o755)],
        after_installation: "",
        before_removal: "",
    })
}

/// The daemon, for grants in firewall4's sets: it starts no program.
fn daemon(zig: &Zig, architecture: &'static Architecture, work: &Path) -> Result<Recipe> {
    let built = program(zig, "pkdd", "pkdd", architecture, Some(""), work)?;
    Ok(Recipe {
        name: "pkdd",
        description: "The port-knocking daemon, which also checks the configuration of pkd",
        license: EITHER,
        version: VERSION.to_owned(),
        architecture: Some(architecture.name),
        depends: named(&["kmod-nft-core", "kmod-nfnetlink-log"]),
        files: vec![File::new(built, "/usr/sbin/pkdd", 0o755)],
        after_installation: RELOAD_GATE,
        before_removal: "",
    })
}

/// The pages of the web interface.
fn luci() -> Result<Recipe> {
    let folder = toolchain::root().join("openwrt/feed/luci/luci-app-pkd");
    let mut files = tree(&folder.join("htdocs"), "/www")?;
    files.extend(tree(&folder.join("root"), "")?);
    Ok(Recipe {
        name: "luci-app-pkd",
        description: "LuCI pages for pkd: status, services, users, keys",
        license: EITHER,
        version: VERSION.to_owned(),
        architecture: None,
        depends: named(&["luci-base", "pkd"]),
        files,
        after_installation: "",
        before_removal: "",
    })
}

/// The kernel module, for one kernel and no other: `OpenWrt`'s kernels load a module that does not fit.
fn module(architecture: &'static Architecture, kernel: &Path, work: &Path) -> Result<Recipe> {
    let kernel = kernel.canonicalize().with_context(|| format!("no kernel in {}", kernel.display()))?;
    let machine = machine::find(architecture.machine)?;
    let built = work.join("xt_pkd.ko");
    fs::copy(kmod::build_for(machine, &kernel, &format!("package-{}", architecture.name))?, &built)?;
    // Kernels with debug information make modules with ten times their size of it.
    run::quiet(run::command(format!("{}strip", machine.cross)).arg("--strip-debug").arg(&built))?;
    let (release, version) = kernel_release(&kernel)?;
    let list = work.join("ipt-pkd");
    fs::write(&list, "xt_pkd\n")?;
    Ok(Recipe {
        name: "kmod-ipt-pkd",
        description: "The netfilter match pkd, checked in the kernel",
        license: GPL,
        version: format!("{version}.{VERSION}"),
        architecture: Some(architecture.name),
        depends: vec![
            ("kernel".to_owned(), Some(kernel_version(&kernel)?)),
            ("kmod-ipt-core".to_owned(), None),
        ],
        files: vec![
            File::new(built, &format!("/lib/modules/{release}/xt_pkd.ko"), 0o644),
            File::new(list, "/etc/modules.d/ipt-pkd", 0o644),
        ],
        after_installation: "",
        before_removal: "",
    })
}

/// `uname -r` of a built kernel, and the same as a version.
pub(crate) fn kernel_release(kernel: &Path) -> Result<(String, String)> {
    // Not include/config/kernel.release: Debian's headers have another name there.
    let file = kernel.join("include/generated/utsrelease.h");
    let text = fs::read_to_string(&file)
        .context("this is no built kernel: include/generated/utsrelease.h is missing")?;
    let release = text.split('"').nth(1).with_context(|| format!("{} names no release", file.display()))?;
    let release = release.to_owned();
    // A hyphen would begin the package's own release.
    let version = release.replace('-', ".");
    Ok((release, version))
}

/// The version of the package `kernel` that a module for this kernel depends on.
pub(crate) fn kernel_version(kernel: &Path) -> Result<String> {
    Ok(format!("{}~{}-r1", kernel_release(kernel)?.1, configuration_mark(kernel)?))
}

/// What tells kernels of one version apart: `OpenWrt`'s build leaves it beside the kernel; elsewhere it is
/// made the same way, of the sorted options that are built in or built as modules.
fn configuration_mark(kernel: &Path) -> Result<String> {
    if let Ok(mark) = fs::read_to_string(kernel.join(".vermagic")) {
        return Ok(mark.trim().to_owned());
    }
    let config = fs::read_to_string(kernel.join(".config"))
        .context("this is no built kernel: neither .vermagic nor .config is there")?;
    let mut options: Vec<&str> =
        config.lines().filter(|line| line.ends_with("=y") || line.ends_with("=m")).collect();
    options.sort_unstable();
    let text = options.join("\n") + "\n";
    let digits = String::from_utf8(run::output_of(&mut Command::new("md5sum"), text.as_bytes())?)?;
    Ok(digits.split(' ').next().unwrap_or_default().to_owned())
}

fn named(names: &[&str]) -> Vec<(String, Option<String>)> {
    names.iter().map(|name| ((*name).to_owned(), None)).collect()
}

impl File {
    fn new(from: PathBuf, to: &str, mode: u32) -> Self {
        Self { from, to: to.to_owned(), mode, is_config: false }
    }
}

/// All files below `folder`, to be installed below `to`; git keeps whether a file is a program, and what
/// holds secrets is private.
fn tree(folder: &Path, to: &str) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut entries = fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    entries.sort();
    for path in entries {
        let name = path.file_name().context("a file without a name")?.to_string_lossy().into_owned();
        let to = format!("{to}/{name}");
        if path.is_dir() {
            files.extend(tree(&path, &to)?);
        } else {
            let is_program = fs::metadata(&path)?.permissions().mode() & 0o100 != 0;
            let mode = match to.starts_with("/etc/config/") {
                true => 0o600,
                false if is_program => 0o755,
                false => 0o644,
            };
            files.push(File::new(path, &to, mode));
        }
    }
    Ok(files)
}
