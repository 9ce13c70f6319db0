//! Where the knocks to verify come from: digits, lines of `knock -n`, or a capture.

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _},
    net::IpAddr,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use pkd_core::{LENGTH, Port, UnixSeconds};
use pkd_packet::{Captured, Content, Cut, Datagram, Unread};

use crate::{hex, parse};

/// Maximum size of a capture in bytes.
const MAX_CAPTURE: u64 = 256 * 1024 * 1024;

/// What was read.
pub(super) enum Source {
    Payload(Vec<u8>),
    Lines(Vec<Line>),
    Capture(Capture),
}

/// A line of `knock -n`.
#[derive(Clone)]
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: usize,
    /// Host and port, which bare digits do not have.
    pub(super) to: Option<(String, Port)>,
    pub(super) payload: Vec<u8>,
}

/// The packets of a capture.
#[derive(Default)]
pub(super) struct Capture {
    /// Datagrams with the length of a knock.
    pub(super) knocks: Vec<Packet>,
    /// All UDP datagrams.
    pub(super) datagrams: usize,
    pub(super) unread: Unread,
    /// Why the rest of the file cannot be read.
    pub(super) damage: Option<anyhow::Error>,
}

/// A datagram of a capture.
pub(super) struct Packet {
    /// Packet number in the file, from 1.
    pub(super) number: u64,
    pub(super) time: Option<UnixSeconds>,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) port: Port,
    pub(super) payload: Result<Vec<u8>, Cut>,
}

impl Capture {
    fn read(bytes: &[u8], name: &str) -> Self {
        let mut capture = Self::default();
        let mut packets = 0;
        let ended = pkd_packet::each_packet(bytes, |packet| {
            packets = packet.number;
            capture.add(packet);
        });
        capture.damage = ended.err().map(|error| {
            let place = if packets > 0 { format!(" after packet {packets}") } else { String::new() };
            error.context(format!("cannot read {name}{place}"))
        });
        capture
    }

    fn add(&mut self, packet: &Captured<'_>) {
        match packet.content {
            Content::Datagram(datagram) => {
                self.datagrams += 1;
                if let Some((port, payload)) = datagram.parts().filter(|(_, payload)| payload.len() == LENGTH)
                {
                    self.push(packet, &datagram, port, Ok(payload.to_vec()));
                }
            }
            Content::Cut { datagram: Some(datagram), cut } => {
                self.datagrams += 1;
                if let Some((port, _)) = datagram.parts()
                    && datagram.stated_length() == Some(LENGTH)
                {
                    self.push(packet, &datagram, port, Err(cut));
                }
            }
            content => self.unread.add(&content),
        }
    }

    fn push(
        &mut self,
        packet: &Captured<'_>,
        datagram: &Datagram<'_>,
        port: Port,
        payload: Result<Vec<u8>, Cut>,
    ) {
        let &Captured { number, time, .. } = packet;
        let &Datagram { source, destination, .. } = datagram;
        self.knocks.push(Packet { number, time, source, destination, port, payload });
    }
}

/// Reads what the words name: digits, a file, `-` for standard input, or the three words of a line of `knock -n`.
///
/// # Errors
/// It cannot be read, or is something else. A damaged capture is no error here.
pub(super) fn read(words: &[String]) -> Result<Source> {
    let [source] = words else {
        let line = line(1, &words.join(" ")).context("expected HOST PORT HEX, as knock -n prints it")?;
        return Ok(Source::Lines(vec![line?]));
    };
    if source != "-" && !Path::new(source).exists() {
        if let Some(digits) = digits(source) {
            return payload(digits).context("HEX").map(Source::Payload);
        }
        if let Some(line) = line(1, source) {
            return Ok(Source::Lines(vec![line?]));
        }
    }
    let (name, bytes) = if source == "-" {
        ensure!(!io::stdin().is_terminal(), "standard input is a terminal; give the knock as an argument");
        ("standard input", read_limited(io::stdin().lock(), "standard input")?)
    } else {
        let file = fs::File::open(source).with_context(|| format!("cannot read {source}"))?;
        (source.as_str(), read_limited(file, source)?)
    };
    if pkd_packet::is_file(&bytes) {
        return Ok(Source::Capture(Capture::read(&bytes, name)));
    }
    let text = String::from_utf8(bytes).unwrap_or_default();
    lines(&text, name)
}

/// A text of digits, or of lines.
fn lines(text: &str, name: &str) -> Result<Source> {
    if let Some(digits) = digits(text.trim()) {
        return payload(digits).with_context(|| name.to_owned()).map(Source::Payload);
    }
    let rows = text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty());
    let rows: Vec<_> = rows.map(|(row, text)| (row + 1, line(row + 1, text))).collect();
    if rows.iter().all(|(_, line)| line.is_none()) {
        bail!("{name}: expected a capture (pcap or pcapng), hexadecimal digits, or lines of knock -n");
    }
    let lines = rows.into_iter().map(|(row, line)| {
        let line =
            line.with_context(|| format!("{name}:{row}: expected HOST PORT HEX, as knock -n prints it"))?;
        line.with_context(|| format!("{name}:{row}"))
    });
    lines.collect::<Result<_>>().map(Source::Lines)
}

/// `HOST PORT HEX` or `HEX`; `None`: something else.
fn line(number: usize, text: &str) -> Option<Result<Line>> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (to, digits) = match words[..] {
        [hex] => (None, digits(hex)?),
        [host, port, hex] => (Some((host, port)), digits(hex)?),
        _ => return None,
    };
    let read = || {
        let to = to.map(|(host, port)| anyhow::Ok((host.to_owned(), parse::port(port)?))).transpose()?;
        Ok(Line { number, to, payload: payload(digits)? })
    };
    Some(read())
}

/// Hexadecimal digits, without the `0x` before them.
fn digits(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    Some(digits).filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn payload(digits: &str) -> Result<Vec<u8>> {
    hex::bytes(digits).context("odd number of hexadecimal digits")
}

fn read_limited(source: impl io::Read, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_CAPTURE + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    ensure!(bytes.len() as u64 <= MAX_CAPTURE, "{name}: larger than 256 MiB");
    Ok(bytes)
}
