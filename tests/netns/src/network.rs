//! A gateway and its clients, each in a network namespace, in a user namespace that belongs to the test.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    probe,
    process::{Running, knock_program, shell, wait},
    room::{self, As},
};

const CLIENT: &str = "client";

/// Makes a test that runs in a network of its own.
#[macro_export]
macro_rules! net_test {
    ($(#[$about:meta])* $name:ident, $body:expr) => {
        $(#[$about])*
        #[test]
        fn $name() -> anyhow::Result<()> {
            $crate::network::inside(concat!(module_path!(), "::", stringify!($name)), $body)
        }
    };
}
pub use net_test;

/// Runs the same test once more, in namespaces of its own, and there `body`.
///
/// # Errors
/// It failed, or there are no namespaces.
pub fn inside(path: &str, body: fn(&Network) -> Result<()>) -> Result<()> {
    inside_as(As::RootOfTheRoom, path, body)
}

/// The same, as somebody.
///
/// # Errors
/// As for [`inside`].
pub fn inside_as(who: As, path: &str, body: fn(&Network) -> Result<()>) -> Result<()> {
    let Some(said) = room::enter(path, who, None)? else {
        shell("mount -t tmpfs tmpfs /run")?;
        return body(&Network::set_up()?);
    };
    for line in said.lines().filter_map(|line| line.strip_prefix("row: ")) {
        println!("{line}");
    }
    Ok(())
}

/// The gateway, which the test is at, and its client.
#[derive(Debug)]
pub struct Network(());

/// One of the two families, and who is who in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn host(self, last: u8) -> IpAddr {
        match self {
            Self::V4 => IpAddr::from([192, 0, 2, last]),
            Self::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()]),
        }
    }

    /// The gateway.
    #[must_use]
    pub fn gateway(self) -> IpAddr {
        self.host(1)
    }

    /// Where the gateway's SSH server is.
    #[must_use]
    pub fn ssh(self) -> SocketAddr {
        SocketAddr::new(self.gateway(), 22)
    }

    /// The client, and what it sends from by itself.
    #[must_use]
    pub fn client(self) -> IpAddr {
        self.host(2)
    }

    /// Another address of the client.
    #[must_use]
    pub fn other(self) -> IpAddr {
        self.host(9)
    }
}

impl Network {
    /// Makes the network in the namespace that this process is in, with its own `/run`.
    ///
    /// # Errors
    /// Returns an error if a command fails.
    pub fn set_up() -> Result<Self> {
        shell("ip link set lo up && ip netns add client")?;
        shell("ip link add gw type veth peer name cl && ip link set cl netns client && ip link set gw up")?;
        let inside = |line: &str| shell(&format!("nsenter --net=/run/netns/{CLIENT} {line}"));
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
        Ok(Self(()))
    }

    /// Does something where the clients are; programs that it starts are there too.
    ///
    /// # Errors
    /// It failed.
    pub fn at_client<R: Send>(&self, act: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        room::at(CLIENT, act)
    }

    /// Runs the real `knock` at the client.
    ///
    /// # Errors
    /// It failed.
    pub fn knock(&self, arguments: &[&str]) -> Result<()> {
        let output = self.at_client(|| Ok(Command::new(knock_program()?).args(arguments).output()?))?;
        ensure!(output.status.success(), "knock: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Sends a datagram from this address of the client.
    ///
    /// # Errors
    /// It failed.
    pub fn send(&self, from: IpAddr, to: SocketAddr, payload: &[u8]) -> Result<()> {
        self.at_client(|| {
            let socket = UdpSocket::bind((from, 0))?;
            socket.send_to(payload, to)?;
            Ok(())
        })
    }

    /// The first line of whoever listens there, for this address of the client; `None`: the gateway drops what it sends.
    ///
    /// # Errors
    /// It is refused, or it failed.
    pub fn banner(&self, from: IpAddr, to: SocketAddr) -> Result<Option<String>> {
        let Some(mut stream) = self.connection(from, to)? else { return Ok(None) };
        let mut bytes = [0; 64];
        let length = stream.read(&mut bytes)?;
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
        Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
    }

    /// A connection that stays open; `None`: the gateway drops what the client sends.
    ///
    /// # Errors
    /// It is refused, or it failed.
    pub fn connection(&self, from: IpAddr, to: SocketAddr) -> Result<Option<TcpStream>> {
        probe::connect(CLIENT, from, to)
    }
}

/// Whether both ends of a connection to an SSH server still hear each other.
///
/// # Errors
/// It failed.
pub fn still_speaks(stream: &mut TcpStream) -> Result<()> {
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

/// A real SSH server of the gateway, on this port of all its addresses.
///
/// # Errors
/// It failed.
pub fn ssh_server(port: u16, folder: &Path) -> Result<Running> {
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

/// A folder of the test's own, which goes with the test.
///
/// # Errors
/// It failed.
pub fn folder() -> Result<tempfile::TempDir> {
    // The /run of the test, so that nothing of it stays.
    fs::create_dir_all("/run/test")?;
    Ok(tempfile::tempdir_in("/run/test")?)
}
