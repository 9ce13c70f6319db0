//! The match of xtables-addons that knows knocks, as Debian has it: what a packet is measured beside.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{apt::Apt, cache, debian::Tree, machine::Machine, run};

/// Debian's packages of the sources, and of iptables' extensions.
const PACKAGES: [&str; 2] = ["xtables-addons-dkms", "xtables-addons-common"];

/// The match for a guest.
pub(super) struct Pknock {
    pub(super) module: PathBuf,
    pub(super) extension: PathBuf,
}

/// Builds it for the machine's kernel; `None`: it does not build there.
pub(super) fn build(machine: &Machine) -> Result<Option<Pknock>> {
    // Its extension is Debian's own, of the host's architecture; others would have to be fetched for each machine.
    if machine.name != "x86_64" {
        return Ok(None);
    }
    let tree = Tree::of(machine)?;
    let folder = cache::entry("pknock", &[&tree.release, &PACKAGES.join(" ")], |unfinished, _| {
        run::progress("building xt_pknock of xtables-addons");
        fill(machine, &tree, unfinished)
    })?;
    Ok(Some(Pknock { module: folder.join("xt_pknock.ko"), extension: folder.join("libxt_pknock.so") }))
}

fn fill(machine: &Machine, tree: &Tree, folder: &Path) -> Result<()> {
    let packages = folder.join("packages");
    fs::create_dir_all(&packages)?;
    Apt::new("amd64")?.download(&PACKAGES, &packages)?;
    let root = folder.join("root");
    for package in fs::read_dir(&packages)? {
        run::quiet(run::command("dpkg-deb").arg("-x").arg(package?.path()).arg(&root))?;
    }
    let sources = fs::read_dir(root.join("usr/src"))?.next().context("no sources in the package")??.path();
    let pknock = sources.join("extensions/pknock");
    fs::write(pknock.join("Kbuild"), "ccflags-y := -I$(src)/..\nobj-m := xt_pknock.o\n")?;
    let mut make = run::command("make");
    make.arg("-C").arg(tree.headers());
    make.arg(format!("M={}", pknock.display())).arg(format!("CROSS_COMPILE={}", machine.cross));
    run::quiet(make.args(["CC=gcc-12", "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"]))?;
    fs::copy(pknock.join("xt_pknock.ko"), folder.join("xt_pknock.ko"))?;
    let extension = root.join("usr/lib/x86_64-linux-gnu/xtables/libxt_pknock.so");
    fs::copy(extension, folder.join("libxt_pknock.so"))?;
    fs::remove_dir_all(root)?;
    Ok(fs::remove_dir_all(packages)?)
}
