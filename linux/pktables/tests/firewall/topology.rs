//! Three hosts: the namespace of the test is the gateway between a client and an inner host.
//!
//! ```text
//! client ── c0 [test] i0 ── inner
//! 192.0.2.7, .8           192.0.2.1   192.168.1.1            192.168.1.10
//! 2001:db8::7, ::8        2001:db8::1 fd00::1                fd00::10
//! ```

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Result, ensure};
pub(crate) use pkd_netns::namespace::at;
use pkd_netns::probe;

use crate::netns::{run, wait};

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

/// Connects the hosts and enables forwarding; returns when the client reaches the gateway.
pub(crate) fn connect() -> Result<()> {
    for line in CABLES.lines() {
        run("ip", line.split(' '))?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
    // Neighbour discovery takes a second, during which packets would look dropped.
    serve(None, UNGUARDED, "gateway")?;
    for from in ["192.0.2.7", "192.0.2.8", "2001:db8::7", "2001:db8::8"] {
        expect(from, UNGUARDED, Some("gateway"))?;
    }
    for inner in ["192.168.1.10", "fd00::10"] {
        let refused = || Ok(TcpStream::connect((inner, UNGUARDED)).err().map(|error| error.kind()));
        wait(inner, refused, |error| *error == Some(io::ErrorKind::ConnectionRefused))?;
    }
    Ok(())
}

/// Answers each byte of each connection to a port with a name, until the test ends.
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

/// Connects from an address of the client to the gateway; `None`: dropped.
pub(crate) fn dial(from: &str, port: u16) -> Result<Option<TcpStream>> {
    dial_past(from, gateway(from), port)
}

/// Connects to any host.
pub(crate) fn dial_past(from: &str, to: &str, port: u16) -> Result<Option<TcpStream>> {
    probe::connect("client", from.parse()?, SocketAddr::new(to.parse()?, port))
}

/// Asks for the name of the other end; `None`: dropped.
pub(crate) fn ask(stream: &mut TcpStream) -> Result<Option<String>> {
    probe::ask("client", stream, b"?")
}

/// Whether a connection is over: its data is dropped, or answered with a reset.
pub(crate) fn is_cut(stream: &mut TcpStream) -> Result<bool> {
    match ask(stream) {
        Ok(answer) => Ok(answer.is_none()),
        Err(error) => match error.root_cause().downcast_ref::<io::Error>() {
            Some(cause) if cause.kind() == io::ErrorKind::ConnectionReset => Ok(true),
            _ => Err(error),
        },
    }
}

/// The name that answers at a port, from an address of the client; `None`: dropped.
pub(crate) fn who(from: &str, port: u16) -> Result<Option<String>> {
    dial(from, port)?.as_mut().map_or(Ok(None), ask)
}

fn gateway(from: &str) -> &'static str {
    if from.contains(':') { "2001:db8::1" } else { "192.0.2.1" }
}

/// Waits until this name answers.
pub(crate) fn expect(from: &str, port: u16, name: Option<&str>) -> Result<()> {
    let what = format!("who answers {from} at port {port}");
    let found = wait(&what, || who(from, port), |found| found.as_deref() == name)?;
    ensure!(found.as_deref() == name);
    Ok(())
}

/// Whether the gateway reaches its own port; the packets are judged as for [`dial`].
pub(crate) fn dial_itself(from: &str, to: &str, port: u16) -> Result<bool> {
    let to = SocketAddr::new(to.parse()?, port);
    Ok(probe::connect_here(from.parse()?, to)?.is_some())
}
