//! Debian packages of any architecture, without touching the host's dpkg: apt gets a state of its
//! own in the cache and uses the host's configured sources.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    cache,
    machine::{Machine, Packages, System},
    openwrt::{self, Zig},
    run, sources, userland,
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

/// apt for one architecture.
pub(crate) struct Apt {
    options: Vec<String>,
}

impl Apt {
    pub(crate) fn new(architecture: &str) -> Result<Self> {
        Self::with(architecture, &format!("apt-{architecture}"), None)
    }

    /// The host's, with source packages and with backports, which come last.
    pub(crate) fn with_sources() -> Result<Self> {
        let name = "apt-sources";
        let parts = cache::folder()?.join(name).join("sources.list.d");
        sources::derive(&parts)?;
        Self::with("amd64", name, Some(&parts))
    }

    fn with(architecture: &str, name: &str, parts: Option<&Path>) -> Result<Self> {
        let state = cache::folder()?.join(name);
        for folder in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(state.join(folder))?;
        }
        // Nothing is installed, as far as this apt knows, so dependencies come along.
        fs::write(state.join("status"), "")?;
        let state = state.display();
        let mut options = vec![
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
            format!("Dir::State={state}"),
            format!("Dir::State::lists={state}/lists"),
            format!("Dir::State::status={state}/status"),
            format!("Dir::Cache={state}"),
            // Only root may become the user _apt.
            "APT::Sandbox::User=".to_owned(),
            "APT::Get::AllowUnauthenticated=false".to_owned(),
        ];
        if let Some(parts) = parts {
            options.push("Dir::Etc::SourceList=/dev/null".to_owned());
            options.push(format!("Dir::Etc::SourceParts={}", parts.display()));
        }
        let apt = Self { options: options.iter().flat_map(|o| ["-o".to_owned(), o.clone()]).collect() };
        // A mirror that is being renewed lacks a list for a while; the others may hold all that is
        // wanted, and what they do not hold is missed by name below.
        if let Err(error) = run::quiet(apt.get().args(["--quiet", "update"])) {
            run::progress(&format!("going on with the lists that apt has for {architecture}: {error}"));
        }
        Ok(apt)
    }

    fn get(&self) -> Command {
        let mut get = run::command("apt-get");
        get.args(&self.options).env("LC_ALL", "C");
        get
    }

    /// The packages that `package` depends on directly.
    fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let mut command = run::command("apt-cache");
        command.args(&self.options).args(["depends", "--important", package]).env("LC_ALL", "C");
        let text = run::output(&mut command)?;
        let names =
            text.lines().filter_map(|line| line.trim().trim_start_matches('|').strip_prefix("Depends: "));
        Ok(names.map(str::to_owned).collect())
    }

    fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        self.dependencies(package)?
            .into_iter()
            .find(|name| name.starts_with(prefix) && !name.ends_with("-common"))
            .with_context(|| format!("{package} depends on no {prefix}…"))
    }

    pub(crate) fn download(&self, packages: &[&str], folder: &Path) -> Result<()> {
        run::quiet(self.get().args(["--quiet", "download"]).args(packages).current_dir(folder))
    }

    /// Fetches what a package is built from and unpacks it, with Debian's patches, into `folder/PACKAGE`.
    pub(crate) fn source(&self, package: &str, folder: &Path) -> Result<PathBuf> {
        let fetched = folder.join(format!("{package}.source"));
        fs::create_dir_all(&fetched)?;
        run::quiet(self.get().args(["--quiet", "source", "--download-only", package]).current_dir(&fetched))
            .with_context(|| format!("Debian's mirror does not give the source of {package}"))?;
        let description = fs::read_dir(&fetched)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|ending| ending == "dsc"))
            .with_context(|| format!("the source of {package} has no description"))?;
        let unpacked = folder.join(package);
        // apt has checked the signature of the list that has the sums of these files.
        run::quiet(
            run::command("dpkg-source")
                .args(["--no-check", "--no-copy", "-x"])
                .arg(description)
                .arg(&unpacked),
        )?;
        fs::remove_dir_all(&fetched)?;
        Ok(unpacked)
    }

    fn download_with_dependencies(&self, packages: &[&str], folder: &Path) -> Result<()> {
        let archives = format!("Dir::Cache::archives={}", folder.display());
        fs::create_dir_all(folder.join("partial"))?;
        let mut get = self.get();
        get.args([
            "-o",
            &archives,
            "--quiet",
            "--yes",
            "--download-only",
            "--no-install-recommends",
            "install",
        ]);
        run::quiet(get.args(packages))?;
        fs::remove_dir_all(folder.join("partial"))?;
        let lock = folder.join("lock");
        if lock.exists() {
            fs::remove_file(lock)?;
        }
        Ok(())
    }
}
