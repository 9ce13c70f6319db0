//! The verdict on each knock in a capture file (pcap or pcapng).

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result};
use pkd_core::{Knock, LENGTH, Reason, Timestamp, UnixMillis, UnixSeconds, Verdict};
use pkd_packet::{Content, Cut, Datagram, Unread};

use crate::{
    caches::Caches,
    config::Config,
    engine::{Decision, Engine, FormatCaches},
    format::Unit,
    journal::{Entry, Journal},
};

/// Prints a line for each UDP datagram with the length of a knock, what could not be read, and a summary. The clock is that of the capture, and
/// no knocks were accepted before it.
///
/// # Errors
/// The file cannot be read or is not a capture file, or the output cannot be written.
pub fn replay(config: Config, file: &Path, out: &mut impl Write) -> Result<()> {
    let name = file.display();
    let source = File::open(file).with_context(|| format!("cannot read {name}"))?;
    replay_from(config, &name.to_string(), source, out)
}

/// Like [`replay`], for the contents of a file; `name` is for errors.
///
/// # Errors
/// See [`replay`].
pub fn replay_from(
    config: Config,
    name: &str,
    source: impl io::Read + Send,
    out: &mut impl Write,
) -> Result<()> {
    // Nothing was accepted before.
    let caches = FormatCaches { classic: empty(&config)?, format2: empty(&config)? };
    let port = config.gate.port;
    let mut engine = Engine::new(config, caches, UnixMillis(0))?;
    let (mut packets, mut datagrams) = (0_u64, 0_u64);
    let mut unread = Unread::default();
    let mut written = Ok(());
    pkd_packet::each_packet(source, |packet| {
        packets = packet.number;
        if written.is_err() {
            return;
        }
        written = match &packet.content {
            Content::Datagram(datagram) => {
                datagrams += 1;
                let time = packet.time.unwrap_or(UnixSeconds(0));
                explain(&mut engine, packets, time, port, datagram, out)
            }
            Content::Cut { datagram: Some(datagram), cut } => {
                datagrams += 1;
                skip(packets, datagram, *cut, out)
            }
            content => {
                unread.add(content);
                Ok(())
            }
        };
    })
    .with_context(|| format!("cannot read {name}"))?;
    let [opened, closed] = [Verdict::Accept, Verdict::Close].map(|verdict| engine.counters().of(verdict));
    let accepted = opened + closed;
    written
        .and_then(|()| unread.describe().iter().try_for_each(|line| writeln!(out, "{line}")))
        .and_then(|()| {
            writeln!(
                out,
                "{packets} packets, {datagrams} of them UDP datagrams: {accepted} would have been accepted"
            )
        })
        .context("cannot write the verdicts")
}

/// Caches of a format that nothing is in.
fn empty<T: Unit>(config: &Config) -> Result<Caches<T>> {
    let start = [Entry::Remembered(T::ZERO)];
    Ok(Caches::open(Journal::null()?, &start, T::ZERO, config.widest())?)
}

/// Says that a datagram with the length of a knock was not checked, as the capture does not have all of it.
fn skip(number: u64, datagram: &Datagram<'_>, cut: Cut, out: &mut impl Write) -> io::Result<()> {
    match datagram.parts() {
        Some((to, _)) if datagram.stated_length() == Some(LENGTH) => {
            writeln!(out, "packet {number}, from {} to port {}: not read; {cut}", datagram.source, to.0)
        }
        _ => Ok(()),
    }
}

fn explain(
    engine: &mut Engine,
    number: u64,
    time: UnixSeconds,
    port: Option<u16>,
    datagram: &Datagram<'_>,
    out: &mut impl Write,
) -> io::Result<()> {
    let Some(packet) = datagram.packet() else { return Ok(()) };
    let Some(knock) = Knock::parse(packet.payload) else { return Ok(()) };
    let (to, source) = (packet.destination_port.0, datagram.source);
    // All of the second in which the capture has it.
    let now = UnixMillis(time.0.saturating_mul(1_000));
    engine.refresh(now);
    let tag = knock.tag();
    let users = engine.words().users(tag.0);
    let is_format2 = users.iter().any(|user| engine.words().of(user).is_some());
    let begin = if is_format2 { String::new() } else { format!(", tag {tag}") };
    let start = format!("packet {number}, from {source} to port {to}{begin}: ");
    if let Some(port) = port.filter(|port| *port != to) {
        return writeln!(out, "{start}skipped; the configuration sets port {port}");
    }
    let decision = engine.handle(now, source.into(), datagram);
    let offset = match knock.time() {
        ahead if ahead >= time => format!("{} s ahead of", ahead.since(time)),
        behind => format!("{} s behind", time.since(behind)),
    };
    let verdict = match decision {
        // A capture begins with complete memories.
        Decision::Ignore(cause) => ignored(cause.reason(), is_format2, &offset),
        Decision::Accept { user, .. } if is_format2 => format!("accept; user {user}, in format 2"),
        Decision::Close { user, .. } => format!("close; user {user}, in format 2"),
        Decision::Accept { user, .. } => {
            format!("accept; user {user}, whose clock is {offset} the capture's")
        }
    };
    writeln!(out, "{start}{verdict}")
}

/// Why a knock is ignored; `offset` is how far its time is from the capture's.
fn ignored(reason: Reason, is_format2: bool, offset: &str) -> String {
    match reason {
        Reason::Length => "length".to_owned(),
        Reason::Tag => {
            "tag; no active user has this tag, or in format 2 a knock that begins like this now".to_owned()
        }
        Reason::Window if is_format2 => "window; its time is outside the window".to_owned(),
        Reason::Window => format!("window; its time is {offset} the capture's"),
        Reason::Replay => "replay; the capture contains it twice, or a later knock before it".to_owned(),
        Reason::Filter => "filter; forged, or made for another port".to_owned(),
        Reason::Request => {
            "request; asks for what this version does not know, or is not bound to what the user requires"
                .to_owned()
        }
        Reason::Digest if is_format2 => {
            "digest; bound to other addresses than those in the capture, or altered".to_owned()
        }
        Reason::Digest => "digest; made with another key or for another port, or altered".to_owned(),
    }
}
