//! pkdd's units under a real systemd: a Debian 12 boots in `systemd-nspawn`, and a stranger on the other end of its cable
//! tries to connect the whole time.
//!
//! `pkd-systemd packages ROOT REPOSITORY NEWER KNOCK` installs the packages of a repository for apt instead, on a machine with
//! openssh-server; NEWER is a package of pkdd to upgrade to.
//!
//! `pkd-systemd CHECKS ROOT UNITS PKDD KNOCK`: which checks, the root file system, which is changed, the folder with the
//! units, the programs. The checks `firewalls` need the packages of ufw, firewalld and Docker in the root.

mod firewalls;
mod knockd;
mod machine;
mod packages;
mod step;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};

use machine::{KEY, Machine, Options, quiet};

/// Tries of the stranger after each event.
const TRIES: u64 = 40;
const CONFIG: &str = "\
[gate]
firewall = 'nft'
[service.ssh]
port = 22
seconds = 600
[user.me]
format = 'classic'
tag = 'SSHK'
key_file = '/etc/pkdd/me.key'
services = ['ssh']
";
/// Gives the machine its addresses, as a network manager would: after the guard.
const NETWORK: &str = "\
[Unit]
After=network-pre.target
Wants=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'ip addr add 192.0.2.1/24 dev host0; ip addr add 2001:db8::1/64 dev host0 nodad; ip link set host0 up'
[Install]
WantedBy=multi-user.target
";
/// Listens as early as can be.
const SSH: &str = "\
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/usr/sbin/dropbear -F -E -R -p 22
Restart=always
[Install]
WantedBy=sysinit.target
";

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    if let [which, root, repository, newer, knock] = &arguments[..]
        && which == Path::new("packages")
    {
        fs::write(root.join("etc/systemd/system/network.service"), NETWORK)?;
        return packages::checks(root, repository, newer, knock);
    }
    let [which, root, debian, pkdd, knock] = &arguments[..] else {
        anyhow::bail!("usage: pkd-systemd units|firewalls ROOT UNITS PKDD KNOCK");
    };
    install(root, debian, pkdd)?;
    match which.to_str() {
        Some("units") => checks(root, knock),
        Some("firewalls") => firewalls::checks(root, knock),
        _ => anyhow::bail!("unknown checks {}: expected units or firewalls", which.display()),
    }
}

/// What the package pkdd would install, and the machine's network and SSH server.
fn install(root: &Path, debian: &Path, pkdd: &Path) -> Result<()> {
    for (from, to, mode) in [
        (pkdd.to_owned(), "usr/sbin/pkdd", "755"),
        (debian.join("pkdd.service"), "usr/lib/systemd/system/pkdd.service", "644"),
        (debian.join("pkdd-guard.service"), "usr/lib/systemd/system/pkdd-guard.service", "644"),
        (debian.join("pkdd.sysusers"), "usr/lib/sysusers.d/pkdd.conf", "644"),
        (debian.join("pkdd.tmpfiles"), "usr/lib/tmpfiles.d/pkdd.conf", "644"),
    ] {
        quiet(Command::new("install").args(["-D", "-m", mode]).arg(from).arg(root.join(to)))?;
    }
    for (name, text) in [("network", NETWORK), ("early-ssh", SSH)] {
        fs::write(root.join(format!("etc/systemd/system/{name}.service")), text)?;
    }
    fs::create_dir_all(root.join("etc/pkdd"))?;
    fs::create_dir_all(root.join("etc/dropbear"))?;
    fs::write(root.join("etc/pkdd/pkdd.toml"), CONFIG)?;
    fs::write(root.join("etc/pkdd/me.key"), format!("{KEY}\n"))?;
    // A first installation: nothing was accepted before.
    fs::create_dir_all(root.join("var/lib/pkdd"))?;
    fs::write(root.join("var/lib/pkdd/floor"), "0\nclean\n")?;
    let inside = "systemd-sysusers && chown -R root:pkdd /etc/pkdd && chmod 750 /etc/pkdd && chmod 640 /etc/pkdd/* && \
                  chown -R pkdd:pkdd /var/lib/pkdd && systemctl enable --quiet pkdd pkdd-guard nftables network early-ssh";
    quiet(Command::new("chroot").arg(root).args(["sh", "-c", inside])).map(drop)
}

fn checks(root: &Path, knock: &Path) -> Result<()> {
    let machine = Machine::boot(root, Options::default())?;
    machine.active("pkdd")?;
    machine.stranger.more(TRIES)?;
    machine.knock(knock)?;
    println!("systemd: ok   boot: closed from the first moment on, open to who knocks");

    let pid = machine.main_pid()?;
    fs::write(root.join("etc/pkdd/pkdd.toml"), CONFIG.replace("seconds = 600", "seconds = 300"))?;
    machine.inside(&["systemctl", "reload", "pkdd"])?;
    machine.logs("configuration reloaded")?;
    ensure!(machine.main_pid()? == pid, "a reload has started pkdd again");
    println!("systemd: ok   reload: the new configuration counts, in the same process");

    machine.inside(&["sh", "-c", &format!("kill -KILL {pid}")])?;
    let after_kill = machine.another_pid(&pid)?;
    machine.stranger.more(TRIES)?;
    println!("systemd: ok   kill: it starts again, and the port was closed meanwhile");

    machine.inside(&["sh", "-c", &format!("kill -STOP {after_kill}")])?;
    machine.another_pid(&after_kill)?;
    machine.stranger.more(TRIES)?;
    machine.knock(knock)?;
    println!("systemd: ok   watchdog: a daemon that hangs is started again");

    machine.inside(&["nft", "flush", "ruleset"])?;
    machine.inside(&["systemctl", "restart", "nftables"])?;
    machine.stranger.more(TRIES)?;
    println!("systemd: ok   restart of nftables: closed");

    machine.inside(&["systemctl", "stop", "pkdd"])?;
    machine.stranger.more(TRIES)?;
    machine.inside(&["systemctl", "restart", "pkdd-guard"])?;
    machine.inside(&["systemctl", "stop", "pkdd-guard"])?;
    machine.stranger.more(TRIES)?;
    println!("systemd: ok   stop: closed");
    machine.power_off()?;

    for (what, text) in [
        ("a typo", CONFIG.replace("[user.me]", "[user.me")),
        ("a missing key", CONFIG.replace("me.key", "none.key")),
        ("an empty file", String::new()),
    ] {
        fs::write(root.join("etc/pkdd/pkdd.toml"), text)?;
        let machine = Machine::boot(root, Options::default())?;
        machine.active("pkdd-guard")?;
        machine.fails("pkdd")?;
        machine.stranger.more(TRIES)?;
        machine.power_off()?;
        println!("systemd: ok   boot with {what} in pkdd.toml: closed");
    }
    fs::write(root.join("etc/pkdd/pkdd.toml"), CONFIG)?;
    fs::write(root.join("var/lib/pkdd/floor"), "")?;
    let machine = Machine::boot(root, Options::default())?;
    machine.active("pkdd")?;
    machine.logs("knocks wait for one window")?;
    machine.stranger.more(TRIES)?;
    machine.power_off()?;
    println!("systemd: ok   boot with a damaged floor: closed, and waits one window");
    Ok(())
}
