//! The first bytes that knocks may begin with now.

use heapless::Vec;
use zeroize::Zeroize;

use super::Keys;
use crate::{UnixMillis, Window};

/// The widest window, in seconds, whose hints are kept. With a wider one every knock is looked at further.
const WIDEST: u32 = 300;

/// Slots that [`WIDEST`] to either side can touch, and the one after them.
const CAPACITY: usize = 12;

/// The hints of one rule for a while: those of all slots that the window admits, and of the next slot.
///
/// They are made in advance, never for a packet. [Refresh](super::Rule::refresh) them once in each slot (65.536 s) and when
/// the clock was set; a clock that leaves the slots they are for is refused until then.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// The slot of the first hint.
    first: u32,
    hints: Vec<u32, CAPACITY>,
}

impl Hints {
    pub(crate) fn new(keys: &Keys, window: Window, width: u64, now: UnixMillis) -> Self {
        let mut hints = Self::default();
        hints.refresh(keys, window, width, now);
        hints
    }

    /// Whether `now` needs others than when they were made, in a window of `width` milliseconds.
    pub(crate) fn are_due(&self, window: Window, width: u64, now: UnixMillis) -> bool {
        let is_other = |(first, _)| self.hints.is_empty() || first != self.first;
        is_checked(window) && slots(width, now).is_some_and(is_other)
    }

    /// Makes them anew if they [are due](Self::are_due); whether it did.
    pub(crate) fn refresh(&mut self, keys: &Keys, window: Window, width: u64, now: UnixMillis) -> bool {
        if !self.are_due(window, width, now) {
            return false;
        }
        let Some((first, last)) = slots(width, now) else { return false };
        // What comes is a secret until it is sent.
        self.hints.iter_mut().for_each(Zeroize::zeroize);
        self.hints.clear();
        self.first = first;
        for slot in first..=last.saturating_add(1) {
            // There is room for those of the widest window.
            let _ = self.hints.push(keys.hint(slot));
        }
        true
    }

    /// The hints, the earliest slot's first; the last is that of a slot that has not begun to count.
    pub fn iter(&self) -> impl Iterator<Item = [u8; 4]> {
        self.hints.iter().map(|hint| hint.to_le_bytes())
    }

    /// The hint of a slot, if it is one of these.
    pub(crate) fn of(&self, slot: u32) -> Option<u32> {
        let at = slot.checked_sub(self.first)?;
        self.hints.get(usize::try_from(at).ok()?).copied()
    }

    /// Whether a knock may begin with `hint` at any time that these are for. Most datagrams get no further.
    #[inline]
    pub(crate) fn is_known(&self, hint: u32, window: Window) -> bool {
        // `contains` looks at sixteen at a time, which there never are.
        for own in &self.hints {
            if *own == hint {
                return true;
            }
        }
        !is_checked(window)
    }

    /// Whether a knock may begin with `hint`, which is known, at the time `now`, in a window of `width` milliseconds.
    #[inline]
    pub(crate) fn admit(&self, hint: u32, window: Window, width: u64, now: UnixMillis) -> bool {
        !is_checked(window) || self.is_current(hint, width, now)
    }

    /// Whether a slot of this hint is in the window.
    #[inline(never)]
    fn is_current(&self, hint: u32, width: u64, now: UnixMillis) -> bool {
        let Some((first, last)) = slots(width, now) else { return false };
        let mut slot = self.first;
        for own in &self.hints {
            if *own == hint && first <= slot && slot <= last {
                return true;
            }
            slot = slot.wrapping_add(1);
        }
        false
    }
}

/// A slot is 65.536 s long, and the last begins where a knock's time ends.
pub(crate) fn slot(time: UnixMillis) -> Option<u32> {
    u32::try_from(time.0 >> 16).ok()
}

/// The first and the last slot that a window of so many milliseconds admits; `None` if no knock has such times.
fn slots(width: u64, now: UnixMillis) -> Option<(u32, u32)> {
    let first = slot(UnixMillis(now.0.saturating_sub(width)))?;
    Some((first, slot(UnixMillis(now.0.saturating_add(width))).unwrap_or(u32::MAX)))
}

/// Without a clock nobody knows the slot.
fn is_checked(window: Window) -> bool {
    matches!(window, Window::Skew(seconds) if seconds.get() <= WIDEST)
}
