//! Random histories of a verifier, compared with a model that forgets nothing.
//!
//! Every run has the same cases. Set `PROPTEST_RNG_SEED` for other cases, and `PROPTEST_CASES` for more.

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};

use pkd_core::{
    Baseline, Digest, Key, Knock, KnockId, KnockParams, LENGTH, Packet, Port, Reason, ReplayCache,
    ReplayStore, Rule, Tag, UDP_LENGTH, UnixSeconds, Verdict, Window,
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config, RngSeed, TestRunner},
};

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

/// A sender's or the gateway's time.
#[derive(Clone, Copy, Debug)]
enum Time {
    Any(u64),
    NearNow(i64),
    NearFloor(i64),
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        1 => any::<u64>().prop_map(Time::Any),
        1 => prop::sample::select(vec![0, 1, 9, u64::MAX - 9, u64::MAX - 1, u64::MAX]).prop_map(Time::Any),
        60 => (-12..=12_i64).prop_map(Time::NearNow),
        20 => (-1..=9_i64).prop_map(Time::NearFloor),
    ]
}

fn window() -> impl Strategy<Value = u32> {
    prop_oneof![
        2 => Just(0),
        2 => Just(1),
        4 => Just(10),
        3 => 2..40_u32,
        1 => Just(u32::MAX),
    ]
}

#[derive(Clone, Debug)]
enum Event {
    /// A holder of the key makes a knock. It arrives now, or with a later `Deliver`, or never.
    Knock { time: Time, arrives_at: Option<Index> },
    /// As many knocks of one second as the cache holds, or more.
    Burst { time: Time, more: usize, rule: Index },
    /// Any knock made so far is delivered, for the first time or again.
    Deliver { knock: Index, rule: Index },
    /// A knock made without the key.
    Forgery { time: Time, rule: Index },
    /// The verifier's clock steps in either direction.
    Clock(Time),
    /// A rule with this window starts to use the cache, which is created if there is none.
    Join { window: u32 },
    /// Root restores the greatest time that earlier boots accepted, or a little more.
    Restore { more: u64 },
    /// All rules are removed. The cache is dropped if its knocks are past, or in any case.
    Flush { at_once: bool },
    /// A reboot with the floor that the last boot saved.
    RebootWithMemory { clock: Time, window: u32 },
    /// A reboot without a saved floor, under the conditions of [`Baseline::without_memory`].
    RebootWithoutMemory { later: u64, wider: u32 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        30 => (time(), prop::option::weighted(0.8, any::<Index>()))
            .prop_map(|(time, arrives_at)| Event::Knock { time, arrives_at }),
        1 => (time(), 0..3_usize, any::<Index>())
            .prop_map(|(time, more, rule)| Event::Burst { time, more, rule }),
        10 => (any::<Index>(), any::<Index>()).prop_map(|(knock, rule)| Event::Deliver { knock, rule }),
        2 => (time(), any::<Index>()).prop_map(|(time, rule)| Event::Forgery { time, rule }),
        10 => time().prop_map(Event::Clock),
        3 => window().prop_map(|window| Event::Join { window }),
        1 => (0..3_u64).prop_map(|more| Event::Restore { more }),
        2 => any::<bool>().prop_map(|at_once| Event::Flush { at_once }),
        2 => (time(), window()).prop_map(|(clock, window)| Event::RebootWithMemory { clock, window }),
        2 => (0..20_u64, 0..20_u32)
            .prop_map(|(later, wider)| Event::RebootWithoutMemory { later, wider }),
    ]
}

/// The specification of a replay cache, in its simplest form.
#[derive(Debug)]
struct ModelCache {
    /// Times and numbers of its knocks.
    set: BTreeSet<(u64, usize)>,
    /// The greatest time that earlier boots may have accepted.
    baseline_floor: u64,
    /// The greatest time that this boot accepted and the set no longer holds.
    evicted: u64,
    newest: Option<u64>,
    /// The widest window of all rules that ever used it.
    widest: u32,
}

impl ModelCache {
    fn floor(&self) -> u64 {
        self.baseline_floor.max(self.evicted)
    }

    fn high_water_mark(&self) -> u64 {
        self.floor().max(self.newest.unwrap_or(0))
    }

