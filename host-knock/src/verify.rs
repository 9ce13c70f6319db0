//! `knock verify`: explains a captured knock, with the verdict of a gateway.

use std::{
    fmt::Write as _,
    fs, io,
    io::{IsTerminal as _, Read as _},
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use pkd_core::{
    Baseline, Key, Knock, KnockParams, LENGTH, Packet, Port, Reason, ReplayCache, Rule, Timestamp,
    UnixSeconds, Verdict, Window,
};

use crate::{cli, datagram, hex, key, parse, stderr::Stderr};

/// Maximum size of a capture in bytes.
const MAX_CAPTURE: u64 = 256 * 1024 * 1024;
/// The last second of the year 9999, the last that can be formatted.
const LAST_DATE: u64 = 253_402_300_799;

/// A simulated gateway.
pub(crate) struct Gateway {
    rule: Rule,
    cache: ReplayCache<256>,
    /// Its time, if given.
    at: Option<UnixSeconds>,
}

/// Validated input.
pub(crate) struct Capture {
    gateway: Gateway,
    port: Option<Port>,
    source: Source,
}

enum Source {
    Payload(Vec<u8>),
    Datagrams(Vec<Datagram>),
}

/// A datagram of a capture.
struct Datagram {
    /// Packet number in the file, from 1.
    number: u64,
    time: UnixSeconds,
    source: IpAddr,
    port: Port,
    payload: Vec<u8>,
}

impl Capture {
    /// Reads key and source.
    ///
    /// # Errors
    /// An argument, the key or the source is invalid.
    pub(crate) fn from_args(args: &cli::Verify) -> Result<Self> {
        let tag = args.tag.as_deref().map(parse::tag).transpose()?.unwrap_or_default();
        let port = args.port.as_deref().map(parse::port).transpose()?;
        let window =
            args.window.parse().map_err(|_| anyhow!("invalid window {:?}: expected seconds", args.window))?;
        let window = Window::from_secs(window);
        let at = args.at.as_deref().map(|text| {
            text.parse().map(UnixSeconds).map_err(|_| anyhow!("invalid time {text:?}: expected Unix seconds"))
        });
        let at = at.transpose()?;
        ensure!(
            args.key_file.as_os_str() != "-" || args.source != "-",
            "the key and the knock cannot both come from standard input"
        );
        let key = key::from_file(&args.key_file, Stderr { quiet: false }, args.insecure_key_mode)?;
        let source = read(&args.source)?;
        let start = Baseline::with_memory(UnixSeconds(0));
        let cache = ReplayCache::new(start.floor(window));
        Ok(Self { gateway: Gateway { rule: Rule::new(key, tag, window), cache, at }, port, source })
    }

    /// Returns the lines to print, and whether a gateway would accept all knocks.
    ///
    /// # Errors
    /// This computer's clock is before 1970.
    pub(crate) fn explain(mut self) -> Result<(String, bool)> {
        let now = datagram::unix_seconds(SystemTime::now())?;
        let gateway = &mut self.gateway;
        let mut text = String::new();
        match &self.source {
            Source::Payload(payload) => {
                let at = gateway.at.unwrap_or(now);
                let is_accepted = gateway.explain(&mut text, at, self.port, payload);
                Ok((text, is_accepted))
            }
            Source::Datagrams(datagrams) => {
                let (mut knocks, mut accepted) = (0_usize, 0_usize);
                for datagram in datagrams {
                    let Datagram { number, time, source, port, payload } = datagram;
                    let is_elsewhere = self.port.is_some_and(|wanted| wanted != *port);
                    if payload.len() != LENGTH || is_elsewhere {
                        continue;
                    }
                    let _ = writeln!(text, "packet {number}, from {source} to port {}", port.0);
                    let at = gateway.at.unwrap_or(*time);
                    knocks += 1;
                    accepted += usize::from(gateway.explain(&mut text, at, Some(*port), payload));
                }
                let _ = writeln!(
                    text,
                    "{} UDP datagrams, {knocks} with the length of a knock, {accepted} accepted",
                    datagrams.len()
                );
                Ok((text, knocks > 0 && accepted == knocks))
            }
        }
    }
}

impl Gateway {
    fn explain(&mut self, text: &mut String, now: UnixSeconds, port: Option<Port>, payload: &[u8]) -> bool {
        let Some(knock) = Knock::parse(payload) else {
            let _ = writeln!(
                text,
                "length   {} bytes; a knock has {LENGTH}\nverdict  ignore: length",
                payload.len()
            );
            return false;
        };
        let (key, tag, window) = (self.rule.key(), self.rule.tag(), self.rule.window());
        let fits = |port: Port| knock.expected_digest(key, port).matches(&knock.digest());
        let port = port.or_else(|| (1..=u16::MAX).map(Port).find(|port| fits(*port)));
        let digest = match port {
            Some(port) if fits(port) => format!("valid for this key and port {}", port.0),
            _ if is_before_1_0(&knock, key, payload) => {
                "valid for this key, in the format before 1.0 without a port; current gateways ignore it"
                    .to_owned()
            }
            Some(given) => match (1..=u16::MAX).map(Port).find(|port| fits(*port)) {
                Some(port) => format!("valid for this key and port {}, not for port {}", port.0, given.0),
                None => "invalid: another key, or altered".to_owned(),
            },
            None => "invalid for every port: another key, or altered".to_owned(),
        };
        let carried = knock.tag();
        let _ = writeln!(
            text,
            "tag      {carried}{}",
            if carried == tag { String::new() } else { format!("; the gateway expects {tag}") }
        );
        let _ =
            writeln!(text, "time     {}, {}", date(knock.time()), time_difference(knock.time(), now, window));
        let _ = writeln!(text, "nonce    {}", hex::digits(knock.nonce()));
        let _ = writeln!(text, "digest   {digest}");
        let packet = Packet { destination_port: port.unwrap_or(Port(1)), payload };
        let verdict = self.rule.verify(&mut self.cache, now, &packet);
        let _ = writeln!(text, "verdict  {}", describe(verdict));
        verdict == Verdict::Accept
    }
}

fn describe(verdict: Verdict) -> String {
    let Verdict::Ignore(reason) = verdict else { return verdict.to_string() };
    let why = match reason {
        Reason::Length => "wrong length",
        Reason::Tag => "wrong tag",
        Reason::Window => "time outside the window",
        Reason::Replay => "seen before; or, without a clock, older than the last",
        Reason::Filter | Reason::Digest => "wrong key, wrong port, or altered",
        Reason::Request => "an unknown request, or not bound to what the gateway requires",
    };
    format!("ignore: {reason}: {why}")
}

/// Whether this is a knock of before 1.0, whose digest does not cover the port.
fn is_before_1_0(knock: &Knock<'_>, key: &Key, payload: &[u8]) -> bool {
    let params = KnockParams { key, tag: knock.tag(), time: knock.time(), nonce: *knock.nonce() };
    Knock::seal_before_1_0(&params) == payload
}

fn date(UnixSeconds(seconds): UnixSeconds) -> String {
    if seconds > LAST_DATE {
        return format!("{seconds}, after the year 9999");
    }
    format!("{seconds}, {}", httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds)))
}

