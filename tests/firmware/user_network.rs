//! End to end over QEMU's user network: after `knock`, ssh on this computer reaches an sshd on this computer through the gateway.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use pkd_core::{UnixMillis, format2::Bindings};
use pkd_gateway::{Address, Config, Endpoint, RULES, TimeServer, TimeSource};
use pkd_tests::Report;
use sha2::{Digest as _, Sha256};

use crate::{
    format2,
    machine::{Board, Machine, TIMEOUT, Tools},
    scenario,
};

/// This computer's address, as the guest sees it.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// How many bytes `scp` copies.
const BYTES: usize = 20 << 20;
/// How long a knock allows new connections, in seconds.
const TTL: u32 = 20;

pub(crate) fn checks(report: &mut Report, tools: &Tools, knock: &Path) {
    let mut network = match UserNetwork::start(tools, knock) {
        Ok(network) => network,
        Err(error) => return report.fail("user network: setup", &error),
    };
    report.check("user network: the gateway gets an address by DHCP, and the time by SNTP", || {
        let address = network.machine.wait_for_log("IP address")?;
        network.machine.wait_for_log("time set")?;
        Ok(address)
    });
    report.check("user network: before a knock, ssh cannot connect", || {
        ensure!(!network.is_open()?, "it can connect");
        Ok("no banner".to_owned())
    });
    report.check("user network: after `knock`, ssh connects", || {
        network.knock()?;
        let said = network.ssh("echo through the gateway")?;
        ensure!(said == "through the gateway", "{said}");
        Ok(said)
    });
    report.check("user network: scp copies 20 MiB without errors", || network.copy());
}

/// Prints a transcript of a knock and what it opens.
pub(crate) fn demo(tools: &Tools, knock: &Path) -> Result<()> {
    let mut network = UserNetwork::start(tools, knock)?;
    let address = network.machine.wait_for_log("IP address")?;
    println!("\nA bare-metal gateway: a Cortex-M4 with one Ethernet interface in QEMU; {address}.");
    println!("It forwards to an SSH server on this computer's loopback. The client is this computer, too.\n");
    let line = network.machine.wait_for_log("time set")?;
    println!("  gateway: {line}\n");
    println!("  $ {}", network.shown_ssh("uname -srm"));
    ensure!(!network.is_open()?, "open before the knock");
    println!("  (no server answers)\n");
    println!("  $ knock --format 2 --tag SSHK --key-file pkd.key --port {} {LOOPBACK}", network.knock_port);
    network.knock()?;
    let line = network.machine.wait_for_log("may connect")?;
    println!("  gateway: {line}\n");
    println!("  $ {}", network.shown_ssh("uname -srm"));
    println!("  {}\n", network.ssh("uname -srm")?);
    let copied = network.copy()?;
    println!("  $ scp -P {} 20-MiB {LOOPBACK}:copy", network.ssh_port);
    println!("  {copied}\n");
    println!("  # {TTL} seconds later");
    let end = Instant::now() + 2 * Duration::from_secs(TTL.into());
    while network.is_open()? {
        ensure!(Instant::now() < end, "the grant did not expire");
    }
    println!("  $ {}", network.shown_ssh("uname -srm"));
    println!("  (no server answers)\n");
    Ok(())
}

struct UserNetwork {
    machine: Machine,
    knock: PathBuf,
    folder: tempfile::TempDir,
    server: Child,
    knock_port: u16,
    ssh_port: u16,
}

impl UserNetwork {
    fn start(tools: &Tools, knock: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (server, server_port) = start_sshd(folder.path())?;
        let time_port = start_time_server()?;
        let knock_port = UdpSocket::bind((LOOPBACK, 0))?.local_addr()?.port();
        let ssh_port = TcpListener::bind((LOOPBACK, 0))?.local_addr()?.port();
        let config = config(knock_port, server_port, time_port);
        let key = folder.path().join("pkd.key");
        fs::write(&key, "test\n")?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        let user = format!(
            "user,id=net,hostfwd=udp:{LOOPBACK}:{knock_port}-:{knock_port},hostfwd=tcp:{LOOPBACK}:{ssh_port}-:{}",
            scenario::SSH
        );
        let prepare = |flash: &crate::machine::Flash| {
            flash.configure(&config)?;
            // A first installation: no knock was accepted before, so there is no need to wait.
            flash.save_floors(UnixMillis(1).into())
        };
        let network = |_: &Path| {
            vec!["-netdev".to_owned(), user, "-net".to_owned(), "nic,model=lan9118,netdev=net".to_owned()]
        };
        let machine = Machine::start(tools, Board::Mps2, prepare, network)?;
        Ok(Self { machine, knock: knock.to_owned(), folder, server, knock_port, ssh_port })
    }

    /// Whether an SSH server sends its banner. A connection alone proves nothing, because QEMU accepts it.
    fn is_open(&self) -> Result<bool> {
        let address = SocketAddr::from((LOOPBACK, self.ssh_port));
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        let mut banner = [0; 4];
        Ok(stream.read_exact(&mut banner).is_ok() && banner == *b"SSH-")
    }

