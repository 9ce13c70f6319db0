//! The daemon on the gateway, with its own folder.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pkd_core::{Key, Knock, KnockParams, LENGTH, Port, Tag, UnixSeconds};
use serde_json::Value;

use pkd_netns::{
    network::{Family, Network, folder},
    process::{Running, wait},
};

use crate::clock::Clock;

pub(crate) const KEY: &str = "open sesame, please";
pub(crate) const TAG: &str = "SSHK";
pub(crate) const PORT: u16 = 40_000;

/// Services and users of most tests.
pub(crate) const USERS: &str = "
[service.ssh]
port = 22
seconds = 600
[user.me]
format = 'classic'
tag = 'SSHK'
key_file = 'me.key'
services = ['ssh']
";

pub(crate) struct Gateway<'a> {
    pub(crate) network: &'a Network,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) firewall: &'static str,
    /// The daemon's `PATH`; `None`: that of the test.
    pub(crate) programs: Option<String>,
    /// The daemon's clock; `None`: that of the test.
    pub(crate) clock: Option<Clock>,
    daemon: Option<Daemon>,
}

struct Daemon {
    process: Running,
    lines: Arc<Mutex<Vec<String>>>,
}

impl<'a> Gateway<'a> {
    /// A gateway that has never accepted a knock. The daemon is not running yet.
    pub(crate) fn new(network: &'a Network, firewall: &'static str) -> Result<Self> {
        let gateway =
            Self { network, folder: folder()?, firewall, programs: None, clock: None, daemon: None };
        fs::create_dir_all(gateway.path("state"))?;
        fs::write(gateway.path("state/floor"), "0\nclean\n")?;
        fs::write(gateway.path("state/floor2"), "milliseconds\n0\nclean\n")?;
        fs::write(gateway.path("me.key"), format!("{KEY}\n"))?;
        fs::set_permissions(gateway.path("me.key"), fs::Permissions::from_mode(0o600))?;
        gateway.configure(USERS)?;
        Ok(gateway)
    }

