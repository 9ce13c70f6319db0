//! What a engine would have said to the datagrams of a capture file (pcap or pcapng).

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result};
use pkd_core::{Knock, Reason, UnixSeconds, Verdict};
use pkd_packet::Datagram;

use crate::{
    caches::Caches,
    config::Config,
    engine::{Decision, Engine},
    floor::Saved,
    journal::Journal,
};

/// Prints a line for each UDP datagram that a rule would hand over or that nearly is a knock, and a summary. Each is
/// held against the clock of its capture, by a engine that remembers nothing from before.
///
/// # Errors
/// The file cannot be read, or is no capture; or the output cannot be written.
pub fn replay(config: Config, file: &Path, out: &mut impl Write) -> Result<()> {
    let name = file.display();
    let source = File::open(file).with_context(|| format!("cannot read {name}"))?;
    replay_from(config, &name.to_string(), source, out)
}

/// The same for what a file holds; `name` is for errors.
///
/// # Errors
/// As [`replay`].
pub fn replay_from(
    config: Config,
    name: &str,
    source: impl io::Read + Send,
    out: &mut impl Write,
) -> Result<()> {
    let start = Saved { floor: UnixSeconds(0), clean: true };
    let widest = config.widest();
    let start = Saved::start(Some(start), UnixSeconds(0), widest);
    let caches = Caches::open(Journal::nowhere()?, start, UnixSeconds(0), widest)?;
    let port = config.gate.port;
    let mut engine = Engine::new(config, caches)?;
    let mut datagrams = 0_u64;
    let mut wrong = Ok(());
    let packets = pkd_packet::each_datagram(source, |number, time, datagram| {
        if wrong.is_ok() {
            datagrams += 1;
            wrong = explain(&mut engine, number, time, port, datagram, out);
        }
    })
    .with_context(|| format!("cannot read {name}"))?;
    wrong.context("cannot write")?;
    let of = |verdict| engine.counters().of(verdict);
    writeln!(
        out,
        "{packets} packets, {datagrams} of them UDP datagrams: {} would have been accepted",
        of(Verdict::Accept)
    )
    .context("cannot write")
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
    let begin = format!("packet {number}, from {source} to port {to}, tag {}: ", knock.tag());
    if port.is_some_and(|port| port != to) {
        return writeln!(out, "{begin}not looked at, gate: port is another");
    }
    let decision = engine.handle(time, datagram);
    let off = match knock.time() {
        ahead if ahead >= time => format!("{} s ahead of", ahead.since(time)),
        behind => format!("{} s behind", time.since(behind)),
    };
    let why = match decision {
        Decision::Accept { user, .. } => format!("accept; user {user}, whose clock is {off} the capture's"),
        Decision::Ignore(Reason::Length) => "length".to_owned(),
        Decision::Ignore(Reason::Tag) => "tag; no active user has it".to_owned(),
        Decision::Ignore(Reason::Window) => format!("window; its time is {off} the capture's"),
        Decision::Ignore(Reason::Replay) => {
            "replay; the capture has it twice, or a later one before it".to_owned()
        }
        Decision::Ignore(Reason::Digest) => {
            "digest; made with another key, for another port, or altered".to_owned()
        }
    };
    writeln!(out, "{begin}{why}")
}
