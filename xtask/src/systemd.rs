//! pkdd's units under a real systemd; the checks are in `tests/netns/systemd`.

use crate::{prelude::*, root};

/// What each machine needs.
const PACKAGES: &str = "systemd,systemd-sysv,nftables,iptables,iproute2,dropbear-bin";
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
    checks("firewalls", &format!("{PACKAGES},{FIREWALLS}"))
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
