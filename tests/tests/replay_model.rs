//! Everything that can happen to a few knocks in the kernel match, tried exhaustively: an attacker sends them as often as he
//! likes on two processors, while rules come and go, the clock is set, and the gateway restarts or loses its power.
//!
//! The replay cache and the baseline are the real ones. What is modelled is what C does with them: it locks the cache for each
//! of the two looks but not in between, removes rules only when no packet is on its way through them, and keeps a floor
//! only from when there are no rules.

use std::{
    fmt::Debug,
    hash::{Hash, Hasher},
};

use pkd_core::{Baseline, KnockId, ReplayCache, ReplayStore, UnixSeconds, Window};
use stateright::{Checker, Model, Property};

/// The times of the knocks, more than the cache holds. They are authentic, and the attacker has them all.
const KNOCKS: [u64; 4] = [3, 3, 4, 5];
const PROCESSORS: usize = 2;
const WINDOW: u32 = 1;
const FIRST: u64 = 2;
const LAST: u64 = 7;

type Cache = ReplayCache<2>;

/// What a gateway could do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The second look is not heeded.
    OneLook,
    /// A power cut is followed by no wait.
    NoWait,
    /// A floor that was saved is used though rules came back after it.
    StaleFloor,
    /// A cache that is dropped leaves nothing behind.
    Forgets,
    /// The key's own floor is not saved.
    SavesOthersOnly,
    /// A key's floor that there is no room for is forgotten.
    FoldsIntoNothing,
    /// A cache is dropped while a processor is between the looks, which then records into it.
    DropsInUse,
}

/// By its text, because the library's types have no `Hash`.
#[derive(Clone, Debug)]
struct ByText<T>(T);

impl<T: Debug> Hash for ByText<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        format!("{self:?}").hash(hasher);
    }
}

impl<T: Debug> PartialEq for ByText<T> {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

#[derive(Clone, Debug, PartialEq, Hash)]
struct State {
    clock: u64,
    was_set_back: bool,
    restarts: u8,
    /// The latest clock by which a knock was accepted.
    last_accepted: u64,
    baseline: ByText<Baseline>,
    cache: Option<ByText<Cache>>,
    has_rule: bool,
    /// The key's floor, for when it has no cache.
    kept: u64,
    /// The knock that passed the first look and is being hashed, and the clock by which it did.
    between_looks: [Option<(usize, u64)>; PROCESSORS],
    /// The floor of other keys, and this key's.
    saved: Option<(u64, u64)>,
    accepted: [u8; KNOCKS.len()],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    FirstLook {
        processor: usize,
        knock: usize,
    },
    SecondLook {
        processor: usize,
    },
    AddRule,
    RemoveRule,
    DropCache,
    /// There are too many floors of keys.
    Fold,
    Save,
    Restart,
    PowerCut,
    Tick,
    SetBack,
}

struct Gateway(Fault);

impl State {
    fn new() -> Self {
        Self {
            clock: FIRST,
            was_set_back: false,
            restarts: 0,
            last_accepted: 0,
            baseline: ByText(Baseline::with_memory(UnixSeconds(0))),
            cache: None,
            has_rule: false,
            kept: 0,
            between_looks: [None; PROCESSORS],
            saved: None,
            accepted: [0; KNOCKS.len()],
        }
    }

    fn is_quiet(&self) -> bool {
        self.between_looks == [None; PROCESSORS]
    }

    /// The lines `Save` of `/proc/net/xt_pkd`.
    fn floors_to_save(&self) -> (u64, u64) {
        let accepted = self.cache.as_ref().map_or(0, |cache| cache.0.high_water_mark().0);
        (self.baseline.0.floor(window()).0, accepted.max(self.kept))
    }

