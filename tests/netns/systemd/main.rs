//! pkdd's units under a real systemd: a Debian 12 boots in `systemd-nspawn`, and a stranger on the other end of its cable
//! tries to connect the whole time.
//!
//! `pkd-systemd ROOT UNITS PKDD KNOCK`: the root file system, which is changed, the folder with the units, the programs.

use std::{
    env, fs,
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pkd_netns::stranger::{PACE, Stranger};

/// The machine's end of the cable and ours; the stranger has another address than who knocks.
const MACHINE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const KNOCKER: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
const STRANGER: [&str; 2] = ["192.0.2.66", "2001:db8::66"];
const CABLE: &str = "pkdtest0";
/// Longer than the watchdog of the unit.
const LIMIT: Duration = Duration::from_secs(90);
/// Tries of the stranger after each event.
const TRIES: u64 = 40;
const KEY: &str = "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const CONFIG: &str = "\
[gate]
firewall = 'nft'
[service.ssh]
port = 22
seconds = 600
[user.me]
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
    let [root, debian, pkdd, knock] = &arguments[..] else {
        anyhow::bail!("usage: pkd-systemd ROOT UNITS PKDD KNOCK");
    };
    install(root, debian, pkdd)?;
    checks(root, knock)
}

fn quiet(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
    let machine = Machine::boot(root)?;
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
        let machine = Machine::boot(root)?;
        machine.active("pkdd-guard")?;
        machine.fails("pkdd")?;
        machine.stranger.more(TRIES)?;
        machine.power_off()?;
        println!("systemd: ok   boot with {what} in pkdd.toml: closed");
    }
    fs::write(root.join("etc/pkdd/pkdd.toml"), CONFIG)?;
    fs::write(root.join("var/lib/pkdd/floor"), "")?;
    let machine = Machine::boot(root)?;
    machine.active("pkdd")?;
    machine.logs("knocks wait for one window")?;
    machine.stranger.more(TRIES)?;
    machine.power_off()?;
    println!("systemd: ok   boot with a damaged floor: closed, and waits one window");
    Ok(())
}

/// A booted machine, our end of its cable, and a stranger there.
struct Machine {
    nspawn: Nspawn,
    leader: String,
    stranger: Stranger,
}

