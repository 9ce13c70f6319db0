//! The guest as a router that packages are installed on: the real uci, nft and iptables, our packages, and
//! stand-ins of `OpenWrt`'s own scripts (`tests/fakes/openwrt/root`).

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::{
    gateway::Gateway,
    network::{self, shell, wait},
    packet,
    status::Status,
};

pub(crate) const CONFIG: &str = "/etc/config/pkd";
pub(crate) const KEY_FILE: &str = "/etc/pkd/keys/me.key";
pub(crate) const FLOOR: &str = "/etc/pkd/floor";
const LIMIT: Duration = Duration::from_mins(1);

/// The files of the packages, in the order of what depends on what.
pub(crate) const PACKAGES: [&str; 5] = ["kmod-ipt-pkd", "iptables-mod-pkd", "pkd-knock", "pkdd", "pkd"];

/// Gives the zone wan its card, and says what of `OpenWrt` is installed already.
pub(crate) fn prepare(card: &str) -> Result<()> {
    shell(&format!("uci set firewall.@zone[0].device={card} && uci commit firewall"))?;
    let kernel = fs::read_to_string("/packages/kernel-version")?;
    for (name, version) in [
        ("libc", "1"),
        ("iptables", "1"),
        ("firewall4", "1"),
        ("kmod-ipt-core", "1"),
        ("kmod-nft-core", "1"),
        ("kmod-nfnetlink-log", "1"),
        ("kernel", kernel.trim()),
    ] {
        shell(&format!("fake-opkg provide {name} '{version}'"))?;
    }
    Ok(())
}

pub(crate) fn install(name: &str) -> Result<()> {
    shell(&format!("fake-opkg install /packages/{name}_*.ipk")).map(drop)
}

/// Runs `uci` commands, which must succeed, and commits.
pub(crate) fn uci(commands: &[&str]) -> Result<()> {
    for command in commands {
        shell(&format!("uci {command}"))?;
    }
    shell("uci commit pkd").map(drop)
}

/// A verb of the service, which must succeed; what it printed.
pub(crate) fn service(verb: &str) -> Result<String> {
    shell(&format!("/etc/init.d/pkd {verb} 2>&1"))
}

/// A verb that must fail; what it printed.
pub(crate) fn service_refuses(verb: &str) -> Result<String> {
    let output = network::run(Command::new("/etc/init.d/pkd").arg(verb))?;
    let said = network::text(&output.stderr) + &network::text(&output.stdout);
    ensure!(!output.status.success(), "pkd {verb} went through: {said}");
    Ok(said)
}

pub(crate) fn status() -> Result<Value> {
    let text = shell("pkd status --json")?;
    serde_json::from_str(&text).with_context(|| format!("pkd status --json says {text}"))
}

/// The grants to addresses of one family.
pub(crate) fn grants(status: &Value, is_ipv4: bool) -> Vec<&Value> {
    let all = status["gate"]["grants"].as_array().map_or(&[][..], Vec::as_slice);
    let is_of_family = |grant: &&Value| grant["address"].as_str().is_some_and(|a| a.contains('.') == is_ipv4);
    all.iter().filter(is_of_family).collect()
}

pub(crate) fn state() -> Result<String> {
    Ok(status()?["state"].as_str().unwrap_or_default().to_owned())
}

/// All rules of all tables, without counters, times and who passes now; in no order of chains.
pub(crate) fn rules() -> Result<String> {
    let sets = shell("nft -t list table inet fw4 | sed 's/counter packets.*//'")?;
    let rules = ["iptables", "ip6tables"]
        .iter()
        .map(|command| shell(&format!("{command} -t mangle -S")))
        .collect::<Result<String>>()?;
    let text = sets + &rules;
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

/// What a knock of the user `me` needs.
pub(crate) fn key() -> Result<String> {
    let mode = fs::metadata(KEY_FILE)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{KEY_FILE} has the mode {mode:o}");
    Ok(fs::read_to_string(KEY_FILE)?.trim().to_owned())
}

/// Knocks with the program as `pkd client` says to, with other words in the place of its first.
pub(crate) fn knock(gateway: &Gateway<'_>, key_file: &str, tag: &str) -> Result<&'static str> {
    gateway.knock(&["--key-file", key_file, "--tag", tag])
}

/// The port is open for the client, and closed for its other address.
pub(crate) fn is_open(gateway: &Gateway<'_>) -> Result<()> {
    gateway.ssh_answers()?;
    let other = gateway.network.ssh(gateway.family, gateway.family.other())?;
    ensure!(other.is_none(), "open for {} too", gateway.family.other());
    Ok(())
}

pub(crate) fn is_closed(gateway: &Gateway<'_>) -> Result<()> {
    gateway.ssh_is_refused().map(drop)
}

/// Waits until the client's grant is over.
pub(crate) fn closes(gateway: &Gateway<'_>) -> Result<()> {
    gateway.closes(LIMIT)
}

/// A connection to the router's SSH server that stays open.
pub(crate) fn connection(gateway: &Gateway<'_>) -> Result<TcpStream> {
    gateway.network.at_client(|| {
        let socket = Socket::new(
            Domain::for_address(SocketAddr::new(gateway.family.client(), 0)),
            Type::STREAM,
            None,
        )?;
        socket.bind(&SocketAddr::new(gateway.family.client(), 0).into())?;
        socket
            .connect_timeout(&SocketAddr::new(gateway.family.router(), 22).into(), Duration::from_secs(10))?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(stream)
    })
}

/// Whether both ends of it still hear each other.
pub(crate) fn still_speaks(stream: &mut TcpStream) -> Result<usize> {
    // The server answers a client's version with its offer of algorithms.
    stream.write_all(b"SSH-2.0-test\r\n")?;
    let mut heard = 0;
    let mut bytes = [0; 2048];
    while heard < 100 {
        let length = stream.read(&mut bytes).context("the connection fell silent")?;
        ensure!(length > 0, "the connection was closed");
        heard += length;
    }
    Ok(heard)
}

/// Sends a knock that must be accepted, where several rules look at it.
pub(crate) fn accepted(gateway: &Gateway<'_>, payload: &[u8]) -> Result<()> {
    let before = Status::read()?;
    gateway.network.at_client(|| {
        packet::send(gateway.family.client(), gateway.family.router(), packet::PORT, payload)
    })?;
    wait(LIMIT, Status::read, |after| after.counters["Accept"] == before.counters["Accept"] + 1).map(drop)
}