    fn boot(&mut self, baseline: Baseline, kept: u64) {
        self.baseline = ByText(baseline);
        self.kept = kept;
        (self.cache, self.has_rule, self.between_looks, self.saved) = (None, false, [None; PROCESSORS], None);
        self.restarts += 1;
    }
}

fn window() -> Window {
    Window::from_secs(WINDOW)
}

fn id(knock: usize) -> KnockId {
    KnockId::kept(UnixSeconds(KNOCKS[knock]), knock as u64)
}

impl Model for Gateway {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for processor in 0..PROCESSORS {
            match state.between_looks[processor] {
                Some(_) => actions.push(Action::SecondLook { processor }),
                None if state.has_rule => {
                    actions.extend((0..KNOCKS.len()).map(|knock| Action::FirstLook { processor, knock }));
                }
                None => {}
            }
        }
        let may_restart = state.restarts < 2;
        let has_idle_cache = state.cache.is_some() && !state.has_rule;
        let rows = [
            (Action::AddRule, !state.has_rule),
            (Action::RemoveRule, state.has_rule && (state.is_quiet() || self.0 == Fault::DropsInUse)),
            // At any time: there may be more idle caches than are kept.
            (Action::DropCache, has_idle_cache),
            (Action::Fold, state.kept > 0),
            (Action::Save, !state.has_rule && state.saved.is_none()),
            (Action::Restart, may_restart && state.saved.is_some() && !state.has_rule),
            // After it only the clock is known, and only if it is no earlier than it was: pkd-core's `without_memory` says so.
            (Action::PowerCut, may_restart && state.clock >= state.last_accepted),
            (Action::Tick, state.clock < LAST),
            (Action::SetBack, !state.was_set_back && state.clock > FIRST),
        ];
        actions.extend(rows.into_iter().filter_map(|(action, is_possible)| is_possible.then_some(action)));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::FirstLook { processor, knock } => {
                let cache = state.cache.as_mut()?;
                let admits = window().admits(UnixSeconds(state.clock), UnixSeconds(KNOCKS[knock]));
                if !admits || cache.0.refuses(id(knock), window()) {
                    return None;
                }
                state.between_looks[processor] = Some((knock, state.clock));
            }
            Action::SecondLook { processor } => {
                let (knock, clock) = state.between_looks[processor].take()?;
                let mut dropped = Cache::new(UnixSeconds(0));
                let cache = state.cache.as_mut().map_or(&mut dropped, |cache| &mut cache.0);
                if cache.record(id(knock), window()) || self.0 == Fault::OneLook {
                    state.accepted[knock] += 1;
                    state.last_accepted = state.last_accepted.max(clock);
                }
            }
            Action::AddRule => {
                let (baseline, kept) = (state.baseline.0, UnixSeconds(state.kept));
                let cache = state.cache.get_or_insert_with(|| {
                    let mut cache = Cache::new(UnixSeconds(0));
                    cache.raise_evicted(baseline.dropped().max(kept));
                    ByText(cache)
                });
                cache.0.raise_baseline(baseline.earlier(window()));
                state.has_rule = true;
                if self.0 != Fault::StaleFloor {
                    state.saved = None;
                }
            }
            Action::RemoveRule => state.has_rule = false,
            Action::DropCache => {
                let cache = state.cache.take()?;
                if self.0 != Fault::Forgets {
                    state.kept = state.kept.max(cache.0.high_water_mark().0);
                }
            }
            Action::Fold => {
                if self.0 != Fault::FoldsIntoNothing {
                    state.baseline.0.drop_cache(UnixSeconds(state.kept));
                }
                state.kept = 0;
            }
            Action::Save => state.saved = Some(state.floors_to_save()),
            Action::Restart => {
                let (others, own) = state.saved?;
                let own = if self.0 == Fault::SavesOthersOnly { 0 } else { own };
                state.boot(Baseline::with_memory(UnixSeconds(others)), own);
            }
            Action::PowerCut if self.0 == Fault::NoWait => {
                state.boot(Baseline::with_memory(UnixSeconds(0)), 0);
            }
            Action::PowerCut => state.boot(Baseline::without_memory(UnixSeconds(state.clock)), 0),
            Action::Tick => state.clock += 1,
            Action::SetBack => {
                state.clock = state.clock.saturating_sub(2).max(FIRST);
                state.was_set_back = true;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no knock is accepted twice", |_, state: &State| {
                state.accepted.iter().all(|times| *times < 2)
            }),
            Property::sometimes("all are accepted", |_, state: &State| state.accepted == [1; KNOCKS.len()]),
            Property::sometimes(
                "two processors look at one knock",
                |_, state: &State| matches!(state.between_looks, [Some((one, _)), Some((other, _))] if one == other),
            ),
            Property::sometimes("some are accepted after both restarts", |_, state: &State| {
                state.restarts == 2 && state.accepted.iter().sum::<u8>() > 1
            }),
        ]
    }
}

#[test]
fn no_knock_is_accepted_twice_whatever_happens() {
    let checker = Gateway(Fault::None).checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    println!("{} states", checker.unique_state_count());
}

#[test]
fn without_any_of_the_precautions_one_is() {
    for fault in [
        Fault::OneLook,
        Fault::NoWait,
        Fault::StaleFloor,
        Fault::Forgets,
        Fault::SavesOthersOnly,
        Fault::FoldsIntoNothing,
        Fault::DropsInUse,
    ] {
        let checker = Gateway(fault).checker().threads(2).spawn_bfs().join();
        assert!(checker.discovery("no knock is accepted twice").is_some(), "{fault:?} does no harm");
    }
}
