//! pkd-core gives all known answers.

use std::collections::BTreeSet;

use pkd_core::{Baseline, Key, Knock, KnockParams, Packet, Port, ReplayCache, SecretError, Tag, UnixSeconds};
use pkd_tests::{Scenario, Step, bytes, payloads, scenarios, unhex, word};

#[test]
fn every_known_payload_is_made_and_parsed_exactly() {
    let payloads = payloads().unwrap();
    assert_eq!(payloads.len(), 8, "a vector was lost");
    for (row, known) in payloads.iter().enumerate() {
        let key = Key::from_bytes(bytes(&known.key_hex).unwrap());
        let (tag, time) = (Tag(bytes(&known.tag_hex).unwrap()), UnixSeconds(known.time));
        let params = KnockParams { key: &key, tag, time, nonce: bytes(&known.random_hex).unwrap() };
        let port = Port(known.dst_port);
        let payload = match known.format.as_str() {
            "classic" => Knock::seal(&params, port),
            "pre1.0" => Knock::seal_before_1_0(&params),
            other => panic!("row {row}: format {other}"),
        };
        assert_eq!(payload.as_slice(), unhex(&known.payload_hex).unwrap(), "row {row}: {}", known.name);

        let knock = Knock::parse(&payload).unwrap();
        assert_eq!((knock.tag(), knock.time(), *knock.nonce()), (tag, time, params.nonce), "row {row}");
        let is_valid = knock.expected_digest(&key, port).matches(&knock.digest());
        assert_eq!(is_valid, known.format == "classic", "row {row}: only the classic digest verifies");
    }
}

#[test]
fn every_step_of_every_scenario_gets_its_verdict() {
    let scenarios = scenarios().unwrap();
    assert_eq!(scenarios.len(), 16, "a scenario was lost");
    let mut seen = BTreeSet::new();
    for scenario in &scenarios {
        match scenario.cache_capacity {
            256 => run::<256>(scenario, &mut seen).unwrap(),
            4 => run::<4>(scenario, &mut seen).unwrap(),
            other => panic!("{}: unexpected cache capacity {other}", scenario.name),
        }
    }
    let all = ["Accept", "Digest", "Length", "Replay", "Tag", "Window"].map(str::to_owned);
    assert_eq!(seen, BTreeSet::from(all));
}

fn run<const N: usize>(scenario: &Scenario, seen: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let rule = scenario.rule()?;
    let new_cache = |baseline: Baseline| ReplayCache::<N>::new(baseline.floor(rule.window()));
    let mut cache = new_cache(Baseline::without_memory(UnixSeconds(scenario.start)));
    for (row, step) in scenario.steps.iter().enumerate() {
        match step {
            Step::Restart { restart, saved_floor } => {
                cache = new_cache(match saved_floor {
                    Some(floor) => Baseline::with_memory(UnixSeconds(*floor)),
                    None => Baseline::without_memory(UnixSeconds(*restart)),
                });
            }
            Step::Datagram { now, dst_port, payload_hex, verdict } => {
                let payload = unhex(payload_hex)?;
                let packet = Packet { destination_port: Port(*dst_port), payload: &payload };
                let actual = rule.verify(&mut cache, UnixSeconds(*now), &packet);
                assert_eq!(word(actual), *verdict, "{}, step {row}", scenario.name);
                seen.insert(verdict.clone());
            }
        }
    }
    Ok(())
}

#[test]
fn every_known_text_parses_to_its_bytes_or_its_error() {
    let file: serde_json::Value = serde_json::from_str(include_str!("../vectors/text.json")).unwrap();
    for (row, case) in file["cases"].as_array().unwrap().iter().enumerate() {
        let text = case["text"].as_str().unwrap();
        let actual = match case["size"].as_u64().unwrap() {
            4 => Tag::parse(text).map(|tag| tag.0.to_vec()),
            40 => Key::parse(text).map(|key| key.as_bytes().to_vec()),
            other => panic!("row {row}: unexpected size {other}"),
        };
        let number = |name: &str| usize::try_from(case[name].as_u64().unwrap()).unwrap();
        let expected = match case["error"].as_str() {
            None => Ok(unhex(case["bytes_hex"].as_str().unwrap()).unwrap()),
            Some("Empty") if text.is_empty() => Err(SecretError::Empty { limit: number("size") }),
            Some("Empty") => Err(SecretError::NoDigits),
            Some("TooLong") => Err(SecretError::TooLong { given: number("given"), limit: number("size") }),
            Some("NotHexadecimal") => Err(SecretError::NotHexadecimal { position: number("position") }),
            Some(other) => panic!("row {row}: unknown error {other}"),
        };
        assert_eq!(actual, expected, "row {row}: {text:?}");
    }
}
