//! Measures the time from starting knock to the arrival of its datagrams, and the throughput of ssh through it. Prints
//! `row: WHAT | MEDIAN | LEAST, MOST`. Everything runs in network namespaces and ends after a fixed number of rounds.

#[path = "../tests/net/gateway.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod gateway;

use std::{
    fmt::Write as _,
    fs,
    net::UdpSocket,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pkd_netns::{
    namespace::As,
    network::{self, Family, Network},
    process::{LIMIT, shell},
};

use gateway::{Gateway, SSH};

/// `cargo test --bench` builds without optimization: a few rounds show that it runs; the figures mean nothing.
const QUICK: bool = cfg!(debug_assertions);

const ROUNDS: usize = if QUICK { 3 } else { 100 };
const HOSTS: usize = 1000;
const GROUPS: usize = if QUICK { 1 } else { 10 };
/// How often the file is copied each way, alternating, and its size in MiB.
const COPIES: usize = if QUICK { 1 } else { 5 };
const MIB: u64 = if QUICK { 1 } else { 100 };

fn main() -> Result<()> {
    network::inside_as(As::RootIfPossible, "knock_latency::main", |network| {
        println!("1 passed");
        let folder = network::folder()?;
        one_host(folder.path())?;
        many_hosts(folder.path())?;
        large_file(network)
    })
}

fn row(name: &str, times: &[Duration]) {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |place: usize| sorted.get(place).copied().unwrap_or_default().as_secs_f64() * 1e3;
    let (least, median, most) = (at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1)));
    println!("row: {name} | {median:.2} ms | the median of {}; {least:.2} to {most:.2} ms", times.len());
}

fn secret(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    shell(&format!("chmod 600 {}", path.display())).map(drop)
}

/// The command with its own profiles.
fn knock(folder: &Path, config: &str) -> Result<Command> {
    secret(&folder.join("key"), gateway::KEY)?;
    secret(&folder.join("p.toml"), config)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_knock"));
    command.arg("-c").arg(folder.join("p.toml")).stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command)
}

fn one_host(folder: &Path) -> Result<()> {
    let gateway = UdpSocket::bind("127.0.0.1:0")?;
    gateway.set_read_timeout(Some(LIMIT))?;
    let port = gateway.local_addr()?.port();
    let config = format!("[host.gw]\naddress = '127.0.0.1'\nport = {port}\nkey_file = 'key'\n");
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let mut command = knock(folder, &config)?;
        let begin = Instant::now();
        let mut child = command.arg("gw").spawn()?;
        gateway.recv(&mut [0; 64]).context("no datagram")?;
        times.push(begin.elapsed());
        ensure!(child.wait()?.success());
    }
    row("knock: from its start until the datagram is there (at most 5 ms)", &times);
    Ok(())
}

fn many_hosts(folder: &Path) -> Result<()> {
    let first = UdpSocket::bind("127.1.0.1:0")?;
    let port = first.local_addr()?.port();
    let others = (2..=100).map(|last| UdpSocket::bind((std::net::Ipv4Addr::new(127, 1, 0, last), port)));
    let gateways = std::iter::once(Ok(first)).chain(others).collect::<Result<Vec<_>, _>>()?;
    let mut config = String::new();
    for number in 0..HOSTS {
        let last = number % 100 + 1;
        writeln!(config, "[host.h{number}]\naddress = '127.1.0.{last}'\nport = {port}\nkey_file = 'key'")?;
    }
    let names: Vec<_> = (0..HOSTS).map(|number| format!("h{number}")).collect();
    write!(config, "[group]\nall = {names:?}\n")?;
    let mut times = Vec::new();
    for _ in 0..GROUPS {
        let mut command = knock(folder, &config)?;
        let begin = Instant::now();
        ensure!(command.arg("@all").status()?.success());
        times.push(begin.elapsed());
        for gateway in &gateways {
            gateway.set_read_timeout(Some(LIMIT))?;
            for _ in 0..HOSTS / 100 {
                gateway.recv(&mut [0; 64]).context("a datagram is missing")?;
            }
        }
    }
    row("knock: until 1,000 hosts of a group have theirs, table and all (at most 2,000 ms)", &times);
    Ok(())
}

/// Copies a file with scp, with and without knock as proxy.
fn large_file(network: &Network) -> Result<()> {
    let gateway = Gateway::closed(network)?;
    let (from, to) = (gateway.path("large"), gateway.path("arrived"));
    shell(&format!("head -c {MIB}M /dev/urandom > {}", from.display()))?;
    let (mut direct, mut proxied) = (Vec::new(), Vec::new());
    for round in 0..2 * COPIES {
        let mut scp = gateway.command("scp");
        scp.arg("-F").arg(gateway.path("ssh_config")).args(["-P", &SSH.to_string()]);
        // The first knock opens the port for all later connections.
        let by_knock = round % 2 == 0;
        if by_knock {
            scp.args(["-o", "ProxyCommand=knock proxy %h %p"]);
        }
        scp.arg(&from).arg(format!("{}:{}", Family::V4.gateway(), to.display()));
        let begin = Instant::now();
        gateway.succeed(&mut scp)?;
        let times = if by_knock { &mut proxied } else { &mut direct };
        times.push(begin.elapsed());
    }
    row(&format!("scp of {MIB} MiB without it"), &direct);
    row(&format!("scp of {MIB} MiB through knock proxy"), &proxied);
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64()
    };
    let rate = median(&mut direct) / median(&mut proxied) * 100.0;
    println!("row: of scp's rate without it, knock proxy keeps | {rate:.0} % | at least 90 %");
    Ok(())
}
