//! `knock verify`: explains a captured knock, with the verdict of a gateway.

mod classic;
mod finding;
mod format2;
mod gateway;
mod report;
mod source;
mod text;

use std::{net::IpAddr, path::Path, time::SystemTime};

use anyhow::{Context as _, Result, anyhow, ensure};
use pkd_core::{Key, Port, UnixSeconds, Window};

pub(crate) use self::report::Report;
use self::{
    format2::Ends,
    gateway::Gateways,
    report::{Entry, Origin},
    source::{Capture, Source},
};
use crate::{
    cli, datagram, key,
    model::{Format, Profile},
    parse,
    profile::ProfileStore,
    stderr::Stderr,
};

/// Validated input.
pub(crate) struct Verification {
    gateways: Gateways,
    /// The gateway's time, if given.
    at: Option<UnixSeconds>,
    /// Seconds that the gateway's clock is ahead of this one.
    time_offset: i64,
    port: Option<Port>,
    /// Given addresses, instead of those of a capture.
    ends: Ends,
    source: Source,
}

impl Verification {
    /// Reads key and source.
    ///
    /// # Errors
    /// An argument, the profile, the key or the source is invalid.
    pub(crate) fn from_args(args: &cli::Verify) -> Result<Self> {
        let stderr = Stderr { quiet: false };
        let tag = args.tag.as_deref().map(parse::tag).transpose()?;
        let port = args.port.as_deref().map(parse::port).transpose()?;
        let window = args.window.as_deref().map(window).transpose()?;
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
        let is_key_from_input = args.key_file.as_deref() == Some(Path::new("-"));
        ensure!(
            !is_key_from_input || args.source.iter().all(|word| word != "-"),
            "the key and the knock cannot both come from standard input"
        );
        let profile = args.profile.as_deref().map(|name| profile(name, args, stderr)).transpose()?;
        let key = key(args, profile.as_ref(), stderr)?;
        let source = source::read(&args.source)?;
        let profile = profile.as_ref();
        let tag = tag.or(profile.and_then(|profile| profile.tag)).unwrap_or_default();
        let window = window.or(profile.map(|profile| profile.window)).unwrap_or_default();
        // A profile of before 1.0 has no gateway that could decide.
        let own = profile.map(|profile| profile.format).filter(|format| *format != Format::Before1_0);
        Ok(Self {
            gateways: Gateways::new(key, tag, window, format.or(own)),
            at,
            time_offset: profile.map_or(0, |profile| profile.time_offset),
            port,
            ends,
            source,
        })
    }

    /// Returns the report, and why the rest of the source cannot be read.
    ///
    /// # Errors
    /// This computer's clock is before 1970.
    pub(crate) fn explain(mut self) -> Result<(Report, Option<anyhow::Error>)> {
        let UnixSeconds(now) = datagram::unix_seconds(SystemTime::now())?;
        let now = self.at.unwrap_or(UnixSeconds(now.saturating_add_signed(self.time_offset)));
        let Self { gateways, at, port: wanted, ends, source, .. } = &mut self;
        let is_wanted = |port: Port| wanted.is_none_or(|wanted| wanted == port);
        let mut report = Report::default();
        let mut damage = None;
        match source {
            Source::Payload(payload) => {
                let finding = gateways.explain(now, *wanted, *ends, payload);
                report.add(Entry { origin: Origin::Payload, port: *wanted, finding: Ok(finding) });
            }
            Source::Lines(lines) => {
                for line in lines {
                    let (host, port) = line.to.clone().unzip();
                    if port.is_some_and(|port| !is_wanted(port)) {
                        continue;
                    }
                    let port = port.or(*wanted);
                    // Of a payload that may be bound, it is the address that the knock goes to.
                    let address = host.as_deref().and_then(|host| host.parse().ok());
                    let ends = Ends { source: ends.source, destination: ends.destination.or(address) };
                    let finding = Ok(gateways.explain(now, port, ends, &line.payload));
                    report.add(Entry { origin: Origin::Line { number: line.number, host }, port, finding });
                }
            }
            Source::Capture(Capture { knocks, datagrams, unread, damage: found }) => {
                report = Report::of_capture(*datagrams, unread.describe());
                damage = found.take();
                for packet in knocks.iter().filter(|packet| is_wanted(packet.port)) {
                    let (source, destination) = (packet.source, packet.destination);
                    let ends = Ends {
                        source: ends.source.or(Some(source)),
                        destination: ends.destination.or(Some(destination)),
                    };
                    let at = at.or(packet.time).unwrap_or(now);
                    let port = Some(packet.port);
                    let finding = match &packet.payload {
                        Ok(payload) => Ok(gateways.explain(at, port, ends, payload)),
                        Err(cut) => Err(cut.to_string()),
                    };
                    let (number, time) = (packet.number, packet.time);
                    let origin = Origin::Packet { number, time, source, destination };
                    report.add(Entry { origin, port, finding });
                }
            }
        }
        Ok((report, damage))
    }
}

fn window(text: &str) -> Result<Window> {
    let seconds = text.parse().map_err(|_| anyhow!("invalid window {text:?}: expected seconds"))?;
    Ok(Window::from_secs(seconds))
}

fn address(what: &str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| anyhow!("invalid {what} {text:?}: expected an IPv4 or IPv6 address"))
}

fn profile(name: &str, args: &cli::Verify, stderr: Stderr) -> Result<Profile> {
    let store = ProfileStore::open(args.config.as_deref(), stderr)?;
    store.profile(name).with_context(|| format!("unknown profile {name:?}; see knock list"))?
}

/// The key of the file or else of the profile.
fn key(args: &cli::Verify, profile: Option<&Profile>, stderr: Stderr) -> Result<Key> {
    if let Some(file) = &args.key_file {
        return key::from_file(file, stderr, args.insecure_key_mode);
    }
    let (name, profile) =
        args.profile.as_deref().zip(profile).context("no key; use --key-file or --profile")?;
    let found = key::from_source(&profile.key, name, stderr, args.insecure_key_mode)?;
    found.map_or_else(|| key::from_prompt(name), Ok)
}
