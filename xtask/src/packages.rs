//! What a router installs: the packages of `openwrt/feed` without OpenWrt's SDK, as .ipk for opkg and as .apk
//! for apk. The recipes say what is in them; the programs are built here, for each architecture.

mod index;
mod pack;
mod sign;

use crate::{
    debian::Tree,
    kmod, machine,
    openwrt::{self, ARCHITECTURES, Architecture, Panics, Zig},
    prelude::*,
    sdk,
};

pub(crate) use pack::{Package, date};
pub(crate) use sign::Keys;

/// Bytes that all programs, scripts and pages of a gate may take once installed on mipsel, and its extension. Of the first,
/// 70 KiB are for format 2: its keys, caches, floors and hints beside those of classic knocks; 16 for networks as senders and
/// for a rate limit by which nobody silences an address; 8 for users who get new keys, and addresses that are shut out, in the
/// browser and the shell.
const USERLAND_LIMIT: u64 = 776 * 1024;
const EXTENSION_LIMIT: u64 = 16 * 1024;

/// `packages ARCH...`: builds them and prints a table of sizes. `kernel`: a built kernel of the one
/// architecture that is named, for which there is a kernel module too. `keys`: sign the indexes.
pub(crate) fn run(named: Vec<&'static Architecture>, kernel: Option<&Path>, keys: &Keys) -> Result<()> {
    keys.check()?;
    let architectures = openwrt::or_all(named);
    ensure!(
        kernel.is_none() || architectures.len() == 1,
        "--kernel takes the one architecture that the kernel is for"
    );
    println!("| architecture | package | installed | .ipk |\n|---|---|---:|---:|");
    for architecture in architectures {
        for Package { name, ipk, installed } in build(architecture, kernel)? {
            let size = fs::metadata(ipk)?.len();
            println!("| {} | {name} | {installed} bytes | {size} bytes |", architecture.name);
        }
        keys.sign(&at("target/packages").join(architecture.name))?;
    }
    println!("they lie in target/packages");
    Ok(())
}

/// Builds the packages of one architecture into `target/packages/NAME`, and checks their sizes.
pub(crate) fn build(architecture: &Architecture, kernel: Option<&Path>) -> Result<Vec<Package>> {
    let folder = at("target/packages").join(architecture.name);
    build_into(&Zig::find()?, architecture, kernel, &folder)
}

/// Builds those of every architecture, which checks their sizes, and twice, each time from nothing, in folders of their
/// own: the same bytes must come out.
pub(crate) fn check_all() -> Result<()> {
    for architecture in ARCHITECTURES {
        let [first, again] = ["target/packages", "target/packages-again"].map(|place| -> Result<_> {
            let (clean, folder) = (format!("{place}-cargo"), at(place).join(architecture.name));
            build_into(&Zig::find_clean(&at(&clean))?, architecture, None, &folder)?;
            fs::remove_dir_all(at(&clean))?;
            files::list(&folder)
        });
        let (first, again) = (first?, again?);
        for (one, other) in first.iter().zip(&again) {
            ensure!(
                one.file_name() == other.file_name() && fs::read(one)? == fs::read(other)?,
                "{} has other bytes when it is built a second time",
                one.display()
            );
        }
        // Five packages in both formats, and the index.
        ensure!(first.len() > 10 && again.len() == first.len(), "only {} files were compared", first.len());
    }
    Ok(())
}

fn build_into(
    zig: &Zig,
    architecture: &Architecture,
    kernel: Option<&Path>,
    folder: &Path,
) -> Result<Vec<Package>> {
    progress!("building packages for {}", architecture.name);
    let name = architecture.name;
    let work = folder.join("work");
    files::empty(folder)?;
    fs::create_dir(&work)?;
    let work = work.canonicalize()?;
    // Where the recipe finds what it would have built itself.
    let built = work.join("built");
    // xtables.h is the same for every architecture.
    let headers = Tree::of(machine::find("mipsel")?)?;
    let size = fs::metadata(zig.extension(architecture, &headers.include(), &built, "")?)?.len();
    ensure!(size < EXTENSION_LIMIT, "libxt_pkd.so has {size} bytes; {EXTENSION_LIMIT} are allowed");
    for (package, program) in [("pkdd", "pkdd"), ("host-knock", "knock")] {
        let to = built.join("ipkg-install/bin").join(program);
        files::copy(&zig.build(package, architecture, Panics::Silent, "")?.join(program), &to)?;
        if name.starts_with("mips") {
            // What describes each procedure to debuggers of this CPU, a tenth of the file. One strip knows both
            // orders of bytes.
            cmd!(
                "mipsel-linux-gnu-strip --remove-section=.pdr --remove-section=.mdebug.abi32
                  --remove-section=.comment {to}"
            )
            .quiet()?;
        }
    }
    let kernel = match kernel {
        Some(kernel) => {
            let kernel =
                kernel.canonicalize().with_context(|| format!("no kernel in {}", kernel.display()))?;
            module(architecture, &kernel, &built.join("linux/kmod/xt_pkd.ko"))?;
            Some(kernel)
        }
        None => None,
    };
    // Without a kernel there is no module.
    let selected: Vec<_> =
        sdk::PACKAGES.into_iter().filter(|name| kernel.is_some() || *name != "kmod-ipt-pkd").collect();
    for recipe in [sdk::RECIPE, sdk::LUCI_RECIPE] {
        sdk::make(&at(recipe), kernel.as_deref())?
            .args(["BUILT=1", "dump", "install", &format!("ARCH_PACKAGES={name}")])
            .arg(format!("PKG_BUILD_DIR={}", built.display()))
            .arg(format!("OUT={}", work.display()))
            .arg(format!("SELECTED={}", selected.join(" ")))
            .quiet()
            .with_context(|| format!("the recipe {recipe}"))?;
    }
    let packages = selected.iter().map(|name| pack::pack(name, &work, folder)).collect::<Result<Vec<_>>>()?;
    // The client is for those who knock elsewhere, and the kernel has its own limits.
    let gate = packages.iter().filter(|package| !["pkd-knock", "kmod-ipt-pkd"].contains(&&*package.name));
    let userland: u64 = gate.map(|package| package.installed).sum();
    ensure!(
        name != "mipsel_24kc" || userland < USERLAND_LIMIT,
        "all of a gate's userland takes {userland} bytes; {USERLAND_LIMIT} are allowed"
    );
    fs::remove_dir_all(&work)?;
    index::write(folder)?;
    Ok(packages)
}

/// The kernel module, for one kernel and no other: `OpenWrt`'s kernels load a module that does not fit.
fn module(architecture: &Architecture, kernel: &Path, to: &Path) -> Result<()> {
    let machine = machine::find(architecture.machine)?;
    files::copy(&kmod::build_for(machine, kernel, &format!("package-{}", architecture.name))?, to)?;
    // Kernels with debug information make modules with ten times their size of it.
    let cross = machine.cross;
    cmd!("{cross}strip --strip-debug {to}").quiet()
}
