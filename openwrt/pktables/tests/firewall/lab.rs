//! Three hosts: the room is the gateway between a client and a host behind it.
//!
//! ```text
//! client ── c0 [room] i0 ── inner
//! 192.0.2.7, .8           192.0.2.1   192.168.1.1            192.168.1.10
//! 2001:db8::7, ::8        2001:db8::1 fd00::1                fd00::10
//! ```

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
pub(crate) use pkd_netns::room::at;

use crate::room::{LIMIT, run, wait};

/// How long a packet of a closed port may make somebody wait before it is called closed.
const SILENCE: Duration = Duration::from_millis(300);

/// A port that no test guards.
const UNGUARDED: u16 = 9;

const CABLES: &str = "\
netns add client
netns add inner
link add c0 type veth peer name eth0 netns client
link add i0 type veth peer name eth0 netns inner
addr add 192.0.2.1/24 dev c0
addr add 2001:db8::1/64 dev c0 nodad
addr add 192.168.1.1/24 dev i0
addr add fd00::1/64 dev i0 nodad
link set c0 up
link set i0 up
-n client addr add 192.0.2.7/24 dev eth0
-n client addr add 192.0.2.8/24 dev eth0
-n client addr add 2001:db8::7/64 dev eth0 nodad
-n client addr add 2001:db8::8/64 dev eth0 nodad
-n client link set eth0 up
-n client route add default via 192.0.2.1
-n client route add default via 2001:db8::1
-n inner addr add 192.168.1.10/24 dev eth0
-n inner addr add fd00::10/64 dev eth0 nodad
-n inner link set eth0 up
-n inner route add default via 192.168.1.1
-n inner route add default via fd00::1";

/// Connects the hosts, until the client reaches the gateway; the gateway forwards.
pub(crate) fn connect() -> Result<()> {
    for line in CABLES.lines() {
        run("ip", line.split(' '))?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
    // IPv6 needs a second before it finds its neighbours, which a single knock would not survive.
    serve(None, UNGUARDED, "gateway")?;
    for from in ["192.0.2.7", "192.0.2.8", "2001:db8::7", "2001:db8::8"] {
        expect(from, UNGUARDED, Some("gateway"))?;
    }
    Ok(())
}

/// Answers each line of each connection to a port with a name, until the room is closed.
pub(crate) fn serve(host: Option<&str>, port: u16, name: &'static str) -> Result<()> {
    let bind = || Ok(TcpListener::bind(("::", port))?);
    let listener = match host {
        Some(host) => at(host, bind)?,
        None => bind()?,
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, name));
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(name.as_bytes())?;
    }
    Ok(())
}

/// A connection from one of the client's addresses to the gateway; `None`: nobody answers.
pub(crate) fn dial(from: &str, port: u16) -> Result<Option<TcpStream>> {
    let gateway = if from.contains(':') { "2001:db8::1" } else { "192.0.2.1" };
    dial_past(from, gateway, port)
}

/// The same, to any host.
pub(crate) fn dial_past(from: &str, to: &str, port: u16) -> Result<Option<TcpStream>> {
    let (from, to): (IpAddr, IpAddr) = (from.parse()?, to.parse()?);
    at("client", || {
        let domain = if from.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        match socket.connect_timeout(&SocketAddr::new(to, port).into(), SILENCE) {
            Ok(()) => Ok(Some(TcpStream::from(socket))),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
            Err(error) => Err(error).context("it is answered, and not let in"),
        }
    })
}

/// Asks who is at the other end; `None`: nothing passes any more.
pub(crate) fn ask(stream: &mut TcpStream) -> Result<Option<String>> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.write_all(b"?")?;
    let mut buffer = [0; 64];
    match stream.read(&mut buffer) {
        Ok(length) => {
            Ok(Some(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Who answers at a port, seen from one of the client's addresses.
pub(crate) fn who(from: &str, port: u16) -> Result<Option<String>> {
    match dial(from, port)? {
        Some(mut stream) => {
            stream.set_read_timeout(Some(LIMIT))?;
            ask(&mut stream)
        }
        None => Ok(None),
    }
}

/// Waits until this is who answers.
pub(crate) fn expect(from: &str, port: u16, name: Option<&str>) -> Result<()> {
    let what = format!("who answers {from} at port {port}");
    let found = wait(&what, || who(from, port), |found| found.as_deref() == name)?;
    ensure!(found.as_deref() == name);
    Ok(())
}
