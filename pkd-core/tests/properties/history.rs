//! Random histories: what happens to a verifier, its clock and its senders.

use proptest::{collection::vec, prelude::*, sample::Index};

/// A sender's or the gateway's time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Time {
    Any(u64),
    NearNow(i64),
    NearFloor(i64),
}

pub(crate) fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        1 => any::<u64>().prop_map(Time::Any),
        1 => prop::sample::select(vec![0, 1, 9, u64::MAX - 9, u64::MAX - 1, u64::MAX]).prop_map(Time::Any),
        60 => (-12..=12_i64).prop_map(Time::NearNow),
        20 => (-1..=9_i64).prop_map(Time::NearFloor),
    ]
}

pub(crate) fn window() -> impl Strategy<Value = u32> {
    prop_oneof![
        2 => Just(0),
        2 => Just(1),
        4 => Just(10),
        3 => 2..40_u32,
        1 => Just(u32::MAX),
    ]
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
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

pub(crate) fn event() -> impl Strategy<Value = Event> {
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

/// The state at the first boot, and the events after it.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) now: u64,
    pub(crate) memory: Option<u64>,
    pub(crate) window: u32,
    pub(crate) events: Vec<Event>,
}

pub(crate) fn history() -> impl Strategy<Value = History> {
    let now = prop_oneof![1 => Just(0), 8 => Just(1_800_000_000), 1 => any::<u64>()];
    let memory = prop_oneof![Just(None), Just(Some(0)), Just(Some(1_799_999_990))];
    (now, memory, window(), vec(event(), 0..100)).prop_map(|(now, memory, window, events)| History {
        now,
        memory,
        window,
        events,
    })
}
