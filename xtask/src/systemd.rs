//! pkdd's units under a real systemd; the checks are in `tests/netns/systemd`.

use crate::{
    apt::{NEXT, SUITE},
    debs,
    prelude::*,
    root,
};

/// What each machine needs.
const PACKAGES: &str = "systemd,systemd-sysv,nftables,iptables,iproute2,dropbear-bin";
/// What a server has before pkd comes.
const SERVER: &str = "systemd,systemd-sysv,nftables,iproute2,openssh-server";
/// Keeps knockd and what it needs in `/var/lib/knockd`, for a server that installs it later.
const KNOCKD: &str = "--customize-hook=APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --yes --quiet --download-only \
    install knockd && mkdir $1/var/lib/knockd && mv $1/var/cache/apt/archives/*.deb $1/var/lib/knockd/";
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

/// The first ten minutes of a server, with the packages that `debs` builds, on this Debian and on the next.
pub(crate) fn packages() -> Result<()> {
    cmd!("{CARGO} build --quiet --locked --package host-knock --package pkd-netns").quiet()?;
    let (amd64, repository) = (debs::find("amd64")?, at("target/apt"));
    let key = at("target/test-key.gpg");
    if key.exists() {
        fs::remove_file(&key)?;
    }
    debs::make_key(&key)?;
    debs::repository(&[amd64], Some(&key))?;
    let newer = debs::newer_pkdd(amd64)?;
    for suite in [SUITE, NEXT] {
        progress!("the first ten minutes of a server: {suite}");
        let base = root::base_of(suite, &format!("server-{suite}"), SERVER, &[KNOCKD], |_| Ok(()))?;
        let root = root::copy(&base, "server-root")?;
        let programs = toolchain::target().join("debug");
        let result = cmd!(
            "unshare --net -- {programs}/pkd-systemd packages {root} {repository} {newer} {programs}/knock"
        )
        .show();
        fs::remove_dir_all(&root)?;
        result?;
    }
    Ok(())
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
