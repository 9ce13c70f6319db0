//! The expressions for fail2ban and `CrowdSec` in README.md find what pkdd logs and tells, and nothing else.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use pkd_netns::{
    network::{Family, net_test},
    process::Running,
};

use crate::gateway::{Gateway, KEY, TAG, USERS, now, payload};

const README: &str = include_str!("../../README.md");

/// What the programs put in place of their own words.
const WORDS: [(&str, &str); 3] =
    [("<HOST>", "(?<ip>[0-9a-f:.]+)"), ("%{DATA:reasons}", ".*?"), ("%{IP:source_ip}", "(?<ip>[0-9a-f:.]+)")];

/// The expressions after a word of README.md, in the words of PCRE.
fn expressions(begin: &str) -> Vec<String> {
    let lines = README.lines().filter_map(|line| line.trim_start().strip_prefix(begin));
    let plain = |line: &str| {
        let line = line.trim_matches('\'').to_owned();
        WORDS.iter().fold(line, |line, (from, to)| line.replace(from, to))
    };
    lines.map(plain).collect()
}

/// The parts of the lines that the expression matches.
fn matches(expression: &str, lines: &[String]) -> Result<Vec<String>> {
    let mut grep = Command::new("grep")
        .args(["-oP", expression])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    grep.stdin.take().context("no input")?.write_all(lines.join("\n").as_bytes())?;
    let output = grep.wait_with_output()?;
    ensure!(output.status.code().is_some_and(|code| code < 2), "grep does not take {expression}");
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

net_test!(the_documented_expressions_find_forgeries_and_nothing_else, |network| {
    let (log, events, grok) = match (&expressions("failregex = ")[..], &expressions("pattern: ")[..]) {
        ([log, events], [grok]) => (log.clone(), events.clone(), grok.clone()),
        other => anyhow::bail!("{other:?}"),
    };
    for family in Family::BOTH {
        let from = family.client();
        for (key, ago, is_found) in [("another key", 0, true), (KEY, 60, false), (KEY, 0, false)] {
            // Each with a log of its own: only the first line comes at once.
            let mut gateway = Gateway::new(network, "nft")?;
            gateway.configure(USERS)?;
            gateway.start()?;
            let mut child = gateway.command(&["events", "--follow"]).stdout(Stdio::piped()).spawn()?;
            let mut told = BufReader::new(child.stdout.take().context("no output")?).lines();
            let _reader = Running(child);
            told.next().context("no event")??;
            let verdict = match (key, ago) {
                (KEY, 0) => "accept",
                (KEY, _) => "window",
                _ => "digest",
            };
            gateway.expect(verdict, family, &payload(key, TAG, now()? - ago, 1)?)?;
            gateway.wait_for_line(&format!("from {from}"))?;
            let lines = gateway.lines();
            let event = told.next().context("no event")??;
            let is_ignored = verdict != "accept";
            // expression, lines, whether it has to be found
            let rows = [
                (&log, &lines, is_found),
                (&events, &vec![event], is_found),
                // Its scenarios choose by the reasons.
                (&grok, &lines, is_ignored),
            ];
            for (expression, lines, is_found) in rows {
                let found = matches(expression, lines)?;
                ensure!(found.len() == usize::from(is_found), "{expression}: {found:?} of {lines:#?}");
                ensure!(found.iter().all(|part| part.contains(&from.to_string())), "{found:?}");
            }
            gateway.stop(nix::sys::signal::Signal::SIGTERM)?;
            gateway.run(&["clear"])?;
        }
    }
    Ok(())
});
