//! Random histories of a verifier, compared with a model that forgets nothing.
//!
//! Every run has the same cases. Set `PROPTEST_RNG_SEED` for other cases, and `PROPTEST_CASES` for more.

mod history;
mod model;
mod simulation;
mod values;

use std::cell::Cell;

use pkd_core::{Key, Knock, KnockParams, LENGTH, Port, Rule, Tag, UnixSeconds, Window};
use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::{history::history, simulation::Simulation};

const PORT: Port = Port(40_000);
const KEY: Key = Key::from_bytes([0xa5; Key::LENGTH]);
const OTHER_KEY: Key = Key::from_bytes([0x5a; Key::LENGTH]);

/// No regression files: the seed is fixed, so a failure repeats in every run.
fn config() -> Config {
    let config = Config { failure_persistence: None, ..Config::default() };
    match config.rng_seed {
        RngSeed::Random => Config { rng_seed: RngSeed::Fixed(2026), ..config },
        RngSeed::Fixed(_) => config,
    }
}

fn rule(window: u32) -> Rule {
    Rule::new(KEY, Tag::default(), Window::from_secs(window))
}

fn seal(key: &Key, time: u64, number: u64) -> [u8; LENGTH] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    Knock::seal(&KnockParams { key, tag: Tag::default(), time: UnixSeconds(time), nonce }, PORT)
}

fn saturating_add(base: u64, seconds: u32) -> u64 {
    u64::try_from(u128::from(base) + u128::from(seconds)).unwrap_or(u64::MAX)
}

fn admits(window: u32, now: u64, time: u64) -> bool {
    window == 0 || (i128::from(now) - i128::from(time)).unsigned_abs() <= u128::from(window)
}

/// Runs `cases` histories with a cache of `N` knocks.
fn simulate<const N: usize>(cases: u32) {
    let accepted = Cell::new(0);
    let outcome = TestRunner::new(Config { cases, ..config() }).run(&history(), |history| {
        let mut simulation = Simulation::<N>::new(&history);
        for event in &history.events {
            simulation.apply(event);
            simulation.replay_everything();
        }
        accepted.set(accepted.get() + simulation.accepted.len());
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert!(
        accepted.get() >= 4 * cases as usize,
        "only {} knocks were accepted: the histories test too little",
        accepted.get()
    );
}

#[test]
fn no_knock_is_accepted_twice_and_every_honest_one_once_with_a_cache_of_1() {
    simulate::<1>(2 * config().cases);
}

#[test]
fn no_knock_is_accepted_twice_and_every_honest_one_once_with_a_cache_of_2() {
    simulate::<2>(2 * config().cases);
}

#[test]
fn no_knock_is_accepted_twice_and_every_honest_one_once_with_a_cache_of_4() {
    simulate::<4>(2 * config().cases);
}

#[test]
fn no_knock_is_accepted_twice_and_every_honest_one_once_with_a_cache_of_256() {
    // Bursts of more than 256 knocks are slow in a debug build.
    simulate::<256>(config().cases.div_ceil(4));
}
