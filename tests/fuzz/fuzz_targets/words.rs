//! Command lines of pktables: whatever is typed, what is request of the firewall is within bounds.

#![no_main]

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use pktables::{Ports, Service, address, time};

// The command's own modules, as they are in the program.
#[allow(dead_code, missing_docs)]
#[path = "../../../linux/pktables/src/cli.rs"]
mod cli;
#[allow(dead_code, missing_docs)]
#[path = "../../../linux/pktables/src/request.rs"]
mod request;

use cli::{Args, CliExit};
use request::{Action, Request};

/// Ten years of seconds.
const MAX_TTL: u64 = 315_360_000;

fuzz_target!(|bytes: &[u8]| {
    let words = bytes.split(|byte| *byte == b'\n').map(|word| OsString::from_vec(word.to_vec()));
    let line = [OsString::from("pktables")].into_iter().chain(words);
    match Args::read(line) {
        Err(CliExit::Help(text)) => assert!(!text.is_empty()),
        Err(CliExit::Usage(text)) => assert!(!text.trim().is_empty(), "a mistake without a word"),
        Ok(args) => match Request::from_args(&args) {
            Err(invalid) => {
                let text = invalid.to_string();
                assert!(!text.contains('\n'), "more than a line: {text}");
            }
            Ok(request) => check(&request.action),
        },
    }
    if let Ok(text) = str::from_utf8(bytes) {
        ipv4(text);
        span(text);
    }
});

fn check(action: &Action) {
    match action {
        Action::Init(service) => whole(service),
        Action::Grant { service, address, ttl } => {
            name(service.as_str());
            network(*address);
            assert!(ttl.is_none_or(|ttl| (1..=MAX_TTL).contains(&ttl.as_secs())), "{ttl:?}");
        }
        Action::Revoke { service, address } => {
            name(service.as_str());
            network(*address);
        }
        Action::Remove(service) | Action::Flush(service) => name(service.as_str()),
        Action::List { service, .. } => service.iter().for_each(|service| name(service.as_str())),
        Action::Expire => {}
    }
}

fn name(name: &str) {
    let letters =
        |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_' || letter == '.';
    assert!((1..=25).contains(&name.len()) && name.chars().all(letters), "{name}");
    assert!(!name.starts_with(['-', '_', '.']), "{name}");
}

fn network(address: IpNet) {
    assert!(address.prefix_len() > 0, "everybody: {address}");
    assert_eq!(address.trunc(), address, "bits behind the prefix");
    let shown = address::short(address);
    assert_eq!(address::parse(&shown), Ok(address), "is shown as {shown}");
}

fn whole(service: &Service) {
    name(service.name.as_str());
    assert_eq!(service.checked().as_ref(), Ok(service), "checked once more");
    assert!((1..=Ports::MOST).contains(&service.ports.ranges().len()), "{:?}", service.ports);
    assert_eq!(service.ports.to_string().parse().as_ref(), Ok(&service.ports));
    assert!(service.forward.len() <= 2, "{:?}", service.forward);
    let families: Vec<bool> = service.forward.iter().map(|forward| forward.host().is_ipv4()).collect();
    assert!(families != [true, true] && families != [false, false], "{:?}", service.forward);
    for forward in &service.forward {
        assert!(forward.port() != Some(0) && !forward.host().is_loopback(), "{forward}");
        assert_eq!(forward.port().is_some(), service.ports.single().is_some(), "{forward}");
        assert_eq!(forward.to_string().parse().as_ref(), Ok(forward));
    }
    if let Some(log) = &service.log {
        let prefix = log.prefix.as_str();
        assert!(
            prefix.len() < 30 && prefix.chars().all(|c| (' '..='~').contains(&c) && c != '"' && c != '\\')
        );
        if let Some(limit) = log.limit {
            assert!(limit.lines().get() <= 10_000 && limit.burst().get() <= 10_000, "{limit:?}");
        }
    }
}

/// IPv4 addresses and prefixes, read letter by letter.
fn ipv4(text: &str) {
    if text.is_empty()
        || !text.chars().all(|letter| letter.is_ascii_digit() || letter == '.' || letter == '/')
    {
        return;
    }
    let read = || {
        let (host, length) = text.split_once('/').unwrap_or((text, "32"));
        let mut bits: u32 = 0;
        let parts: Vec<&str> = host.split('.').collect();
        if parts.len() != 4 {
            return None;
        }
        for part in parts {
            if part.is_empty() || part.len() > 3 || (part.len() > 1 && part.starts_with('0')) {
                return None;
            }
            let number = part.parse::<u32>().ok().filter(|number| *number < 256)?;
            bits = bits * 256 + number;
        }
        let length = length.parse::<u32>().ok().filter(|length| (1..=32).contains(length))?;
        let behind = if length == 32 { 0 } else { u32::MAX >> length };
        (bits & behind == 0).then_some((bits, length))
    };
    let given = address::parse(text).ok().map(|net| match net {
        IpNet::V4(net) => (u32::from(net.addr()), u32::from(net.prefix_len())),
        IpNet::V6(net) => panic!("{net} of {text}"),
    });
    assert_eq!(given, read(), "of {text}");
}

/// Times, read letter by letter.
fn span(text: &str) {
    let read = || {
        let (digits, unit) = match text.chars().last()? {
            's' => (&text[..text.len() - 1], 1),
            'm' => (&text[..text.len() - 1], 60),
            'h' => (&text[..text.len() - 1], 3_600),
            'd' => (&text[..text.len() - 1], 86_400),
            _ => (text, 1),
        };
        if digits.is_empty() || !digits.chars().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let digits = digits.trim_start_matches('0');
        // More digits than ten years have seconds.
        let seconds =
            if digits.len() > 12 { u64::MAX } else { format!("0{digits}").parse::<u64>().ok()? * unit };
        (1..=MAX_TTL).contains(&seconds).then_some(seconds)
    };
    assert_eq!(time::parse(text).ok().map(|time| time.as_secs()), read(), "of {text}");
}
