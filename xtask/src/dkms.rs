//! `xt-pkd-dkms` on a Debian 12 with two kernels, by the real apt and DKMS: without a Rust compiler, and without a network.

use std::collections::BTreeSet;

use crate::{debs, kernel::Built, kmod, machine, machine::Machine, prelude::*, root, vm};

/// What a server has: DKMS and what signs modules, the kernel that runs with its headers, and a newer kernel without.
const PACKAGES: &str = "dkms openssl linux-image-amd64 linux-headers-amd64 linux-image-6.12-amd64";

/// Keeps the newer kernel's headers in `/var/lib/newer-headers`, for a server that installs them later.
const NEWER_HEADERS: &str = "--customize-hook=APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --yes --quiet \
    --download-only install linux-headers-6.12-amd64 && mkdir $1/var/lib/newer-headers && \
    mv $1/var/cache/apt/archives/*.deb $1/var/lib/newer-headers/";

/// The machines that boot the two kernels, the one that runs first.
const MACHINES: [&str; 2] = ["x86_64", "x86_64-6.12"];

/// Who signed, as modinfo says it: DKMS by itself, and the key that the README shows.
const DKMS_KEY: &str = "DKMS module signing key";
const OWN_KEY: &str = "my own key";

/// Where the server has the packages that it installs.
const PACKAGES_HERE: &str = "srv/";

/// What a server keeps after the purge: the keys, of DKMS and of its own, what apt and dpkg remember.
const ELSEWHERE: [&str; 9] = [
    "var/lib/dkms/mok.",
    "etc/dkms/own.",
    "etc/dkms/framework.conf.d/own.conf",
    "var/lib/apt/",
    "var/lib/dpkg/",
    "var/cache/apt/",
    "var/cache/ldconfig/",
    "var/log/",
    "run/",
];

/// Builds the packages twice, has Debian judge them, and lets a server install, upgrade and remove one. Its two modules are
/// booted in QEMU.
pub(crate) fn test() -> Result<()> {
    ensure!(
        cmd!("id -u").read()?.trim() == "0",
        "dkms makes a root file system and enters it: run it as root"
    );
    for deb in debs::run_twice()? {
        // Root's rights are no concern of the package's.
        cmd!("lintian --allow-root --pedantic --display-info --fail-on error,warning,info,pedantic {deb}")
            .quiet()?;
    }
    let base = root::base("dkms-base", PACKAGES, &[NEWER_HEADERS], |_| Ok(()))?;
    let root = root::copy(&base, "dkms-root")?;
    let server = Server::new(root.clone())?;
    server.checks().with_context(|| format!("the root stays in {}", root.display()))?;
    Ok(fs::remove_dir_all(&root)?)
}

/// A computer that runs the first of two kernels.
struct Server {
    root: PathBuf,
    running: String,
    newer: String,
}

impl Server {
    fn new(root: PathBuf) -> Result<Self> {
        let kernels = files::list(&root.join("lib/modules"))?;
        let release = |part: &str| {
            let mut names = kernels.iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
            names.find(|name| name.starts_with(part)).with_context(|| format!("there is no kernel {part}"))
        };
        let (running, newer) = (release("6.1.")?, release("6.12.")?);
        // The kernel that runs is this computer's, and DKMS builds for the one that uname names.
        let uname =
            format!("#!/bin/sh\n[ \"$*\" = -r ] && exec echo {running}\nexec /usr/bin/uname \"$@\"\n");
        files::script(&root.join("usr/local/bin/uname"), &uname)?;
        Ok(Self { root, running, newer })
    }

    fn checks(&self) -> Result<()> {
        let ours = env!("CARGO_PKG_VERSION");
        let (old, new) = (self.package(ours)?, self.package("99.0.0")?);
        self.refuses("command -v rustc || command -v cargo")?;
        let before = self.files()?;

        progress!("installing beside a kernel without headers");
        let said = self.run(&format!("apt-get --yes --quiet install {old}"))?;
        let skipped = format!("Module build for kernel {} was skipped since the", self.newer);
        ensure!(
            said.contains(&skipped) && said.contains("headers for this kernel do not seem"),
            "apt says\n{said}"
        );
        self.has(ours, &[&self.running])?;
        self.run("cd /usr/src/xt-pkd-* && sha256sum --check pkd_verify.sha256")?;

        progress!("installing the newer kernel's headers");
        self.run("apt-get --yes --quiet install /var/lib/newer-headers/*.deb")?;
        self.has(ours, &[&self.running, &self.newer])?;
        self.are_signed(DKMS_KEY)?;
        self.boot()?;

        progress!("signing with a key of the server's own");
        let config = "mok_signing_key=/etc/dkms/own.key\nmok_certificate=/etc/dkms/own.der\n";
        self.run(&format!(
            "openssl req -new -x509 -newkey rsa:2048 -noenc -days 36500 -subj '/CN={OWN_KEY}/' \
                 -keyout /etc/dkms/own.key -outform DER -out /etc/dkms/own.der"
        ))?;
        fs::write(self.root.join("etc/dkms/framework.conf.d/own.conf"), config)?;
        self.run("dpkg-reconfigure xt-pkd-dkms")?;
        self.has(ours, &[&self.running, &self.newer])?;
        self.are_signed(OWN_KEY)?;

        progress!("upgrading");
        self.run(&format!("apt-get --yes --quiet install {new}"))?;
        self.has("99.0.0", &[&self.running, &self.newer])?;
        self.are_signed(OWN_KEY)?;

        for verb in ["remove", "purge"] {
            progress!("{verb}");
            self.run(&format!("apt-get --yes --quiet {verb} xt-pkd-dkms"))?;
            self.has("none", &[])?;
            if verb == "remove" {
                self.run(&format!("apt-get --yes --quiet install {old}"))?;
                self.has(ours, &[&self.running, &self.newer])?;
            }
        }
        let left = self.left_since(&before)?;
        ensure!(left.is_empty(), "after the purge there are {}", left.join(", "));
        Ok(())
    }

