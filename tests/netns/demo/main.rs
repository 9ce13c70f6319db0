//! `make demo`: a gateway and a client in network namespaces, with the real sshd, nftables, pkdd and knock.
//!
//! Starts itself again inside `unshare`, so that neither the host's network nor its firewall is touched.

#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    io::Read,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use pkd_netns::{
    namespace::{self, As},
    network::{Family, Network, folder},
    process::{LIMIT, Running, shell, text, wait},
    sshd::Sshd,
};
use socket2::{Domain, Protocol, Socket, Type};

const SSH: u16 = 22;
/// Seconds that new connections may begin after a knock.
const OPEN: u64 = 5;
/// Linux's protocol number for all Ethernet frames, `if_ether.h`.
const ALL_FRAMES: u16 = 3;
/// Ethernet, IPv4 without options, and UDP: what lies before a knock on the wire.
const HEADERS: usize = 14 + 20 + 8;
/// Where the port that a datagram is sent to begins: second in its UDP header.
const PORT: usize = 14 + 20 + 2;
const KNOCK_LENGTH: usize = 56;

const USAGE: &str = "usage: pkd-demo PKDD KNOCK (the two programs)";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut words = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(pkdd), Some(knock)) = (words.next(), words.next()) else { bail!(USAGE) };
    if !namespace::is_inside() {
        let programs = [pkdd.as_os_str(), knock.as_os_str()];
        return namespace::enter_program(As::RootIfPossible, &programs);
    }
    // Port 22 is a privileged port, which sshd binds as the user who started the demo.
    shell("mount -t tmpfs tmpfs /run && echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start")?;
    Demo::start(&Network::set_up()?, &pkdd, &knock)?.tell()
}

struct Demo<'a> {
    network: &'a Network,
    folder: tempfile::TempDir,
    pkdd: &'a Path,
    knock: &'a Path,
    sshd: Sshd,
    /// Sees every frame that reaches the gateway.
    wire: Socket,
    _daemon: Running,
}

