//! pkdd gives every datagram of the scenarios its verdict, as packets in the order of their events.
//!
//! Its caches hold 256 knocks, and it wants windows of 1 to 300 seconds for format 2; other scenarios are for the library.

use std::{fmt::Write as _, net::IpAddr, path::Path};

use anyhow::{Context as _, Result, ensure};
use etherparse::PacketBuilder;
use pkd_core::{UnixMillis, UnixSeconds, Verdict};
use pkd_packet::Datagram;
use pkd_tests::{Step, format2, scenarios, unhex, word};
use pkdd::{
    caches::{CAPACITY, Caches},
    config::Config,
    engine::{Engine, FormatCaches},
    format::Unit,
    journal::{Entry, Journal},
};

/// What a start knows of earlier lives.
#[derive(Clone, Copy)]
struct Boot<T> {
    now: T,
    floor: Option<T>,
}

fn caches<T: Unit>(start: Boot<T>, config: &Config) -> Result<Caches<T>> {
    let entry = start.floor.map_or(Entry::Unknown(start.now), Entry::Remembered);
    Ok(Caches::open(Journal::null()?, &[entry], start.now, config.widest())?)
}

/// A gateway with one user of a format, and nobody of the other.
fn engine(text: &str, classic: Boot<UnixSeconds>, format2: Boot<UnixMillis>) -> Result<Engine> {
    let config = Config::parse(text, Path::new("/nonexistent"))?;
    let caches = FormatCaches { classic: caches(classic, &config)?, format2: caches(format2, &config)? };
    Ok(Engine::new(config, caches, format2.now)?)
}

fn user(format: &str, tag: &str, key: &str, window: u32) -> String {
    format!(
        "[service.ssh]\nport = 22\n[user.me]\nformat = '{format}'\ntag = '0x{tag}'\nkey = '0x{key}'\nwindow = {window}\n\
         services = ['ssh']\n"
    )
}

fn packet(source: IpAddr, destination: IpAddr, port: u16, payload: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let builder = PacketBuilder::ipv4(source.octets(), destination.octets(), 64);
            builder.udp(1_000, port).write(&mut bytes, payload)?;
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let builder = PacketBuilder::ipv6(source.octets(), destination.octets(), 64);
            builder.udp(1_000, port).write(&mut bytes, payload)?;
        }
        _ => anyhow::bail!("two families"),
    }
    Ok(bytes)
}

fn verdict(engine: &mut Engine, now: UnixMillis, packet: &[u8]) -> Result<Verdict> {
    let datagram = Datagram::from_ip(packet).context("no datagram")?;
    Ok(engine.handle(now, datagram.source.into(), &datagram).verdict())
}

fn millis(UnixSeconds(seconds): UnixSeconds) -> UnixMillis {
    UnixMillis(seconds.saturating_mul(1_000))
}

#[test]
fn every_classic_scenario_for_such_a_cache_runs_through_the_daemon() -> Result<()> {
    let all = scenarios()?;
    let (mut ran, mut steps) = (0, 0);
    for scenario in all.iter().filter(|scenario| scenario.cache_capacity == CAPACITY) {
        let rule = scenario.rule()?;
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
        };
        let text = user("classic", &hex(&rule.tag().0), &hex(rule.key().as_bytes()), rule.window().as_secs());
        let start = |now, floor: Option<u64>| {
            let (now, floor) = (UnixSeconds(now), floor.map(UnixSeconds));
            let format2 = Boot { now: millis(now), floor: floor.map(millis) };
            engine(&text, Boot { now, floor }, format2)
        };
        let mut gateway = start(scenario.start, None)?;
        for (row, step) in scenario.steps.iter().enumerate() {
            match step {
                Step::Restart { restart, saved_floor } => gateway = start(*restart, *saved_floor)?,
                Step::Datagram { now, dst_port, payload_hex, verdict: expected } => {
                    let (source, destination) = ([192, 0, 2, 7].into(), [192, 0, 2, 1].into());
                    let packet = packet(source, destination, *dst_port, &unhex(payload_hex)?)?;
                    let now = UnixMillis(now.saturating_mul(1_000));
                    let actual = word(verdict(&mut gateway, now, &packet)?);
                    assert_eq!(actual, *expected, "{}, step {row}", scenario.name);
                    steps += 1;
                }
            }
        }
        ran += 1;
    }
    ensure!(ran >= 14 && steps > ran, "{ran} of {} scenarios ran, in {steps} steps", all.len());
    Ok(())
}

#[test]
fn every_scenario_of_format_2_for_such_a_cache_and_window_runs_through_the_daemon() -> Result<()> {
    let all = format2::known_answers()?.scenarios;
    let fits = |one: &&format2::Scenario| one.capacity == CAPACITY && (1..=300).contains(&one.window);
    let (mut ran, mut steps) = (0, 0);
    for scenario in all.iter().filter(fits) {
        let mut text = String::from("[gate]\n");
        let own: Vec<String> = scenario
            .own_addresses()?
            .iter()
            .map(|octets| address(octets).map(|address| format!("'{address}'")))
            .collect::<Result<_>>()?;
        let _ = writeln!(text, "own_addresses = [{}]", own.join(", "));
        text += &user("2", &scenario.tag_hex, &scenario.key_hex, scenario.window);
        let require: Vec<String> = scenario.require.iter().map(|name| format!("'{name}'")).collect();
        let _ = writeln!(text, "require = [{}]", require.join(", "));
        let start = |now: u64, floor: Option<u64>| {
            let classic =
                Boot { now: UnixSeconds(now / 1_000), floor: floor.map(|floor| UnixSeconds(floor / 1_000)) };
            engine(&text, classic, Boot { now: UnixMillis(now), floor: floor.map(UnixMillis) })
        };
        let mut gateway = start(scenario.start_ms, None)?;
        for (row, step) in scenario.steps.iter().enumerate() {
            match step {
                format2::Step::Restart { restart, saved_floor_ms } => {
                    gateway = start(*restart, *saved_floor_ms)?;
                }
                format2::Step::Datagram {
                    now_ms,
                    dst_port,
                    source_hex,
                    destination_hex,
                    payload_hex,
                    verdict: expected,
                } => {
                    let (source, destination) =
                        (address(&unhex(source_hex)?)?, address(&unhex(destination_hex)?)?);
                    let packet = packet(source, destination, *dst_port, &unhex(payload_hex)?)?;
                    gateway.refresh(UnixMillis(*now_ms));
                    let actual = format2::word(verdict(&mut gateway, UnixMillis(*now_ms), &packet)?);
                    assert_eq!(actual, *expected, "{}, step {row}", scenario.name);
                    steps += 1;
                }
            }
        }
        ran += 1;
    }
    let left_out = all.iter().filter(|one| !fits(one)).count();
    ensure!(ran + left_out == all.len() && ran >= 15, "{ran} of {} scenarios ran", all.len());
    ensure!(steps > ran, "{steps} steps");
    Ok(())
}

fn address(octets: &[u8]) -> Result<IpAddr> {
    match octets.len() {
        4 => Ok(<[u8; 4]>::try_from(octets)?.into()),
        16 => Ok(<[u8; 16]>::try_from(octets)?.into()),
        other => anyhow::bail!("{other} bytes are no address"),
    }
}
