//! What was accepted, written down before it counts, in a file that outlives the process.
//!
//! An entry is one write at the end of the file, and counts once that has returned. It lies in one page, so whoever is
//! killed leaves it whole or not at all: the kernel looks for a deadly signal between two pages of a write. A mapped
//! file would save a microsecond a knock, and could be left half changed. The file lies where a reboot empties (`/run`):
//! it is never flushed to a disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::{IpAddr, Ipv6Addr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use pkd_core::{Key, KnockId, Tag, UnixSeconds, Window};
use sha2::{Digest, Sha256};

/// Tells caches apart: of a tag and a key, and no way back to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheId([u8; 8]);

impl CacheId {
    /// The cache that all rules with this tag and key share.
    #[must_use]
    pub fn of(tag: Tag, key: &Key) -> Self {
        Self(first_8(
            &Sha256::new().chain_update(b"pkdd cache").chain_update(tag.0).chain_update(key.as_bytes()),
        ))
    }
}

/// A knock that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// By which cache.
    pub cache: CacheId,
    /// What keeps it from being accepted again.
    pub id: KnockId,
    /// The rule's window.
    pub window: Window,
    /// Who may pass for it.
    pub source: IpAddr,
    /// When, by the clock of this machine.
    pub at: UnixSeconds,
}

/// What the file holds, in the order in which it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// This life began, and nothing was known of earlier ones.
    Unknown(UnixSeconds),
    /// This life began, and earlier ones accepted nothing later.
    Remembered(UnixSeconds),
    /// Caches of this life that went accepted nothing later.
    Dropped(UnixSeconds),
    /// A cache as it was when the file was written anew, without the knocks that follow.
    Cache {
        /// Whose.
        cache: CacheId,
        /// Its floor.
        floor: UnixSeconds,
        /// The widest window of its rules so far.
        widest: Window,
    },
    /// A knock.
    Accepted(Accepted),
}

/// Bytes of an entry, and of the head of the file. No entry lies in two pages.
const ENTRY: usize = 64;
const _: () = assert!(HEAD.len().is_multiple_of(ENTRY) && 4096_usize.is_multiple_of(ENTRY));
const NOWHERE: &str = "/dev/null";
const HEAD: &[u8; ENTRY] = b"pkdd journal 02\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The file, open for more.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
}

/// What [`Journal::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub journal: Journal,
    /// All that could be read of it.
    pub entries: Vec<Entry>,
    /// There was an entry that could not: something that counted may be missing. A part of one at the end never
    /// counted.
    pub damaged: bool,
}

