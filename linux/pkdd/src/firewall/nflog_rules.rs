//! The datagrams that are passed to pkdd over NFLOG: UDP of 64 bytes with a known tag, rate-limited by source. The rules then
//! drop them, so no program has to listen on a port, and nothing answers.
//!
//! They see packets to this host before connection tracking, redirections and the rules that guard services, so a knock may
//! go to any port, also to that of a guarded or published service. With nftables they are in the held table; what follows is
//! for kernels that only have iptables.

use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use pkd_core::{LENGTH, UDP_LENGTH};
use pktables::Capture;

use crate::{config::Config, nflog::SNAPLEN};

/// The iptables chain.
const NAME: &str = "pkdd";
/// The number of sources whose rate is tracked. Further sources are not limited.
const MAX_SOURCES: u32 = 65_535;

/// What is passed to pkdd: the knocks of all enabled users of a configuration.
#[must_use]
pub fn capture(config: &Config) -> Capture {
    let users = config.users.values().filter(|user| user.enabled);
    Capture {
        length: u16::try_from(UDP_LENGTH).unwrap_or(u16::MAX),
        words: users.map(|user| user.rule.tag().0).collect(),
        port: config.gate.port,
        group: config.gate.group,
        snaplen: SNAPLEN,
        rate: config.gate.rate,
    }
}

/// Installs the rules, replacing existing ones.
///
/// # Errors
/// `iptables-restore` is missing or refuses. IPv4 may have the new rules then, and IPv6 the old ones.
pub fn install(capture: &Capture) -> Result<()> {
    Family::BOTH.into_iter().try_for_each(|family| {
        let is_installed = !jumps(family)?.is_empty();
        let jump = if is_installed {
            String::new()
        } else {
            format!("-I PREROUTING -p udp -m addrtype --dst-type LOCAL -j {NAME}\n")
        };
        family.restore(&format!("{}{jump}COMMIT\n", rules(capture, family)))
    })
}

/// Removes the rules.
///
/// # Errors
/// See [`install`].
pub fn remove() -> Result<()> {
    Family::BOTH.into_iter().try_for_each(|family| {
        // Declaring a chain flushes it, or creates it if it is missing.
        let chains = format!(":{NAME} - [0:0]\n:{NAME}-nflog - [0:0]\n");
        let jumps = jumps(family)?.join("\n-D ");
        let jumps = if jumps.is_empty() { jumps } else { format!("-D {jumps}\n") };
        family.restore(&format!("*raw\n{chains}{jumps}-X {NAME}\n-X {NAME}-nflog\nCOMMIT\n"))
    })
}

fn rules(capture: &Capture, family: Family) -> String {
    let Capture { port, group, rate, snaplen, .. } = capture;
    let port = port.map(|port| format!(" --dport {port}")).unwrap_or_default();
    let (length, mask) = match family {
        Family::V4 => (20 + UDP_LENGTH, 32),
        Family::V6 => (40 + UDP_LENGTH, 64),
    };
    let mut text = format!("*raw\n:{NAME} - [0:0]\n:{NAME}-nflog - [0:0]\n");
    for word in &capture.words {
        let word = u32::from_be_bytes(*word);
        // The first 4 bytes after the IP and UDP headers.
        let offset = match family {
            Family::V4 => "0>>22&0x3C@8",
            Family::V6 => "48",
        };
        let _ = writeln!(
            text,
            "-A {NAME} -p udp{port} -m length --length {length} -m u32 --u32 {offset}=0x{word:08x} -g {NAME}-nflog"
        );
    }
    let _ = writeln!(
        text,
        "-A {NAME}-nflog -m hashlimit --hashlimit-above {rate}/second --hashlimit-burst {rate} \
         --hashlimit-mode srcip --hashlimit-srcmask {mask} --hashlimit-htable-max {MAX_SOURCES} \
         --hashlimit-name {NAME} -j DROP\n\
         -A {NAME}-nflog -j NFLOG --nflog-group {group} --nflog-threshold 1 --nflog-size {snaplen}\n\
         -A {NAME}-nflog -j DROP"
    );
    text
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn restore(self, text: &str) -> Result<()> {
        let program = match self {
            Self::V4 => "iptables-restore",
            Self::V6 => "ip6tables-restore",
        };
        run(program, &["--noflush", "-w"], text).map(drop)
    }
}

/// The rules that jump from PREROUTING to pkdd's chain, in the form that follows `-A` or `-D`.
fn jumps(family: Family) -> Result<Vec<String>> {
    let program = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let rules = run(program, &["-w", "-t", "raw", "-S", "PREROUTING"], "")?;
    let ours = rules.lines().filter(|line| line.ends_with(&format!(" -j {NAME}")));
    Ok(ours.filter_map(|line| line.strip_prefix("-A ")).map(str::to_owned).collect())
}

const _: () = assert!(LENGTH + 8 == UDP_LENGTH);

fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    // A program that exits early explains why on stderr, so a broken pipe is reported only if it succeeds.
    let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(input.as_bytes()));
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {program}"))?;
    if output.status.success() {
        written.with_context(|| format!("cannot write to {program}"))?;
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    match stderr.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => bail!("{program}: {line}"),
        None => bail!("{program}: failed without a message ({})", output.status),
    }
}