    fn knock(&self) -> Result<()> {
        let port = self.knock_port.to_string();
        let mut knock = Command::new(&self.knock);
        knock
            .args(["--format", "2", "--tag", "SSHK", "--port", &port, "--key-file"])
            .arg(self.folder.path().join("pkd.key"));
        let output = knock.arg(LOOPBACK.to_string()).stdin(Stdio::null()).output().context("knock")?;
        ensure!(output.status.success(), "knock: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn shown_ssh(&self, command: &str) -> String {
        format!("ssh -p {} {LOOPBACK} {command}", self.ssh_port)
    }

    fn options(&self) -> Vec<String> {
        let identity = self.folder.path().join("identity").display().to_string();
        let mut options = vec!["-F".to_owned(), "none".to_owned(), "-i".to_owned(), identity];
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
            "ConnectTimeout=20",
        ] {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options
    }

    fn ssh(&self, command: &str) -> Result<String> {
        let port = self.ssh_port.to_string();
        let mut ssh = Command::new("ssh");
        ssh.args(self.options()).args(["-p", &port, &LOOPBACK.to_string(), command]);
        let output = ssh.stdin(Stdio::null()).output().context("ssh")?;
        ensure!(output.status.success(), "ssh: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    fn copy(&self) -> Result<String> {
        let (from, to) = (self.folder.path().join("from"), self.folder.path().join("to"));
        let mut state = 0x9e37_79b9_u32;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .take(BYTES)
        .collect();
        fs::write(&from, &bytes)?;
        let start = Instant::now();
        let mut scp = Command::new("scp");
        scp.args(self.options()).args(["-P", &self.ssh_port.to_string()]).arg(&from);
        scp.arg(format!("{LOOPBACK}:{}", to.display()));
        let output = scp.stdin(Stdio::null()).output().context("scp")?;
        ensure!(output.status.success(), "scp: {}", String::from_utf8_lossy(&output.stderr));
        let seconds = start.elapsed().as_secs_f64();
        ensure!(Sha256::digest(&bytes) == Sha256::digest(fs::read(&to)?), "the copy differs");
        #[allow(clippy::cast_precision_loss)] // 20 MiB
        let rate = BYTES as f64 / seconds / 1_048_576.0;
        Ok(format!("{} bytes, {rate:.1} MiB/s", bytes.len()))
    }
}

impl Drop for UserNetwork {
    fn drop(&mut self) {
        // It may have exited already. Nothing can be done about a failure.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn config(knock_port: u16, server_port: u16, time_port: u16) -> Config<RULES> {
    // Unbound: QEMU's own network stands between, with a NAT.
    let mut config = format2::upgraded(scenario::config(), Bindings::NONE);
    config.address = Address::Dhcp;
    config.counters_network = None;
    config.knock_port = knock_port;
    config.time = TimeSource::Sntp(TimeServer { at: SocketAddrV4::new(HOST, time_port), interval: 16 });
    config.services[0].inside = Endpoint { address: HOST.into(), port: server_port };
    config.rules[0].ttl = TTL;
    config
}

/// Starts an sshd on the loopback that accepts the key in `folder`. Returns it and its port.
fn start_sshd(folder: &Path) -> Result<(Child, u16)> {
    for name in ["host", "identity"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(name));
        ensure!(keygen.status().context("ssh-keygen")?.success(), "ssh-keygen failed");
    }
    fs::copy(folder.join("identity.pub"), folder.join("authorized"))?;
    // sshd requires this folder, which its service creates.
    let _ = fs::create_dir_all("/run/sshd");
    let port = TcpListener::bind((LOOPBACK, 0))?.local_addr()?.port();
    let mut sshd = Command::new("/usr/sbin/sshd");
    sshd.args(["-D", "-e", "-f", "/dev/null", "-h"]).arg(folder.join("host"));
    let options = [
        format!("ListenAddress={LOOPBACK}:{port}"),
        format!("AuthorizedKeysFile={}", folder.join("authorized").display()),
        "StrictModes=no".to_owned(),
        "UsePAM=no".to_owned(),
        "PidFile=none".to_owned(),
        "PermitRootLogin=yes".to_owned(),
        "Subsystem=sftp internal-sftp".to_owned(),
    ];
    for option in &options {
        sshd.args(["-o", option]);
    }
    let mut server = sshd.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().context("sshd")?;
    let mut log = BufReader::new(server.stderr.take().context("no standard error")?);
    let mut said = String::new();
    while !said.contains("Server listening") {
        if log.read_line(&mut said)? == 0 {
            bail!("sshd exited: {said}");
        }
    }
    // Drain the pipe, so that sshd does not block.
    let mut rest = File::create(folder.join("sshd.log"))?;
    thread::spawn(move || std::io::copy(&mut log, &mut rest));
    Ok((server, port))
}

/// Starts a time server on the loopback with this computer's time. Returns its port.
fn start_time_server() -> Result<u16> {
    let socket = UdpSocket::bind((LOOPBACK, 0))?;
    let port = socket.local_addr()?.port();
    thread::spawn(move || -> Result<()> {
        let mut question = [0; 128];
        loop {
            let (length, from) = socket.recv_from(&mut question)?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            let mut answer = [0; 48];
            answer[..2].copy_from_slice(&[0x24, 2]);
            answer[24..32].copy_from_slice(question.get(40..length.min(48)).context("not a request")?);
            answer[40..44]
                .copy_from_slice(&u32::try_from((now + 2_208_988_800) & 0xffff_ffff)?.to_be_bytes());
            socket.send_to(&answer, from)?;
        }
    });
    Ok(port)
}
