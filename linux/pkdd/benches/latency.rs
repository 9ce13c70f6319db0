//! How long it takes from a knock to a connection, and what a flood does to that; beside knockd and fwknopd, where they
//! are installed.
//! Prints `row: WHAT | MEDIAN | LEAST, MOST`, and points of a plot. Everything happens in network namespaces, bounded in count and time.

#[path = "../tests/net/clock.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod clock;
#[path = "../tests/net/gateway.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod gateway;
mod rounds;

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use gateway::{Gateway, KEY, PORT, TAG, now, payload};
use pkd_netns::{
    network::{self, Family, Network},
    process::{LIMIT, Running, built, shell},
};
use rounds::{addresses, connects, row, until_open};

/// `cargo test --bench` builds without optimization: a few rounds show that all of it runs, and no figure means anything.
const QUICK: bool = cfg!(debug_assertions);

/// Rounds of pkdd, of `pktables add`, and of the others, which take longer.
const ROUNDS: u32 = if QUICK { 3 } else { 100 };
const COMMANDS: u8 = if QUICK { 2 } else { 50 };
const OTHERS: u32 = if QUICK { 2 } else { 20 };

/// Honest knocks during the greatest flood, during lesser ones, and how far apart they are.
const HONEST: u32 = if QUICK { 5 } else { 150 };
const FEW: u32 = if QUICK { 3 } else { 60 };
const APART: Duration = Duration::from_micros(33_333);

/// Forgeries a second of the lesser floods.
const RATES: &[u32] = if QUICK { &[0] } else { &[0, 25_000, 50_000, 100_000, 150_000] };

fn main() -> Result<()> {
    network::inside("latency::main", |network| {
        let server = TcpListener::bind(Family::V4.ssh())?;
        thread::spawn(move || for _ in server.incoming() {});
        println!("1 passed");
        for back_end in ["nft", "iptables"] {
            row(&format!("pkdd, {back_end}"), &pkdd(network, back_end)?);
        }
        match knockd(network)? {
            Some(times) => row("knockd, its start_command is pktables add (nft)", &times),
            None => println!("row: knockd | not installed here | "),
        }
        match fwknopd(network)? {
            Some(times) => row("fwknopd (iptables), its packets made before", &times),
            None => println!("row: fwknopd | not installed here | "),
        }
        commands()?;
        RATES.iter().try_for_each(|rate| flood(network, Some(*rate), FEW))?;
        flood(network, None, HONEST)
    })
}

/// What `pktables add` takes, beside one bare call of the back end that it stands on.
fn commands() -> Result<()> {
    let pktables = built("pktables", "pktables")?;
    let restore = |address: &str| format!("*filter\n-I pk-ssh 1 -s {address}/32 -j ACCEPT\nCOMMIT\n");
    for back_end in ["nft", "iptables"] {
        let run = |words: &[&str]| -> Result<()> {
            let output = Command::new(&pktables).args(["--backend", back_end]).args(words).output()?;
            ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        };
        run(&["init", "ssh", "--port", "22"])?;
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for number in 1..=COMMANDS {
            let begin = Instant::now();
            run(&["add", &format!("198.51.100.{number}"), "--service", "ssh"])?;
            ours.push(begin.elapsed());
            let address = format!("203.0.113.{number}");
            let begin = Instant::now();
            if back_end == "nft" {
                shell(&format!("exec nft add element inet pktables pk-ssh-4 '{{ {address} }}'"))?;
            } else {
                shell(&format!("printf '{}' | iptables-restore --noflush -w", restore(&address)))?;
            }
            bare.push(begin.elapsed());
        }
        row(&format!("pktables add, {back_end}"), &ours);
        row(&format!("a bare call of {}", if back_end == "nft" { "nft" } else { "iptables-restore" }), &bare);
        run(&["remove", "ssh"])?;
    }
    Ok(())
}

