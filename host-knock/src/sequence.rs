//! `knock seq`: a port sequence for knockd. It contains no key, so anyone who sees it can repeat it.

use std::{
    fmt::Write as _,
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    cli,
    model::{Families, Host, Outlet, Protocol},
    parse, send, socket,
};

/// Timeout of a connection. Its SYN is the knock; the answer does not matter.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1);

/// A validated sequence.
#[derive(Debug)]
pub(crate) struct Sequence {
    host: Host,
    families: Families,
    outlet: Outlet,
    ports: Vec<(u16, Protocol)>,
    delay: Duration,
    verbose: bool,
}

impl Sequence {
    /// Validates the arguments.
    ///
    /// # Errors
    /// One of them is invalid.
    pub(crate) fn from_args(args: &cli::Sequence) -> Result<Self> {
        let default = if args.udp { Protocol::Udp } else { Protocol::Tcp };
        #[cfg(feature = "desktop")]
        let outlet = Outlet::parse(args.interface.as_deref(), args.source.as_deref())?;
        #[cfg(not(feature = "desktop"))]
        let outlet = Outlet::default();
        Ok(Self {
            host: Host::parse(&args.host)?,
            families: outlet.families(Families::of(args.ipv4, args.ipv6))?,
            outlet,
            ports: args.ports.iter().map(|text| port(text, default)).collect::<Result<_>>()?,
            delay: Duration::from_millis(args.delay.into()),
            verbose: args.verbose,
        })
    }

    /// Sends the sequence to the first address of each family; returns the lines to print.
    ///
    /// # Errors
    /// The name cannot be resolved, or no address got the whole sequence.
    pub(crate) fn send(&self) -> Result<String> {
        let host = &self.host;
        let all = || -> Result<String> {
            let found = (host.as_str(), 1).to_socket_addrs().context("cannot resolve")?;
            let mut lines = String::new();
            let mut failures = Vec::new();
            for address in send::each_of(found, self.families)? {
                match self.send_to(address) {
                    Ok(sent) => lines += &sent,
                    Err(error) => failures.push(format!("{error:#}")),
                }
            }
            if lines.is_empty() {
                bail!("{}", failures.join("; "));
            }
            Ok(lines)
        };
        let lines = all().map_err(|error| anyhow!("{host}: {error:#}"))?;
        Ok(if self.verbose { lines } else { String::new() })
    }

    fn send_to(&self, mut address: SocketAddr) -> Result<String> {
        let mut lines = String::new();
        for (row, &(port, protocol)) in self.ports.iter().enumerate() {
            let begin = Instant::now();
            address.set_port(port);
            let outlet = &self.outlet;
            let (sent, word) = match protocol {
                Protocol::Tcp => (start_connection(outlet, address), "tcp"),
                Protocol::Udp => (empty_datagram(outlet, address), "udp"),
            };
            sent.with_context(|| send::cannot_send(outlet, address))?;
            writeln!(lines, "knocked {} ({} port {port}:{word})", self.host, address.ip())?;
            if row + 1 < self.ports.len() {
                thread::sleep(self.delay.saturating_sub(begin.elapsed()));
            }
        }
        Ok(lines)
    }
}

fn port(text: &str, default: Protocol) -> Result<(u16, Protocol)> {
    let (number, protocol) = match text.split_once(':') {
        None => (text, default),
        Some((number, "tcp")) => (number, Protocol::Tcp),
        Some((number, "udp")) => (number, Protocol::Udp),
        Some((_, other)) => bail!("invalid protocol {other:?} in {text:?}: expected tcp or udp"),
    };
    Ok((parse::port(number)?.0, protocol))
}

/// Sends a SYN. A refusal or a timeout is what a closed port looks like.
fn start_connection(outlet: &Outlet, address: SocketAddr) -> io::Result<()> {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, TimedOut, WouldBlock};
    match socket::connect(outlet, address, CONNECT_TIMEOUT) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ConnectionRefused | ConnectionReset | TimedOut | WouldBlock) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn empty_datagram(outlet: &Outlet, address: SocketAddr) -> io::Result<()> {
    let socket = socket::udp(outlet, outlet.local(address))?;
    socket.send_to(&[], address).map(drop)
}
