//! `make demo-router`: a MIPS router whose SSH port is closed, one knock, and it is open.

use std::{
    fs,
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    guest,
    machine::{self, Machine},
    qemu::Qemu,
    run, toolchain,
};

const TAG: &str = "SSHK";
/// Seconds that a knock opens the door for.
const OPEN: u64 = 5;
/// Seconds that clocks may differ; more than the demo takes, so that a knock sent again is not just
/// too old.
const WINDOW: u64 = 300;
const BOOT: Duration = Duration::from_mins(3);
const LIMIT: Duration = Duration::from_mins(1);
/// The router says so when it has done what was typed.
const DONE: &str = "router: done";

/// This computer, as `knock` and SSH reach the router.
const US: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Where QEMU takes datagrams for the router; the eavesdropper stands between.
const BEHIND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The rules, as the transcript shows them.
fn rules() -> [String; 4] {
    [
        "iptables -A INPUT -p tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT".to_owned(),
        format!(
            "iptables -A INPUT -p udp -m pkd --key-file /etc/pkd.key --tag {TAG} --window {WINDOW} -m recent --name pkd --set"
        ),
        format!(
            "iptables -A INPUT -p tcp --dport 22 -m recent --name pkd --rcheck --seconds {OPEN} -j ACCEPT"
        ),
        "iptables -A INPUT -p tcp --dport 22 -j REJECT --reject-with tcp-reset".to_owned(),
    ]
}

/// The router's part. Its addresses are those of QEMU's user network.
fn router(key: &str) -> String {
    format!(
        "#!/bin/sh
card=$(ls /sys/class/net | grep -v lo)
ip addr add 10.0.2.15/24 dev $card
ip link set $card up
dropbearkey -t ed25519 -f /etc/dropbear/key > /dev/null 2>&1
dropbear -r /etc/dropbear/key -p 22
ln -s iptables-legacy /usr/sbin/iptables
umask 077
echo '{key}' > /etc/pkd.key
modprobe xt_pkd
# The first start ever: nothing was accepted before.
echo floor 0 > /proc/net/xt_pkd
exec < /dev/ttyS0
stty -echo
echo '{DONE}'
while read -r line; do
    eval \"$line\"
    echo '{DONE}'
done
"
    )
}

/// Shows the job as a transcript; an error where a step does not come out as it should.
pub(crate) fn run() -> Result<()> {
    let machine = machine::find("mipsel")?;
    let key = key()?;
    let guest = guest::build(machine, "demo-router", &router(&key))?;
    let knock = build_knock()?;
    run::progress("booting the router");
    let mut demo = Demo::start(machine, &guest, &key, knock)?;
    demo.tell()
}

struct Demo {
    router: Qemu,
    knock: PathBuf,
    key_file: PathBuf,
    ssh: u16,
    port: u16,
    /// Hears every knock on its way, and passes it on.
    eavesdropper: UdpSocket,
}

impl Demo {
    fn start(machine: &Machine, guest: &guest::Guest, key: &str, knock: PathBuf) -> Result<Self> {
        let key_file = toolchain::root().join("target/demo.key");
        write_key(&key_file, key)?;
        let (eavesdropper, port) = free_udp_port()?;
        let ssh = TcpListener::bind((US, 0))?.local_addr()?.port();
        let network =
            format!("user,id=net,restrict=on,hostfwd=tcp:{US}:{ssh}-:22,hostfwd=udp:{BEHIND}:{port}-:{port}");
        let card = format!("{},netdev=net", machine.card.device);
        let mut router = Qemu::start(machine, guest, "utc", &["-netdev", &network, "-device", &card])?;
        router.lines_until(DONE, BOOT)?;
        Ok(Self { router, knock, key_file, ssh, port, eavesdropper })
    }

