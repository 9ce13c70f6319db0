//! The model that is compared with the replay cache and its baseline.

use std::collections::BTreeSet;

/// The specification of a replay cache, in its simplest form.
#[derive(Debug)]
pub(crate) struct ModelCache {
    /// Times and numbers of its knocks.
    pub(crate) set: BTreeSet<(u64, usize)>,
    /// The greatest time that earlier boots may have accepted.
    pub(crate) baseline_floor: u64,
    /// The greatest time that this boot accepted and the set no longer holds.
    pub(crate) evicted: u64,
    pub(crate) newest: Option<u64>,
    /// The widest window of all rules that ever used it.
    pub(crate) widest: u32,
}

impl ModelCache {
    pub(crate) fn floor(&self) -> u64 {
        self.baseline_floor.max(self.evicted)
    }

    pub(crate) fn high_water_mark(&self) -> u64 {
        self.floor().max(self.newest.unwrap_or(0))
    }

    pub(crate) fn accept(&mut self, capacity: usize, window: u32, time: u64, number: usize) {
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
pub(crate) enum ModelEarlier {
    Unknown { start: u64 },
    Remembered { floor: u64 },
}
