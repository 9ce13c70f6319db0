//! The state that a rule checks knocks with. No two rules share any of it, and no two formats do.

use pkd_core::{
    Baseline, Packet, ReplayCache, Timestamp, UnixMillis, UnixSeconds, Verdict, Window,
    format2::{self, Addresses, Hints},
};

use crate::{
    config::{Format, Rule},
    floors::{Floors, millis, seconds},
};

/// What is the same for every rule that a datagram is checked against.
pub(crate) struct Arrival<'a> {
    /// The clock in both units, so that no rule has to divide.
    pub(crate) seconds: UnixSeconds,
    pub(crate) millis: UnixMillis,
    pub(crate) packet: Packet<'a>,
    pub(crate) addresses: Addresses<'a>,
    /// Addresses that the gateway is reached at through NAT.
    pub(crate) own: &'a [&'a [u8]],
}

/// The replay cache of a rule, and what its format needs besides.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "every slot has room for either, and nothing is allocated")]
pub(crate) enum Verifier<const KNOCKS: usize> {
    Classic(ReplayCache<KNOCKS>),
    Format2(Format2<KNOCKS>),
}

/// Of a rule of format 2.
#[derive(Debug)]
pub(crate) struct Format2<const KNOCKS: usize> {
    rule: format2::Rule,
    /// None until the time is known, so nothing is accepted.
    hints: Hints,
    cache: ReplayCache<KNOCKS, UnixMillis>,
}

impl<const KNOCKS: usize> Verifier<KNOCKS> {
    /// Of a gateway that has just booted. It accepts nothing that could have been accepted before `saved`, or, without a saved
    /// floor of its format, before `known_past`. `None`: the time is not known yet, so nothing at all.
    #[inline(never)]
    pub(crate) fn new(rule: &Rule, saved: Floors, known_past: Option<UnixSeconds>) -> Self {
        let window = rule.knock.window();
        match rule.format {
            Format::Classic => Self::Classic(ReplayCache::new(floor(saved.classic, known_past, window))),
            Format::Format2 { require } => {
                let (key, tag) = (rule.knock.key(), rule.knock.tag());
                Self::Format2(Format2 {
                    rule: format2::Rule::new(key, tag, window, require),
                    hints: Hints::default(),
                    cache: ReplayCache::new(floor(saved.format2, known_past.map(millis), window)),
                })
            }
        }
    }

    /// Decides about a datagram.
    pub(crate) fn verify(&mut self, rule: &Rule, arrival: &Arrival<'_>) -> Verdict {
        let Arrival { seconds, millis, packet, addresses, own } = arrival;
        match self {
            Self::Classic(cache) => rule.knock.verify(cache, *seconds, packet),
            Self::Format2(Format2 { rule, hints, cache }) => {
                rule.verify(hints, cache, *millis, packet, addresses, own)
            }
        }
    }

    /// Waits for one window from `start` on, unless a knock of its format was ever accepted.
    pub(crate) fn wait(&mut self, accepted: Floors, start: UnixMillis, window: Window) {
        match self {
            Self::Classic(cache) if accepted.classic.is_none() => {
                cache.set_baseline(Baseline::without_memory(seconds(start)).floor(window));
            }
            Self::Format2(Format2 { cache, .. }) if accepted.format2.is_none() => {
                cache.set_baseline(Baseline::without_memory(start).floor(window));
            }
            Self::Classic(_) | Self::Format2(_) => {}
        }
    }

    /// Makes the hints anew if another slot has begun.
    pub(crate) fn refresh(&mut self, now: UnixMillis) {
        if let Self::Format2(Format2 { rule, hints, .. }) = self {
            rule.refresh(hints, now);
        }
    }

    /// The floor to save for its format.
    pub(crate) fn high_water_mark(&self) -> Floors {
        match self {
            Self::Classic(cache) => cache.high_water_mark().into(),
            Self::Format2(Format2 { cache, .. }) => cache.high_water_mark().into(),
        }
    }

    /// The greatest time that it has accepted.
    pub(crate) fn newest(&self) -> Floors {
        match self {
            Self::Classic(cache) => Floors { classic: cache.newest(), format2: None },
            Self::Format2(Format2 { cache, .. }) => Floors { classic: None, format2: cache.newest() },
        }
    }

    /// Whether knocks of both have the same format.
    pub(crate) fn has_format_of(&self, other: &Self) -> bool {
        core::mem::discriminant(self) == core::mem::discriminant(other)
    }
}

/// The floor that a cache starts with.
fn floor<T: Timestamp>(saved: Option<T>, known_past: Option<T>, window: Window) -> T {
    let baseline = saved.map(Baseline::with_memory).or(known_past.map(Baseline::without_memory));
    baseline.map_or(T::from_units(u64::MAX), |baseline| baseline.floor(window))
}