    /// The package of this version, where apt of the server finds it.
    fn package(&self, version: &str) -> Result<String> {
        let folder = self.root.join(PACKAGES_HERE).join(version);
        fs::create_dir(&folder)?;
        let deb = debs::dkms(debs::find("amd64")?, version, &folder)?;
        let name = deb.file_name().context("a package without a name")?.to_string_lossy();
        Ok(format!("/{PACKAGES_HERE}{version}/{name}"))
    }

    /// What a command of the shell prints. It has no network.
    fn run(&self, command: &str) -> Result<String> {
        let mut enter = root::enter(&self.root, "root", "/root", &["--net"], command);
        enter
            .env("DEBIAN_FRONTEND", "noninteractive")
            .read()
            .with_context(|| format!("on the server: {command}"))
    }

    fn refuses(&self, command: &str) -> Result<()> {
        ensure!(self.run(command).is_err(), "the server has what it must not have: {command}");
        Ok(())
    }

    /// Whether the package is installed in this version, and its module built for these kernels and no others.
    fn has(&self, version: &str, kernels: &[&String]) -> Result<()> {
        let status = self.run("dkms status")?;
        let line = |kernel: &&String| format!("xt-pkd/{version}, {kernel}, x86_64: installed");
        ensure!(
            status.lines().eq(kernels.iter().map(line)),
            "instead of {version} for {kernels:?}, there is\n{status}"
        );
        for kernel in [&self.running, &self.newer] {
            let modules = self.modules(kernel)?;
            ensure!(modules.len() == usize::from(kernels.contains(&kernel)), "{kernel} has {modules:?}");
        }
        for kernel in kernels {
            let log = format!("var/lib/dkms/xt-pkd/{version}/{kernel}/x86_64/log/make.log");
            let log =
                fs::read_to_string(self.root.join(log)).context("DKMS kept no log of the kernel's make")?;
            // Of objtool, which reads the linked module, too.
            kmod::has_no_warning(&log)?;
            for (field, expected) in [("version", version), ("vermagic", kernel)] {
                let said = self.run(&format!("modinfo -k {kernel} -F {field} xt_pkd"))?;
                let first = said.split_whitespace().next().unwrap_or_default();
                ensure!(first == expected, "xt_pkd.ko for {kernel} has the {field} {said}");
            }
        }
        let sources = files::list(&self.root.join("usr/src"))?;
        let ours: Vec<_> = sources.iter().filter(|path| path.to_string_lossy().contains("/xt-pkd")).collect();
        let expected = self.root.join(format!("usr/src/xt-pkd-{version}"));
        ensure!(
            if kernels.is_empty() { ours.is_empty() } else { ours == [&expected] },
            "in /usr/src there are {ours:?}"
        );
        Ok(())
    }

    /// Those of ours that this kernel has, wherever they are.
    fn modules(&self, kernel: &str) -> Result<Vec<PathBuf>> {
        let mut found = files::below(&self.root.join("lib/modules").join(kernel))?;
        found.retain(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("xt_pkd.ko"))
        });
        Ok(found)
    }

    fn are_signed(&self, by: &str) -> Result<()> {
        for kernel in [&self.running, &self.newer] {
            let signer = self.run(&format!("modinfo -k {kernel} -F signer xt_pkd"))?;
            ensure!(signer.trim() == by, "xt_pkd.ko for {kernel} is signed by {signer:?}");
        }
        Ok(())
    }

    /// Boots each kernel with the module that DKMS has built for it.
    fn boot(&self) -> Result<()> {
        let boot = |(name, release): (&str, &String)| -> Result<()> {
            let machine: &'static Machine = machine::find(name)?;
            let modules = self.modules(release)?;
            let kernel = Built {
                headers: self.root.join("usr/src").join(format!("linux-headers-{release}")),
                modules: self.root.join("lib/modules").join(release),
                image: self.root.join("boot").join(format!("vmlinuz-{release}")),
                release: release.clone(),
            };
            vm::run_short(machine, kernel, modules.first().context("no module")?)
        };
        let work = MACHINES.into_iter().zip([&self.running, &self.newer]);
        run::at_once(2, work.map(|work| move || boot(work)))
    }

    /// All that is in the root.
    fn files(&self) -> Result<BTreeSet<String>> {
        let root = &self.root;
        Ok(cmd!("find {root} -mindepth 1 -printf %P\\n").read()?.lines().map(str::to_owned).collect())
    }

    /// What is there besides these files, unless it belongs to an installed package or to [`ELSEWHERE`]; of ours, everything.
    fn left_since(&self, before: &BTreeSet<String>) -> Result<Vec<String>> {
        let mut owned = BTreeSet::new();
        for list in files::with_ending(&self.root.join("var/lib/dpkg/info"), "list")? {
            owned.extend(
                fs::read_to_string(list)?.lines().map(|path| path.trim_start_matches('/').to_owned()),
            );
        }
        // A package may say /lib for /usr/lib.
        let is_owned = |path: &str| owned.contains(path) || owned.contains(path.trim_start_matches("usr/"));
        let is_elsewhere = |path: &str| ELSEWHERE.iter().any(|start| path.starts_with(start));
        let mut left: Vec<_> = self.files()?.difference(before).cloned().collect();
        left.retain(|path| !path.starts_with(PACKAGES_HERE));
        left.retain(|path| path.contains("pkd") || !is_owned(path) && !is_elsewhere(path));
        Ok(left)
    }
}