impl Machine {
    fn boot(root: &Path) -> Result<Self> {
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn.args(["--quiet", "--boot", "--register=no", "--keep-unit", "--link-journal=no"]);
        nspawn.arg(format!("--network-veth-extra={CABLE}:host0")).arg("--directory").arg(root);
        nspawn.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let nspawn =
            Nspawn(nspawn.spawn().context("cannot start systemd-nspawn: install systemd-container")?);
        let leader = until("the machine's first process", || Ok(nspawn.leader()))?;
        let is_there = || Ok(quiet(Command::new("ip").args(["link", "show", "dev", CABLE])).ok());
        until("the cable", is_there)?;
        for (address, length) in KNOCKER.into_iter().chain(STRANGER).zip([24, 64].into_iter().cycle()) {
            let mut add = Command::new("ip");
            add.args(["addr", "add", &format!("{address}/{length}"), "dev", CABLE, "nodad"]);
            if STRANGER.contains(&address) {
                // Never the source of a knock.
                add.args(["preferred_lft", "0"]);
            }
            quiet(&mut add)?;
        }
        quiet(Command::new("ip").args(["link", "set", CABLE, "up"]))?;
        let pair = |(from, to): (&str, &str)| -> Result<(IpAddr, SocketAddr)> {
            Ok((from.parse()?, SocketAddr::new(to.parse()?, 22)))
        };
        let targets = STRANGER.into_iter().zip(MACHINE).map(pair).collect::<Result<Vec<_>>>()?;
        Ok(Self { nspawn, leader, stranger: Stranger::here(targets, PACE)? })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.leader, "--all"]).args(words);
        nsenter
    }

    fn inside(&self, words: &[&str]) -> Result<String> {
        quiet(&mut self.command(words))
    }

    fn show(&self, unit: &str, property: &str) -> String {
        let words = ["systemctl", "show", "--property", property, "--value", unit];
        self.inside(&words).unwrap_or_default().trim().to_owned()
    }

    fn active(&self, unit: &str) -> Result<()> {
        let ask = || Ok((self.show(unit, "ActiveState") == "active").then_some(()));
        until(unit, ask).with_context(|| self.report())
    }

    /// systemd starts it again and again, and it ends each time.
    fn fails(&self, unit: &str) -> Result<()> {
        until("failing starts", || {
            let count: u32 = self.show(unit, "NRestarts").parse().unwrap_or(0);
            ensure!(self.show(unit, "ActiveState") != "active", "{unit} runs");
            Ok((count > 0).then_some(()))
        })
    }

    fn logs(&self, part: &str) -> Result<()> {
        until(part, || {
            let text = self.inside(&["journalctl", "--no-pager", "-u", "pkdd"])?;
            Ok(text.contains(part).then_some(()))
        })
    }

    /// What a person would look at.
    fn report(&self) -> String {
        let look = "pkdd status; journalctl --no-pager -n 40; ss -tlnp; ip addr";
        self.inside(&["sh", "-c", look]).unwrap_or_else(|error| format!("{error:#}"))
    }

    fn main_pid(&self) -> Result<String> {
        let ask = || {
            let pid = self.show("pkdd", "MainPID");
            Ok(Some(pid).filter(|pid| pid != "0" && !pid.is_empty()))
        };
        until("a process", ask)
    }

    fn another_pid(&self, old: &str) -> Result<String> {
        until("another process", || Ok(Some(self.main_pid()?).filter(|pid| pid != old)))
            .and_then(|pid| self.active("pkdd").map(|()| pid))
    }

    /// Knocks, and connects over both families.
    fn knock(&self, knock: &Path) -> Result<()> {
        for address in MACHINE {
            let mut knock = Command::new(knock);
            knock.args(["--key-file", "-", "--tag", "SSHK", "--port", "40000", address]);
            let mut knock = knock.stdin(Stdio::piped()).spawn().context("cannot start knock")?;
            let mut key = knock.stdin.take().context("no standard input")?;
            writeln!(key, "{KEY}")?;
            drop(key);
            ensure!(knock.wait()?.success(), "knock failed");
            // Which address it comes from is up to the kernel: any of ours but the stranger's.
            let to = SocketAddr::new(address.parse()?, 22);
            let connect = || Ok(TcpStream::connect_timeout(&to, Duration::from_secs(2)).ok().map(drop));
            until("an open port", connect).with_context(|| format!("{to}: {}", self.report()))?;
        }
        Ok(())
    }

    fn power_off(mut self) -> Result<()> {
        let stranger = self.stranger;
        stranger.finish()?;
        let poweroff = ["--target", &self.leader, "--all", "systemctl", "poweroff"];
        quiet(Command::new("nsenter").args(poweroff))?;
        until("the machine's end", || Ok(self.nspawn.0.try_wait()?))?;
        Ok(())
    }
}

/// The process that boots the machine.
struct Nspawn(Child);

impl Nspawn {
    /// The first process of the machine.
    fn leader(&self) -> Option<String> {
        let children = format!("/proc/{0}/task/{0}/children", self.0.id());
        fs::read_to_string(children).ok()?.split_whitespace().next().map(str::to_owned)
    }
}

impl Drop for Nspawn {
    /// After a failure the machine still runs. It ends with its first process, and nspawn with it.
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            match self.leader() {
                Some(leader) => drop(quiet(Command::new("kill").args(["-KILL", &leader]))),
                None => drop(self.0.kill()),
            }
            let _already_gone = self.0.wait();
        }
    }
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = ask()? {
            return Ok(value);
        }
        ensure!(start.elapsed() < LIMIT, "{what}: not within {} s", LIMIT.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
}
