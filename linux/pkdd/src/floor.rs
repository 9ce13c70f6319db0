//! The floor on disk, which survives a reboot. A separate thread writes it, so that no knock waits for the disk.
//!
//! The first line of the file is the greatest time that may have been accepted, in Unix seconds. The second line is
//! `clean` if nothing was accepted after the file was written.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use pkd_core::{UnixSeconds, Window};

use crate::{
    atomic_file::{self, PRIVATE},
    journal::Entry,
};

/// The content of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The greatest time that was accepted.
    pub floor: UnixSeconds,
    /// Whether nothing was accepted after the file was written.
    pub clean: bool,
}

impl Saved {
    /// Reads the file; `None` if it does not exist.
    ///
    /// # Errors
    /// The file cannot be read, or is invalid.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // A line without its end may be truncated, and a truncated number is smaller.
        let (first, rest) = text.split_once('\n').unwrap_or_default();
        let digits = first.bytes().all(|byte| byte.is_ascii_digit());
        let floor = Some(first).filter(|_| digits).and_then(|line| line.parse().ok());
        let floor = floor.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "expected a Unix time in the first line")
        })?;
        Ok(Some(Self { floor: UnixSeconds(floor), clean: rest.lines().next() == Some("clean") }))
    }

    /// Replaces the file. After a power failure the disk has the old one or the new one.
    ///
    /// # Errors
    /// The file cannot be written; the old one stays.
    pub fn write(self, path: &Path) -> io::Result<()> {
        let text = format!("{}\n{}", self.floor.0, if self.clean { "clean\n" } else { "" });
        atomic_file::replace_durably(path, PRIVATE, text.as_bytes())
    }

    /// The first journal entry of a boot at the time `now`; `widest` is the widest window of all rules.
    ///
    /// Without a saved floor, knocks wait for one window. So they do after an unclean end, because knocks of the last
    /// second may be missing. If the clock was set back, the saved floor still holds.
    #[must_use]
    pub fn start(saved: Option<Self>, now: UnixSeconds, widest: Window) -> Entry {
        match saved {
            None => Entry::Unknown(now),
            Some(Self { floor, clean: true }) => Entry::Remembered(floor),
            Some(Self { floor, clean: false }) => Entry::Remembered(floor.max(now.plus(widest))),
        }
    }
}

/// Writes the floor in a thread.
#[derive(Debug)]
pub struct Saver {
    path: PathBuf,
    sender: Sender<UnixSeconds>,
    thread: JoinHandle<UnixSeconds>,
}

impl Saver {
    /// Starts the thread. At least `interval` passes between two writes; errors are passed to `on_error`.
    #[must_use]
    pub fn start(path: PathBuf, interval: Duration, on_error: impl Fn(&io::Error) + Send + 'static) -> Self {
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
                        Err(error) => on_error(&error),
                    }
                    next = Instant::now() + interval;
                }
            }
        });
        Self { path, sender, thread }
    }

    /// Queues a floor for the thread. Does not block.
    pub fn save(&self, floor: UnixSeconds) {
        // The thread runs until the sender is dropped.
        let _ = self.sender.send(floor);
    }

    /// Ends the thread and writes the last floor, as clean.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self, floor: UnixSeconds) -> io::Result<()> {
        drop(self.sender);
        let newest = self.thread.join().unwrap_or_default();
        Saved { floor: floor.max(newest), clean: true }.write(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_floor_is_read_back_and_invalid_files_are_refused() {
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
    fn the_start_entry_follows_from_the_saved_floor() {
        let (now, widest) = (UnixSeconds(1_000), Window::from_secs(10));
        let table = [
            (None, Entry::Unknown(now)),
            (Some((900, true)), Entry::Remembered(UnixSeconds(900))),
            (Some((900, false)), Entry::Remembered(UnixSeconds(1_010))),
            // The clock was set back.
            (Some((5_000, false)), Entry::Remembered(UnixSeconds(5_000))),
            (Some((5_000, true)), Entry::Remembered(UnixSeconds(5_000))),
        ];
        for (row, (saved, entry)) in table.into_iter().enumerate() {
            let saved = saved.map(|(floor, clean)| Saved { floor: UnixSeconds(floor), clean });
            assert_eq!(Saved::start(saved, now, widest), entry, "row {row}");
        }
    }

    #[test]
    fn the_thread_writes_the_floor_and_marks_the_last_one_as_clean() {
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
    fn the_interval_between_writes_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floor");
        let saver = Saver::start(path.clone(), Duration::from_hours(1), |error| panic!("{error}"));
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
    fn a_floor_that_is_not_greater_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floor");
        let (sender, errors) = mpsc::channel();
        let on_error = move |error: &io::Error| sender.send(error.to_string()).unwrap();
        let saver = Saver::start(path.clone(), Duration::ZERO, on_error);
        // Nothing was accepted yet.
        saver.save(UnixSeconds(0));
        saver.save(UnixSeconds(5));
        let limit = Instant::now() + Duration::from_secs(20);
        while Saved::read(&path).unwrap().map(|saved| saved.floor) != Some(UnixSeconds(5)) {
            assert!(Instant::now() < limit, "nothing was written");
            thread::yield_now();
        }
        // From now on every write fails and is reported.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        for floor in [5, 4, 0] {
            saver.save(UnixSeconds(floor));
        }
        // The thread ends after it has handled all queued floors.
        assert!(saver.finish(UnixSeconds(5)).is_err());
        assert_eq!(errors.try_iter().collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn write_errors_are_reported() {
        let (sender, errors) = mpsc::channel();
        let path = PathBuf::from("/proc/floor");
        let saver = Saver::start(path, Duration::ZERO, move |error| sender.send(error.to_string()).unwrap());
        saver.save(UnixSeconds(5));
        assert!(!errors.recv_timeout(Duration::from_secs(20)).unwrap().is_empty());
        drop(errors);
        let Saver { sender, .. } = saver;
        drop(sender);
    }
}
