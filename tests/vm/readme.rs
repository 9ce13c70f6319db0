//! The rules in the READMEs.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use pkd_tests::Report;
use socket2::{Domain, Socket, Type};

use crate::{
    firewall::Firewall,
    gateway::{self, Gateway},
    network::{self, Family},
    router,
};

/// Every README with rules in it, and its text.
const READMES: [(&str, &str); 3] = [
    ("README.md", include_str!("../../README.md")),
    ("host-knock/README.md", include_str!("../../host-knock/README.md")),
    ("openwrt/README.md", include_str!("../../openwrt/README.md")),
];

/// How long the port is open after a knock, and in the test.
const OPEN: [&str; 2] = ["--seconds 60", "--seconds 6"];
/// How long to wait for the end.
const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn checks(report: &mut Report, gateway: &Gateway<'_>) {
    for (name, text) in READMES {
        report.check(&gateway.name(&format!("the rules in {name} do what it says")), || hold(gateway, text));
    }
}

fn hold(gateway: &Gateway<'_>, text: &str) -> Result<String> {
    let file = Path::new(key_file(text)?);
    fs::create_dir_all(file.parent().context("a key file without a folder")?)?;
    fs::write(file, "0x00112233445566778899aabbccddeeff\n")?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
    gateway::reload()?;
    if has_format2(text) {
        gateway::restore("floor2-ms 0")?;
    }
    let families = [(Family::V4, "iptables "), (Family::V6, "ip6tables ")];
    let done = run(gateway, text, families);
    // The rules of the other family would stay, and hold the module.
    for (family, _) in families {
        gateway.firewall.of_family(family).flush()?;
    }
    done
}

/// Where its rules have the key: one file for all of them.
fn key_file(text: &str) -> Result<&str> {
    let rules = text.lines().filter(|line| line.contains("tables -A ") && line.contains(" -m pkd "));
    let mut files = rules.filter_map(|rule| rule.split(" --key-file ").nth(1)?.split(' ').next());
    let file = files.next().context("no rule has a key file")?;
    ensure!(files.all(|other| other == file), "the rules have several key files");
    Ok(file)
}

/// Whether its rules are for knocks of format 2.
fn has_format2(text: &str) -> bool {
    text.contains("-m pkd --format 2 ")
}

fn run(gateway: &Gateway<'_>, text: &str, families: [(Family, &str); 2]) -> Result<String> {
    let mut count = 0;
    for (family, program) in families {
        let firewall = gateway.firewall.of_family(family);
        firewall.flush()?;
        // Against brute force, as many hosts have it. It remembers everyone who tries.
        firewall.run("-A INPUT -p tcp --dport 22 -m recent --set")?;
        let rules: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(program)).collect();
        ensure!(!rules.is_empty(), "there are none for {}", family.name());
        for rule in &rules {
            firewall.run(&rule.replace(OPEN[0], OPEN[1]))?;
        }
        count += rules.len();
    }
    // The second try is on the list of the rule against brute force.
    for attempt in 1..=2 {
        for (family, _) in families {
            ensure!(closed(gateway, family)?, "{}: open before a knock, try {attempt}", family.name());
        }
    }
    let mut options = vec!["--tag", "SSHK", "--key-file", key_file(text)?];
    if has_format2(text) {
        options.extend(["--format", "2"]);
    }
    let verdict = gateway.knock(&options)?;
    ensure!(verdict == "Accept", "the knock was counted as {verdict}");
    let mut session = router::connection(gateway).context("closed after a knock")?;
    network::wait(LIMIT, || closed(gateway, gateway.family), |closed| *closed)
        .context("still open after the end")?;
    answers(&mut session).context("the session has ended with the grant")?;
    for (family, _) in families {
        ensure!(closed(gateway, family)?, "{}: open after the end", family.name());
    }
    Ok(format!("{count} rules, the session outlives the grant"))
}

/// Whether the server still hears the session, and is heard. It sends its version and its algorithms unasked, so they
/// prove nothing. But it ends the connection, in order, for a packet that is too long.
fn answers(session: &mut TcpStream) -> Result<()> {
    session.write_all(b"SSH-2.0-test\r\n")?;
    session.write_all(&[0xff; 8])?;
    let mut bytes = [0; 2048];
    while session.read(&mut bytes)? > 0 {}
    Ok(())
}

/// Whether a connection reaches the last rule, which rejects or drops it. Judged by that rule's counter: a timeout would
/// take long, and an open port on a slow guest is silent for a while, too.
fn closed(gateway: &Gateway<'_>, family: Family) -> Result<bool> {
    let firewall = gateway.firewall.of_family(family);
    let before = last_counter(&firewall)?;
    let socket = gateway.network.at_client(|| {
        let socket =
            Socket::new(Domain::for_address(SocketAddr::new(family.client(), 0)), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(family.client(), 0).into())?;
        socket.set_nonblocking(true)?;
        // It is in progress, or already refused.
        let _begun = socket.connect(&SocketAddr::new(family.router(), 22).into());
        Ok(socket)
    })?;
    let ask = || Ok((socket.peer_addr().is_ok(), last_counter(&firewall)? > before));
    let (is_open, is_closed) = network::wait(LIMIT, ask, |(is_open, is_closed)| *is_open || *is_closed)
        .context("a connection that is neither open nor counted")?;
    ensure!(is_open != is_closed, "a connection that is open and counted");
    Ok(is_closed)
}

/// The packet counter of the last rule of INPUT.
fn last_counter(firewall: &Firewall) -> Result<u64> {
    let rules = firewall.run("-nvxL INPUT")?;
    let last = rules.lines().last().and_then(|line| line.split_whitespace().next());
    last.context("no rules")?.parse().with_context(|| rules.clone())
}