    /// Puts a folder at the start of the daemon's `PATH`.
    pub(crate) fn prepend_to_path(&mut self, folder: &Path) -> Result<()> {
        self.programs = Some(format!("{}:{}", folder.display(), std::env::var("PATH")?));
        Ok(())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration: a section `gate`, then `text`, which may start with more options of `gate`.
    pub(crate) fn configure(&self, text: &str) -> Result<()> {
        let folder = self.folder.path().display();
        let firewall = self.firewall;
        let gate =
            format!("[gate]\nfirewall = '{firewall}'\nrun = '{folder}/run'\nstate = '{folder}/state'\n");
        fs::write(self.path("pkdd.toml"), format!("{gate}{text}"))?;
        Ok(())
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        self.command_with("pkdd.toml", words)
    }

    /// A command with another configuration in the same folder.
    pub(crate) fn command_with(&self, config: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pkdd"));
        command.arg("--config").arg(self.path(config)).args(words).stdin(Stdio::null());
        command.envs(self.programs.iter().map(|path| ("PATH", path)));
        command.envs(self.clock.iter().flat_map(Clock::environment));
        command
    }

    /// Runs a command of pkdd, and returns its output.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        let output = self.command(words).output()?;
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts the daemon, and waits until it is ready.
    pub(crate) fn start(&mut self) -> Result<()> {
        let mut child = self.command(&["run"]).stderr(Stdio::piped()).spawn()?;
        let errors = child.stderr.take().context("no standard error")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if let Ok(mut lines) = log.lock() {
                    lines.push(line);
                }
            }
        });
        self.daemon = Some(Daemon { process: Running(child), lines });
        self.wait_for_line("accepting knocks")
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let daemon = self.daemon.as_ref();
        daemon.and_then(|daemon| daemon.lines.lock().ok().map(|lines| lines.clone())).unwrap_or_default()
    }

    /// Waits until the daemon has logged a line with this part.
    pub(crate) fn wait_for_line(&self, part: &str) -> Result<()> {
        let has = |lines: &Vec<String>| lines.iter().any(|line| line.contains(part));
        let ask = || {
            // In this order: the lines of a process that has ended are complete.
            let ended = self.has_ended();
            let lines = self.lines();
            ensure!(!ended || has(&lines), "pkdd has ended; its log: {lines:?}");
            Ok(lines)
        };
        wait(part, ask, has).map(drop)
    }

    fn has_ended(&self) -> bool {
        let Some(daemon) = &self.daemon else { return true };
        // The thread that reads the log ends with the daemon.
        Arc::strong_count(&daemon.lines) == 1
    }

    /// The daemon's process ID.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.daemon.as_ref().context("pkdd is not running")?.process.0.id())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid()?.try_into()?), signal)?;
        Ok(())
    }

    /// Reloads the configuration; returns whether pkdd accepted it.
    pub(crate) fn reload(&self) -> Result<bool> {
        let results = |lines: &[String]| lines.iter().filter(|line| line.contains("reloaded")).count();
        let before = results(&self.lines());
        self.signal(Signal::SIGHUP)?;
        let lines = wait("a reload", || Ok(self.lines()), |lines: &Vec<String>| results(lines) > before)?;
        let last = lines.iter().rev().find(|line| line.contains("reloaded")).context("no line")?;
        Ok(!last.contains("not reloaded"))
    }

    /// Ends the daemon with a signal; returns whether it succeeded.
    pub(crate) fn stop(&mut self, signal: Signal) -> Result<bool> {
        self.signal(signal)?;
        let mut daemon = self.daemon.take().context("pkdd is not running")?;
        Ok(daemon.process.0.wait()?.success())
    }

    pub(crate) fn status(&self) -> Result<Value> {
        let text = self.run(&["status", "--json"])?;
        serde_json::from_str(&text).with_context(|| format!("invalid status: {text}"))
    }

    pub(crate) fn counter(&self, verdict: &str) -> Result<u64> {
        self.status()?["counters"][verdict].as_u64().with_context(|| format!("no counter {verdict}"))
    }

    /// Knocks with the real `knock`.
    pub(crate) fn knock(&self, family: Family) -> Result<()> {
        let (key, port) = (self.path("me.key"), PORT.to_string());
        let key = key.to_string_lossy();
        self.network.knock(&[
            "--key-file",
            &key,
            "--tag",
            TAG,
            "--port",
            &port,
            &family.gateway().to_string(),
        ])
    }

    /// Sends a payload to the gateway, and waits until it is counted with this verdict.
    pub(crate) fn expect(&self, verdict: &str, family: Family, payload: &[u8]) -> Result<()> {
        let before = self.counter(verdict)?;
        self.network.send(family.client(), SocketAddr::new(family.gateway(), PORT), payload)?;
        wait(verdict, || self.status(), |status| status["counters"][verdict] == before + 1).map(drop)
    }

    /// Sends a knock that was accepted before, and waits until it is refused: as a replay, or because after a start without a
    /// complete memory all knocks have to wait.
    pub(crate) fn refuses(&self, payload: &[u8]) -> Result<()> {
        let refused = || Ok(self.counter("replay")? + self.counter("waiting")?);
        let (before, family) = (refused()?, Family::V4);
        self.network.send(family.client(), SocketAddr::new(family.gateway(), PORT), payload)?;
        wait("a refusal", refused, |now| *now == before + 1).map(drop)
    }

    /// Checks that the port is silent for the client.
    pub(crate) fn is_closed(&self, family: Family) -> Result<()> {
        let banner = self.network.banner(family.client(), family.ssh())?;
        ensure!(banner.is_none(), "{family:?}: the port is open");
        Ok(())
    }

    /// Waits until the port answers the client, and checks that it is silent for the client's other address.
    pub(crate) fn is_open(&self, family: Family) -> Result<()> {
        let ask = || self.network.banner(family.client(), family.ssh());
        let banner = wait("an open port", ask, Option::is_some)?.unwrap_or_default();
        ensure!(banner.starts_with("SSH-2.0-dropbear"), "{banner}");
        let other = self.network.banner(family.other(), family.ssh())?;
        ensure!(other.is_none(), "{family:?}: the port is open for others too");
        Ok(())
    }
}

pub(crate) fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// A knock with this nonce.
pub(crate) fn payload(key: &str, tag: &str, time: u64, nonce: u32) -> Result<[u8; LENGTH]> {
    let (key, tag) = (Key::parse(key)?, Tag::parse(tag)?);
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&nonce.to_le_bytes());
    Ok(Knock::seal(&KnockParams { key: &key, tag, time: UnixSeconds(time), nonce: bytes }, Port(PORT)))
}

/// Makes the daemon use iptables-legacy.
pub(crate) fn iptables_legacy(gateway: &mut Gateway<'_>) -> Result<()> {
    let programs = gateway.path("programs");
    fs::create_dir(&programs)?;
    for family in ["iptables", "ip6tables"] {
        for command in ["", "-save", "-restore"] {
            let program = format!("/usr/sbin/{family}-legacy{command}");
            symlink(program, programs.join(format!("{family}{command}")))?;
        }
    }
    gateway.prepend_to_path(&programs)
}
