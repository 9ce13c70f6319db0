//! What makes a guest look like a router: stand-ins of OpenWrt's scripts, its uci, and our packages to install.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context, Result};

use crate::{
    machine::Machine,
    openwrt::{self, ARCHITECTURES, Architecture},
    packages, run, toolchain, uci,
};

/// Where the guest finds the packages and what its kernel is called.
const PACKAGES: &str = "packages";

/// Puts it all below `root`. `kernel`: the folder that modules for the guest's kernel are built in.
pub(crate) fn furnish(machine: &Machine, kernel: &Path, root: &Path) -> Result<()> {
    let stand_ins = toolchain::root().join("tests/fakes/openwrt/root").join(".");
    run::quiet(run::command("cp").arg("-a").arg(stand_ins).arg(root))?;
    // The names under which OpenWrt installs the iptables that writes to nftables.
    for name in ["iptables", "ip6tables"] {
        for ending in ["", "-save", "-restore"] {
            let link = root.join("usr/sbin").join(format!("{name}{ending}"));
            if !link.is_symlink() {
                symlink(format!("{name}-nft{ending}"), link)?;
            }
        }
    }
    let architecture = architecture(machine)?;
    fs::copy(uci::program(&openwrt::Zig::find()?, architecture)?, root.join("sbin/uci"))?;

    let folder = root.join(PACKAGES);
    fs::create_dir_all(&folder)?;
    for package in packages::build(architecture, Some(kernel))? {
        let name = package.ipk.file_name().context("a package without a name")?;
        fs::copy(&package.ipk, folder.join(name))?;
    }
    // What OpenWrt's base has, and git does not keep where it is empty.
    for empty in ["tmp/.uci", "var/log", "var/run", "run", "etc/rc.d", "etc/modules.d", "etc/nftables.d"] {
        fs::create_dir_all(root.join(empty))?;
    }
    fs::write(folder.join("kernel-version"), packages::kernel_version(kernel)?)?;
    Ok(())
}

/// What `OpenWrt` calls routers of this kind.
fn architecture(machine: &Machine) -> Result<&'static Architecture> {
    // The same CPU may have VM tests for several kernels.
    let kind = machine.name.split('-').next().unwrap_or_default();
    ARCHITECTURES
        .iter()
        .find(|architecture| architecture.machine == kind)
        .with_context(|| format!("no packages are built for {}", machine.name))
}