    fn accept(&mut self, capacity: usize, window: u32, time: u64, number: usize) {
        self.newest = self.newest.max(Some(time));
        if window == 0 {
            self.evicted = self.evicted.max(time);
            return;
        }
        self.set.insert((time, number));
        if self.set.len() > capacity
            && let Some((smallest, _)) = self.set.pop_first()
        {
            self.evicted = self.evicted.max(smallest);
        }
    }
}

/// The model of [`Baseline`].
#[derive(Debug)]
enum ModelEarlier {
    Unknown { start: u64 },
    Remembered { floor: u64 },
}

/// A verifier through all its boots, with its senders and attackers.
struct Simulation<const N: usize> {
    now: u64,
    windows: Vec<u32>,
    start: Baseline,
    cache: Option<ReplayCache<N>>,

    model_earlier: ModelEarlier,
    model_dropped: u64,
    model_cache: Option<ModelCache>,

    /// Every knock that a holder of the key made, with its time.
    made: Vec<(u64, [u8; LENGTH])>,
    /// Indexes into `made`, over all boots.
    accepted: HashSet<usize>,
    /// The clock's greatest value at an acceptance, over all boots.
    latest_accept: u64,
    /// The widest window that accepted a knock, over all boots; 0 if none did.
    widest_accept: u32,
    /// Whether a rule without a clock ever accepted a knock.
    accepted_without_clock: bool,
    /// The greatest time that earlier boots accepted.
    earlier: u64,
    /// The least window of this boot's rules, because it started without memory.
    narrowest: u32,
    /// The widest window of this boot's rules.
    widest: u32,
}

impl<const N: usize> Simulation<N> {
    fn new(&History { now, memory, window, .. }: &History) -> Self {
        let (start, model_earlier) = match memory {
            Some(floor) => (Baseline::with_memory(UnixSeconds(floor)), ModelEarlier::Remembered { floor }),
            None => (Baseline::without_memory(UnixSeconds(now)), ModelEarlier::Unknown { start: now }),
        };
        let mut simulation = Self {
            now,
            windows: Vec::new(),
            start,
            cache: None,
            model_earlier,
            model_dropped: 0,
            model_cache: None,
            made: Vec::new(),
            accepted: HashSet::new(),
            latest_accept: 0,
            widest_accept: 0,
            accepted_without_clock: false,
            earlier: 0,
            narrowest: 0,
            widest: 0,
        };
        simulation.join(window);
        simulation
    }

    fn time(&self, time: Time) -> u64 {
        let floor = self.model_cache.as_ref().map_or(0, ModelCache::floor);
        match time {
            Time::Any(time) => time,
            Time::NearNow(seconds) => self.now.saturating_add_signed(seconds),
            Time::NearFloor(seconds) => floor.saturating_add_signed(seconds),
        }
    }

    fn model_earlier(&self, window: u32) -> u64 {
        match self.model_earlier {
            ModelEarlier::Unknown { start } => saturating_add(start, window),
            ModelEarlier::Remembered { floor } => floor,
        }
    }

    fn make(&mut self, time: u64) -> usize {
        let number = self.made.len();
        self.made.push((time, seal(&KEY, time, number as u64)));
        number
    }

    fn join(&mut self, window: u32) {
        let window = window.max(self.narrowest);
        let (start, earlier) = (self.start, self.model_earlier(window));
        let cache = self.cache.get_or_insert_with(|| {
            let mut cache = ReplayCache::new(UnixSeconds(0));
            cache.raise_evicted(start.dropped());
            cache
        });
        cache.raise_baseline(start.earlier(Window::from_secs(window)));

        let model = self.model_cache.get_or_insert_with(|| ModelCache {
            set: BTreeSet::new(),
            baseline_floor: 0,
            evicted: self.model_dropped,
            newest: None,
            widest: 0,
        });
        model.baseline_floor = model.baseline_floor.max(earlier);
        assert_eq!(cache.floor().0, model.floor(), "after a rule of window {window} joined");
        model.widest = model.widest.max(window);
        self.widest = self.widest.max(window);
        self.windows.push(window);
    }

    fn flush(&mut self, at_once: bool) {
        self.windows.clear();
        let (Some(cache), Some(model)) = (&self.cache, &self.model_cache) else { return };
        let past = u128::from(model.high_water_mark()) + u128::from(model.widest) < self.now.into();
        assert_eq!(cache.is_past(UnixSeconds(self.now), Window::from_secs(model.widest)), past);
        if past || at_once {
            self.start.drop_cache(cache.high_water_mark());
            self.model_dropped = self.model_dropped.max(model.high_water_mark());
            (self.cache, self.model_cache) = (None, None);
        }
    }