impl<'a> Demo<'a> {
    fn start(network: &'a Network, pkdd: &'a Path, knock: &'a Path) -> Result<Self> {
        let folder = folder()?;
        let place = folder.path().display();
        let key = folder.path().join("me.key");
        write_key(&key)?;
        fs::create_dir(folder.path().join("state"))?;
        // Nothing was accepted before, so pkdd need not wait for one window.
        fs::write(folder.path().join("state/floor"), "0\nclean\n")?;
        fs::write(folder.path().join("state/floor2"), "milliseconds\n0\nclean\n")?;
        let sshd = Sshd::start(SSH, folder.path())?;
        fs::write(
            folder.path().join("pkdd.toml"),
            format!("[gate]\nfirewall = 'nft'\nrun = '{place}/run'\nstate = '{place}/state'\n{}", services()),
        )?;
        let log = folder.path().join("pkdd.log");
        let mut daemon = Command::new(pkdd);
        daemon.arg("--config").arg(folder.path().join("pkdd.toml")).arg("run");
        let mut daemon = Running(daemon.stdin(Stdio::null()).stderr(File::create(&log)?).spawn()?);
        let ready = || {
            let ended = daemon.0.try_wait()?.is_some();
            let said = fs::read_to_string(&log)?;
            ensure!(!ended, "pkdd ended: {said}");
            Ok(said)
        };
        wait("pkdd", ready, |said| said.contains("accepting knocks"))?;
        let wire =
            Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ALL_FRAMES.to_be()))))?;
        wire.set_read_timeout(Some(LIMIT))?;
        Ok(Self { network, folder, pkdd, knock, sshd, wire, _daemon: daemon })
    }

    fn tell(&self) -> Result<()> {
        println!(
            "A gateway and a client, each in a network namespace. On the gateway: sshd, and pkdd with\n"
        );
        for line in services().lines() {
            println!("    {line}");
        }
        println!("\nThe SSH port before a knock:\n");
        self.is_closed()?;

        println!("\nOne knock:\n");
        let (port, recorded) = self.knock("me.key", Some("accept"))?;
        println!(
            "    {KNOCK_LENGTH} bytes that look random: {}…",
            hex(recorded.get(..12).unwrap_or_default())
        );

        println!("\nThe SSH port now:\n");
        self.is_open()?;

        println!("\n{OPEN} seconds later (sessions that are open stay open):\n");
        wait("the end of the grant", || self.status(), |status| !status.contains("192.0.2.2"))?;
        self.is_closed()?;

        println!("\nAn eavesdropper sends the recorded knock again:\n");
        self.replay(port, &recorded)?;
        self.is_closed()?;

        println!("\nSomeone guesses the key:\n");
        write_key(&self.path("guess.key"))?;
        self.knock("guess.key", None)?;
        println!("    the kernel drops it: no knock of the right key begins like this now");
        self.is_closed()?;

        println!("\nWhat pkdd has counted:\n\n  gateway# pkdd status");
        for line in self.status()?.lines() {
            println!("    {line}");
        }
        println!("\nDone. `make demo-router` shows the kernel module on a MIPS router in QEMU.");
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Knocks with the real client and waits until it has arrived and pkdd has counted it, if it gets that far; returns the
    /// datagram and its port.
    fn knock(&self, key: &str, counter: Option<&str>) -> Result<(u16, Vec<u8>)> {
        let gateway = Family::V4.gateway().to_string();
        println!("  client$ knock --format 2 --tag SSHK --key-file {key} {gateway}");
        let before = counter.map(|counter| self.counter(counter)).transpose()?;
        let mut knock = Command::new(self.knock);
        knock.args(["--format", "2", "--tag", "SSHK", "--key-file"]).arg(self.path(key));
        let output = self.network.at_client(|| Ok(knock.arg(&gateway).output()?))?;
        ensure!(output.status.success(), "knock: {}", text(&output.stderr));
        let mut frame = [0; 2048];
        let recorded = loop {
            let length = (&self.wire).read(&mut frame).context("no knock came by")?;
            if length == HEADERS + KNOCK_LENGTH {
                let port = u16::from_be_bytes([frame[PORT], frame[PORT + 1]]);
                break (port, frame.get(HEADERS..length).unwrap_or_default().to_vec());
            }
        };
        if let (Some(counter), Some(before)) = (counter, before) {
            self.wait_for(counter, before)?;
        }
        Ok(recorded)
    }

    fn replay(&self, port: u16, recorded: &[u8]) -> Result<()> {
        let before = self.counter("replay")?;
        self.network.send(Family::V4.client(), SocketAddr::new(Family::V4.gateway(), port), recorded)?;
        self.wait_for("replay", before)
    }

    /// Waits until the counter has moved by one.
    fn wait_for(&self, counter: &str, before: u64) -> Result<()> {
        let count = wait(counter, || self.counter(counter), |count| *count > before)?;
        println!("    pkdd: {counter}: {count}");
        Ok(())
    }

    fn status(&self) -> Result<String> {
        self.ask_pkdd(&["status"])
    }

    fn ask_pkdd(&self, words: &[&str]) -> Result<String> {
        let mut pkdd = Command::new(self.pkdd);
        let output = pkdd.arg("--config").arg(self.path("pkdd.toml")).args(words).output()?;
        ensure!(output.status.success(), "pkdd: {}", text(&output.stderr));
        Ok(text(&output.stdout))
    }

    /// The number of packets that the guard of the port has dropped.
    fn dropped() -> Result<u64> {
        let rules = shell("nft list table inet pktables")?;
        let counts = rules.lines().filter_map(|line| {
            line.trim()
                .strip_prefix("counter packets ")?
                .split_once(" bytes ")
                .filter(|(_, rest)| rest.ends_with("drop"))
        });
        let counts: Vec<u64> = counts.map(|(count, _)| count.parse()).collect::<Result<_, _>>()?;
        ensure!(counts.len() == 1, "one rule that drops was expected:\n{rules}");
        Ok(counts.iter().sum())
    }

    /// Tries to log in; the gateway must have dropped the attempt.
    fn is_closed(&self) -> Result<()> {
        let before = Self::dropped()?;
        let (entered, said) = self.ssh("echo inside")?;
        ensure!(!entered && Self::dropped()? > before, "the port is not closed: {said}");
        println!("    {}", said.lines().next().unwrap_or_default());
        Ok(())
    }

    fn is_open(&self) -> Result<()> {
        let (entered, said) = self.ssh("echo logged in from $SSH_CLIENT")?;
        ensure!(entered, "the port is not open: {said}\n{}", self.sshd.log());
        println!("    {}", said.trim_end());
        Ok(())
    }

    fn counter(&self, name: &str) -> Result<u64> {
        let status: serde_json::Value = serde_json::from_str(&self.ask_pkdd(&["status", "--json"])?)?;
        status["counters"][name].as_u64().with_context(|| format!("pkdd has no counter {name}"))
    }

    /// Runs a command on the gateway by ssh: whether that succeeded, and what was printed.
    fn ssh(&self, remote: &str) -> Result<(bool, String)> {
        let gateway = Family::V4.gateway().to_string();
        println!("  client$ ssh {gateway}");
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.sshd.client_configuration());
        ssh.args(["-o", "ConnectTimeout=2", &gateway, remote]);
        let output = self.network.at_client(|| Ok(ssh.stdin(Stdio::null()).output()?))?;
        Ok((output.status.success(), [text(&output.stdout), text(&output.stderr)].concat()))
    }
}

/// The part of the gateway's configuration that the transcript shows.
fn services() -> String {
    format!(
        "[service.ssh]\nport = {SSH}\nseconds = {OPEN}\n\n[user.me]\ntag = 'SSHK'\nkey_file = 'me.key'\nservices = ['ssh']\n"
    )
}

fn write_key(path: &Path) -> Result<()> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    fs::write(path, format!("0x{}\n", hex(&bytes)))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
}
