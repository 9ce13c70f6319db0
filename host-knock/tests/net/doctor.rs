//! `knock doctor`, with each cause that it can find.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, UdpSocket},
    process::Command,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use pkd_netns::{
    namespace::As,
    network::{Family, Network, inside_as},
    process::{built, shell, text},
};

use crate::gateway::{Gateway, SSH};

/// Offset from Unix to NTP time.
const EPOCH: u64 = 2_208_988_800;

/// An SNTP server on the gateway whose clock is off by some seconds.
fn time_server(port: u16, off: i64) -> Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", port))?;
    thread::spawn(move || -> Result<()> {
        loop {
            let mut question = [0; 48];
            let (_, from) = socket.recv_from(&mut question)?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            let seconds = u32::try_from((now.as_secs() + EPOCH).saturating_add_signed(off))?;
            let fraction = u32::try_from((u64::from(now.subsec_nanos()) << 32) / 1_000_000_000)?;
            let stamp = [seconds.to_be_bytes(), fraction.to_be_bytes()].concat();
            let mut answer = vec![4 << 3 | 4, 2, 0, 0];
            answer.resize(24, 0);
            answer.extend(&question[40..]);
            answer.extend([stamp.as_slice(), &stamp].concat());
            socket.send_to(&answer, from)?;
        }
    });
    Ok(())
}

/// An HTTP server on the gateway with this Date.
fn web_server(date: &'static str) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", 80))?;
    thread::spawn(move || -> Result<()> {
        for stream in listener.incoming() {
            let mut stream = stream?;
            let mut lines = BufReader::new(stream.try_clone()?).lines();
            while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
            write!(stream, "HTTP/1.1 301 Moved\r\ndate: {date}\r\nLocation: https://x/\r\n\r\n")?;
        }
        Ok(())
    });
    Ok(())
}

/// The printed lines and the exit code.
fn diagnose(gateway: &Gateway<'_>, args: &[&str]) -> Result<(Vec<String>, Option<i32>)> {
    let mut doctor = gateway.command("knock");
    let output = gateway.run(doctor.arg("doctor").args(args))?;
    ensure!(output.stderr.is_empty(), "{output:?}");
    Ok((text(&output.stdout).lines().map(str::to_owned).collect(), output.status.code()))
}

fn holds(network: &Network) -> Result<()> {
    let gateway = Gateway::closed(network)?;
    let address = Family::V4.gateway().to_string();
    time_server(123, 0)?;
    time_server(1123, 3600)?;
    web_server("Thu, 01 Jan 2026 00:00:00 GMT")?;
    // A port that refuses and is not guarded; and an unknown name.
    let (right, wrong, web) = (address.clone(), format!("{address}:1123"), format!("{address}:1"));

    let (lines, code) =
        diagnose(&gateway, &["--time-server", "-", "--key-file", "me.key", "gw.invalid", "22"])?;
    ensure!(code == Some(1) && lines[0].starts_with("FAIL  name: gw.invalid: cannot resolve"), "{lines:?}");
    ensure!(lines.last().is_some_and(|last| last.starts_with("gw.invalid does not resolve")), "{lines:?}");

    let (lines, code) = diagnose(&gateway, &["--time-server", "-", "--key-file", "nowhere.key", "office"])?;
    ensure!(code == Some(1) && lines[1].starts_with("FAIL  key: cannot read nowhere.key: "), "{lines:?}");
    ensure!(lines.len() == 3 && lines[2].starts_with("No key, so no knock was sent"), "{lines:?}");

    let wrong_key = ["--timeout", "1", "--time-server", &right, "--key-file", "login.pub.key", "office"];
    gateway.secret("login.pub.key", "another sesame")?;
    let (lines, code) = diagnose(&gateway, &wrong_key)?;
    ensure!(code == Some(1) && lines[2].starts_with("ok    clock: 0.0 s "), "{lines:?}");
    ensure!(lines[5] == format!("FAIL  port {SSH} after: no answer"), "{lines:?}");
    ensure!(lines[6].starts_with("The host does not answer: "), "{lines:?}");

    // A wrong clock is reported whatever the port does.
    let clock = ["--timeout", "1", "--time-server", &wrong, "--key-file", "login.pub.key", "office"];
    let (lines, code) = diagnose(&gateway, &clock)?;
    let told = format!("3600.0 s behind {address}");
    ensure!(
        code == Some(1) && lines[2] == format!("FAIL  clock: {told}, outside the window of 10 s"),
        "{lines:?}"
    );
    ensure!(
        lines[6] == format!("This computer's clock is wrong ({told}); set it, and knock again."),
        "{lines:?}"
    );

    let (lines, code) = diagnose(&gateway, &["--timeout", "1", "--time-server", "-", "office", "9"])?;
    ensure!(code == Some(1) && lines[3] == "ok    port 9 before: refused", "{lines:?}");
    ensure!(lines[6].starts_with("The host refuses port 9 before and after the knock: "), "{lines:?}");

    // No SNTP at this port, so HTTP answers.
    let (lines, code) = diagnose(&gateway, &["--time-server", &web, "office6"])?;
    ensure!(code == Some(0), "{lines:?}");
    ensure!(
        lines[2].starts_with("FAIL  clock: ") && lines[2].contains("ahead of 192.0.2.1 (HTTP, to a second)"),
        "{lines:?}"
    );
    ensure!(lines[6].starts_with(&format!("The knock opens port {SSH}, but this computer")), "{lines:?}");

    let (lines, code) = diagnose(&gateway, &["--time-server", &right, "office"])?;
    ensure!(code == Some(0) && lines[3] == format!("----  port {SSH} before: open"), "{lines:?}");
    ensure!(lines[6].starts_with(&format!("Port {SSH} was open before the knock: ")), "{lines:?}");

    Ok(())
}