    fn restore(&mut self, floor: u64) {
        self.start.set_baseline(UnixSeconds(floor));
        if let Some(cache) = &mut self.cache {
            cache.set_baseline(self.start.earlier(Window::Monotonic));
        }
        self.model_earlier = ModelEarlier::Remembered { floor };
        if let Some(model) = &mut self.model_cache {
            model.baseline_floor = floor;
        }
        // The floor covers everything before, so any window is allowed.
        self.narrowest = 0;
    }

    /// The floor that this boot saves for the next.
    fn floor_to_save(&self) -> UnixSeconds {
        let start = self.start.floor(Window::from_secs(self.widest));
        self.cache.as_ref().map_or(start, |cache| cache.high_water_mark().max(start))
    }

    fn latest_accepted(&self) -> u64 {
        self.accepted.iter().map(|&number| self.made[number].0).max().unwrap_or(0)
    }

    fn boot(&mut self, start: Baseline, earlier: ModelEarlier, window: u32) {
        (self.start, self.model_earlier, self.model_dropped) = (start, earlier, 0);
        (self.cache, self.model_cache) = (None, None);
        self.windows.clear();
        self.widest = 0;
        self.earlier = self.latest_accepted();
        self.join(window);
    }

    fn deliver(&mut self, number: usize, rule_at: Index) {
        let (Some(cache), Some(model)) = (&mut self.cache, &mut self.model_cache) else { return };
        if self.windows.is_empty() {
            return;
        }
        let window = *rule_at.get(&self.windows);
        let (time, payload) = self.made[number];
        let expected = if !admits(window, self.now, time) {
            Verdict::Ignore(Reason::Window)
        } else if time <= model.floor()
            || (window == 0 && model.newest.is_some_and(|newest| time <= newest))
            || model.set.contains(&(time, number))
        {
            Verdict::Ignore(Reason::Replay)
        } else {
            Verdict::Accept
        };
        let packet = Packet { destination_port: PORT, payload: &payload };
        let verdict = rule(window).verify(cache, UnixSeconds(self.now), &packet);
        assert_eq!(verdict, expected, "knock {number} of {time} at {}, window {window}", self.now);
        if verdict == Verdict::Accept {
            assert!(self.accepted.insert(number), "knock {number} of {time} was accepted twice");
            self.latest_accept = self.latest_accept.max(self.now);
            self.widest_accept = self.widest_accept.max(window);
            self.accepted_without_clock |= window == 0;
            model.accept(N, window, time, number);
        }
        let model = (model.floor(), model.newest, model.set.len());
        let newest = cache.newest().map(|newest| newest.0);
        assert_eq!((cache.floor().0, newest, cache.len()), model, "floor, newest, entries");
    }

