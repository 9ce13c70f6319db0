//! The file with the floors of all keys.
//!
//! ```text
//! 1764200000                       the greatest of all, which is all that OpenWrt's scripts and older versions know
//! clean                            after an orderly end only; without it, nothing is exact
//! other 0 inexact                  that of keys without a line
//! key 0011223344556677 1764200000 exact
//! end
//! ```
//!
//! A file that ends after the first two lines holds for all keys alike. That of format 2 begins with a line `milliseconds`,
//! the unit of its times.

use std::{collections::BTreeMap, fmt::Write as _, io, path::Path};

use pkd_core::{CacheId, UnixSeconds, Window};

use crate::{
    atomic_file::{self, PRIVATE},
    format::Unit,
    journal::Entry,
};

/// Keys with a line of their own. Of more keys, those with the smallest floors share one.
const MOST_KEYS: usize = 1_024;

/// The greatest time that was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor<T = UnixSeconds> {
    /// In the unit of the format.
    pub time: T,
    /// Whether nothing later was ever accepted.
    pub is_exact: bool,
}

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved<T = UnixSeconds> {
    /// The floors of keys that have accepted a knock.
    pub keys: BTreeMap<CacheId, Floor<T>>,
    /// That of all other keys.
    pub other: Floor<T>,
}

impl<T: Unit> Saved<T> {
    /// Reads the file; `None` if it does not exist.
    ///
    /// # Errors
    /// The file cannot be read, or is invalid.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        match atomic_file::read_to_string(path) {
            Ok(text) => Self::parse(&text).map(Some).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "expected a Unix time in the first line")
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        // A line without its end may be truncated, and a truncated number is smaller.
        let (greatest, rest) = text.strip_prefix(T::FLOOR_HEAD)?.split_once('\n')?;
        let greatest = time(greatest)?;
        let (is_clean, rest) = match rest.strip_prefix("clean\n") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if rest.is_empty() {
            let other = Floor { time: greatest, is_exact: is_clean };
            return Some(Self { keys: BTreeMap::new(), other });
        }
        // Without the last line, the floor of a key may be missing.
        let body = rest.strip_suffix("end\n").filter(|body| body.ends_with('\n'))?;
        let mut lines = body.split_terminator('\n');
        let other = floor(lines.next()?.strip_prefix("other ")?, is_clean)?;
        let mut keys = BTreeMap::new();
        for line in lines {
            let (key, rest) = line.strip_prefix("key ")?.split_once(' ')?;
            keys.insert(key.parse().ok()?, floor(rest, is_clean)?);
        }
        Some(Self { keys, other })
    }

    /// Replaces the file, as that of an orderly end or not. After a power failure the disk has the old one or the new one.
    ///
    /// # Errors
    /// The file cannot be written; the old one stays.
    pub fn write(&self, path: &Path, is_clean: bool) -> io::Result<()> {
        atomic_file::replace_durably(path, PRIVATE, self.text(is_clean).as_bytes())
    }

    fn text(&self, is_clean: bool) -> String {
        let mut text = format!("{}{}\n", T::FLOOR_HEAD, self.greatest().units());
        if self.keys.is_empty() {
            if is_clean && self.other.is_exact {
                text.push_str("clean\n");
            }
            return text;
        }
        if is_clean {
            text.push_str("clean\n");
        }
        let exactness = |floor: &Floor<T>| if is_clean && floor.is_exact { "exact" } else { "inexact" };
        let _ = writeln!(text, "other {} {}", self.other.time.units(), exactness(&self.other));
        for (key, floor) in &self.keys {
            let _ = writeln!(text, "key {key} {} {}", floor.time.units(), exactness(floor));
        }
        text + "end\n"
    }

    /// The greatest floor of all.
    pub(crate) fn greatest(&self) -> T {
        self.keys.values().map(|floor| floor.time).max().unwrap_or_default().max(self.other.time)
    }

    /// The floor of a key.
    #[must_use]
    pub fn of(&self, key: CacheId) -> Floor<T> {
        self.keys.get(&key).copied().unwrap_or(self.other)
    }

    /// Raises the floor of a key. It never falls, and what was exact stays so: nothing else was accepted meanwhile.
    pub fn raise(&mut self, key: CacheId, accepted: Floor<T>) {
        let Floor { time, is_exact } = self.of(key);
        let raised = Floor { time: time.max(accepted.time), is_exact: is_exact || accepted.is_exact };
        self.keys.insert(key, raised);
        while self.keys.len() > MOST_KEYS {
            let Some((&smallest, _)) = self.keys.iter().min_by_key(|(_, floor)| floor.time) else { return };
            if let Some(floor) = self.keys.remove(&smallest) {
                self.other.time = self.other.time.max(floor.time);
                self.other.is_exact &= floor.is_exact;
            }
        }
    }

    /// The first journal entries of a boot at the time `now`; `widest` is the widest window of all rules.
    ///
    /// Without a saved floor, knocks wait for one window. So they do if the floor is inexact, because knocks of the last
    /// second may be missing. If the clock was set back, the saved floor still holds.
    #[must_use]
    pub fn start(saved: Option<&Self>, now: T, widest: Window) -> Vec<Entry<T>> {
        let Some(saved) = saved else { return vec![Entry::Unknown(now)] };
        let safe = |floor: &Floor<T>| {
            if floor.is_exact { floor.time } else { floor.time.max(now.plus(widest)) }
        };
        let keys = saved.keys.iter().map(|(cache, floor)| Entry::Known { cache: *cache, floor: safe(floor) });
        [Entry::Remembered(safe(&saved.other))].into_iter().chain(keys).collect()
    }
}

/// A Unix time in decimal digits.
fn time<T: Unit>(text: &str) -> Option<T> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).map(T::from_units)
}

/// `TIME exact` or `TIME inexact`; what an unclean file says is never exact.
fn floor<T: Unit>(text: &str, is_clean: bool) -> Option<Floor<T>> {
    let (number, exactness) = text.split_once(' ')?;
    let is_exact = match exactness {
        "exact" => true,
        "inexact" => false,
        _ => return None,
    };
    Some(Floor { time: time(number)?, is_exact: is_clean && is_exact })
}

#[cfg(test)]
mod tests;
