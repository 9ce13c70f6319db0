//! The floor on disk, which survives a reboot. A separate thread writes it, so that no knock waits for the disk.
//!
//! The first line of the file is the greatest time that was accepted, in Unix seconds. The second line is `clean` if no
//! knock with a later time was ever accepted.
//!
//! The clock may be wrong at a start, and a number from a wrong clock would lock everyone out. So a start does not
//! change the number; only accepted knocks do. Why no replay gets in:
//!
//! - An unclean file promises nothing. The next boot waits until everything that may have been accepted has left the
//!   widest window. So a start may always take `clean` away, and does before the first knock is accepted.
//! - A clean file promises that its number is exact. There are two ways to know that at the end. The file was clean at
//!   the start, so nothing later was accepted until then, and all that was accepted since is known. Or the greatest
//!   accepted time is above all floors of this boot, hence above everything that was lost before it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use pkd_core::{UnixSeconds, Window};

use crate::{
    atomic_file::{self, PRIVATE},
    config::Config,
    journal::Entry,
    privileges, run_folder,
};

/// How far a floor may be ahead of the clock, in seconds, besides the widest window.
const DAY: u64 = 86_400;

/// The file in the folder `state`.
#[must_use]
pub fn path(state: &Path) -> PathBuf {
    state.join("floor")
}

/// The content of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The greatest time that was accepted.
    pub floor: UnixSeconds,
    /// Whether nothing later was ever accepted.
    pub clean: bool,
}

/// The greatest time that was accepted in this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greatest {
    /// The knock's time.
    pub time: UnixSeconds,
    /// Whether nothing later was accepted in any boot.
    pub is_exact: bool,
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

/// What is wrong with a floor that is too far ahead of the clock for any honest knock, and what to do.
#[must_use]
pub fn implausible(floor: UnixSeconds, now: UnixSeconds, widest: Window) -> Option<String> {
    let latest = now.plus(widest).0.saturating_add(DAY);
    (floor.0 > latest).then(|| {
        format!(
            "the floor {} (Unix time) is more than a day ahead of the clock, and knocks wait until then: correct the \
             clock; or, if it was ahead when pkdd started before, stop pkdd, run \"pkdd reset-floor\" and start it",
            floor.0
        )
    })
}

/// The command `pkdd reset-floor`: forgets the floor, so that knocks wait for one window after the next start. Returns
/// a line about what was done.
///
/// # Errors
/// A daemon is running, or the files cannot be changed.
pub fn reset(config: &Config) -> Result<String> {
    let gate = &config.gate;
    run_folder::create(&gate.state)?;
    // The daemon's user has to be able to read the new file, and may have put links into the folders.
    privileges::become_owner(&gate.state)?;
    // Without the folder, there is no daemon and no journal.
    let _lock = if gate.run.exists() {
        let stop_it = || format!("{}; stop it first", run_folder::in_use(&gate.run));
        Some(run_folder::lock(&gate.run)?.with_context(stop_it)?)
    } else {
        None
    };
    let (path, journal) = (path(&gate.state), run_folder::journal(&gate.run));
    // Unclean floors are safe without a journal, and a journal is safe with any floor: a kill in between does no harm.
    Saved { floor: UnixSeconds(0), clean: false }
        .write(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    match fs::remove_file(&journal) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", journal.display()))
        }
        _ => Ok(format!(
            "reset {} and removed {}; after the next start, knocks wait for one window",
            path.display(),
            journal.display()
        )),
    }
}

/// Writes the floor in a thread.
#[derive(Debug)]
pub struct Saver {
    path: PathBuf,
    /// The content of the file at the start.
    read: Saved,
    sender: Sender<UnixSeconds>,
    thread: JoinHandle<()>,
}

