//! The match of xtables-addons that knows knocks, as Debian has it: what a packet is measured beside.

use crate::{
    apt::{self, Apt},
    debian::Tree,
    guest::Extra,
    machine::Machine,
    prelude::*,
};

/// Debian's packages of the sources, and of iptables' extensions.
const PACKAGES: [&str; 2] = ["xtables-addons-dkms", "xtables-addons-common"];

/// Builds its module and its extension for the machine's kernel; `None`: they do not build there.
pub(super) fn build(machine: &Machine) -> Result<Option<Extra>> {
    // Its extension is Debian's own, of the host's architecture; others would have to be fetched for each machine.
    if machine.name != "x86_64" {
        return Ok(None);
    }
    let tree = Tree::of(machine)?;
    let folder = cache::entry("pknock", &[&tree.kernel.release, &PACKAGES.join(" ")], |unfinished, _| {
        progress!("building xt_pknock of xtables-addons");
        fill(machine, &tree.kernel.headers, unfinished)
    })?;
    Ok(Some(Extra {
        module: folder.join("xt_pknock.ko"),
        extension: folder.join("libxt_pknock.so"),
        needed: &["hmac", "sha256_generic"],
    }))
}

fn fill(machine: &Machine, headers: &Path, folder: &Path) -> Result<()> {
    let (packages, root, cross) = (folder.join("packages"), folder.join("root"), machine.cross);
    fs::create_dir_all(&packages)?;
    Apt::new("amd64")?.download(&PACKAGES, &packages)?;
    apt::unpack(&packages, &root)?;
    let sources = files::list(&root.join("usr/src"))?;
    let pknock = sources.first().context("no sources in the package")?.join("extensions/pknock");
    fs::write(pknock.join("Kbuild"), "ccflags-y := -I$(src)/..\nobj-m := xt_pknock.o\n")?;
    cmd!(
        "make -C {headers} M={pknock} CROSS_COMPILE={cross} CC=gcc-12 CONFIG_DEBUG_INFO_BTF_MODULES= modules"
    )
    .quiet()?;
    files::copy_into(&pknock.join("xt_pknock.ko"), folder)?;
    files::copy_into(&root.join("usr/lib/x86_64-linux-gnu/xtables/libxt_pknock.so"), folder)?;
    fs::remove_dir_all(root)?;
    Ok(fs::remove_dir_all(packages)?)
}
