//! pkdd's units under a real systemd; the checks are in `tests/netns/systemd`.

use std::{fs, path::PathBuf};

use anyhow::Result;

use crate::{cache, run, sources, toolchain};

const SUITE: &str = "bookworm";
const PACKAGES: &str = "systemd,systemd-sysv,nftables,iptables,iproute2,dropbear-bin";

/// Runs the checks in a root file system of their own.
pub(crate) fn test() -> Result<()> {
    run::progress("pkdd under systemd");
    let mut cargo = run::command(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--no-default-features", "--features", "pkdd/rules"]);
    cargo.args(["--package", "pkdd", "--package", "host-knock", "--package", "pkd-netns"]);
    run::quiet(cargo.current_dir(toolchain::root()))?;
    let base = base()?;
    let root = cache::folder()?.join(format!("systemd-root-{}", std::process::id()));
    run::quiet(run::command("cp").args(["-a", "--reflink=auto"]).arg(&base).arg(&root))?;
    let programs = toolchain::target().join("debug");
    // Our end of the cable is in a namespace of its own, whatever addresses this computer has.
    let mut checks = run::command("unshare");
    checks.args(["--net", "--"]).arg(programs.join("pkd-systemd")).arg(&root);
    checks.arg(toolchain::root().join("linux/debian"));
    let result = run::shown(checks.arg(programs.join("pkdd")).arg(programs.join("knock")));
    fs::remove_dir_all(&root)?;
    result
}

fn base() -> Result<PathBuf> {
    cache::entry("systemd-base", &[SUITE, PACKAGES, "1"], |unfinished, _| {
        run::progress("making a Debian 12 with systemd");
        let mut mmdebstrap = run::command("mmdebstrap");
        mmdebstrap.args(["--variant=minbase", "--quiet", &format!("--include={PACKAGES}")]);
        mmdebstrap.arg(SUITE).arg(unfinished).args(sources::files()?);
        run::quiet(&mut mmdebstrap)
    })
}
