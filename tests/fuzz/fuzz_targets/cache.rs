//! The replay cache, held against a memory that forgets nothing.

#![no_main]

use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};
use pkd_core::{Baseline, Digest, KnockId, ReplayCache, ReplayStore, UnixSeconds, Window};
use pkd_fuzz::{time, window};

/// So small that it is full soon.
const CAPACITY: usize = 4;

/// Every knock that this life accepted, and what it was told.
#[derive(Debug, Default)]
struct Everything {
    /// Time, first 8 digest bytes, and whether the rule had a clock.
    accepted: Vec<(u64, u64, bool)>,
    inherited: u64,
    dropped: u64,
}

impl Everything {
    /// Of those that came with a clock the greatest, as many as there is room for.
    fn held(&self) -> Vec<(u64, u64)> {
        let mut all: Vec<_> = self.accepted.iter().filter(|one| one.2).map(|one| (one.0, one.1)).collect();
        all.sort_unstable();
        all.split_off(all.len().saturating_sub(CAPACITY))
    }

    fn newest(&self) -> Option<u64> {
        self.accepted.iter().map(|one| one.0).max()
    }

    /// At or below it lies all that was accepted and is not held.
    fn floor(&self) -> u64 {
        let held = self.held();
        let gone = self.accepted.iter().filter(|one| !one.2 || !held.contains(&(one.0, one.1)));
        gone.map(|one| one.0).max().unwrap_or(0).max(self.inherited).max(self.dropped)
    }

    fn refuses(&self, time: u64, id: u64, window: u32) -> bool {
        let later = self.newest().is_some_and(|newest| time <= newest);
        time <= self.floor() || self.held().contains(&(time, id)) || (window == 0 && later)
    }
}

fuzz_target!(|bytes: &[u8]| {
    // What the bytes do not suffice for does not happen.
    let _ = scene(&mut Unstructured::new(bytes));
});

fn scene(bytes: &mut Unstructured<'_>) -> Result<()> {
    let mut now = time(bytes, 1_800_000_000)?;
    let first = window(bytes)?;
    let remembers = bytes.arbitrary()?;
    let told = time(bytes, now)?;
    let mut start = if remembers {
        Baseline::with_memory(UnixSeconds(told))
    } else {
        Baseline::without_memory(UnixSeconds(told))
    };
    let inherited = if remembers { told } else { told.saturating_add(u64::from(first)) };
    assert_eq!(start.floor(Window::from_secs(first)).0, inherited, "the floor at a start");
    let mut cache = ReplayCache::<CAPACITY>::new(start.floor(Window::from_secs(first)));
    let mut all = Everything { inherited, ..Everything::default() };
    let mut steps = 0;
    while !bytes.is_empty() && steps < 200 {
        steps += 1;
        match bytes.arbitrary::<u8>()? % 32 {
            0 => now = time(bytes, now)?,
            1 => {
                let floor = time(bytes, now)?;
                cache.raise_baseline(UnixSeconds(floor));
                all.inherited = all.inherited.max(floor);
            }
            2 => {
                let floor = time(bytes, now)?;
                cache.set_baseline(UnixSeconds(floor));
                start.set_baseline(UnixSeconds(floor));
                all.inherited = floor;
                assert_eq!(start.earlier(Window::from_secs(first)).0, floor, "what was restored");
            }
            3 => {
                let dropped = time(bytes, now)?;
                cache.raise_evicted(UnixSeconds(dropped));
                start.drop_cache(UnixSeconds(dropped));
                all.dropped = all.dropped.max(dropped);
                assert_eq!(start.dropped().0, all.dropped, "what went");
            }
            _ => {
                let (time, window) = (time(bytes, now)?, window(bytes)?);
                // Few, so that some come again.
                let number = u64::from(bytes.arbitrary::<u8>()? % 4);
                let mut digest = [0; 32];
                digest[..8].copy_from_slice(&number.to_be_bytes());
                let id = KnockId::new(UnixSeconds(time), &Digest::from_bytes(digest));
                assert_eq!(id, KnockId::kept(UnixSeconds(time), number));
                let refused = all.refuses(time, number, window);
                assert_eq!(cache.refuses(id, Window::from_secs(window)), refused, "{id:?}, {all:?}");
                assert_eq!(cache.record(id, Window::from_secs(window)), !refused, "{id:?}, {all:?}");
                if !refused {
                    let before = all.accepted.iter().any(|one| (one.0, one.1) == (time, number));
                    assert!(!before, "accepted twice: {id:?}, {all:?}");
                    all.accepted.push((time, number, window != 0));
                }
            }
        }
        let high_water_mark = all.floor().max(all.newest().unwrap_or(0));
        assert_eq!(cache.floor().0, all.floor(), "the floor: {all:?}");
        assert_eq!(cache.newest().map(|time| time.0), all.newest(), "the newest: {all:?}");
        assert_eq!(cache.high_water_mark().0, high_water_mark, "the high_water_mark: {all:?}");
        assert_eq!((cache.len(), cache.is_empty()), (all.held().len(), all.held().is_empty()));
        let past = i128::from(high_water_mark) + i128::from(first) < i128::from(now);
        // At the end of 64 bits the sum stays at it, and nothing is ever past.
        let saturates = high_water_mark.checked_add(u64::from(first)).is_none();
        assert_eq!(cache.is_past(UnixSeconds(now), Window::from_secs(first)), past && !saturates, "{all:?}");
        let floor = all.floor();
        let wait = if floor == 0 || now > floor { 0 } else { (floor - now).saturating_add(1) };
        assert_eq!(cache.wait(UnixSeconds(now)), wait, "{all:?}");
    }
    Ok(())
}
