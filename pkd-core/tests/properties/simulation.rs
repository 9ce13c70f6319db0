//! A verifier and its model go through a history together.

use std::collections::{BTreeSet, HashSet};

use pkd_core::{Baseline, LENGTH, Packet, Reason, ReplayCache, UnixSeconds, Verdict, Window};
use proptest::sample::Index;

use crate::{
    KEY, OTHER_KEY, PORT, admits,
    history::{Event, History, Time},
    model::{ModelCache, ModelEarlier},
    rule, saturating_add, seal,
};

/// A verifier through all its boots, with its senders and attackers.
pub(crate) struct Simulation<const N: usize> {
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
    pub(crate) accepted: HashSet<usize>,
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
    pub(crate) fn new(&History { now, memory, window, .. }: &History) -> Self {
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

    pub(crate) fn apply(&mut self, event: &Event) {
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
    pub(crate) fn replay_everything(&mut self) {
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
