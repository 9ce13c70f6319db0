//! What makes a guest look like a router: stand-ins of OpenWrt's scripts, its uci, and our packages to install.

use std::os::unix::fs::symlink;

use crate::{
    machine::Machine,
    openwrt::{ARCHITECTURES, Zig},
    packages,
    prelude::*,
    sdk::Kernel,
    uci,
};

/// Puts it all below `root`. `kernel`: the folder that modules for the guest's kernel are built in.
pub(crate) fn furnish(machine: &Machine, kernel: &Path, root: &Path) -> Result<()> {
    let stand_ins = at("tests/fakes/openwrt/root").join(".");
    cmd!("cp -a {stand_ins} {root}").quiet()?;
    // The names under which OpenWrt installs the iptables that writes to nftables.
    for name in ["iptables", "ip6tables"] {
        for ending in ["", "-save", "-restore"] {
            let link = root.join("usr/sbin").join(format!("{name}{ending}"));
            if !link.is_symlink() {
                symlink(format!("{name}-nft{ending}"), link)?;
            }
        }
    }
    // The same CPU may have VM tests for several kernels.
    let kind = machine.name.split('-').next().unwrap_or_default();
    let architecture = ARCHITECTURES.iter().find(|architecture| architecture.machine == kind);
    let architecture = architecture.with_context(|| format!("no packages are built for {}", machine.name))?;
    files::copy(&uci::program(&Zig::find()?, architecture)?, &root.join("sbin/uci"))?;

    // Where the guest finds the packages and what its kernel is called.
    let folder = root.join("packages");
    for package in packages::build(architecture, Some(kernel))? {
        files::copy_into(&package.ipk, &folder)?;
    }
    fs::write(folder.join("kernel-version"), Kernel::of(kernel)?.package_version())?;
    // What OpenWrt's base has, and git does not keep where it is empty.
    for empty in ["tmp/.uci", "var/log", "var/run", "run", "etc/rc.d", "etc/modules.d", "etc/nftables.d"] {
        fs::create_dir_all(root.join(empty))?;
    }
    Ok(())
}
