//! `.fwknoprc`, the file of fwknop's client: sections with `OPTION VALUE` lines.
//!
//! Host, port and services carry over. Keys do not: fwknop encrypts with them, knock hashes them, and the gateway needs a
//! new one anyway.

use anyhow::{Context as _, Result};

use super::imported::Imported;
use crate::{
    model::{Host, Hosts, Profile, Service},
    parse,
};

/// Options about how fwknop makes, sends or resolves, which knock does not need.
const IGNORED: [&str; 8] = [
    "USE_HMAC",
    "VERBOSE",
    "SPA_SERVER_PROTO",
    "DIGEST_TYPE",
    "HMAC_DIGEST_TYPE",
    "ENCRYPTION_MODE",
    "RESOLVE_IP_HTTPS",
    "RESOLVE_IP_HTTP",
];

/// Line number, option and value.
type Line<'a> = (usize, &'a str, &'a str);

/// Whether the text looks like a `.fwknoprc`.
pub(super) fn is_fwknoprc(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        ["SPA_SERVER", "ACCESS", "ALLOW_IP", "KEY_BASE64", "HMAC_KEY_BASE64", "USE_HMAC"]
            .iter()
            .any(|option| line.split(['=', ' ', '\t']).next() == Some(option))
    })
}

/// Reads the sections that name a server; in fwknop, those without one only supply options to others.
///
/// # Errors
/// A line cannot be parsed, or a value is invalid. Values are not repeated, as they may be keys. Errors name `file`.
pub(super) fn read(text: &str, file: &str) -> Result<Vec<Imported>> {
    let mut sections: Vec<(String, Vec<Line<'_>>)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push((name.to_owned(), Vec::new()));
            continue;
        }
        let (option, value) = line
            .split_once(|letter: char| letter == '=' || letter.is_whitespace())
            .with_context(|| format!("{file}:{number}: expected [section] or an option and its value"))?;
        let value = value.trim_start_matches(|letter: char| letter == '=' || letter.is_whitespace());
        let section = sections.last_mut();
        let section =
            section.with_context(|| format!("{file}:{number}: option before the first [section]"))?;
        section.1.push((number, option, value.trim_end()));
    }
    let named =
        sections.into_iter().filter(|(_, options)| options.iter().any(|option| option.1 == "SPA_SERVER"));
    named.map(|(name, options)| profile(name, &options, file)).collect()
}

fn profile(name: String, options: &[Line<'_>], file: &str) -> Result<Imported> {
    let mut profile = Profile::new(Hosts::one(Host::parse("localhost")?));
    let mut skipped = Vec::new();
    let mut has_key = false;
    for &(number, option, given) in options {
        let line = || format!("{file}:{number}");
        match option {
            "SPA_SERVER" => profile.hosts = Host::parse(given).map(Hosts::one).with_context(line)?,
            "SPA_SERVER_PORT" => profile.port = Some(parse::port(given).with_context(line)?),
            "ACCESS" => profile.services = access(given).with_context(line)?,
            "TIME_OFFSET" => match parse::time_offset(given) {
                Ok(seconds) => profile.time_offset = seconds,
                Err(_) => {
                    skipped.push(format!("ignored TIME_OFFSET in line {number}: not in seconds"));
                }
            },
            _ if option.contains("KEY") => has_key = true,
            _ if IGNORED.contains(&option) => {}
            _ => skipped.push(format!("ignored {option} in line {number}: profiles have no such option")),
        }
    }
    if has_key {
        skipped.push(format!("ignored fwknop's keys; create one with knock keygen {name}"));
    }
    Ok(Imported { name, profile, key: None, skipped })
}

/// `tcp/22,udp/53`.
fn access(text: &str) -> Result<Vec<Service>> {
    text.split(',')
        .map(|entry| {
            let (protocol, port) = entry
                .trim()
                .split_once('/')
                .context("invalid ACCESS: expected a list such as tcp/22,udp/53")?;
            let name = if port == "22" { "ssh".to_owned() } else { format!("{protocol}-{port}") };
            Service::parse(&name, &format!("{port}/{protocol}"))
        })
        .collect()
}
