//! The journal of accepted knocks, a file that outlives the process. Knocks are written before they count.
//!
//! An entry is one write at the end of the file, and counts once the write has returned. It lies within one page, so a
//! kill leaves it whole or not at all: the kernel checks for fatal signals between two pages of a write. A mapped file
//! would save a microsecond per knock, but a kill could leave an entry half written. The file is in a folder that a
//! reboot empties (`/run`), so it is never flushed to disk.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    marker::PhantomData,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use pkd_core::{CacheId, KnockId, UnixSeconds, Window};
use pktables::Sender;
use sha2::{Digest, Sha256};

use crate::{
    atomic_file::{self, PRIVATE},
    format::Unit,
    uptime::Uptime,
};

/// An accepted knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted<T = UnixSeconds> {
    /// The cache that it is in.
    pub cache: CacheId,
    /// The cache's entry.
    pub id: KnockId<T>,
    /// The rule's window.
    pub window: Window,
    /// Whom it opens services to.
    pub sender: Sender,
    /// When it was accepted. No clock that is set changes how long ago that was.
    pub at: Uptime,
    /// Whether it ends what earlier knocks of the same key have opened to this sender.
    pub closes: bool,
}

/// What an accepted knock means for grants, whatever its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The cache of the key.
    pub cache: CacheId,
    /// Whom it opens services to, or closes them for.
    pub sender: Sender,
    /// When it was accepted.
    pub at: Uptime,
    /// Whether it ends what earlier knocks of the same key have opened to this sender.
    pub closes: bool,
}

impl<T> Accepted<T> {
    /// What it means for grants.
    #[must_use]
    pub fn effect(&self) -> Effect {
        Effect { cache: self.cache, sender: self.sender, at: self.at, closes: self.closes }
    }
}

/// An entry of the file, in chronological order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<T = UnixSeconds> {
    /// The time of this boot, if no floor was saved; see [`pkd_core::Baseline::without_memory`].
    Unknown(T),
    /// The floor that earlier boots saved; see [`pkd_core::Baseline::with_memory`].
    Remembered(T),
    /// The floor that earlier boots saved for one key, in place of that for all.
    Known {
        /// Which cache.
        cache: CacheId,
        /// Its floor.
        floor: T,
    },
    /// The greatest time that dropped caches of this boot accepted.
    Dropped(T),
    /// The state of a cache when the file was rewritten, without the knocks in later entries.
    Cache {
        /// Which cache.
        cache: CacheId,
        /// Its floor.
        floor: T,
        /// The widest window that any of its rules had.
        widest: Window,
    },
    /// A knock.
    Accepted(Accepted<T>),
}

/// Bytes of an entry, and of the file's header. No entry crosses a page boundary.
const ENTRY: usize = 64;
const _: () =
    assert!(UnixSeconds::JOURNAL_HEAD.len().is_multiple_of(ENTRY) && 4096_usize.is_multiple_of(ENTRY));
/// What the heads of all versions start with.
const NAME: &[u8] = b"pkdd journal ";
const DEV_NULL: &str = "/dev/null";

/// The file, open for appending.
#[derive(Debug)]
pub struct Journal<T = UnixSeconds> {
    path: PathBuf,
    file: File,
    length: u64,
    unit: PhantomData<fn(T)>,
}

/// The result of [`Journal::open`].
#[derive(Debug)]
pub struct Opened<T = UnixSeconds> {
    /// The file.
    pub journal: Journal<T>,
    /// The entries before the first invalid one.
    pub entries: Vec<Entry<T>>,
    /// An entry was invalid, or all are of another version, so accepted knocks may be missing. An incomplete entry at the end never counted and is no
    /// damage.
    pub damaged: bool,
}