    fn forge(&mut self, time: u64, rule_at: Index) {
        let Some(cache) = &mut self.cache else { return };
        if self.windows.is_empty() {
            return;
        }
        let before = format!("{cache:?}");
        let payload = seal(&OTHER_KEY, time, u64::MAX);
        let packet = Packet { destination_port: PORT, payload: &payload };
        let rule = rule(*rule_at.get(&self.windows));
        let verdict = rule.verify(cache, UnixSeconds(self.now), &packet);
        assert_ne!(verdict, Verdict::Accept, "a forgery of {time} at {}", self.now);
        assert_eq!(format!("{cache:?}"), before, "a forgery changed the cache");
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Knock { time, arrives_at } => {
                let number = self.make(self.time(time));
                if let Some(rule) = arrives_at {
                    self.deliver(number, rule);
                }
            }
            Event::Burst { time, more, rule } => {
                let time = self.time(time);
                for _ in 0..N + more {
                    let number = self.make(time);
                    self.deliver(number, rule);
                }
            }
            Event::Deliver { knock, rule } => {
                if !self.made.is_empty() {
                    self.deliver(knock.index(self.made.len()), rule);
                }
            }
            Event::Forgery { time, rule } => self.forge(self.time(time), rule),
            Event::Clock(time) => self.now = self.time(time),
            Event::Join { window } => self.join(window),
            Event::Restore { more } => self.restore(self.earlier.saturating_add(more)),
            Event::Flush { at_once } => self.flush(at_once),
            Event::RebootWithMemory { clock, window } => {
                let floor = self.floor_to_save();
                self.now = self.time(clock);
                // The floor covers everything before, so any window is allowed.
                self.narrowest = 0;
                self.boot(Baseline::with_memory(floor), ModelEarlier::Remembered { floor: floor.0 }, window);
            }
            // An earlier boot without a clock accepted any time, so this one needs a saved floor.
            Event::RebootWithoutMemory { .. } if self.accepted_without_clock => {}
            Event::RebootWithoutMemory { later, wider } => {
                // The clock was not set back, and no window was wider before.
                self.now = self.now.max(self.latest_accept).saturating_add(later);
                self.narrowest = self.widest_accept;
                self.boot(
                    Baseline::without_memory(UnixSeconds(self.now)),
                    ModelEarlier::Unknown { start: self.now },
                    saturating_add(u64::from(self.narrowest), wider).try_into().unwrap_or(u32::MAX),
                );
            }
        }
    }

    /// An attacker who recorded everything replays it, each knock at the time when it fits best.
    fn replay_everything(&mut self) {
        // If there is no rule now, one is added and uses the cache, or creates it.
        let floor = self.start.floor(Window::from_secs(self.narrowest));
        let mut cache = self.cache.clone().unwrap_or_else(|| ReplayCache::new(floor));
        let windows = if self.windows.is_empty() { &vec![self.narrowest] } else { &self.windows };
        for window in windows {
            let rule = rule(*window);
            for &number in &self.accepted {
                let (time, payload) = self.made[number];
                let packet = Packet { destination_port: PORT, payload: &payload };
                let verdict = rule.verify(&mut cache, UnixSeconds(time), &packet);
                assert_eq!(verdict, Verdict::Ignore(Reason::Replay), "replay of knock {number} of {time}");
            }
        }
    }
}

/// The state at the first boot, and the events after it.
#[derive(Clone, Debug)]
struct History {
    now: u64,
    memory: Option<u64>,
    window: u32,
    events: Vec<Event>,
}

