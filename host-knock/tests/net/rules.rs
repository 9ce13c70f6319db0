//! The rules that `knock keygen` prints and those in the documents, over iptables-nft and iptables-legacy.
//!
//! The match `pkd` needs the kernel module, so a datagram to a certain port is the knock here. The virtual machine runs
//! the rules of the documents with the module.

use std::{io, process::Command};

use anyhow::{Context as _, Result, ensure};
use pkd_netns::{
    network::{CLIENT, Family, Network, folder, net_test, ssh_server},
    probe,
    process::{knock_program, shell, text, wait},
};

/// The match, and what stands in for it.
const MATCH: [&str; 2] = ["-m pkd", "--tag SSHK"];
const KNOCK_PORT: u16 = 40_000;
/// How long the port is open after a knock, and in the test.
const OPEN: [&str; 2] = ["--seconds 60", "--seconds 3"];

const DOCUMENTS: [(&str, &str); 3] = [
    ("README.md", include_str!("../../../README.md")),
    ("host-knock/README.md", include_str!("../../README.md")),
    ("openwrt/README.md", include_str!("../../../openwrt/README.md")),
];

/// The lines with rules.
fn rules(text: &str) -> Vec<&str> {
    let is_rule = |line: &&str| line.starts_with("iptables -A ") || line.starts_with("ip6tables -A ");
    text.lines().map(str::trim_start).filter(is_rule).collect()
}

fn keygen() -> Result<String> {
    let folder = folder()?;
    let output = Command::new(knock_program()?)
        .args([
            "keygen",
            "office",
            "--address",
            "gw.example.net",
            "--tag",
            "SSHK",
            "--for",
            "iptables",
            "--config",
        ])
        .arg(folder.path().join("config.toml"))
        .output()?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    Ok(text(&output.stdout))
}

/// Silent or refused.
fn is_closed(network: &Network, family: Family) -> Result<bool> {
    for from in [family.client(), family.other()] {
        match network.connection(from, family.ssh()) {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(false),
            Err(error) => {
                let error = error.downcast::<io::Error>()?;
                ensure!(error.kind() == io::ErrorKind::ConnectionRefused, error);
            }
        }
    }
    Ok(true)
}

fn hold(network: &Network, back: &str, name: &str, text: &str) -> Result<()> {
    let run = |line: &str| {
        let (program, rest) = line.split_once(' ').context("no rule")?;
        shell(&format!("{program}-{back} {rest}"))
    };
    // Against brute force, as many hosts have it. It remembers everyone who tries.
    for program in ["iptables", "ip6tables"] {
        run(&format!("{program} -F"))?;
        run(&format!("{program} -A INPUT -p tcp --dport 22 -m recent --set"))?;
    }
    let rules = rules(text);
    ensure!(rules.len() == 8, "{name}: {} rules: {rules:#?}", rules.len());
    for rule in rules {
        let knock = format!("--dport {KNOCK_PORT}");
        let rule = match (rule.split_once(MATCH[0]), rule.split_once(MATCH[1])) {
            (Some((before, _)), Some((_, after))) => format!("{before}{knock}{after}"),
            _ => rule.to_owned(),
        };
        run(&rule.replace(OPEN[0], OPEN[1]))?;
    }
    let closed = |when: &str| -> Result<()> {
        for family in Family::BOTH {
            // The second try is on the list of the rule against brute force.
            for attempt in 1..=2 {
                ensure!(
                    is_closed(network, family)?,
                    "{back} {name}: {family:?} is open {when}, try {attempt}"
                );
            }
        }
        Ok(())
    };
    closed("before a knock")?;
    let mut sessions = Vec::new();
    for family in Family::BOTH {
        ensure!(is_closed(network, family)?, "{back} {name}: {family:?} is open after a knock of the other");
        network.send(family.client(), (family.gateway(), KNOCK_PORT).into(), b"knock")?;
        let session = network
            .connection(family.client(), family.ssh())
            .with_context(|| format!("{back} {name}: {family:?}: after a knock"))?
            .with_context(|| format!("{back} {name}: {family:?} stays closed after a knock"))?;
        let stranger = network.connection(family.other(), family.ssh());
        ensure!(!matches!(stranger, Ok(Some(_))), "{back} {name}: {family:?} is open for a stranger, too");
        sessions.push((family, session));
    }
    for (family, mut session) in sessions {
        wait("the end of the grant", || is_closed(network, family), |closed| *closed)?;
        let ended = || format!("{back} {name}: {family:?}: the session has ended with the grant");
        probe::ask(CLIENT, &mut session, b"SSH-2.0-test\r\n").with_context(ended)?.with_context(ended)?;
    }
    closed("after the knocks")
}

net_test!(printed_rules_keep_sessions_and_let_no_stranger_in, |network| {
    let folder = folder()?;
    let _server = ssh_server(22, folder.path())?;
    let printed = keygen()?;
    for back in ["nft", "legacy"] {
        for (name, text) in DOCUMENTS.into_iter().chain([("knock keygen", printed.as_str())]) {
            hold(network, back, name, text)?;
        }
        shell(&format!("iptables-{back} -F; ip6tables-{back} -F"))?;
    }
    Ok(())
});

#[test]
fn keygen_prints_the_rules_of_the_readme() -> Result<()> {
    let (printed, [_, (_, readme), _]) = (keygen()?, DOCUMENTS);
    ensure!(rules(&printed) == rules(readme), "{printed}");
    Ok(())
}
