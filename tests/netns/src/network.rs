//! A gateway and its clients, each in a network namespace.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    namespace::{self, As},
    probe,
    process::{Running, knock_program, shell, wait},
};

/// The network namespace of the clients.
pub const CLIENT: &str = "client";

/// Defines a test that runs in its own network.
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

/// Runs the test `path` again in new namespaces, and `body` there.
///
/// # Errors
/// Namespaces are not available, or the test failed.
pub fn inside(path: &str, body: fn(&Network) -> Result<()>) -> Result<()> {
    inside_as(As::RootInNamespace, path, body)
}

/// Like [`inside`], as another user.
///
/// # Errors
/// See [`inside`].
pub fn inside_as(user: As, path: &str, body: fn(&Network) -> Result<()>) -> Result<()> {
    let Some(output) = namespace::enter(path, user, None)? else {
        shell("mount -t tmpfs tmpfs /run")?;
        return body(&Network::set_up()?);
    };
    let rows = output.lines().filter_map(|line| line.strip_prefix("row: "));
    // cargo's own output about tests ends in the middle of a line.
    rows.for_each(|row| println!("\n{row}"));
    Ok(())
}

/// The gateway, in whose namespace the test runs, and its client.
#[derive(Debug)]
pub struct Network(());

/// An address family, with the hosts' addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families.
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

    /// The gateway's SSH server.
    #[must_use]
    pub fn ssh(self) -> SocketAddr {
        SocketAddr::new(self.gateway(), 22)
    }

    /// The client's default address.
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
    /// Sets up the network in this process's namespace, which must have its own `/run`.
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
            // Usable at once, without duplicate address detection.
            let nodad = if family == Family::V4 { "" } else { "nodad" };
            shell(&format!("ip addr add {}/{length} dev gw {nodad}", family.gateway()))?;
            // The order decides which address is the client's default.
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

    /// Calls a function in the clients' namespace. Programs that it starts run there too.
    ///
    /// # Errors
    /// The function failed.
    pub fn at_client<R: Send>(&self, call: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        namespace::at(CLIENT, call)
    }

    /// Runs the real `knock` at the client.
    ///
    /// # Errors
    /// `knock` failed.
    pub fn knock(&self, arguments: &[&str]) -> Result<()> {
        let output = self.at_client(|| Ok(Command::new(knock_program()?).args(arguments).output()?))?;
        ensure!(output.status.success(), "knock: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Sends a datagram from this address of the client.
    ///
    /// # Errors
    /// The datagram could not be sent.
    pub fn send(&self, from: IpAddr, to: SocketAddr, payload: &[u8]) -> Result<()> {
        self.at_client(|| {
            let socket = UdpSocket::bind((from, 0))?;
            socket.send_to(payload, to)?;
            Ok(())
        })
    }

    /// Connects from this address of the client and returns the server's first line; `None` if the gateway drops the
    /// connection.
    ///
    /// # Errors
    /// The connection was refused or failed.
    pub fn banner(&self, from: IpAddr, to: SocketAddr) -> Result<Option<String>> {
        let Some(mut stream) = self.connection(from, to)? else { return Ok(None) };
        let mut bytes = [0; 64];
        let length = stream.read(&mut bytes)?;
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
        Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
    }

    /// Opens a connection; `None` if the gateway drops it.
    ///
    /// # Errors
    /// The connection was refused or failed.
    pub fn connection(&self, from: IpAddr, to: SocketAddr) -> Result<Option<TcpStream>> {
        probe::connect(CLIENT, from, to)
    }
}

/// Checks that a connection to an SSH server still works in both directions.
///
/// # Errors
/// The connection is closed or silent.
pub fn still_speaks(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"SSH-2.0-test\r\n")?;
    let mut heard = 0;
    let mut bytes = [0; 2048];
    // The banner, and the list of algorithms that answers ours.
    while heard < 200 {
        let length = stream.read(&mut bytes).context("the connection fell silent")?;
        ensure!(length > 0, "the connection was closed");
        heard += length;
    }
    Ok(())
}

/// Starts a real SSH server on this port of the gateway.
///
/// # Errors
/// The server does not start.
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

/// A folder for the test, which is removed at its end.
///
/// # Errors
/// The folder cannot be created.
pub fn folder() -> Result<tempfile::TempDir> {
    // /run is the test's own, so nothing is left behind.
    fs::create_dir_all("/run/test")?;
    Ok(tempfile::tempdir_in("/run/test")?)
}
