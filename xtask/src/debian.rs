//! Debian packages of any architecture, without touching the host's dpkg: apt gets a state of its
//! own in the cache and uses the host's configured sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    apt::Apt,
    cache,
    machine::{Machine, Packages, System},
    openwrt::{self, Zig},
    run, userland,
};

/// What the guests run, besides the kernel and what is ours.
const USERLAND: &[&str] = &["busybox", "dropbear-bin", "iptables", "nftables"];

/// A single program of a larger package, which needs nothing of the rest: its busybox has no `flock`.
const ALONE: (&str, &str) = ("util-linux", "./usr/bin/flock");

/// What `libxt_pkd.so` is compiled against.
const EXTENSION_HEADERS: &str = "libxtables-dev";

/// What there is for one machine.
pub(crate) struct Tree {
    /// Root of the userland.
    pub(crate) root: PathBuf,
    /// `uname -r` of its kernel.
    pub(crate) release: String,
    headers: PathBuf,
    kernel: PathBuf,
    modules: PathBuf,
}

impl Tree {
    /// Kernel, headers and userland of `machine`; fetched or built once, then from the cache.
    pub(crate) fn of(machine: &Machine) -> Result<Self> {
        match &machine.system {
            System::Packages(packages) => Self::unpacked(machine.name, packages),
            System::BuiltKernel { kernel, userland_of } => {
                let Machine { name, system: System::Packages(packages), .. } = userland_of else {
                    bail!("the userland of {} is not Debian's", userland_of.name);
                };
                let kernel = kernel.build(machine.kernel_arch, machine.cross)?;
                let mut tree = Self::unpacked(name, packages)?;
                tree.release = kernel.release;
                tree.headers = kernel.tree;
                tree.kernel = kernel.image;
                tree.modules = kernel.modules;
                Ok(tree)
            }
            System::Sources { kernel, architecture } => {
                let kernel = kernel.build(machine.kernel_arch, machine.cross)?;
                Ok(Self {
                    root: userland::build(&Zig::find()?, openwrt::find(architecture)?)?,
                    release: kernel.release,
                    headers: kernel.tree,
                    kernel: kernel.image,
                    modules: kernel.modules,
                })
            }
        }
    }

    fn unpacked(name: &str, packages: &Packages) -> Result<Self> {
        let Packages { architecture, kernel, headers } = packages;
        let inputs = [*architecture, *kernel, *headers, &USERLAND.join(" "), ALONE.1, EXTENSION_HEADERS, "1"];
        let root = cache::entry(&format!("debian-{name}"), &inputs, |unfinished, entry| {
            run::progress(&format!("fetching Debian's kernel and userland for {name}"));
            fill(packages, unfinished, entry)
        })?;
        let release = fs::read_to_string(root.join("kernel-release"))?;
        Ok(Self {
            headers: root.join("usr/src").join(format!("linux-headers-{release}")),
            kernel: root.join("boot").join(format!("vmlinuz-{release}")),
            modules: root.join("lib/modules").join(&release),
            root,
            release,
        })
    }

    /// The folder that `make -C` builds modules in.
    pub(crate) fn headers(&self) -> PathBuf {
        self.headers.clone()
    }

    /// Where xtables.h is, with nothing of any C library beside it.
    pub(crate) fn include(&self) -> PathBuf {
        self.root.join("usr/include")
    }

    /// The kernel that QEMU loads.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.kernel.clone()
    }

    /// Where the kernel's own modules lie.
    pub(crate) fn modules(&self) -> PathBuf {
        self.modules.clone()
    }
}

fn fill(packages: &Packages, unfinished: &Path, entry: &Path) -> Result<()> {
    let guest = Apt::new(packages.architecture)?;
    let host = Apt::new("amd64")?;

    let image = guest.dependency(packages.kernel, "linux-image-")?;
    let release = image.trim_start_matches("linux-image-").to_owned();
    let headers = guest.dependency(packages.headers, "linux-headers-")?;
    let common = guest.dependencies(&headers)?;
    let common = common.iter().find(|name| name.ends_with("-common")).context("headers without -common")?;
    // The tools that build modules run here, so they are the host's.
    let kbuild = guest.dependency(&headers, "linux-kbuild-")?;

    let fetched = unfinished.join("packages");
    fs::create_dir_all(&fetched)?;
    guest.download(&[&image, &headers, common, EXTENSION_HEADERS], &fetched)?;
    host.download(&[&kbuild], &fetched)?;
    guest.download_with_dependencies(USERLAND, &fetched)?;
    for package in fs::read_dir(&fetched)? {
        run::quiet(run::command("dpkg-deb").arg("-x").arg(package?.path()).arg(unfinished))?;
    }
    fs::remove_dir_all(&fetched)?;
    let alone = unfinished.join("alone");
    fs::create_dir_all(&alone)?;
    guest.download(&[ALONE.0], &alone)?;
    let unpack = format!("dpkg-deb --fsys-tarfile *.deb | tar -x -C .. {}", ALONE.1);
    run::quiet(run::command("sh").args(["-c", &unpack]).current_dir(&alone))?;
    fs::remove_dir_all(&alone)?;

    // The header packages name each other by the path they have once installed.
    let sources = unfinished.join("usr/src");
    let makefile = sources.join(&headers).join("Makefile");
    let text = fs::read_to_string(&makefile)?;
    let moved = format!("{}/usr/src/", entry.display());
    fs::write(&makefile, text.replace("/usr/src/", &moved))?;

    fs::write(unfinished.join("kernel-release"), release)?;
    Ok(())
}