fn time_difference(time: UnixSeconds, now: UnixSeconds, window: Window) -> String {
    let off = if time >= now {
        format!("{} s ahead of", time.since(now))
    } else {
        format!("{} s behind", now.since(time))
    };
    let side = match window {
        Window::Monotonic => "not checked (window 0)".to_owned(),
        Window::Skew(seconds) if window.admits(now, time) => format!("within the window of {seconds} s"),
        Window::Skew(seconds) => format!("outside the window of {seconds} s"),
    };
    format!("{off} the gateway, {side}")
}

fn read(source: &str) -> Result<Source> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = source.strip_prefix("0x").unwrap_or(source);
    if source != "-" && is_digits(digits) && !Path::new(source).exists() {
        return payload(digits, "HEX");
    }
    let (name, bytes) = if source == "-" {
        ensure!(!io::stdin().is_terminal(), "standard input is a terminal; give the knock as an argument");
        ("standard input".to_owned(), read_limited(io::stdin().lock(), "standard input")?)
    } else {
        let file = fs::File::open(source).with_context(|| format!("cannot read {source}"))?;
        (source.to_owned(), read_limited(file, source)?)
    };
    if pkd_packet::is_file(&bytes) {
        let mut datagrams = Vec::new();
        pkd_packet::each_datagram(&bytes[..], |number, time, datagram| {
            datagrams.extend(datagram.parts().map(|(port, payload)| Datagram {
                number,
                time,
                source: datagram.source,
                port,
                payload: payload.to_vec(),
            }));
        })
        .with_context(|| format!("cannot read {name}"))?;
        return Ok(Source::Datagrams(datagrams));
    }
    let text = String::from_utf8(bytes).ok().filter(|text| is_digits(text.trim().trim_start_matches("0x")));
    match text {
        // The last word of a line of --dry-run is not extracted.
        Some(text) => payload(text.trim().trim_start_matches("0x"), &name),
        None => bail!("{name}: expected a capture (pcap or pcapng) or hexadecimal digits"),
    }
}

fn payload(digits: &str, name: &str) -> Result<Source> {
    let bytes = hex::bytes(digits);
    bytes.map(Source::Payload).with_context(|| format!("{name}: odd number of hexadecimal digits"))
}

fn read_limited(source: impl io::Read, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_CAPTURE + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    ensure!(bytes.len() as u64 <= MAX_CAPTURE, "{name}: larger than 256 MiB");
    Ok(bytes)
}
