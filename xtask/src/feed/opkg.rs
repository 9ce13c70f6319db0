//! The packages in the hands of a real opkg.

use super::bench::Bench;
use crate::{openwrt, packages, prelude::*, sdk::Kernel};

/// `feed --opkg PROGRAM`: this opkg installs the packages into a folder and removes them. Debian has no opkg, so this is
/// no part of [`super::test`].
pub(crate) fn test_with_opkg(program: &Path) -> Result<()> {
    // What a router has already.
    const THERE: [&str; 7] = [
        "libc",
        "iptables",
        "firewall4",
        "kmod-ipt-core",
        "kmod-nft-core",
        "kmod-nfnetlink-log",
        "luci-base",
    ];
    let bench = Bench::new()?;
    let (root, config) = (bench.out.join("opkg"), bench.out.join("opkg/etc/opkg.conf"));
    files::empty(&root)?;
    for folder in ["etc", "tmp", "usr/lib/opkg", "var/lock"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let kernel = Kernel::of(&bench.kernel)?.package_version();
    let status = THERE.iter().map(|name| (*name, "1")).chain([("kernel", &*kernel)]);
    let status = status.fold(String::new(), |all, (name, version)| {
        all + &format!(
            "Package: {name}\nVersion: {version}\nStatus: install ok installed\nArchitecture: all\n\n"
        )
    });
    fs::write(root.join("usr/lib/opkg/status"), status)?;
    fs::write(&config, "dest root /\nlists_dir ext /lists\narch all 1\narch x86_64 10\n")?;
    let opkg = |words: &[&str]| {
        cmd!("{program} -f {config} --offline-root {root} {words...}").env("IPKG_INSTROOT", &root).read()
    };
    // Its exit code is 0 for what it refuses, so the list of what is installed counts.
    let has = |name: &str| Ok::<_, anyhow::Error>(opkg(&["list-installed"])?.contains(&format!("{name} - ")));
    let built = packages::build(openwrt::find("x86_64")?, Some(&bench.kernel))?;
    let paths: Vec<_> = built.iter().map(|package| package.ipk.to_string_lossy()).collect();
    // Together, as some need others.
    let words: Vec<&str> = ["install"].into_iter().chain(paths.iter().map(|path| &**path)).collect();
    opkg(&words)?;
    for package in &built {
        ensure!(has(&package.name)?, "opkg has not installed {}", package.name);
    }
    for package in built.iter().rev() {
        opkg(&["remove", "--force-depends", &package.name])?;
        ensure!(!has(&package.name)?, "opkg has not removed {}", package.name);
    }
    Ok(())
}
