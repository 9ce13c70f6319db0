//! pkdd's units under a real systemd; the checks are in `tests/netns/systemd`.

use crate::{debs, prelude::*, root};

/// What each machine needs.
const PACKAGES: &str = "systemd,systemd-sysv,nftables,iptables,iproute2,dropbear-bin";
/// What a server has before pkd comes.
const SERVER: &str = "systemd,systemd-sysv,nftables,iproute2,openssh-server";
/// The other firewalls, which a second machine has beside pkdd.
const FIREWALLS: &str = "dbus,procps,ufw,firewalld,docker.io";

/// Runs the checks, each group in a root file system of its own.
pub(crate) fn test() -> Result<()> {
    progress!("pkdd under systemd");
    cmd!(
        "{CARGO} build --quiet --locked --no-default-features --features pkdd/rules
          --package pkdd --package host-knock --package pkd-netns"
    )
    .quiet()?;
    checks("units", PACKAGES)?;
    checks("firewalls", &format!("{PACKAGES},{FIREWALLS}"))?;
    packages()
}

/// The first ten minutes of a server, with the package that `debs` builds.
pub(crate) fn packages() -> Result<()> {
    cmd!("{CARGO} build --quiet --locked --package host-knock --package pkd-netns").quiet()?;
    debs::run(&[debs::find("amd64")?])?;
    let root = root::copy(&root::base("server-base", SERVER, &[], |_| Ok(()))?, "server-root")?;
    let (programs, debs) = (toolchain::target().join("debug"), at("target/debs"));
    let result =
        cmd!("unshare --net -- {programs}/pkd-systemd packages {root} {debs} {programs}/knock").show();
    fs::remove_dir_all(&root)?;
    result
}

fn checks(which: &str, packages: &str) -> Result<()> {
    let root = root::copy(&root::base("systemd-base", packages, &[], |_| Ok(()))?, "systemd-root")?;
    let (programs, units) = (toolchain::target().join("debug"), at("linux/debian"));
    // Our end of the cable is in a namespace of its own, whatever addresses this computer has.
    let result = cmd!(
        "unshare --net -- {programs}/pkd-systemd {which} {root} {units} {programs}/pkdd {programs}/knock"
    )
    .show();
    fs::remove_dir_all(&root)?;
    result
}
