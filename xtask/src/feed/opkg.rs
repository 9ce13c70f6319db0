//! The packages in the hands of a real opkg.

use std::fs;

use anyhow::{Result, ensure};

use super::Bench;
use crate::{openwrt, packages, run};

/// `feed --opkg PROGRAM`: this opkg installs the packages into a folder and removes them. Debian has no opkg, so this is
/// no part of [`test`].
pub(crate) fn test_with_opkg(program: &str) -> Result<()> {
    let bench = &Bench::new()?;
    let root = bench.out.join("opkg");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir_all(root.join("etc"))?;
    fs::create_dir_all(root.join("tmp"))?;
    let kernel = packages::kernel_version(&bench.kernel)?;
    let info = root.join("usr/lib/opkg");
    fs::create_dir_all(&info)?;
    // What a router has already.
    let there = [
        "libc",
        "iptables",
        "firewall4",
        "kmod-ipt-core",
        "kmod-nft-core",
        "kmod-nfnetlink-log",
        "luci-base",
    ];
    let entry = |name: &str, version: &str| {
        format!("Package: {name}\nVersion: {version}\nStatus: install ok installed\nArchitecture: all\n\n")
    };
    let mut status: String =
        there.iter().map(|name| entry(name, "1")).fold(String::new(), |all, one| all + &one);
    status += &entry("kernel", &kernel);
    fs::write(info.join("status"), status)?;
    let config = root.join("etc/opkg.conf");
    fs::write(&config, "dest root /\nlists_dir ext /lists\narch all 1\narch x86_64 10\n")?;
    let opkg = |words: &[&str]| {
        let mut opkg = run::command(program);
        opkg.arg("-f").arg(&config).arg("--offline-root").arg(&root).args(words).env("IPKG_INSTROOT", &root);
        opkg
    };
    // Its exit code is 0 for what it refuses, so the list of what is installed counts.
    let installed = || run::output(&mut opkg(&["list-installed"]));
    let built = packages::build(openwrt::find("x86_64")?, Some(&bench.kernel))?;
    for package in &built {
        run::output(&mut opkg(&["install", &package.ipk.to_string_lossy()]))?;
        ensure!(
            installed()?.contains(&format!("{} - ", package.name)),
            "opkg has not installed {}",
            package.name
        );
    }
    for package in built.iter().rev() {
        run::output(&mut opkg(&["remove", "--force-depends", &package.name]))?;
        ensure!(
            !installed()?.contains(&format!("{} - ", package.name)),
            "opkg has not removed {}",
            package.name
        );
    }
    Ok(())
}
