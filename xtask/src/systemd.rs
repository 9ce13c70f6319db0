//! pkdd's units under a real systemd; the checks are in `tests/netns/systemd`.

use crate::{apt, prelude::*};

const SUITE: &str = "bookworm";
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
    let base = cache::entry("systemd-base", &[SUITE, packages, "1"], |unfinished, _| {
        progress!("making a Debian 12 with systemd");
        let sources = apt::sources();
        cmd!("mmdebstrap --variant=minbase --quiet --include={packages} {SUITE} {unfinished} {sources...}")
            .quiet()
    })?;
    let root = cache::folder()?.join(format!("systemd-root-{}", std::process::id()));
    cmd!("cp -a --reflink=auto {base} {root}").quiet()?;
    let (programs, units) = (toolchain::target().join("debug"), at("linux/debian"));
    // Our end of the cable is in a namespace of its own, whatever addresses this computer has.
    let result = cmd!(
        "unshare --net -- {programs}/pkd-systemd {which} {root} {units} {programs}/pkdd {programs}/knock"
    )
    .show();
    fs::remove_dir_all(&root)?;
    result
}
