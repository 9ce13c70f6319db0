//! The floor on disk: what a reboot must not forget. Written by a thread of its own, so that no knock waits
//! for a disk.
//!
//! The file has one line with the greatest time that may have been accepted, in Unix seconds, and a second
//! one, `clean`, if nothing was accepted after it was written.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use pkd_core::{UnixSeconds, Window};

use crate::journal::Entry;

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The greatest time that was accepted.
    pub floor: UnixSeconds,
    /// Whether nothing was accepted afterwards.
    pub clean: bool,
}

impl Saved {
    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Without its end the line may be cut off, and a part of a number is a smaller one.
        let (first, rest) = text.split_once('\n').unwrap_or_default();
        let digits = first.bytes().all(|byte| byte.is_ascii_digit());
        let floor = Some(first).filter(|_| digits).and_then(|line| line.parse().ok());
        let floor =
            floor.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its first line is no time"))?;
        Ok(Some(Self { floor: UnixSeconds(floor), clean: rest.lines().next() == Some("clean") }))
    }

    /// Writes the file anew: after a power failure it is the old one or the new one.
    ///
    /// # Errors
    /// The disk is full, or may only be read.
    pub fn write(self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
        writeln!(file, "{}", self.floor.0)?;
        if self.clean {
            writeln!(file, "clean")?;
        }
        file.sync_all()?;
        fs::rename(&new, path)?;
        // The new name has to be on the disk too.
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }

    /// How a life begins that finds this, by a clock that says `now`, where no rule has a wider window.
    ///
    /// Nothing found: it has to wait. Not clean: the last second before may be missing, which is waited for
    /// too. A clock that was set back since does no harm to what was saved.
    #[must_use]
    pub fn start(found: Option<Self>, now: UnixSeconds, widest: Window) -> Entry {
        match found {
            None => Entry::Unknown(now),
            Some(Self { floor, clean: true }) => Entry::Remembered(floor),
            Some(Self { floor, clean: false }) => Entry::Remembered(floor.max(now.plus(widest))),
        }
    }
}

/// Keeps the file up to date.
#[derive(Debug)]
pub struct Saver {
    path: PathBuf,
    sender: Sender<UnixSeconds>,
    thread: JoinHandle<UnixSeconds>,
}

impl Saver {
    /// Starts the thread. It writes what it is told, but no more often than each `pause`; `complain` hears of
    /// what goes wrong.
    #[must_use]
    pub fn start(path: PathBuf, pause: Duration, complain: impl Fn(&io::Error) + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel::<UnixSeconds>();
        let to = path.clone();
        let thread = thread::spawn(move || {
            let mut newest = UnixSeconds(0);
            let mut written = UnixSeconds(0);
            let mut next = Instant::now();
            loop {
                let is_due = newest > written;
                let wait =
                    if is_due { next.saturating_duration_since(Instant::now()) } else { Duration::MAX };
                match receiver.recv_timeout(wait) {
                    Ok(floor) => newest = newest.max(floor),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return newest,
                }
                if newest > written && Instant::now() >= next {
                    match (Saved { floor: newest, clean: false }).write(&to) {
                        Ok(()) => written = newest,
                        Err(error) => complain(&error),
                    }
                    next = Instant::now() + pause;
                }
            }
        });
        Self { path, sender, thread }
    }

    /// What has to be on the disk soon. Waits for nothing.
    pub fn save(&self, floor: UnixSeconds) {
        // The thread lives as long as this.
        let _ = self.sender.send(floor);
    }