fn history() -> impl Strategy<Value = History> {
    let now = prop_oneof![1 => Just(0), 8 => Just(1_800_000_000), 1 => any::<u64>()];
    let memory = prop_oneof![Just(None), Just(Some(0)), Just(Some(1_799_999_990))];
    (now, memory, window(), vec(event(), 0..100)).prop_map(|(now, memory, window, events)| History {
        now,
        memory,
        window,
        events,
    })
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

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_window_is_correct_for_every_pair_of_times(
        window in window(), now in any::<u64>(), time in any::<u64>(), near in -50..50_i64,
    ) {
        let wide = i64::from(window).saturating_add(near);
        for time in [time, now.saturating_add_signed(wide), now.saturating_sub(wide.unsigned_abs())] {
            let actual = Window::from_secs(window).admits(UnixSeconds(now), UnixSeconds(time));
            prop_assert_eq!(actual, admits(window, now, time), "{} at {}", time, now);
        }
    }

    #[test]
    fn refused_knocks_are_not_recorded_and_recorded_knocks_are_refused(
        floor in 0..20_u64, ids in vec((0..40_u64, 0..3_u8, window()), 0..60),
    ) {
        let mut cache = ReplayCache::<4>::new(UnixSeconds(floor));
        for (time, id, window) in ids {
            let id = KnockId::new(UnixSeconds(time), &Digest::from_bytes([id; 32]));
            let window = Window::from_secs(window);
            let before = format!("{cache:?}");
            let refused = cache.refuses(id, window);
            prop_assert_eq!(&format!("{cache:?}"), &before, "the first look changed something");
            prop_assert_eq!(cache.record(id, window), !refused);
            if refused {
                prop_assert_eq!(format!("{cache:?}"), before, "a refused knock changed the cache");
            }
            prop_assert!(cache.refuses(id, window));
        }
    }

    #[test]
    fn a_sealed_knock_parses_and_only_its_key_and_port_verify_it(
        key in any::<[[u8; 20]; 2]>(), tag in any::<[u8; 4]>(), time in any::<u64>(),
        nonce in any::<[u8; 12]>(), port in any::<u16>(), other_port in any::<u16>(),
    ) {
        let mut key_bytes = [0; Key::LENGTH];
        key_bytes.copy_from_slice(&key.concat());
        let key = Key::from_bytes(key_bytes);
        let params = KnockParams { key: &key, tag: Tag(tag), time: UnixSeconds(time), nonce };
        let payload = Knock::seal(&params, Port(port));
        prop_assert_eq!(&payload[0..4], &tag);
        prop_assert_eq!(&payload[4..12], &time.to_le_bytes());
        prop_assert_eq!(&payload[12..24], &nonce);

        let knock = Knock::parse(&payload).unwrap();
        prop_assert_eq!((knock.tag(), knock.time(), *knock.nonce()), (params.tag, params.time, nonce));
        let claimed = knock.digest();
        prop_assert_eq!(&claimed.as_bytes()[..], &payload[24..]);
        prop_assert!(knock.expected_digest(&key, Port(port)).matches(&knock.digest()));
        let other = knock.expected_digest(&key, Port(other_port));
        prop_assert_eq!(other.matches(&knock.digest()), port == other_port);
        prop_assert!(!knock.expected_digest(&KEY, Port(port)).matches(&knock.digest()));
    }

    #[test]
    fn a_datagram_is_accepted_only_if_its_length_is_right_in_the_header_and_on_the_wire(
        bytes in vec(any::<u8>(), 0..80), length in prop_oneof![Just(64_u16), 60..70_u16, any::<u16>()],
    ) {
        let mut bytes = bytes;
        if let Some(field) = bytes.get_mut(4..6) {
            field.copy_from_slice(&length.to_be_bytes());
        }
        let actual = Packet::from_udp(&bytes).map(|packet| (packet.destination_port, packet.payload));
        let expected = (bytes.len() >= UDP_LENGTH && length == 64)
            .then(|| (Port(u16::from_be_bytes([bytes[2], bytes[3]])), &bytes[8..64]));
        prop_assert_eq!(actual, expected);
    }

    #[test]
    fn random_bytes_are_never_accepted(
        payload in vec(any::<u8>(), 0..120), tagged in any::<bool>(), window in window(), now in any::<u64>(),
    ) {
        let mut payload = payload;
        if tagged && let Some(tag) = payload.get_mut(..4) {
            tag.copy_from_slice(&Tag::default().0);
        }
        let mut cache = ReplayCache::<4>::new(UnixSeconds(0));
        let packet = Packet { destination_port: PORT, payload: &payload };
        let verdict = rule(window).verify(&mut cache, UnixSeconds(now), &packet);
        let time = |payload: &[u8]| Some(u64::from_le_bytes(payload.get(4..12)?.try_into().ok()?));
        let expected = if payload.len() != LENGTH {
            Reason::Length
        } else if !tagged {
            Reason::Tag
        } else if time(&payload).is_none_or(|time| !admits(window, now, time)) {
            Reason::Window
        } else {
            Reason::Digest
        };
        prop_assert_eq!(verdict, Verdict::Ignore(expected));
        prop_assert!(cache.is_empty() && cache.newest().is_none());
    }

    #[test]
    fn every_tag_parses_from_its_text(bytes in any::<[u8; 4]>(), printable in "[ -~]{1,4}") {
        prop_assert_eq!(Tag::parse(&Tag(bytes).to_string()), Ok(Tag(bytes)));
        if let Ok(tag) = Tag::parse(&printable) {
            prop_assert_eq!(Tag::parse(&tag.to_string()), Ok(tag));
        }
    }

    #[test]
    fn any_text_parses_without_a_panic_and_hexadecimal_digit_by_digit(
        text in ".{0,50}", digits in "[0-9a-fA-F]{1,80}",
    ) {
        if !text.starts_with("0x") {
            let fits = (1..=40).contains(&text.len());
            prop_assert_eq!(Key::parse(&text).is_ok(), fits, "{:?}", text);
        }
        let mut expected = [0; Key::LENGTH];
        for (place, digit) in digits.chars().enumerate() {
            let nibble = u8::try_from(digit.to_digit(16).unwrap()).unwrap();
            expected[place / 2] |= if place % 2 == 0 { nibble << 4 } else { nibble };
        }
        prop_assert_eq!(Key::parse(&format!("0x{digits}")), Ok(Key::from_bytes(expected)));
    }
}
