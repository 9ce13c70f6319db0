//! Debian packages of any architecture, without touching the host's dpkg: apt gets a state of its
//! own in the cache and uses the host's configured sources.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, machine::Machine, run};

/// What the guests run, besides the kernel and what is ours.
const USERLAND: &[&str] = &["busybox", "dropbear-bin", "iptables"];

/// What `libxt_pkd.so` is compiled against.
const EXTENSION_HEADERS: &str = "libxtables-dev";

/// What is unpacked for one machine.
pub(crate) struct Tree {
    /// Root of the unpacked packages: `boot`, `lib/modules`, `usr/src`, and the userland.
    pub(crate) root: PathBuf,
    /// `uname -r` of its kernel.
    pub(crate) release: String,
}

impl Tree {
    /// Kernel, headers and userland of `machine`; fetched once, then from the cache.
    pub(crate) fn of(machine: &Machine) -> Result<Self> {
        let inputs =
            [machine.debian, machine.kernel, machine.headers, &USERLAND.join(" "), EXTENSION_HEADERS, "1"];
        let root = cache::entry(&format!("debian-{}", machine.name), &inputs, |unfinished, entry| {
            run::progress(&format!("fetching Debian's kernel and userland for {}", machine.name));
            fill(machine, unfinished, entry)
        })?;
        let release = fs::read_to_string(root.join("kernel-release"))?;
        Ok(Self { root, release })
    }

    /// The folder that `make -C` builds modules in.
    pub(crate) fn headers(&self) -> PathBuf {
        self.root.join("usr/src").join(format!("linux-headers-{}", self.release))
    }

    /// Where xtables.h is, with nothing of any C library beside it.
    pub(crate) fn include(&self) -> PathBuf {
        self.root.join("usr/include")
    }

    /// The kernel that QEMU loads.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.root.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// Where the kernel's own modules lie.
    pub(crate) fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }
}

fn fill(machine: &Machine, unfinished: &Path, entry: &Path) -> Result<()> {
    let guest = Apt::new(machine.debian)?;
    let host = Apt::new("amd64")?;

    let image = guest.dependency(machine.kernel, "linux-image-")?;
    let release = image.trim_start_matches("linux-image-").to_owned();
    let headers = guest.dependency(machine.headers, "linux-headers-")?;
    let common = guest.dependencies(&headers)?;
    let common = common.iter().find(|name| name.ends_with("-common")).context("headers without -common")?;
    // The tools that build modules run here, so they are the host's.
    let kbuild = guest.dependency(&headers, "linux-kbuild-")?;

    let packages = unfinished.join("packages");
    fs::create_dir_all(&packages)?;
    guest.download(&[&image, &headers, common, EXTENSION_HEADERS], &packages)?;
    host.download(&[&kbuild], &packages)?;
    guest.download_with_dependencies(USERLAND, &packages)?;
    for package in fs::read_dir(&packages)? {
        run::quiet(run::command("dpkg-deb").arg("-x").arg(package?.path()).arg(unfinished))?;
    }
    fs::remove_dir_all(&packages)?;

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
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(architecture: &str) -> Result<Self> {
        let state = cache::folder()?.join(format!("apt-{architecture}"));
        for folder in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(state.join(folder))?;
        }
        // Nothing is installed, as far as this apt knows, so dependencies come along.
        fs::write(state.join("status"), "")?;
        let state = state.display();
        let options = [
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

    fn download(&self, packages: &[&str], folder: &Path) -> Result<()> {
        run::quiet(self.get().args(["--quiet", "download"]).args(packages).current_dir(folder))
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