impl<T: Unit> Journal<T> {
    /// Opens the file, or creates it, accessible only to its owner.
    ///
    /// # Errors
    /// The file cannot be read or written, or is not a journal.
    pub fn open(path: &Path) -> io::Result<Opened<T>> {
        let bytes = match atomic_file::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let body = bytes.strip_prefix(T::JOURNAL_HEAD);
        // An update without a reboot meets the journal of another version, whose knocks are lost.
        let is_other_version = body.is_none() && bytes.starts_with(NAME);
        if bytes.is_empty() || is_other_version {
            let mut journal =
                Self { path: path.to_owned(), file: File::open(DEV_NULL)?, length: 0, unit: PhantomData };
            journal.replace([])?;
            return Ok(Opened { journal, entries: Vec::new(), damaged: is_other_version });
        }
        let Some(body) = body else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a journal of pkdd"));
        };
        let (whole, _never_counted) = body.as_chunks::<ENTRY>();
        let entries: Vec<Entry<T>> = whole.iter().map_while(decode).collect();
        let file = OpenOptions::new().append(true).open(path)?;
        let length = (ENTRY + entries.len() * ENTRY) as u64;
        // Entries after an invalid one could not be found again.
        file.set_len(length)?;
        let damaged = entries.len() < whole.len();
        Ok(Opened {
            journal: Self { path: path.to_owned(), file, length, unit: PhantomData },
            entries,
            damaged,
        })
    }

    /// A journal that keeps nothing, for trying out.
    ///
    /// # Errors
    /// `/dev/null` cannot be opened.
    pub fn null() -> io::Result<Opened<T>> {
        let file = OpenOptions::new().append(true).open(DEV_NULL)?;
        let journal = Self { path: DEV_NULL.into(), file, length: ENTRY as u64, unit: PhantomData };
        Ok(Opened { journal, entries: Vec::new(), damaged: false })
    }

    /// Appends an entry. When this returns, the kernel has it.
    ///
    /// # Errors
    /// The file cannot be written. No part of the entry stays in it.
    pub fn write(&mut self, entry: &Entry<T>) -> io::Result<()> {
        let bytes = encode(entry);
        if let Err(error) = self.file.write_all(&bytes) {
            // Removes the part that may have been written.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Replaces the file. A kill leaves the old one or the new one.
    ///
    /// # Errors
    /// The new file cannot be written. The old one stays.
    pub fn replace(&mut self, entries: impl IntoIterator<Item = Entry<T>>) -> io::Result<()> {
        if self.path == Path::new(DEV_NULL) {
            return Ok(());
        }
        let mut bytes = T::JOURNAL_HEAD.to_vec();
        entries.into_iter().for_each(|entry| bytes.extend(encode(&entry)));
        self.file = atomic_file::replace(&self.path, PRIVATE, &bytes)?;
        self.length = bytes.len() as u64;
        Ok(())
    }

    /// Redirects later writes to another file.
    #[cfg(test)]
    pub(crate) fn write_to_for_tests(&mut self, path: &Path) {
        self.file = OpenOptions::new().write(true).open(path).unwrap();
    }

    /// Entries in the file, including those no longer needed.
    #[must_use]
    pub fn len(&self) -> u64 {
        (self.length - ENTRY as u64) / ENTRY as u64
    }

    /// Whether the file has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// ```text
/// offset  bytes  field
///      0      4  kind
///      4      4  window, seconds
///      8      8  cache
///     16      8  time, in the unit of the format
///     24      8  id
///     32      4  when it was accepted, seconds since boot
///     36      4  interface of a link-local sender; 0: none
///     40     16  sender, an IPv4 address as ::ffff:a.b.c.d
///     56      8  first 8 bytes of the SHA-256 of the bytes before
/// ```
/// Numbers are in native byte order: the file never leaves the machine.
fn encode<T: Unit>(entry: &Entry<T>) -> [u8; ENTRY] {
    let nobody = (Uptime(0), Sender::from(IpAddr::from(Ipv6Addr::UNSPECIFIED)));
    let (kind, window, cache, time, id, (at, sender)): (u32, u32, [u8; 8], u64, u64, _) = match *entry {
        Entry::Unknown(start) => (1, 0, [0; 8], start.units(), 0, nobody),
        Entry::Remembered(floor) => (2, 0, [0; 8], floor.units(), 0, nobody),
        Entry::Dropped(high_water_mark) => (3, 0, [0; 8], high_water_mark.units(), 0, nobody),
        Entry::Cache { cache, floor, widest } => {
            (4, widest.as_secs(), *cache.as_bytes(), floor.units(), 0, nobody)
        }
        Entry::Known { cache, floor } => (6, 0, *cache.as_bytes(), floor.units(), 0, nobody),
        Entry::Accepted(Accepted { cache, id, window, sender, at, closes }) => {
            let kind = if closes { 7 } else { 5 };
            (kind, window.as_secs(), *cache.as_bytes(), id.time().units(), id.id(), (at, sender))
        }
    };
    // Enough for 136 years.
    let at = u32::try_from(at.0).unwrap_or(u32::MAX);
    let interface = sender.interface().map_or(0, NonZeroU32::get);
    let address = match sender.address() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let mut bytes = [0; ENTRY];
    let parts: [&[u8]; 8] = [
        &kind.to_ne_bytes(),
        &window.to_ne_bytes(),
        &cache,
        &time.to_ne_bytes(),
        &id.to_ne_bytes(),
        &at.to_ne_bytes(),
        &interface.to_ne_bytes(),
        &address.octets(),
    ];
    let mut rest = &mut bytes[..];
    for part in parts {
        let (field, after) = rest.split_at_mut(part.len());
        field.copy_from_slice(part);
        rest = after;
    }
    let (covered, check) = bytes.split_at_mut(ENTRY - 8);
    check.copy_from_slice(&first_8(&Sha256::new().chain_update(&*covered)));
    bytes
}

fn decode<T: Unit>(bytes: &[u8; ENTRY]) -> Option<Entry<T>> {
    let (covered, check) = bytes.split_last_chunk::<8>()?;
    if *check != first_8(&Sha256::new().chain_update(covered)) {
        return None;
    }
    let (kind, rest) = covered.split_first_chunk::<4>()?;
    let (window, rest) = rest.split_first_chunk::<4>()?;
    let (cache, rest) = rest.split_first_chunk::<8>()?;
    let (time, rest) = rest.split_first_chunk::<8>()?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let (at, rest) = rest.split_first_chunk::<4>()?;
    let (interface, rest) = rest.split_first_chunk::<4>()?;
    let (address, _) = rest.split_first_chunk::<16>()?;
    let window = Window::from_secs(u32::from_ne_bytes(*window));
    let time = T::from_units(u64::from_ne_bytes(*time));
    let kind = u32::from_ne_bytes(*kind);
    Some(match kind {
        1 => Entry::Unknown(time),
        2 => Entry::Remembered(time),
        3 => Entry::Dropped(time),
        4 => Entry::Cache { cache: CacheId::from_bytes(*cache), floor: time, widest: window },
        5 | 7 => Entry::Accepted(Accepted {
            cache: CacheId::from_bytes(*cache),
            id: KnockId::kept(time, u64::from_ne_bytes(*id)),
            window,
            sender: Sender::new(
                Ipv6Addr::from(*address).into(),
                NonZeroU32::new(u32::from_ne_bytes(*interface)),
            ),
            at: Uptime(u32::from_ne_bytes(*at).into()),
            closes: kind == 7,
        }),
        6 => Entry::Known { cache: CacheId::from_bytes(*cache), floor: time },
        _ => return None,
    })
}

fn first_8(hash: &Sha256) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.clone().finalize()[..8]);
    first
}

#[cfg(test)]
mod tests;
