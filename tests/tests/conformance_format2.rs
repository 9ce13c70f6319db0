//! pkd-core gives all known answers of format 2.

use std::collections::BTreeSet;

use anyhow::Result;
use pkd_core::{
    Baseline, Key, Packet, Port, ReplayCache, Tag, UnixMillis,
    format2::{Bindings, Keys, Knock, KnockParams, Request},
};
use pkd_tests::{
    bytes,
    format2::{Payload, Scenario, Step, known_answers, with_addresses, word},
    unhex,
};

fn keys(known: &Payload) -> Result<Keys> {
    Ok(Keys::new(&Key::from_bytes(bytes(&known.key_hex)?), Tag(bytes(&known.tag_hex)?)))
}

fn seal(known: &Payload) -> Result<[u8; 56]> {
    let mut bindings = Bindings::NONE;
    if known.bind_source {
        bindings = bindings | Bindings::SOURCE;
    }
    if known.bind_destination {
        bindings = bindings | Bindings::DESTINATION;
    }
    let params = KnockParams {
        time: UnixMillis(known.time_ms),
        nonce: bytes(&known.nonce_hex)?,
        bindings,
        request: known.request()?,
    };
    let keys = keys(known)?;
    with_addresses(&known.source_hex, &known.destination_hex, |addresses| {
        Knock::seal(&keys, &params, Port(known.dst_port), addresses)
    })
}

#[test]
fn every_known_payload_is_made_and_opened_exactly() {
    let known = known_answers().unwrap();
    assert!(known.payloads.len() >= 7, "a vector was lost");
    for (row, known) in known.payloads.iter().enumerate() {
        let payload = seal(known).unwrap();
        assert_eq!(payload.as_slice(), unhex(&known.payload_hex).unwrap(), "row {row}");

        let knock = Knock::parse(&payload).unwrap();
        let contents = knock.open(&keys(known).unwrap());
        assert_eq!(contents.time, UnixMillis(known.time_ms), "row {row}");
        let bindings = Bindings::from_bits(contents.flags).unwrap();
        assert_eq!(bindings.contains(Bindings::SOURCE), known.bind_source, "row {row}");
        assert_eq!(bindings.contains(Bindings::DESTINATION), known.bind_destination, "row {row}");
        assert_eq!(Request::from_byte(contents.request), Some(known.request().unwrap()), "row {row}");
    }
}

#[test]
fn every_step_of_every_scenario_gets_its_verdict() {
    let known = known_answers().unwrap();
    assert!(known.scenarios.len() >= 20, "a scenario was lost");
    let mut seen = BTreeSet::new();
    for scenario in &known.scenarios {
        match scenario.capacity {
            2 => run::<2>(scenario, &mut seen).unwrap(),
            4 => run::<4>(scenario, &mut seen).unwrap(),
            16 => run::<16>(scenario, &mut seen).unwrap(),
            256 => run::<256>(scenario, &mut seen).unwrap(),
            other => panic!("{}: unexpected cache capacity {other}", scenario.name),
        }
    }
    let all = ["Close", "Digest", "Filter", "Length", "Open", "Replay", "Request", "Tag", "Window"];
    assert_eq!(seen, BTreeSet::from(all.map(str::to_owned)));
}

fn run<const N: usize>(scenario: &Scenario, seen: &mut BTreeSet<String>) -> Result<()> {
    let rule = scenario.rule()?;
    let own = scenario.own_addresses()?;
    let own: Vec<_> = own.iter().map(Vec::as_slice).collect();
    let new_cache = |baseline: Baseline<UnixMillis>| ReplayCache::<N, _>::new(baseline.floor(rule.window()));
    let mut cache = new_cache(Baseline::without_memory(UnixMillis(scenario.start_ms)));
    let mut hints = rule.hints(UnixMillis(scenario.start_ms));
    for (row, step) in scenario.steps.iter().enumerate() {
        match step {
            Step::Restart { restart, saved_floor_ms } => {
                cache = new_cache(match saved_floor_ms {
                    Some(floor) => Baseline::with_memory(UnixMillis(*floor)),
                    None => Baseline::without_memory(UnixMillis(*restart)),
                });
            }
            Step::Datagram { now_ms, dst_port, source_hex, destination_hex, payload_hex, verdict } => {
                let (now, payload) = (UnixMillis(*now_ms), unhex(payload_hex)?);
                rule.refresh(&mut hints, now);
                let packet = Packet { destination_port: Port(*dst_port), payload: &payload };
                let actual = with_addresses(source_hex, destination_hex, |addresses| {
                    rule.verify(&hints, &mut cache, now, &packet, addresses, &own)
                })?;
                assert_eq!(word(actual), *verdict, "{}, step {row}", scenario.name);
                seen.insert(verdict.clone());
            }
        }
    }
    Ok(())
}
