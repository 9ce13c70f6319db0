//! A gateway and its clients, each in a network namespace, in a user namespace that belongs to the test.

use std::{
    env,
    fs::{self, File},
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Socket, Type};

/// How long anything may take before a test gives up.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const INSIDE: &str = "PKDD_TEST_INSIDE";
const CLIENT: &str = "/run/netns/client";

/// Makes a test that runs in a network of its own.
macro_rules! net_test {
    ($(#[$about:meta])* $name:ident, $body:expr) => {
        $(#[$about])*
        #[test]
        fn $name() -> anyhow::Result<()> {
            $crate::network::inside(concat!(module_path!(), "::", stringify!($name)), $body)
        }
    };
}
pub(crate) use net_test;

/// Runs the same test once more, in namespaces of its own, and there `body`.
pub(crate) fn inside(path: &str, body: fn(&Network) -> Result<()>) -> Result<()> {
    let (_, name) = path.split_once("::").context("a path without a crate")?;
    if env::var_os(INSIDE).is_some() {
        return body(&Network::set_up()?);
    }
    let child = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(env::current_exe()?)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        // Whoever is not root may lack these.
        .env("PATH", format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default()))
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run unshare")?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success(), "inside: {said}");
    ensure!(said.contains("1 passed"), "{name} did not run: {said}");
    for line in said.lines().filter_map(|line| line.strip_prefix("row: ")) {
        println!("{line}");
    }
    Ok(())
}

pub(crate) struct Network {
    client: &'static Path,
}

/// One of the two families, and who is who in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn host(self, last: u8) -> IpAddr {
        match self {
            Self::V4 => IpAddr::from([192, 0, 2, last]),
            Self::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()]),
        }
    }

    pub(crate) fn gateway(self) -> IpAddr {
        self.host(1)
    }

    /// Where the gateway's SSH server is.
    pub(crate) fn ssh(self) -> SocketAddr {
        SocketAddr::new(self.gateway(), 22)
    }

    /// The client, and what it sends from by itself.
    pub(crate) fn client(self) -> IpAddr {
        self.host(2)
    }

    /// Another address of the client.
    pub(crate) fn other(self) -> IpAddr {
        self.host(9)
    }
}

impl Network {
    fn set_up() -> Result<Self> {
        shell("mount -t tmpfs tmpfs /run && ip link set lo up && ip netns add client")?;
        shell("ip link add gw type veth peer name cl && ip link set cl netns client && ip link set gw up")?;
        let inside = |line: &str| shell(&format!("nsenter --net={CLIENT} {line}"));
        inside("ip link set lo up")?;
        inside("ip link set cl up")?;
        for family in Family::BOTH {
            let length = if family == Family::V4 { 24 } else { 64 };
            // Usable at once, without a look for duplicates.
            let nodad = if family == Family::V4 { "" } else { "nodad" };
            shell(&format!("ip addr add {}/{length} dev gw {nodad}", family.gateway()))?;
            // The first is what the client sends from by itself.
            let order = if family == Family::V4 {
                [family.client(), family.other()]
            } else {
                [family.other(), family.client()]
            };
            for address in order {
                inside(&format!("ip addr add {address}/{length} dev cl {nodad}"))?;
            }
        }
        Ok(Self { client: Path::new(CLIENT) })
    }