    fn tell(&mut self) -> Result<()> {
        let kernel = self.type_line("uname -srm")?.join(" ");
        println!("\nA router: {kernel}, in QEMU. Its firewall:\n");
        for rule in rules() {
            println!("  router# {rule}");
            let said = self.type_line(&rule)?;
            ensure!(said.is_empty(), "the router says {said:?}");
        }

        println!("\nIts SSH port, seen from here:\n");
        self.closed()?;

        println!("\nOne knock:\n");
        let mut knock = run::command(&self.knock);
        let port = self.port.to_string();
        knock
            .args(["--tag", TAG, "--key-file"])
            .arg(&self.key_file)
            .args(["--port", &port])
            .arg(US.to_string());
        println!("  $ knock --tag {TAG} --key-file demo.key --port {port} {US}");
        let recorded = self.send(&mut knock)?;
        println!("    {} bytes: {}…", recorded.len(), hex(recorded.get(..12).unwrap_or_default()));
        self.counted("Good packets")?;

        println!("\nThe SSH port again:\n");
        let banner = self.wait_for_ssh(Option::is_some)?.unwrap_or_default();
        println!("  open: {banner}");

        println!(
            "\n{OPEN} seconds after the knock (those who are in stay in, if a rule lets established flows pass):\n"
        );
        self.wait_for_ssh(Option::is_none)?;
        self.closed()?;

        println!("\nSomebody on the way has kept the knock, and sends it again:\n");
        self.pass_on(&recorded)?;
        self.counted("Replayed packets")?;
        self.closed()?;

        println!("\nSomebody else guesses the key:\n");
        let wrong = toolchain::root().join("target/demo-wrong.key");
        write_key(&wrong, "guess")?;
        let mut guess = run::command(&self.knock);
        guess.args(["--tag", TAG, "--key-file"]).arg(&wrong).args(["--port", &port]).arg(US.to_string());
        println!("  $ knock --tag {TAG} --key-file guess.key --port {port} {US}");
        self.send(&mut guess)?;
        self.counted("Packets with a wrong digest")?;
        self.closed()?;

        println!("\nWhat the router has counted:\n\n  router# cat /proc/net/xt_pkd");
        for line in self.type_line("cat /proc/net/xt_pkd")? {
            println!("  {line}");
        }
        println!("\nDone.");
        Ok(())
    }

    /// Types a line at the router, and gives what it said.
    fn type_line(&mut self, line: &str) -> Result<Vec<String>> {
        self.router.type_line(line)?;
        self.router.lines_until(DONE, LIMIT)
    }

    /// Runs `knock`; gives the datagram as it passed the eavesdropper, who passed it on.
    fn send(&mut self, knock: &mut Command) -> Result<Vec<u8>> {
        run::quiet(knock)?;
        let mut datagram = [0; 128];
        let length = self.eavesdropper.recv(&mut datagram).context("no knock came by")?;
        let datagram = datagram.get(..length).unwrap_or_default().to_vec();
        self.pass_on(&datagram)?;
        Ok(datagram)
    }

    fn pass_on(&self, datagram: &[u8]) -> Result<()> {
        self.eavesdropper.send_to(datagram, (BEHIND, self.port))?;
        Ok(())
    }

    /// Waits until the router has counted one more under this name.
    fn counted(&mut self, name: &str) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            let status = self.type_line("cat /proc/net/xt_pkd")?;
            let line = status.iter().find(|line| line.starts_with(name)).context("no such counter")?;
            if !line.ends_with(": 0") {
                println!("  router: {line}");
                return Ok(());
            }
            ensure!(Instant::now() < end, "the router still says {line:?}");
        }
    }

    fn closed(&self) -> Result<()> {
        if let Some(banner) = self.ssh()? {
            bail!("the SSH port is open: {banner}");
        }
        println!("  closed: connection reset");
        Ok(())
    }

    /// The SSH server's banner. QEMU takes every connection and closes those that the router resets.
    fn ssh(&self) -> Result<Option<String>> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((US, self.ssh)), LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut banner = [0; 64];
        match stream.read(&mut banner) {
            Ok(0) => Ok(None),
            Ok(length) => {
                let text = String::from_utf8_lossy(banner.get(..length).unwrap_or_default()).into_owned();
                Ok(text.lines().next().map(str::to_owned))
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error).context("the SSH port neither answers nor closes"),
        }
    }

    fn wait_for_ssh(&self, good: impl Fn(&Option<String>) -> bool) -> Result<Option<String>> {
        let end = Instant::now() + LIMIT;
        loop {
            let banner = self.ssh()?;
            if good(&banner) {
                return Ok(banner);
            }
            ensure!(Instant::now() < end, "after {} s the SSH port still says {banner:?}", LIMIT.as_secs());
            // The pause between two looks.
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A socket where knocks go, and its port, which is free behind it too.
fn free_udp_port() -> Result<(UdpSocket, u16)> {
    for _ in 0..100 {
        let socket = UdpSocket::bind((US, 0))?;
        let port = socket.local_addr()?.port();
        if UdpSocket::bind((BEHIND, port)).is_ok() {
            socket.set_read_timeout(Some(LIMIT))?;
            return Ok((socket, port));
        }
    }
    bail!("no UDP port is free on both {US} and {BEHIND}")
}

/// A random key, as people make one.
fn key() -> Result<String> {
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("0x{}", hex(&bytes)))
}

fn write_key(path: &Path, key: &str) -> Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{key}")?;
    Ok(())
}

fn build_knock() -> Result<PathBuf> {
    run::progress("building knock for this computer");
    let mut cargo = run::command(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--release", "--package", "host-knock"]);
    cargo.arg("--no-default-features");
    run::quiet(cargo.current_dir(toolchain::root()))?;
    Ok(toolchain::target().join("release/knock"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
}
