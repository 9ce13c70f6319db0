//! Random lives of a gateway, compared with a model that forgets nothing: no knock is accepted twice, and none from
//! where it is not for.
//!
//! Every run has the same cases. Set `PROPTEST_RNG_SEED` for other cases, and `PROPTEST_CASES` for more.

use std::cell::Cell;

use pkd_core::{
    Baseline, Packet, ReplayCache, UnixMillis, Verdict,
    format2::{Addresses, Bindings, Hints, Knock, KnockParams, Request, Rule},
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config, RngSeed, TestRunner},
};

use crate::{NOW, PORT, rule};

const DESTINATION: [u8; 4] = [203, 0, 113, 9];

#[derive(Clone, Debug)]
enum Event {
    /// A holder of the key makes a knock, its time off by so many milliseconds.
    Make { off: i64, bindings: u8, close: bool, source: u8 },
    /// Any knock made so far arrives, again and again, from any address, perhaps at another gateway's address.
    Arrive { knock: Index, source: u8, elsewhere: bool, times: usize },
    /// The clock goes, or is set; the hints follow, or do not yet.
    Clock { by: i64, hints: bool },
    /// A reboot with what the last boot saved, or after a window without it.
    Reboot { with_memory: bool },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (-11_000..11_000_i64, 0..4_u8, any::<bool>(), 0..3_u8)
            .prop_map(|(off, bindings, close, source)| Event::Make { off, bindings, close, source }),
        16 => (any::<Index>(), 0..3_u8, prop::bool::weighted(0.1), 1..3_usize)
            .prop_map(|(knock, source, elsewhere, times)| Event::Arrive { knock, source, elsewhere, times }),
        4 => (-20_000..70_000_i64, prop::bool::weighted(0.8)).prop_map(|(by, hints)| Event::Clock { by, hints }),
        1 => any::<bool>().prop_map(|with_memory| Event::Reboot { with_memory }),
    ]
}

struct Made {
    payload: [u8; 56],
    params: KnockParams,
    source: u8,
    accepted: bool,
}

struct Life {
    rule: Rule,
    hints: Hints,
    cache: ReplayCache<4, UnixMillis>,
    now: u64,
    /// The greatest time that the clock ever showed.
    latest: u64,
    made: Vec<Made>,
}

fn at(source: u8, destination: [u8; 4], with: impl FnOnce(&Addresses<'_>) -> Verdict) -> Verdict {
    with(&Addresses::V4 { source: &[198, 51, 100, source], destination: &destination })
}

impl Life {
    fn new() -> Self {
        let rule = rule(10);
        let (hints, cache) = (rule.hints(NOW), ReplayCache::new(UnixMillis(0)));
        Self { rule, hints, cache, now: NOW.0, latest: NOW.0, made: Vec::new() }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Make { off, bindings, close, source } => {
                let request = if *close { Request::Close } else { Request::Open };
                let mut nonce = [0; 12];
                nonce[..8].copy_from_slice(&self.made.len().to_le_bytes());
                let params = KnockParams {
                    time: UnixMillis(self.now.saturating_add_signed(*off)),
                    nonce,
                    bindings: Bindings::from_bits(*bindings).unwrap_or_default(),
                    request,
                };
                let addresses = Addresses::V4 { source: &[198, 51, 100, *source], destination: &DESTINATION };
                let payload = Knock::seal(self.rule.keys(), &params, PORT, &addresses);
                self.made.push(Made { payload, params, source: *source, accepted: false });
            }
            Event::Arrive { knock, source, elsewhere, times } if !self.made.is_empty() => {
                let number = knock.index(self.made.len());
                for _ in 0..*times {
                    self.arrive(number, *source, *elsewhere);
                }
            }
            Event::Arrive { .. } => {}
            Event::Clock { by, hints } => {
                self.now = self.now.saturating_add_signed(*by);
                self.latest = self.latest.max(self.now);
                if *hints {
                    self.rule.refresh(&mut self.hints, UnixMillis(self.now));
                }
            }
            Event::Reboot { with_memory } => {
                let baseline = if *with_memory {
                    Baseline::with_memory(self.cache.high_water_mark())
                } else {
                    // It holds where the clock is no earlier than it was at any acceptance.
                    self.now = self.latest;
                    Baseline::without_memory(UnixMillis(self.now))
                };
                self.cache = ReplayCache::new(baseline.floor(self.rule.window()));
                self.rule.refresh(&mut self.hints, UnixMillis(self.now));
            }
        }
    }

    fn arrive(&mut self, number: usize, source: u8, elsewhere: bool) {
        let (now, made) = (UnixMillis(self.now), &self.made[number]);
        let destination = if elsewhere { [203, 0, 113, 10] } else { DESTINATION };
        let packet = Packet { destination_port: PORT, payload: &made.payload };
        let (floor, held) = (self.cache.floor(), self.cache.len());
        let (rule, hints, cache) = (&self.rule, &self.hints, &mut self.cache);
        let verdict =
            at(source, destination, |addresses| rule.verify(hints, cache, now, &packet, addresses, &[]));
        let is_for = (!made.params.bindings.contains(Bindings::SOURCE) || source == made.source)
            && (!made.params.bindings.contains(Bindings::DESTINATION) || !elsewhere);
        let in_window = now.0.abs_diff(made.params.time.0) <= 10_000;
        let good = match made.params.request {
            Request::Open => Verdict::Accept,
            Request::Close => Verdict::Close,
        };
        if let Verdict::Ignore(_) = verdict {
            let mut current = self.hints.clone();
            let hints_are_there = !self.rule.refresh(&mut current, now);
            let is_fresh = !made.accepted && made.params.time > floor && held < 4;
            assert!(
                !(is_for && in_window && hints_are_there && is_fresh),
                "an honest knock is refused: {verdict}"
            );
        } else {
            assert_eq!(verdict, good);
            assert!(!made.accepted, "a replay");
            assert!(is_for && in_window, "a stolen or a late knock");
            self.made[number].accepted = true;
        }
    }
}

#[test]
fn no_knock_is_accepted_twice_or_from_where_it_is_not_for() {
    let config = Config { cases: 2_000, failure_persistence: None, ..Config::default() };
    let config = match config.rng_seed {
        RngSeed::Random => Config { rng_seed: RngSeed::Fixed(2026), ..config },
        RngSeed::Fixed(_) => config,
    };
    let accepted = Cell::new(0);
    let outcome = TestRunner::new(config).run(&vec(event(), 0..100), |events| {
        let mut life = Life::new();
        for event in &events {
            life.apply(event);
        }
        accepted.set(accepted.get() + life.made.iter().filter(|made| made.accepted).count());
        Ok(())
    });
    outcome.unwrap();
    assert!(accepted.get() > 1_000, "only {} knocks were accepted", accepted.get());
}