    /// Does something where the clients are; programs that it starts are there too.
    pub(crate) fn at_client<R: Send>(&self, act: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(File::open(self.client)?, CloneFlags::CLONE_NEWNET)?;
                act()
            });
            thread.join().map_err(|_| anyhow::anyhow!("a panic at the client"))?
        })
    }

    /// Runs the real `knock` at the client.
    pub(crate) fn knock(&self, arguments: &[&str]) -> Result<()> {
        let output = self.at_client(|| Ok(Command::new(knock_program()?).args(arguments).output()?))?;
        ensure!(output.status.success(), "knock: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Sends a datagram from this address of the client.
    pub(crate) fn send(&self, from: IpAddr, to: SocketAddr, payload: &[u8]) -> Result<()> {
        self.at_client(|| {
            let socket = UdpSocket::bind((from, 0))?;
            socket.send_to(payload, to)?;
            Ok(())
        })
    }

    /// The first line of whoever listens there, for this address of the client; `None`: nobody lets it in.
    pub(crate) fn banner(&self, from: IpAddr, to: SocketAddr) -> Result<Option<String>> {
        let connected = self.at_client(|| connect(from, to, Duration::from_millis(300)))?;
        let Some(mut stream) = connected else { return Ok(None) };
        let mut bytes = [0; 64];
        let length = stream.read(&mut bytes)?;
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
        Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
    }

    /// A connection that stays open.
    pub(crate) fn connection(&self, from: IpAddr, to: SocketAddr) -> Result<TcpStream> {
        self.at_client(|| connect(from, to, LIMIT))?.context("no connection")
    }
}

/// A closed port is silent, so a short time tells; an open one answers in much less.
fn connect(from: IpAddr, to: SocketAddr, limit: Duration) -> Result<Option<TcpStream>> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    match socket.connect_timeout(&to.into(), limit) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Ok(None),
        Err(error) => return Err(error).context("neither open nor silent"),
    }
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(Some(stream))
}

/// Whether both ends of a connection to an SSH server still hear each other.
pub(crate) fn still_speaks(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"SSH-2.0-test\r\n")?;
    let mut heard = 0;
    let mut bytes = [0; 2048];
    // The banner, and the offer of algorithms that answers ours.
    while heard < 200 {
        let length = stream.read(&mut bytes).context("the connection fell silent")?;
        ensure!(length > 0, "the connection was closed");
        heard += length;
    }
    Ok(())
}

/// Asks again until the answer is the one that is waited for.
pub(crate) fn wait<T: std::fmt::Debug>(
    what: &str,
    mut ask: impl FnMut() -> Result<T>,
    is_it: impl Fn(&T) -> bool,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        let answer = ask()?;
        if is_it(&answer) {
            return Ok(answer);
        }
        ensure!(begin.elapsed() < LIMIT, "{what}: still {answer:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a line of sh; what it printed.
pub(crate) fn shell(line: &str) -> Result<String> {
    let output = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Ends with what it belongs to.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// A real SSH server of the gateway, on this port of all its addresses.
pub(crate) fn ssh_server(port: u16, folder: &Path) -> Result<Running> {
    let key = folder.join(format!("host-key-{port}"));
    let path = key.display();
    if !key.exists() {
        shell(&format!("dropbearkey -t ed25519 -f {path}"))?;
    }
    let log = File::create(folder.join("dropbear.log"))?;
    let server = Command::new("dropbear")
        .args(["-F", "-E", "-p", &port.to_string(), "-P", &folder.join("pid").to_string_lossy(), "-r"])
        .arg(&key)
        .stderr(log)
        .spawn()
        .context("cannot run dropbear")?;
    let running = Running(server);
    let local = SocketAddr::from(([127, 0, 0, 1], port));
    wait("the SSH server", || Ok(TcpStream::connect(local).is_ok()), |up| *up)?;
    Ok(running)
}

/// The client's program.
pub(crate) fn knock_program() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || built("host-knock", "knock").map_err(|error| format!("{error:#}"));
    BUILT.get_or_init(build).clone().map_err(anyhow::Error::msg)
}

/// A program of another package, built where ours was, and as ours was.
pub(crate) fn built(package: &str, name: &str) -> Result<PathBuf> {
    let pkdd = Path::new(env!("CARGO_BIN_EXE_pkdd"));
    let folder = pkdd.parent().context("no folder")?;
    let program = folder.join(name);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--package", package, "--bin", name, "--target-dir"]);
    cargo.arg(folder.parent().context("no target folder")?);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    ensure!(cargo.status()?.success(), "{package} is not built");
    ensure!(program.is_file(), "there is no {}", program.display());
    Ok(program)
}

/// A folder of the test's own, which goes with the test.
pub(crate) fn folder() -> Result<tempfile::TempDir> {
    // The /run of the test, so that nothing of it stays.
    fs::create_dir_all("/run/test")?;
    Ok(tempfile::tempdir_in("/run/test")?)
}