    /// Nothing is accepted any more.
    ///
    /// # Errors
    /// The last writing failed.
    pub fn finish(self, floor: UnixSeconds) -> io::Result<()> {
        drop(self.sender);
        let told = self.thread.join().unwrap_or_default();
        Saved { floor: floor.max(told), clean: true }.write(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floor");
        assert_eq!(Saved::read(&path).unwrap(), None);
        for (floor, clean) in [(0, false), (7, true), (u64::MAX, false)] {
            let saved = Saved { floor: UnixSeconds(floor), clean };
            saved.write(&path).unwrap();
            assert_eq!(Saved::read(&path).unwrap(), Some(saved));
        }
        for text in ["", "x", "-1", "1x\n", "+1\n", "18000", "clean\n1\n"] {
            fs::write(&path, text).unwrap();
            assert!(Saved::read(&path).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_life_begins_as_what_was_saved_says() {
        let (now, widest) = (UnixSeconds(1_000), Window::from_secs(10));
        let table = [
            (None, Entry::Unknown(now)),
            (Some((900, true)), Entry::Remembered(UnixSeconds(900))),
            (Some((900, false)), Entry::Remembered(UnixSeconds(1_010))),
            // The clock was set back.
            (Some((5_000, false)), Entry::Remembered(UnixSeconds(5_000))),
            (Some((5_000, true)), Entry::Remembered(UnixSeconds(5_000))),
        ];
        for (row, (found, entry)) in table.into_iter().enumerate() {
            let found = found.map(|(floor, clean)| Saved { floor: UnixSeconds(floor), clean });
            assert_eq!(Saved::start(found, now, widest), entry, "row {row}");
        }
    }

    #[test]
    fn the_thread_writes_what_it_is_told_and_says_that_it_was_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floor");
        let saver = Saver::start(path.clone(), Duration::ZERO, |error| panic!("{error}"));
        saver.save(UnixSeconds(5));
        let limit = Instant::now() + Duration::from_secs(20);
        while Saved::read(&path).unwrap() != Some(Saved { floor: UnixSeconds(5), clean: false }) {
            assert!(Instant::now() < limit, "nothing was written");
            thread::yield_now();
        }
        saver.save(UnixSeconds(9));
        saver.finish(UnixSeconds(3)).unwrap();
        assert_eq!(Saved::read(&path).unwrap(), Some(Saved { floor: UnixSeconds(9), clean: true }));
    }

    #[test]
    fn it_writes_no_more_often_than_it_may() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floor");
        let saver = Saver::start(path.clone(), Duration::from_secs(3_600), |error| panic!("{error}"));
        let written = || Saved::read(&path).unwrap().map(|saved| saved.floor.0);
        saver.save(UnixSeconds(1));
        let limit = Instant::now() + Duration::from_secs(20);
        while written().is_none() {
            assert!(Instant::now() < limit, "nothing was written");
            thread::yield_now();
        }
        let first = written();
        (2..100).for_each(|time| saver.save(UnixSeconds(time)));
        saver.finish(UnixSeconds(100)).unwrap();
        assert_eq!((first, written()), (Some(1), Some(100)));
    }

    #[test]
    fn a_floor_that_is_no_later_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floor");
        let (sender, complaints) = mpsc::channel();
        let complain = move |error: &io::Error| sender.send(error.to_string()).unwrap();
        let saver = Saver::start(path.clone(), Duration::ZERO, complain);
        // Nothing was accepted yet, so there is nothing to write.
        saver.save(UnixSeconds(0));
        saver.save(UnixSeconds(5));
        let limit = Instant::now() + Duration::from_secs(20);
        while Saved::read(&path).unwrap().map(|saved| saved.floor) != Some(UnixSeconds(5)) {
            assert!(Instant::now() < limit, "nothing was written");
            thread::yield_now();
        }
        // From now on each writing fails, and is complained of.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        for floor in [5, 4, 0] {
            saver.save(UnixSeconds(floor));
        }
        // It ends when all that it was told has been looked at.
        assert!(saver.finish(UnixSeconds(5)).is_err());
        assert_eq!(complaints.try_iter().collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_complained_of() {
        let (sender, complaints) = mpsc::channel();
        let path = PathBuf::from("/proc/floor");
        let saver = Saver::start(path, Duration::ZERO, move |error| sender.send(error.to_string()).unwrap());
        saver.save(UnixSeconds(5));
        assert!(!complaints.recv_timeout(Duration::from_secs(20)).unwrap().is_empty());
        drop(complaints);
        let Saver { sender, .. } = saver;
        drop(sender);
    }
}