fn pkdd(network: &Network, back_end: &'static str) -> Result<Vec<Duration>> {
    let mut gateway = Gateway::new(network, back_end)?;
    gateway.start()?;
    let addresses = addresses(network, ROUNDS)?;
    let to = SocketAddr::new(Family::V4.gateway(), PORT);
    let times = network.at_client(|| {
        addresses
            .iter()
            .zip(0..)
            .map(|(address, number)| {
                let socket = UdpSocket::bind((*address, 0))?;
                let knock = payload(KEY, TAG, now()?, number)?;
                until_open(*address, || Ok(socket.send_to(&knock, to).map(drop)?))
            })
            .collect::<Result<Vec<_>>>()
    })?;
    gateway.stop(Signal::SIGTERM)?;
    gateway.run(&["clear"])?;
    Ok(times)
}

/// The same with port sequences, and a program that is started for each.
fn knockd(network: &Network) -> Result<Option<Vec<Duration>>> {
    if !std::path::Path::new("/usr/sbin/knockd").exists() {
        return Ok(None);
    }
    let folder = network::folder()?;
    let pktables = built("pktables", "pktables")?;
    let pktables = pktables.display();
    shell(&format!("{pktables} --backend nft init ssh --port 22"))?;
    let config = folder.path().join("knockd.conf");
    let text = format!(
        "[options]\nlogfile = /dev/null\ninterface = gw\n[ssh]\nsequence = 7000:udp,8000:udp,9000:udp\nseq_timeout = 5\n\
         command = {pktables} --backend nft add %IP% --service ssh\n"
    );
    fs::write(&config, text)?;
    let log = folder.path().join("knockd.log");
    let mut daemon = Command::new("/usr/sbin/knockd");
    daemon.args(["-i", "gw", "-c"]).arg(&config).stdout(fs::File::create(&log)?).stderr(Stdio::null());
    let _daemon = Running(daemon.spawn()?);
    let addresses = addresses(network, OTHERS)?;
    let knock = |address: IpAddr| -> Result<()> {
        let socket = UdpSocket::bind((address, 0))?;
        for port in [7_000, 8_000, 9_000] {
            socket.send_to(&[0], SocketAddr::new(Family::V4.gateway(), port))?;
        }
        Ok(())
    };
    // It listens once the first sequence gets through.
    network.at_client(|| {
        let begin = Instant::now();
        while !connects(Family::V4.other())? {
            knock(Family::V4.other())?;
            ensure!(begin.elapsed() < LIMIT, "knockd does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    })?;
    let times = network.at_client(|| {
        addresses.iter().map(|address| until_open(*address, || knock(*address))).collect::<Result<Vec<_>>>()
    })?;
    shell(&format!("{pktables} --backend nft remove ssh"))?;
    Ok(Some(times))
}

/// The same with the packets of fwknop.
fn fwknopd(network: &Network) -> Result<Option<Vec<Duration>>> {
    const KEYS: [&str; 2] =
        ["cGtkIGJlbmNoIHJpam5kYWVsIGtleSAwMTIzNDU2Nzg=", "cGtkIGJlbmNoIGhtYWMga2V5IDAxMjM0NTY3ODkwMTI="];
    if !["/usr/sbin/fwknopd", "/usr/bin/fwknop"].iter().all(|path| std::path::Path::new(path).exists()) {
        return Ok(None);
    }
    let folder = network::folder()?;
    let path = |name: &str| folder.path().join(name);
    let [key, hmac] = KEYS;
    fs::write(
        path("access.conf"),
        format!("SOURCE ANY\nKEY_BASE64 {key}\nHMAC_KEY_BASE64 {hmac}\nFW_ACCESS_TIMEOUT 600\n"),
    )?;
    let place = folder.path().display();
    fs::write(
        path("fwknopd.conf"),
        format!("PCAP_INTF gw;\nFWKNOP_RUN_DIR {place};\nFWKNOP_PID_FILE {place}/pid;\n"),
    )?;
    shell(&format!("chmod 600 {place}/*.conf && iptables -A INPUT -p tcp --dport 22 -j DROP"))?;
    let mut daemon = Command::new("/usr/sbin/fwknopd");
    daemon.arg("-f").arg("-c").arg(path("fwknopd.conf")).arg("-a").arg(path("access.conf"));
    let log = fs::File::create(path("log"))?;
    let _daemon = Running(daemon.stdout(log.try_clone()?).stderr(log).spawn()?);
    let mut packets = Vec::new();
    let addresses = addresses(network, 1 + OTHERS)?;
    for address in &addresses {
        let file = path("packet");
        shell(&format!(
            "fwknop --test --save-packet {} --no-rc-file --no-save-args -A tcp/22 -a {address} -D {} --use-hmac \
             --key-base64-rijndael {key} --key-base64-hmac {hmac}",
            file.display(),
            Family::V4.gateway()
        ))?;
        packets.push(fs::read(&file)?);
        fs::remove_file(&file)?;
    }
    let to = SocketAddr::new(Family::V4.gateway(), 62_201);
    let knock = |address: IpAddr, packet: &[u8]| -> Result<()> {
        Ok(UdpSocket::bind((address, 0))?.send_to(packet.trim_ascii(), to).map(drop)?)
    };
    let rounds = || -> Result<Vec<Duration>> {
        let mut rounds = addresses.iter().zip(&packets);
        let (first, packet) = rounds.next().context("no address")?;
        let begin = Instant::now();
        // It listens once the first packet gets through.
        while !connects(*first)? {
            knock(*first, packet)?;
            ensure!(begin.elapsed() < LIMIT, "fwknopd does not listen");
            thread::sleep(Duration::from_millis(100));
        }
        rounds.map(|(address, packet)| until_open(*address, || knock(*address, packet))).collect()
    };
    let times =
        network.at_client(rounds).with_context(|| fs::read_to_string(path("log")).unwrap_or_default())?;
    shell("iptables -F && iptables -X")?;
    Ok(Some(times))
}

/// One thread sends forgeries with the right tag and time at this rate, or as fast as it can, from one address, while
/// others knock.
fn flood(network: &Network, limit: Option<u32>, honest: u32) -> Result<()> {
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.start()?;
    let addresses = addresses(network, honest)?;
    let to = SocketAddr::new(Family::V4.gateway(), PORT);
    let (stop, forged) = (AtomicBool::new(false), AtomicU64::new(0));
    let begin = Instant::now();
    let times = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            network.at_client(|| {
                let socket = UdpSocket::bind((Family::V4.other(), 0))?;
                let forgery = payload("another key", TAG, now()?, 1)?;
                while !stop.load(Ordering::Relaxed) && begin.elapsed() < LIMIT {
                    let sent = forged.load(Ordering::Relaxed);
                    if limit.is_some_and(|limit| {
                        u128::from(sent) >= begin.elapsed().as_micros() * u128::from(limit) / 1_000_000
                    }) {
                        thread::yield_now();
                        continue;
                    }
                    socket.send_to(&forgery, to)?;
                    forged.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        let times = network.at_client(|| {
            addresses
                .iter()
                .zip(0..)
                .map(|(address, number)| {
                    let due = begin + APART * number;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let socket = UdpSocket::bind((*address, 0))?;
                    let knock = payload(KEY, TAG, now()?, number + 1_000)?;
                    until_open(*address, || Ok(socket.send_to(&knock, to).map(drop)?))
                })
                .collect::<Result<Vec<_>>>()
        });
        stop.store(true, Ordering::Relaxed);
        flood.join().map_err(|_| anyhow::anyhow!("a panic of the flood"))?.context("the flood")?;
        times
    })?;
    let rate = u128::from(forged.load(Ordering::Relaxed)) * 1_000 / begin.elapsed().as_millis().max(1);
    let in_time = times.iter().filter(|time| **time < Duration::from_secs(1)).count();
    let mut sorted = times.clone();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3;
    println!("row: flood | {rate} | {in_time} | {} | {median:.3}", times.len());
    if limit.is_none() {
        row(&format!("pkdd, nft, during {rate} forgeries a second"), &times);
        println!(
            "row: honest knocks granted within a second, of {} during that flood | {in_time} | ",
            times.len()
        );
    }
    gateway.stop(Signal::SIGTERM)?;
    gateway.run(&["clear"]).map(drop)
}