/// The knock is accepted, but a policy of the gateway's own firewall drops what it lets in.
fn other_firewall(network: &Network) -> Result<()> {
    let gateway = Gateway::closed(network)?;
    shell(
        "nft 'table inet filter { chain input { type filter hook input priority 0; policy drop; \
         ct state established,related accept; iif lo accept; meta l4proto { icmp, ipv6-icmp } accept; }; }'",
    )?;
    let words = ["--timeout", "1", "--time-server", "-", "office"];
    let (lines, code) = diagnose(&gateway, &words)?;
    let last = lines.last().map(String::as_str).unwrap_or_default();
    ensure!(code == Some(1) && last.starts_with("The host does not answer: "), "{lines:?}");
    ensure!(last.contains("another firewall") && last.contains("on the gateway, pkdd status"), "{last}");
    // What it says to look at names the rule.
    let check = Command::new(built("pkdd", "pkdd")?)
        .arg("--config")
        .arg(gateway.path("pkdd.toml"))
        .arg("check")
        .output()?;
    let named = text(&check.stderr);
    ensure!(named.contains("the policy drop of chain input in nftables' table inet filter"), "{named}");
    shell("nft insert rule inet filter input tcp dport 2222 accept")?;
    let (lines, code) = diagnose(&gateway, &words)?;
    ensure!(code == Some(0) && lines.last().is_some_and(|last| last.contains("open")), "{lines:?}");
    Ok(())
}

/// The client's address is rewritten on the way.
fn nat(network: &Network) -> Result<()> {
    let gateway = Gateway::closed(network)?;
    let (from, to) = (Family::V4.client(), Family::V4.other());
    network.at_client(|| {
        shell(&format!(
            "nft 'table ip nat {{ chain out {{ type nat hook postrouting priority 100; ip saddr {from} snat to {to}; }}; }}'"
        ))
        .map(drop)
    })?;
    let words = ["--timeout", "2", "--time-server", "-", "--bind", "source", "office"];
    let (lines, code) = diagnose(&gateway, &words)?;
    ensure!(lines[1] == "ok    key: found, for tag SSHK, format 2", "{lines:?}");
    ensure!(lines[4].contains(&format!("(bound to source {from}) port ")), "{lines:?}");
    ensure!(lines[5] == format!("FAIL  port {SSH} after: no answer"), "{lines:?}");
    ensure!(
        lines[6] == format!("ok    port {SSH} after a knock that is bound to no address: open"),
        "{lines:?}"
    );
    ensure!(code == Some(0) && lines[7].starts_with("A NAT changes an address on the way"), "{lines:?}");
    Ok(())
}

#[test]
fn a_nat_that_a_bound_knock_does_not_survive_is_found() -> Result<()> {
    let path = concat!(module_path!(), "::a_nat_that_a_bound_knock_does_not_survive_is_found");
    inside_as(As::RootIfPossible, path, nat)
}

#[test]
fn another_firewall_of_the_gateway_is_a_cause() -> Result<()> {
    let path = concat!(module_path!(), "::another_firewall_of_the_gateway_is_a_cause");
    inside_as(As::RootIfPossible, path, other_firewall)
}

fn ends_well(network: &Network) -> Result<()> {
    let mut gateway = Gateway::closed(network)?;
    let six = Family::V6.gateway().to_string();
    let (lines, code) = diagnose(&gateway, &["--time-server", "-", "office6"])?;
    ensure!(code == Some(0) && lines[0] == format!("ok    name: {six} resolves to {six}"), "{lines:?}");
    ensure!(lines[6] == format!("The knock opens port {SSH}."), "{lines:?}");
    gateway.stop_sshd()?;
    let (lines, code) = diagnose(&gateway, &["--timeout", "1", "--time-server", "-", "office"])?;
    ensure!(code == Some(1) && lines[3] == format!("ok    port {SSH} before: no answer"), "{lines:?}");
    let nobody = "but nothing listens there: the service is down, or uses another port.";
    ensure!(lines[6] == format!("The knock opens port {SSH}, {nobody}"), "{lines:?}");
    Ok(())
}

#[test]
fn an_open_port_and_a_dead_service_are_found() -> Result<()> {
    let path = concat!(module_path!(), "::an_open_port_and_a_dead_service_are_found");
    inside_as(As::RootIfPossible, path, ends_well)
}

#[test]
fn each_cause_is_found() -> Result<()> {
    inside_as(As::RootIfPossible, concat!(module_path!(), "::each_cause_is_found"), holds)
}
