//! `knock verify`: explains a captured knock, with the verdict of a gateway.

mod classic;
mod format2;
mod text;

use std::{
    fmt::Write as _,
    fs, io,
    io::{IsTerminal as _, Read as _},
    net::IpAddr,
    path::Path,
    time::SystemTime,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use pkd_core::{LENGTH, Port, UnixSeconds, Window};

use self::format2::Ends;
use crate::{cli, datagram, hex, key, model::Format, parse, stderr::Stderr};

/// Maximum size of a capture in bytes.
const MAX_CAPTURE: u64 = 256 * 1024 * 1024;

/// A gateway of each format, each with the same key.
struct Gateways {
    /// Decides for all knocks, if given.
    format: Option<Format>,
    classic: classic::Gateway,
    format2: format2::Gateway,
    /// Their time, if given.
    at: Option<UnixSeconds>,
}

/// Validated input.
pub(crate) struct Capture {
    gateways: Gateways,
    port: Option<Port>,
    /// Given addresses, instead of those of a capture.
    ends: Ends,
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
    destination: IpAddr,
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
        let format = args.format.as_deref().map(Format::parse).transpose()?;
        ensure!(
            format != Some(Format::Before1_0),
            "no gateway accepts format pre-1.0; without --format such knocks are explained"
        );
        let ends = Ends {
            source: args.sender.as_deref().map(|text| address("source", text)).transpose()?,
            destination: args.destination.as_deref().map(|text| address("destination", text)).transpose()?,
        };
        let family = |end: Option<IpAddr>| end.map(|address| address.is_ipv4());
        ensure!(
            family(ends.source).is_none_or(|v4| family(ends.destination).is_none_or(|other| v4 == other)),
            "--source and --destination are of different families"
        );
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
        let gateways = Gateways {
            format,
            format2: format2::Gateway::new(&key, tag, window),
            classic: classic::Gateway::new(key, tag, window),
            at,
        };
        Ok(Self { gateways, port, ends, source })
    }

    /// Returns the lines to print, and whether a gateway would accept all knocks.
    ///
    /// # Errors
    /// This computer's clock is before 1970.
    pub(crate) fn explain(mut self) -> Result<(String, bool)> {
        let now = datagram::unix_seconds(SystemTime::now())?;
        let gateways = &mut self.gateways;
        let mut text = String::new();
        match &self.source {
            Source::Payload(payload) => {
                let at = gateways.at.unwrap_or(now);
                let is_accepted = gateways.explain(&mut text, at, self.port, self.ends, payload);
                Ok((text, is_accepted))
            }
            Source::Datagrams(datagrams) => {
                let (mut knocks, mut accepted) = (0_usize, 0_usize);
                for datagram in datagrams {
                    let Datagram { number, time, source, destination, port, payload } = datagram;
                    let is_elsewhere = self.port.is_some_and(|wanted| wanted != *port);
                    if payload.len() != LENGTH || is_elsewhere {
                        continue;
                    }
                    let _ = writeln!(text, "packet {number}, from {source} to port {}", port.0);
                    let at = gateways.at.unwrap_or(*time);
                    let ends = Ends {
                        source: self.ends.source.or(Some(*source)),
                        destination: self.ends.destination.or(Some(*destination)),
                    };
                    knocks += 1;
                    accepted += usize::from(gateways.explain(&mut text, at, Some(*port), ends, payload));
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

impl Gateways {
    /// Without a given format, a knock is explained in the one that the key finds in it.
    fn explain(
        &mut self,
        text: &mut String,
        now: UnixSeconds,
        port: Option<Port>,
        ends: Ends,
        payload: &[u8],
    ) -> bool {
        let is_format2 = match self.format {
            Some(format) => format == Format::Two,
            None => self.format2.knows(port, payload),
        };
        if is_format2 {
            self.format2.explain(text, now, port, ends, payload)
        } else {
            self.classic.explain(text, now, port, payload)
        }
    }
}

fn address(what: &str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| anyhow!("invalid {what} {text:?}: expected an IPv4 or IPv6 address"))
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
                destination: datagram.destination,
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
