//! The tests that the CI of OpenWrt's feeds runs on a router's root file system, in one that is like it.

use std::os::unix::fs::symlink;

use super::bench::Bench;
use crate::{
    debian::Tree,
    machine,
    prelude::*,
    sdk::{RECIPE, VERSION},
};

/// Busybox, and these packages. Without its package, each test must fail.
pub(super) fn test(bench: &Bench, packages: &[&str]) -> Result<()> {
    let root = bench.out.join("router");
    files::empty(&root)?;
    let tree = Tree::of(machine::find("x86_64-6.12")?)?.root;
    for folder in ["bin", "ci", "tmp", "dev", "etc", "lib", "usr/bin"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let copy = |from: &Path, to: &str| cmd!("cp -a {from} {root}/{to}").quiet();
    for (part, to) in [("bin/busybox", "bin/busybox"), ("lib64", "lib64"), ("lib/x86_64-linux-gnu", "lib")] {
        copy(&tree.join(part), to)?;
    }
    copy(&at("tests/fakes/openwrt/root").join("."), "")?;
    for script in ["test.sh", "test-version.sh"] {
        copy(&at(RECIPE).join(script), "ci")?;
    }
    fs::write(root.join("dev/null"), "")?;
    let inside = |words: &[&str]| {
        cmd!("unshare --user --map-root-user --root={root} {words...}")
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .read()
    };
    for applet in inside(&["/bin/busybox", "--list"])?.lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }

    let version = |name| Ok((name, bench.field(name, "Version")?.trim_end_matches("-r1").to_owned()));
    let packages: Vec<(&str, String)> = packages.iter().copied().map(version).collect::<Result<_>>()?;
    let passes = |script: &str, name: &str, version: &str| {
        inside(&["/bin/sh", &format!("/ci/{script}"), name, version])
    };
    for (name, version) in &packages {
        ensure!(passes("test.sh", name, version).is_err(), "test.sh passes without {name}");
    }
    for (name, _) in &packages {
        copy(&bench.root_of(name).join("."), "")?;
    }
    for script in ["test.sh", "test-version.sh"] {
        for (name, version) in &packages {
            passes(script, name, version).with_context(|| format!("{script} {name} {version}"))?;
        }
        let passes_other = passes(script, "pkd-other", VERSION).is_ok();
        ensure!(!passes_other, "{script} passes for a package of no such name");
        for name in ["pkd", "pkdd", "pkd-knock", "pktables"] {
            ensure!(passes(script, name, "9.9.9").is_err(), "{script} takes any version of {name}");
        }
    }
    Ok(())
}
