//! `make demo-router`: a MIPS router whose SSH port is closed, one knock, and it is open.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::OpenOptionsExt,
    thread,
};

use crate::{
    guest,
    machine::{self, Machine},
    prelude::*,
    qemu::Qemu,
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
const ROUTER: &str = include_str!("../scripts/demo-router.sh");

/// Shows the job as a transcript; an error where a step does not come out as it should.
pub(crate) fn run() -> Result<()> {
    let machine = machine::find("mipsel")?;
    // A random key, as people make one.
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let key = format!("0x{}", files::hex(&bytes));
    let router = ROUTER.replace("{key}", &key).replace("{done}", DONE);
    let guest = guest::build(machine, "demo-router", &router, None)?;
    progress!("building knock for this computer");
    cmd!("{CARGO} build --quiet --locked --release --package host-knock --no-default-features").quiet()?;
    progress!("booting the router");
    Demo::start(machine, &guest, &key, toolchain::target().join("release/knock"))?.tell()
}

struct Demo {
    router: Qemu,
    knock: PathBuf,
    ssh: u16,
    port: u16,
    /// Hears every knock on its way, and passes it on.
    eavesdropper: UdpSocket,
}

impl Demo {
    fn start(machine: &Machine, guest: &guest::Guest, key: &str, knock: PathBuf) -> Result<Self> {
        write_key("demo.key", key)?;
        write_key("guess.key", "guess")?;
        let (eavesdropper, port) = free_udp_port()?;
        let ssh = TcpListener::bind((US, 0))?.local_addr()?.port();
        let network =
            format!("user,id=net,restrict=on,hostfwd=tcp:{US}:{ssh}-:22,hostfwd=udp:{BEHIND}:{port}-:{port}");
        let card = format!("{},netdev=net", machine.card.device);
        let mut router = Qemu::start(machine, guest, "utc", &["-netdev", &network, "-device", &card])?;
        router.lines_until(DONE, BOOT)?;
        Ok(Self { router, knock, ssh, port, eavesdropper })
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
        let recorded = self.knock("demo.key")?;
        println!("    {} bytes: {}…", recorded.len(), files::hex(recorded.get(..12).unwrap_or_default()));
        self.counted("Good packets")?;
        println!("\nThe SSH port again:\n");
        println!("  open: {}", self.wait_for_ssh(Option::is_some)?.unwrap_or_default());
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
        self.knock("guess.key")?;
        self.counted("Packets with a wrong digest")?;
        self.closed()?;

        println!("\nWhat the router has counted:\n\n  router# cat /proc/net/xt_pkd");
        self.type_line("cat /proc/net/xt_pkd")?.iter().for_each(|line| println!("  {line}"));
        println!("\nDone.");
        Ok(())
    }

    /// Types a line at the router, and gives what it said.
    fn type_line(&mut self, line: &str) -> Result<Vec<String>> {
        self.router.type_line(line)?;
        self.router.lines_until(DONE, LIMIT)
    }

    /// Knocks with this key; gives the datagram as it passed the eavesdropper, who passed it on.
    fn knock(&self, key: &str) -> Result<Vec<u8>> {
        let (knock, port, us, file) = (&self.knock, self.port.to_string(), US.to_string(), key_file(key));
        println!("  $ knock --tag {TAG} --key-file {key} --port {port} {us}");
        cmd!("{knock} --tag {TAG} --key-file {file} --port {port} {us}").quiet()?;
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
        let length = match stream.read(&mut banner) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            read => read.context("the SSH port neither answers nor closes")?,
        };
        let text = String::from_utf8_lossy(banner.get(..length).unwrap_or_default()).into_owned();
        Ok(text.lines().next().map(str::to_owned))
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

fn key_file(name: &str) -> PathBuf {
    at("target").join(name)
}

fn write_key(name: &str, key: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(key_file(name));
    Ok(writeln!(file?, "{key}")?)
}
