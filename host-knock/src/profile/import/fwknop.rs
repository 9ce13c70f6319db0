//! `.fwknoprc`, the file of fwknop's client: sections of `OPTION VALUE` lines.
//!
//! Host, port and services are the same in both worlds. Keys are not: fwknop's encrypt, ours are hashed, and the gateway
//! wants another one anyway.

use anyhow::{Context as _, Result};

use super::imported::Imported;
use crate::{
    model::{Host, Profile, Service},
    parse,
};

/// Options that say how fwknop makes, sends or resolves what knock has no use for.
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

/// Its number, option and value.
type Line<'a> = (usize, &'a str, &'a str);

/// Whether the text is one.
pub(super) fn is_fwknoprc(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        ["SPA_SERVER", "ACCESS", "ALLOW_IP", "KEY_BASE64", "HMAC_KEY_BASE64", "USE_HMAC"]
            .iter()
            .any(|option| line.split(['=', ' ', '\t']).next() == Some(option))
    })
}

/// The sections that name a server. Those without one only lend their options to others in fwknop.
///
/// # Errors
/// A line is neither, or a value does not fit; it is not repeated, as it may be a key.
pub(super) fn read(text: &str) -> Result<Vec<Imported>> {
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
            .with_context(|| format!("line {number}: neither a [section] nor an option and its value"))?;
        let value = value.trim_start_matches(|letter: char| letter == '=' || letter.is_whitespace());
        let section = sections.last_mut();
        let section =
            section.with_context(|| format!("line {number}: an option stands before the first [section]"))?;
        section.1.push((number, option, value.trim_end()));
    }
    let named =
        sections.into_iter().filter(|(_, options)| options.iter().any(|option| option.1 == "SPA_SERVER"));
    named.map(|(name, options)| profile(name, &options)).collect()
}

fn profile(name: String, options: &[Line<'_>]) -> Result<Imported> {
    let mut profile = Profile::new(Host::parse("localhost")?);
    let mut skipped = Vec::new();
    let mut has_key = false;
    for &(number, option, given) in options {
        let line = || format!("line {number}");
        match option {
            "SPA_SERVER" => profile.host = Host::parse(given).with_context(line)?,
            "SPA_SERVER_PORT" => profile.port = Some(parse::port(given).with_context(line)?),
            "ACCESS" => profile.services = access(given).with_context(line)?,
            "TIME_OFFSET" => match parse::time_offset(given) {
                Ok(seconds) => profile.time_offset = seconds,
                Err(_) => {
                    skipped.push(format!("TIME_OFFSET of line {number} is left out, it is not in seconds"));
                }
            },
            _ if option.contains("KEY") => has_key = true,
            _ if IGNORED.contains(&option) => {}
            _ => skipped
                .push(format!("{option} of line {number} cannot be said in a profile, and is left out")),
        }
    }
    if has_key {
        skipped.push(format!("fwknop's keys are not for knock; make one with knock keygen {name}"));
    }
    Ok(Imported { name, profile, key: None, skipped })
}

/// `tcp/22,udp/53`.
fn access(text: &str) -> Result<Vec<Service>> {
    text.split(',')
        .map(|entry| {
            let (protocol, port) =
                entry.trim().split_once('/').context("ACCESS is not like tcp/22,udp/53")?;
            let name = if port == "22" { "ssh".to_owned() } else { format!("{protocol}-{port}") };
            Service::parse(&name, &format!("{port}/{protocol}"))
        })
        .collect()
}
