//! A machine that boots in `systemd-nspawn`, with a cable.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pkd_netns::stranger::{PACE, Stranger};

/// The machine's end of the cable and ours; the stranger has another address than who knocks.
pub(crate) const MACHINE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const KNOCKER: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
const STRANGER: [&str; 2] = ["192.0.2.66", "2001:db8::66"];
const CABLE: &str = "pkdtest0";
/// Longer than the watchdog of the unit.
const LIMIT: Duration = Duration::from_secs(90);
pub(crate) const KEY: &str = "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// What a machine has to be able to do.
#[derive(Clone, Copy)]
pub(crate) struct Options<'a> {
    /// The ports that the stranger tries.
    pub(crate) ports: &'a [u16],
    /// Whether it runs containers itself.
    pub(crate) runs_containers: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { ports: &[22], runs_containers: false }
    }
}

/// A booted machine, our end of its cable, and a stranger there.
pub(crate) struct Machine {
    nspawn: Nspawn,
    leader: String,
    pub(crate) stranger: Stranger,
}

impl Machine {
    pub(crate) fn boot(root: &Path, options: Options<'_>) -> Result<Self> {
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn.args(["--quiet", "--boot", "--register=no", "--keep-unit", "--link-journal=no"]);
        nspawn.arg(format!("--network-veth-extra={CABLE}:host0")).arg("--directory").arg(root);
        if options.runs_containers {
            // runc makes cgroups, session keyrings and device filters.
            nspawn.args(["--capability=all", "--system-call-filter=@keyring bpf"]);
        }
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
        let mut targets: Vec<(IpAddr, SocketAddr)> = Vec::new();
        for (from, to) in STRANGER.into_iter().zip(MACHINE) {
            for port in options.ports {
                targets.push((from.parse()?, SocketAddr::new(to.parse()?, *port)));
            }
        }
        Ok(Self { nspawn, leader, stranger: Stranger::here(targets, PACE)? })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.leader, "--all"]).args(words);
        nsenter
    }

    pub(crate) fn inside(&self, words: &[&str]) -> Result<String> {
        quiet(&mut self.command(words))
    }

    /// Runs a line of sh; the error has what it says.
    pub(crate) fn shell(&self, line: &str) -> Result<String> {
        let output = self.command(&["sh", "-c", line]).output()?;
        let [text, errors] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        ensure!(output.status.success(), "{line}: {errors}{text}");
        Ok(text)
    }

    fn show(&self, unit: &str, property: &str) -> String {
        let words = ["systemctl", "show", "--property", property, "--value", unit];
        self.inside(&words).unwrap_or_default().trim().to_owned()
    }

    pub(crate) fn active(&self, unit: &str) -> Result<()> {
        let ask = || Ok((self.show(unit, "ActiveState") == "active").then_some(()));
        until(unit, ask).with_context(|| self.report())
    }

    /// systemd starts it again and again, and it ends each time.
    pub(crate) fn fails(&self, unit: &str) -> Result<()> {
        until("failing starts", || {
            let count: u32 = self.show(unit, "NRestarts").parse().unwrap_or(0);
            ensure!(self.show(unit, "ActiveState") != "active", "{unit} runs");
            Ok((count > 0).then_some(()))
        })
    }

    pub(crate) fn logs(&self, part: &str) -> Result<()> {
        until(part, || {
            let text = self.inside(&["journalctl", "--no-pager", "-u", "pkdd"])?;
            Ok(text.contains(part).then_some(()))
        })
    }

    /// What a person would look at.
    pub(crate) fn report(&self) -> String {
        let look = "pkdd status; journalctl --no-pager -n 40; ss -tlnp; ip addr";
        self.inside(&["sh", "-c", look]).unwrap_or_else(|error| format!("{error:#}"))
    }

    pub(crate) fn main_pid(&self) -> Result<String> {
        let ask = || {
            let pid = self.show("pkdd", "MainPID");
            Ok(Some(pid).filter(|pid| pid != "0" && !pid.is_empty()))
        };
        until("a process", ask)
    }

    pub(crate) fn another_pid(&self, old: &str) -> Result<String> {
        until("another process", || Ok(Some(self.main_pid()?).filter(|pid| pid != old)))
            .and_then(|pid| self.active("pkdd").map(|()| pid))
    }

    /// Knocks, and connects over both families.
    pub(crate) fn knock(&self, knock: &Path) -> Result<()> {
        Self::only_knock(knock)?;
        self.is_open(22)
    }

    /// Waits until a port is open over both families.
    pub(crate) fn is_open(&self, port: u16) -> Result<()> {
        for address in MACHINE {
            // Which address it comes from is up to the kernel: any of ours but the stranger's.
            let to = SocketAddr::new(address.parse()?, port);
            let connect = || Ok(TcpStream::connect_timeout(&to, Duration::from_secs(2)).ok().map(drop));
            until("an open port", connect).with_context(|| format!("{to}: {}", self.report()))?;
        }
        Ok(())
    }

    /// Knocks over both families.
    pub(crate) fn only_knock(knock: &Path) -> Result<()> {
        for address in MACHINE {
            let mut knock = Command::new(knock);
            knock.args(["--key-file", "-", "--tag", "SSHK", "--port", "40000", address]);
            let mut knock = knock.stdin(Stdio::piped()).spawn().context("cannot start knock")?;
            let mut key = knock.stdin.take().context("no standard input")?;
            writeln!(key, "{KEY}")?;
            drop(key);
            ensure!(knock.wait()?.success(), "knock failed");
        }
        Ok(())
    }

    pub(crate) fn power_off(mut self) -> Result<()> {
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
    /// The first process of the machine. Until it is there, nspawn has children that only set it up.
    fn leader(&self) -> Option<String> {
        let children = format!("/proc/{0}/task/{0}/children", self.0.id());
        let children = fs::read_to_string(children).ok()?;
        let is_systemd = |child: &&str| {
            fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name.trim_end() == "systemd")
        };
        children.split_whitespace().find(is_systemd).map(str::to_owned)
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

pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = ask()? {
            return Ok(value);
        }
        ensure!(start.elapsed() < LIMIT, "{what}: not within {} s", LIMIT.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a command that must succeed; returns its output.
pub(crate) fn quiet(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
