//! The rules that pass possible knocks to pkdd over NFLOG: UDP datagrams of 64 bytes with a known tag, rate-limited by
//! source. The rules then drop them, so no program has to listen on a port, and nothing answers.
//!
//! They see packets to this host before connection tracking, redirections and the rules that guard services, so a knock may
//! go to any port, also to that of a guarded or published service. All rules are replaced in one transaction.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use pkd_core::{LENGTH, Tag, UDP_LENGTH};
use pktables::Backend;
use serde_json::{Value, json};

use crate::{config::Config, nflog::SNAPLEN};

/// pkdd's nftables table.
pub const TABLE: &str = NAME;
/// Also the name of the iptables chain.
const NAME: &str = "pkdd";
/// `raw`: before connection tracking (-200).
const PRIORITY: i32 = -300;
/// The number of sources whose rate is tracked. Further sources are not limited.
const MAX_SOURCES: u32 = 65_535;
/// Seconds until an idle source is forgotten.
const SOURCE_TIMEOUT: u32 = 10;

/// The parameters of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NflogRules {
    tags: BTreeSet<u32>,
    port: Option<u16>,
    group: u16,
    rate: u32,
}

impl NflogRules {
    /// Rules for all enabled users of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let users = config.users.values().filter(|user| user.enabled);
        Self {
            tags: users.map(|user| number(user.rule.tag())).collect(),
            port: config.gate.port,
            group: config.gate.group,
            rate: config.gate.rate,
        }
    }

    /// Installs the rules, replacing existing ones.
    ///
    /// # Errors
    /// `nft` or `iptables-restore` is missing or refuses. Nothing has changed then, except that with iptables, IPv4 may
    /// have the new rules and IPv6 the old ones.
    pub fn install(&self, backend: Backend) -> Result<()> {
        if backend != Backend::Iptables {
            return nft(&self.nftables());
        }
        Family::BOTH.into_iter().try_for_each(|family| {
            let is_installed = !jumps(family)?.is_empty();
            let jump = if is_installed {
                String::new()
            } else {
                format!("-I PREROUTING -p udp -m addrtype --dst-type LOCAL -j {NAME}\n")
            };
            family.restore(&format!("{}{jump}COMMIT\n", self.iptables(family)))
        })
    }

    /// Removes the rules.
    ///
    /// # Errors
    /// See [`install`](Self::install).
    pub fn remove(backend: Backend) -> Result<()> {
        if backend != Backend::Iptables {
            let table = json!({ "table": { "family": "inet", "name": NAME } });
            // Adding it first makes deleting succeed if it is missing.
            return nft(&json!({ "nftables": [{ "add": table }, { "delete": table }] }));
        }
        Family::BOTH.into_iter().try_for_each(|family| {
            // Declaring a chain flushes it, or creates it if it is missing.
            let chains = format!(":{NAME} - [0:0]\n:{NAME}-handover - [0:0]\n");
            let jumps = jumps(family)?.join("\n-D ");
            let jumps = if jumps.is_empty() { jumps } else { format!("-D {jumps}\n") };
            family.restore(&format!("*raw\n{chains}{jumps}-X {NAME}\n-X {NAME}-handover\nCOMMIT\n"))
        })
    }

    fn nftables(&self) -> Value {
        let table = json!({ "table": { "family": "inet", "name": NAME } });
        let set = |name: &str, kind: &str| {
            json!({ "add": { "set": {
                "family": "inet", "table": NAME, "name": name, "type": kind,
                "size": MAX_SOURCES, "flags": ["timeout"], "timeout": SOURCE_TIMEOUT,
            }}})
        };
        let rule = |chain: &str, expressions: Vec<Value>| json!({ "add": { "rule": { "family": "inet", "table": NAME, "chain": chain, "expr": expressions } } });
        let equals =
            |left: Value, right: Value| json!({ "match": { "op": "==", "left": left, "right": right } });
        let field =
            |protocol: &str, field: &str| json!({ "payload": { "protocol": protocol, "field": field } });
        let over_limit = |set: &str, source: Value| {
            let limit =
                json!({ "limit": { "rate": self.rate, "per": "second", "burst": self.rate, "inv": true } });
            json!({ "set": { "op": "update", "elem": source, "set": set, "stmt": [limit] } })
        };
        let local = json!({ "fib": { "result": "type", "flags": ["daddr"] } });
        let mut knock =
            vec![equals(field("udp", "length"), json!(UDP_LENGTH)), equals(local, json!("local"))];
        knock.extend(self.port.map(|port| equals(field("udp", "dport"), json!(port))));
        // The tag: the first 4 bytes after the 8 of the UDP header.
        let tag = json!({ "payload": { "base": "th", "offset": 64, "len": 32 } });
        knock.push(equals(tag, json!({ "set": self.tags })));
        knock.push(json!({ "goto": { "target": "handover" } }));
        // One IPv6 host usually has a whole /64 to send from.
        let network = json!({ "&": [field("ip6", "saddr"), "ffff:ffff:ffff:ffff::"] });
        let mut commands = vec![
            json!({ "add": table }),
            json!({ "delete": table }),
            json!({ "add": table }),
            set("sources4", "ipv4_addr"),
            set("sources6", "ipv6_addr"),
            json!({ "add": { "chain": {
                "family": "inet", "table": NAME, "name": "knocks",
                "type": "filter", "hook": "prerouting", "prio": PRIORITY, "policy": "accept",
            }}}),
            json!({ "add": { "chain": { "family": "inet", "table": NAME, "name": "handover" } } }),
        ];
        if !self.tags.is_empty() {
            commands.push(rule("knocks", knock));
        }
        commands.extend([
            rule("handover", vec![over_limit("@sources4", field("ip", "saddr")), json!({ "drop": null })]),
            rule("handover", vec![over_limit("@sources6", network), json!({ "drop": null })]),
            rule(
                "handover",
                vec![
                    json!({ "log": { "group": self.group, "snaplen": SNAPLEN, "queue-threshold": 1 } }),
                    json!({ "drop": null }),
                ],
            ),
        ]);
        json!({ "nftables": commands })
    }

    fn iptables(&self, family: Family) -> String {
        let Self { port, group, rate, .. } = self;
        let port = port.map(|port| format!(" --dport {port}")).unwrap_or_default();
        let (length, mask) = match family {
            Family::V4 => (20 + UDP_LENGTH, 32),
            Family::V6 => (40 + UDP_LENGTH, 64),
        };
        let mut text = format!("*raw\n:{NAME} - [0:0]\n:{NAME}-handover - [0:0]\n");
        for tag in &self.tags {
            // The first 4 bytes after the IP and UDP headers.
            let offset = match family {
                Family::V4 => "0>>22&0x3C@8",
                Family::V6 => "48",
            };
            let _ = writeln!(
                text,
                "-A {NAME} -p udp{port} -m length --length {length} -m u32 --u32 {offset}=0x{tag:08x} -g {NAME}-handover"
            );
        }
        let _ = writeln!(
            text,
            "-A {NAME}-handover -m hashlimit --hashlimit-above {rate}/second --hashlimit-burst {rate} \
             --hashlimit-mode srcip --hashlimit-srcmask {mask} --hashlimit-htable-max {MAX_SOURCES} \
             --hashlimit-name {NAME} -j DROP\n\
             -A {NAME}-handover -j NFLOG --nflog-group {group} --nflog-threshold 1 --nflog-size {SNAPLEN}\n\
             -A {NAME}-handover -j DROP"
        );
        text
    }
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

const fn number(tag: Tag) -> u32 {
    u32::from_be_bytes(tag.0)
}

fn nft(commands: &Value) -> Result<()> {
    run("nft", &["-j", "-f", "-"], &commands.to_string()).map(drop)
}

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