impl Journal {
    /// Opens the file, or makes it, readable for its owner alone.
    ///
    /// # Errors
    /// The file cannot be read or written, or is not of this kind.
    pub fn open(path: &Path) -> io::Result<Opened> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            let mut journal = Self { path: path.to_owned(), file: File::open(NOWHERE)?, length: 0 };
            journal.replace([])?;
            return Ok(Opened { journal, entries: Vec::new(), damaged: false });
        }
        let Some(body) = bytes.strip_prefix(HEAD) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no journal of this version"));
        };
        let (whole, _never_counted) = body.as_chunks::<ENTRY>();
        let entries: Vec<Entry> = whole.iter().map_while(decode).collect();
        let file = OpenOptions::new().append(true).open(path)?;
        let length = (HEAD.len() + entries.len() * ENTRY) as u64;
        // What follows an entry that cannot be read could not be found again.
        file.set_len(length)?;
        let damaged = entries.len() < whole.len();
        Ok(Opened { journal: Self { path: path.to_owned(), file, length }, entries, damaged })
    }

    /// One that keeps nothing, for trying out.
    ///
    /// # Errors
    /// There is no `/dev/null`.
    pub fn nowhere() -> io::Result<Opened> {
        let file = OpenOptions::new().append(true).open(NOWHERE)?;
        let journal = Self { path: NOWHERE.into(), file, length: HEAD.len() as u64 };
        Ok(Opened { journal, entries: Vec::new(), damaged: false })
    }

    /// Adds an entry. On return the kernel has it.
    ///
    /// # Errors
    /// There is no room. Nothing of it is in the file then.
    pub fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let bytes = encode(entry);
        if let Err(error) = self.file.write_all(&bytes) {
            // A part may have gone in.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Writes the file anew. Whoever is killed leaves the old one or the new one.
    ///
    /// # Errors
    /// There is no room. The old one is there still.
    pub fn replace(&mut self, entries: impl IntoIterator<Item = Entry>) -> io::Result<()> {
        if self.path == Path::new(NOWHERE) {
            return Ok(());
        }
        let new = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(0o600);
        let mut bytes = HEAD.to_vec();
        entries.into_iter().for_each(|entry| bytes.extend(encode(&entry)));
        options.open(&new)?.write_all(&bytes)?;
        let file = OpenOptions::new().append(true).open(&new)?;
        fs::rename(&new, &self.path)?;
        (self.file, self.length) = (file, bytes.len() as u64);
        Ok(())
    }

    /// Writes elsewhere from now on.
    #[cfg(test)]
    pub(crate) fn write_to_for_tests(&mut self, path: &Path) {
        self.file = OpenOptions::new().write(true).open(path).unwrap();
    }

    /// Entries in the file, those that say nothing any more too.
    #[must_use]
    pub fn len(&self) -> u64 {
        (self.length - HEAD.len() as u64) / ENTRY as u64
    }

    /// Whether there are none.
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
///     16      8  time, Unix seconds
///     24      8  id
///     32      8  when it was accepted, Unix seconds
///     40     16  source, an IPv4 address as ::ffff:a.b.c.d
///     56      8  first bytes of SHA-256 over all before
/// ```
/// Numbers are in the order of this machine: the file never leaves it.
fn encode(entry: &Entry) -> [u8; ENTRY] {
    let (kind, window, cache, time, id, at, source): (u32, u32, [u8; 8], u64, u64, u64, Ipv6Addr) =
        match *entry {
            Entry::Unknown(start) => (1, 0, [0; 8], start.0, 0, 0, Ipv6Addr::UNSPECIFIED),
            Entry::Remembered(floor) => (2, 0, [0; 8], floor.0, 0, 0, Ipv6Addr::UNSPECIFIED),
            Entry::Dropped(high_water_mark) => (3, 0, [0; 8], high_water_mark.0, 0, 0, Ipv6Addr::UNSPECIFIED),
            Entry::Cache { cache, floor, widest } => {
                (4, widest.as_secs(), cache.0, floor.0, 0, 0, Ipv6Addr::UNSPECIFIED)
            }
            Entry::Accepted(Accepted { cache, id, window, source, at }) => {
                let source = match source {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => address,
                };
                (5, window.as_secs(), cache.0, id.time().0, id.id(), at.0, source)
            }
        };
    let mut bytes = [0; ENTRY];
    let parts: [&[u8]; 7] = [
        &kind.to_ne_bytes(),
        &window.to_ne_bytes(),
        &cache,
        &time.to_ne_bytes(),
        &id.to_ne_bytes(),
        &at.to_ne_bytes(),
        &source.octets(),
    ];
    let mut rest = &mut bytes[..];
    for part in parts {
        let (place, behind) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = behind;
    }
    let (covered, check) = bytes.split_at_mut(ENTRY - 8);
    check.copy_from_slice(&first_8(&Sha256::new().chain_update(&*covered)));
    bytes
}

fn decode(bytes: &[u8; ENTRY]) -> Option<Entry> {
    let (covered, check) = bytes.split_last_chunk::<8>()?;
    if *check != first_8(&Sha256::new().chain_update(covered)) {
        return None;
    }
    let (kind, rest) = covered.split_first_chunk::<4>()?;
    let (window, rest) = rest.split_first_chunk::<4>()?;
    let (cache, rest) = rest.split_first_chunk::<8>()?;
    let (time, rest) = rest.split_first_chunk::<8>()?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (source, _) = rest.split_first_chunk::<16>()?;
    let window = Window::from_secs(u32::from_ne_bytes(*window));
    let time = UnixSeconds(u64::from_ne_bytes(*time));
    Some(match u32::from_ne_bytes(*kind) {
        1 => Entry::Unknown(time),
        2 => Entry::Remembered(time),
        3 => Entry::Dropped(time),
        4 => Entry::Cache { cache: CacheId(*cache), floor: time, widest: window },
        5 => Entry::Accepted(Accepted {
            cache: CacheId(*cache),
            id: KnockId::kept(time, u64::from_ne_bytes(*id)),
            window,
            source: Ipv6Addr::from(*source).to_canonical(),
            at: UnixSeconds(u64::from_ne_bytes(*at)),
        }),
        _ => return None,
    })
}

fn first_8(hash: &Sha256) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.clone().finalize()[..8]);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(time: u64, source: &str) -> Entry {
        Entry::Accepted(Accepted {
            cache: CacheId([3; 8]),
            id: KnockId::kept(UnixSeconds(time), u64::MAX - 5),
            window: Window::from_secs(17),
            source: source.parse().unwrap(),
            at: UnixSeconds(time + 2),
        })
    }

    fn some() -> Vec<Entry> {
        vec![
            Entry::Unknown(UnixSeconds(1)),
            Entry::Remembered(UnixSeconds(u64::MAX)),
            Entry::Dropped(UnixSeconds(3)),
            Entry::Cache { cache: CacheId([9; 8]), floor: UnixSeconds(4), widest: Window::from_secs(5) },
            accepted(6, "192.0.2.7"),
            accepted(7, "2001:db8::7"),
        ]
    }

    fn written() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut opened = Journal::open(&path).unwrap();
        assert!(opened.entries.is_empty() && opened.journal.is_empty());
        for entry in some() {
            opened.journal.write(&entry).unwrap();
        }
        assert_eq!(opened.journal.len(), 6);
        (folder, path)
    }

    #[test]
    fn what_was_written_is_read_again_and_added_to() {
        let (_folder, path) = written();
        let mut opened = Journal::open(&path).unwrap();
        assert_eq!((opened.entries, opened.damaged), (some(), false));
        opened.journal.write(&accepted(8, "::1")).unwrap();
        assert_eq!(Journal::open(&path).unwrap().entries.len(), 7);
        opened.journal.replace([accepted(9, "::1")]).unwrap();
        opened.journal.write(&accepted(10, "::1")).unwrap();
        assert_eq!(Journal::open(&path).unwrap().entries, [accepted(9, "::1"), accepted(10, "::1")]);
    }

    #[test]
    fn others_cannot_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, path) = written();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn damage_is_told_and_what_follows_it_is_left_out() {
        // what is done to the bytes, entries left, whether something that counted may be missing
        type Harm = fn(&mut Vec<u8>);
        let table: [(Harm, usize, bool); 5] = [
            (|bytes| bytes.truncate(bytes.len() - 1), 5, false),
            (|bytes| bytes.extend([0; 30]), 6, false),
            (|bytes| bytes.extend([0; 64]), 6, true),
            (|bytes| bytes[64 + 64 + 20] ^= 1, 1, true),
            (|bytes| bytes[64] ^= 4, 0, true),
        ];
        for (row, (harm, left, harmed)) in table.into_iter().enumerate() {
            let (_folder, path) = written();
            let mut bytes = fs::read(&path).unwrap();
            harm(&mut bytes);
            fs::write(&path, bytes).unwrap();
            let mut opened = Journal::open(&path).unwrap();
            assert_eq!((&opened.entries[..], opened.damaged), (&some()[..left], harmed), "row {row}");
            opened.journal.write(&accepted(8, "::1")).unwrap();
            let again = Journal::open(&path).unwrap();
            assert_eq!((again.entries.len(), again.damaged), (left + 1, false), "row {row}");
        }
    }

    #[test]
    fn another_file_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        fs::write(&path, "root:x:0:0").unwrap();
        assert!(Journal::open(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "root:x:0:0");
    }

    /// A file size limit in the middle of an entry makes the kernel take a part of it. The limit is one of the
    /// process, so the test runs itself once more, with it.
    #[test]
    fn a_part_of_an_entry_is_taken_back() {
        const PATH: &str = "PKDD_LIMITED_JOURNAL";
        if let Some(path) = std::env::var_os(PATH) {
            let mut journal = Journal::open(Path::new(&path)).unwrap().journal;
            let error = journal.write(&accepted(8, "::1")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
            assert_eq!(journal.len(), 6);
            return;
        }
        let (_folder, path) = written();
        let whole = fs::metadata(&path).unwrap().len();
        // Beyond the limit a signal would come, which is ignored, so that there is an error.
        let line = format!("trap '' XFSZ; exec prlimit --fsize={} -- \"$0\" \"$@\"", whole + 40);
        let output = std::process::Command::new("sh")
            .args(["-c", &line])
            .arg(std::env::current_exe().unwrap())
            .args(["journal::tests::a_part_of_an_entry_is_taken_back", "--exact", "--nocapture"])
            .env(PATH, &path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
        assert_eq!(fs::metadata(&path).unwrap().len(), whole);
        assert_eq!(Journal::open(&path).unwrap().entries, some());
    }

    #[test]
    fn where_there_is_no_room_nothing_of_an_entry_stays() {
        let (_folder, path) = written();
        let mut journal = Journal::open(&path).unwrap().journal;
        journal.write_to_for_tests(Path::new("/dev/full"));
        // /dev/full has no length to set, so the error is that of the write or of taking it back.
        assert!(journal.write(&accepted(8, "::1")).is_err());
        assert_eq!((journal.len(), Journal::open(&path).unwrap().entries), (6, some()));
    }
}
