//! The tests that the CI of OpenWrt's feeds runs on a router's root file system, in one that is like it.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context, Result, ensure};

use super::{Bench, PACKAGES, RECIPE, VERSION};
use crate::{debian::Tree, machine, run, toolchain};

/// The tests that the CI of `OpenWrt`'s feeds runs on a router's root file system, in one that is like it: busybox,
/// and the packages. Without its package, each must fail.
pub(super) fn test(bench: &Bench) -> Result<()> {
    let root = bench.out.join("router");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let tree = Tree::of(machine::find("x86_64-6.12")?)?.root;
    for folder in ["bin", "ci", "tmp", "dev", "etc", "usr/bin"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let copy = |from: &Path, to: &Path| run::quiet(run::command("cp").arg("-a").arg(from).arg(to));
    for part in ["bin/busybox", "lib64"] {
        copy(&tree.join(part), &root.join(part))?;
    }
    fs::create_dir_all(root.join("lib"))?;
    copy(&tree.join("lib/x86_64-linux-gnu"), &root.join("lib"))?;
    copy(&toolchain::root().join("tests/fakes/openwrt/root").join("."), &root)?;
    for script in ["test.sh", "test-version.sh"] {
        copy(&toolchain::root().join(RECIPE).join(script), &root.join("ci"))?;
    }
    fs::write(root.join("dev/null"), "")?;
    let inside = |words: &[&str]| {
        let mut unshare = run::command("unshare");
        unshare.args(["--user", "--map-root-user"]).arg(format!("--root={}", root.display()));
        unshare.args(words).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        unshare
    };
    let applets = run::output(&mut inside(&["/bin/busybox", "--list"]))?;
    for applet in applets.lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }

    let packages: Vec<(&str, String)> = PACKAGES
        .into_iter()
        .map(|name| Ok((name, bench.field(name, "Version")?.trim_end_matches("-r1").to_owned())))
        .collect::<Result<_>>()?;
    let passes = |script: &str, name: &str, version: &str| {
        run::output(&mut inside(&["/bin/sh", &format!("/ci/{script}"), name, version]))
    };
    for (name, version) in &packages {
        ensure!(passes("test.sh", name, version).is_err(), "test.sh passes without {name}");
    }
    for (name, _) in &packages {
        copy(&bench.root_of(name).join("."), &root)?;
    }
    for script in ["test.sh", "test-version.sh"] {
        for (name, version) in &packages {
            passes(script, name, version).with_context(|| format!("{script} {name} {version}"))?;
        }
        ensure!(
            passes(script, "pkd-other", VERSION).is_err(),
            "{script} passes for a package of no such name"
        );
        for name in ["pkd", "pkdd", "pkd-knock"] {
            ensure!(passes(script, name, "9.9.9").is_err(), "{script} takes any version of {name}");
        }
    }
    Ok(())
}
