//! What the two formats of knocks keep apart: their times have different units, so nothing that is stored of one is ever
//! compared with the other.

use pkd_core::{Timestamp, UnixMillis, UnixSeconds};

/// The unit of a format's times, and the files that hold them.
pub trait Unit: Timestamp + Default + PartialEq + Send + 'static {
    /// The journal's name in the folder `run`.
    const JOURNAL: &'static str;
    /// What a journal begins with.
    const JOURNAL_HEAD: &'static [u8; 64];
    /// The name of the file with the floors in the folder `state`.
    const FLOOR: &'static str;
    /// The first line of that file, if any.
    const FLOOR_HEAD: &'static str;
}

impl Unit for UnixSeconds {
    const JOURNAL: &'static str = "journal";
    const JOURNAL_HEAD: &'static [u8; 64] = &head(*b"pkdd journal 03\n");
    const FLOOR: &'static str = "floor";
    const FLOOR_HEAD: &'static str = "";
}

impl Unit for UnixMillis {
    const JOURNAL: &'static str = "journal2";
    const JOURNAL_HEAD: &'static [u8; 64] = &head(*b"pkdd journal m1\n");
    const FLOOR: &'static str = "floor2";
    const FLOOR_HEAD: &'static str = "milliseconds\n";
}

/// Filled with zero bytes to the length of an entry.
const fn head(text: [u8; 16]) -> [u8; 64] {
    let mut head = [0; 64];
    let (start, _) = head.split_at_mut(16);
    start.copy_from_slice(&text);
    head
}

/// The time in seconds, for people.
#[must_use]
pub fn seconds<T: Timestamp>(time: T) -> UnixSeconds {
    UnixSeconds(time.units() / u64::from(T::PER_SECOND))
}