impl Saver {
    /// Marks the file as unclean, which has to be done before the first knock is accepted, and starts the thread.
    /// `read` is its content, `None` if that is unknown. At least `interval` passes between two writes; errors are
    /// passed to `on_error`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn start(
        path: PathBuf,
        read: Option<Saved>,
        interval: Duration,
        on_error: impl Fn(&io::Error) + Send + 'static,
    ) -> io::Result<Self> {
        let read = read.unwrap_or(Saved { floor: UnixSeconds(0), clean: false });
        Saved { clean: false, ..read }.write(&path)?;
        let (sender, receiver) = mpsc::channel::<UnixSeconds>();
        let to = path.clone();
        let thread = thread::spawn(move || {
            let mut newest = read.floor;
            let mut written = read.floor;
            let mut next = Instant::now();
            loop {
                let is_due = newest > written;
                let wait =
                    if is_due { next.saturating_duration_since(Instant::now()) } else { Duration::MAX };
                match receiver.recv_timeout(wait) {
                    Ok(floor) => newest = newest.max(floor),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
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
        Ok(Self { path, read, sender, thread })
    }

    /// The number that the file had at the start.
    #[must_use]
    pub fn first(&self) -> UnixSeconds {
        self.read.floor
    }

    /// Queues the time of an accepted knock for the thread. Does not block.
    pub fn save(&self, greatest: Option<Greatest>) {
        if let Some(greatest) = greatest {
            // The thread runs until the sender is dropped.
            let _ = self.sender.send(greatest.time);
        }
    }

    /// Ends the thread and writes the last floor: as clean if it is exact, and what was read at the start if nothing
    /// was accepted.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self, greatest: Option<Greatest>) -> io::Result<()> {
        drop(self.sender);
        // The thread only writes the file; what it was sent is not greater.
        let _ = self.thread.join();
        let time = greatest.map_or(UnixSeconds(0), |greatest| greatest.time);
        let is_exact = greatest.is_some_and(|greatest| greatest.is_exact);
        Saved { floor: self.read.floor.max(time), clean: self.read.clean || is_exact }.write(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(time: u64) -> Greatest {
        Greatest { time: UnixSeconds(time), is_exact: true }
    }

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
        let saver = Saver::start(path.clone(), None, Duration::ZERO, |error| panic!("{error}")).unwrap();
        saver.save(Some(exact(5)));
        let limit = Instant::now() + Duration::from_secs(20);
        while Saved::read(&path).unwrap() != Some(Saved { floor: UnixSeconds(5), clean: false }) {
            assert!(Instant::now() < limit, "nothing was written");
            thread::yield_now();
        }
        saver.save(Some(exact(9)));
        saver.finish(Some(exact(9))).unwrap();
        assert_eq!(Saved::read(&path).unwrap(), Some(Saved { floor: UnixSeconds(9), clean: true }));
    }

    #[test]
    fn a_start_only_marks_the_file_and_an_end_without_a_knock_restores_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floor");
        let inexact = |time| Greatest { time: UnixSeconds(time), is_exact: false };
        let (clean, unclean) = (true, false);
        // content at the start, the greatest accepted time, content at the end
        let table = [
            (None, None, (0, unclean)),
            (Some((900, clean)), None, (900, clean)),
            (Some((900, unclean)), None, (900, unclean)),
            // From a clock that was wrong.
            (Some((u64::MAX, clean)), None, (u64::MAX, clean)),
            (None, Some(exact(1_000)), (1_000, clean)),
            (Some((900, clean)), Some(exact(1_000)), (1_000, clean)),
            (Some((900, unclean)), Some(exact(1_000)), (1_000, clean)),
            // Something later may have been lost, unless the file was clean.
            (None, Some(inexact(1_000)), (1_000, unclean)),
            (Some((900, unclean)), Some(inexact(1_000)), (1_000, unclean)),
            (Some((900, clean)), Some(inexact(1_000)), (1_000, clean)),
            // A number never falls.
            (Some((900, clean)), Some(exact(800)), (900, clean)),
            (Some((900, unclean)), Some(inexact(800)), (900, unclean)),
        ];
        let content = |(floor, clean)| Saved { floor: UnixSeconds(floor), clean };
        for (row, (before, greatest, after)) in table.into_iter().enumerate() {
            let read = before.map(content);
            let hour = Duration::from_hours(1);
            let saver = Saver::start(path.clone(), read, hour, |error| panic!("{error}")).unwrap();
            let number = before.map_or(0, |(floor, _)| floor);
            assert_eq!(Saved::read(&path).unwrap(), Some(content((number, unclean))), "row {row}");
            saver.finish(greatest).unwrap();
            assert_eq!(Saved::read(&path).unwrap(), Some(content(after)), "row {row}");
        }
    }

    #[test]
    fn a_floor_is_implausible_more_than_a_day_and_the_widest_window_ahead_of_the_clock() {
        let (now, widest) = (UnixSeconds(1_000), Window::from_secs(10));
        for (floor, is_plausible) in [(0, true), (87_410, true), (87_411, false), (u64::MAX, false)] {
            let problem = implausible(UnixSeconds(floor), now, widest);
            assert_eq!(problem.is_none(), is_plausible, "{floor}");
            assert!(problem.is_none_or(|text| text.contains("pkdd reset-floor")));
        }
        assert_eq!(implausible(UnixSeconds(u64::MAX), UnixSeconds(u64::MAX), widest), None);
    }

    #[test]
    fn the_interval_between_writes_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floor");
        let hour = Duration::from_hours(1);
        let saver = Saver::start(path.clone(), None, hour, |error| panic!("{error}")).unwrap();
        let written = || Saved::read(&path).unwrap().map(|saved| saved.floor.0);
        saver.save(Some(exact(1)));
        let limit = Instant::now() + Duration::from_secs(20);
        while written() == Some(0) {
            assert!(Instant::now() < limit, "nothing was written");
            thread::yield_now();
        }
        let first = written();
        (2..100).for_each(|time| saver.save(Some(exact(time))));
        saver.finish(Some(exact(100))).unwrap();
        assert_eq!((first, written()), (Some(1), Some(100)));
    }

    #[test]
    fn a_floor_that_is_not_greater_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floor");
        let (sender, errors) = mpsc::channel();
        let on_error = move |error: &io::Error| sender.send(error.to_string()).unwrap();
        let saver = Saver::start(path.clone(), None, Duration::ZERO, on_error).unwrap();
        // Nothing was accepted yet.
        saver.save(None);
        saver.save(Some(exact(5)));
        let limit = Instant::now() + Duration::from_secs(20);
        while Saved::read(&path).unwrap().map(|saved| saved.floor) != Some(UnixSeconds(5)) {
            assert!(Instant::now() < limit, "nothing was written");
            thread::yield_now();
        }
        // From now on every write fails and is reported.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        for floor in [5, 4, 0] {
            saver.save(Some(exact(floor)));
        }
        // The thread ends after it has handled all queued floors.
        assert!(saver.finish(Some(exact(5))).is_err());
        assert_eq!(errors.try_iter().collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn write_errors_are_reported() {
        let (sender, errors) = mpsc::channel();
        assert!(Saver::start("/proc/floor".into(), None, Duration::ZERO, |_| ()).is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floor");
        let on_error = move |error: &io::Error| sender.send(error.to_string()).unwrap();
        let saver = Saver::start(path.clone(), None, Duration::ZERO, on_error).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        saver.save(Some(exact(5)));
        assert!(!errors.recv_timeout(Duration::from_secs(20)).unwrap().is_empty());
        assert!(saver.finish(Some(exact(5))).is_err());
    }
}
