//! The packages beside Debian's knockd.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use pkd_netns::stranger::{PACE, Stranger};

use crate::{
    TRIES,
    machine::{MACHINE, Machine, until},
    step::step,
};

pub(crate) fn checks(root: &Path, machine: &Machine) -> Result<()> {
    step("pkd-knock is knock where knockd is not, whichever comes first", || beside(machine))?;
    step("knockd by Debian's unit, with pktables as its README says", || opens(root, machine))
}

/// Both packages have a program `knock`; the one of knockd is a file of its package.
fn beside(machine: &Machine) -> Result<()> {
    let ours = "test \"$(readlink -f /usr/bin/knock)\" = /usr/bin/pkd-knock && knock --version";
    let theirs = "test ! -L /usr/bin/knock && dpkg --verify knockd && pkd-knock --version";
    for (what, state) in [
        ("dpkg --install /opt/apt/pool/main/pkd-knock_*.deb", ours),
        ("dpkg --install /var/lib/knockd/*.deb", theirs),
        ("dpkg --remove knockd", ours),
        ("dpkg --install /var/lib/knockd/knockd_*.deb", theirs),
        ("dpkg --purge pkd-knock", "test ! -L /usr/bin/knock && dpkg --verify knockd"),
        ("dpkg --install /opt/apt/pool/main/pkd-knock_*.deb", theirs),
        ("dpkg --purge pkd-knock", "test ! -e /etc/alternatives/knock && dpkg --verify knockd"),
    ] {
        machine.shell(what)?;
        machine.shell(state).with_context(|| format!("after {what}"))?;
    }
    Ok(())
}

/// The code block of pktables' README that begins so.
fn block(start: &str) -> Result<&'static str> {
    let readme = include_str!("../../../linux/pktables/README.md");
    let mut blocks = readme.split("\n```").skip(1).step_by(2);
    let text = blocks.find_map(|block| {
        block.split_once('\n').map(|(_, text)| text).filter(|text| text.starts_with(start))
    });
    text.with_context(|| format!("pktables' README has no block that begins with {start}"))
}

/// The first service of the README's example.
fn opens(root: &Path, machine: &Machine) -> Result<()> {
    let drop_in = root.join("etc/systemd/system/knockd.service.d/pktables.conf");
    fs::create_dir_all(drop_in.parent().context("no folder")?)?;
    fs::write(drop_in, block("[Service]")?)?;
    fs::write(root.join("usr/local/sbin/knockd-helper"), block("#!/bin/sh")?)?;
    fs::write(root.join("etc/knockd.conf"), block("[options]")?)?;
    fs::write(root.join("etc/default/knockd"), "KNOCKD_OPTS=\"-i host0\"\n")?;
    machine.shell(
        "dpkg --install /opt/apt/pool/main/pktables_*.deb && chmod 755 /usr/local/sbin/knockd-helper && \
         systemctl daemon-reload && systemctl enable --quiet --now knockd",
    )?;
    machine.active("knockd")?;
    let port = |port| Ok::<_, anyhow::Error>(SocketAddr::new(MACHINE[0].parse()?, port));
    let stranger = Stranger::here(vec![("192.0.2.66".parse()?, port(22)?)], PACE)?;
    stranger.more(TRIES)?;
    let short = Duration::from_secs(1);
    until("knockd opens the port", || {
        // Until knockd listens, a sequence is not heard.
        for number in [7000, 8000, 9000] {
            drop(TcpStream::connect_timeout(&port(number)?, short));
        }
        Ok(TcpStream::connect_timeout(&port(22)?, short).ok())
    })
    .with_context(|| machine.report())?;
    machine.shell("systemctl stop knockd")?;
    stranger.more(TRIES)?;
    stranger.finish()?;
    machine.shell("dpkg --purge knockd && pktables remove ssh && dpkg --purge pktables").map(drop)
}
