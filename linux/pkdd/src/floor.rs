//! The floor on disk, which survives a reboot. A separate thread writes it, so that no knock waits for the disk.
//!
//! Each key has a floor of its own, so that the holder of a key cannot delay others.
//!
//! The clock may be wrong at a start, and a number from a wrong clock would lock everyone out. So a start does not
//! change the number; only accepted knocks do. Why no replay gets in:
//!
//! - An inexact floor promises nothing. The next boot waits until everything that may have been accepted has left the
//!   widest window. So a start may always make all floors inexact, and does before the first knock is accepted.
//! - An exact floor promises that nothing later was accepted with the key. There are two ways to know that at the end. The
//!   floor was exact at the start, and all that was accepted since is known. Or the greatest accepted time is above the
//!   key's floor of this boot, hence above everything that was lost before it.

mod saved;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use pkd_core::{CacheId, Timestamp, UnixMillis, UnixSeconds, Window};

pub use saved::{Floor, Saved};

use crate::{
    config::{Config, Gate, User, UserRule},
    engine::NewFloor,
    format::{Unit, seconds},
    privileges, run_folder,
};

/// How far a floor may be ahead of the clock, in seconds, besides the widest window.
const DAY: u64 = 86_400;

/// The file of a format in the folder `state`.
#[must_use]
pub fn path<T: Unit>(state: &Path) -> PathBuf {
    state.join(T::FLOOR)
}

/// What is wrong with a floor that is too far ahead of the clock for any honest knock, and what to do.
#[must_use]
pub fn implausible<'a>(
    floors: impl IntoIterator<Item = (&'a str, UnixSeconds)>,
    now: UnixSeconds,
    widest: Window,
) -> Option<String> {
    let latest = now.plus(widest).0.saturating_add(DAY);
    let ahead: Vec<(&str, UnixSeconds)> = floors.into_iter().filter(|(_, floor)| floor.0 > latest).collect();
    let floor = ahead.iter().map(|(_, floor)| floor.0).max()?;
    let users = ahead.iter().map(|(user, _)| *user).collect::<Vec<_>>().join(", ");
    Some(format!(
        "the floor {floor} (Unix time) is more than a day ahead of the clock, and knocks wait until then (of {users}): \
         correct the clock; or, if it was ahead when pkdd started before, stop pkdd, run \"pkdd reset-floor\" and start \
         it"
    ))
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
    let done = [reset_unit::<UnixSeconds>(gate)?, reset_unit::<UnixMillis>(gate)?].join(", ");
    Ok(format!("{done}; after the next start, knocks wait for one window"))
}

/// The same for one format.
fn reset_unit<T: Unit>(gate: &Gate) -> Result<String> {
    let (path, journal) = (path::<T>(&gate.state), run_folder::journal::<T>(&gate.run));
    // Unclean floors are safe without a journal, and a journal is safe with any floor: a kill in between does no harm.
    let written = Saved::<T>::default().write(&path, false);
    written.with_context(|| format!("cannot write {}", path.display()))?;
    match fs::remove_file(&journal) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", journal.display()))
        }
        _ => Ok(format!("reset {} and removed {}", path.display(), journal.display())),
    }
}

/// Writes the floors in a thread.
#[derive(Debug)]
pub struct Saver<T = UnixSeconds> {
    path: PathBuf,
    /// The content of the file at the start.
    read: Saved<T>,
    sender: Sender<(CacheId, T)>,
    thread: JoinHandle<()>,
}

impl<T: Unit> Saver<T> {
    /// Marks the file as unclean, which has to be done before the first knock is accepted, and starts the thread.
    /// `read` is its content, `None` if that is unknown. At least `interval` passes between two writes; errors are
    /// passed to `on_error`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn start(
        path: PathBuf,
        read: Option<Saved<T>>,
        interval: Duration,
        on_error: impl Fn(&io::Error) + Send + 'static,
    ) -> io::Result<Self> {
        let read = read.unwrap_or_default();
        read.write(&path, false)?;
        let (sender, receiver) = mpsc::channel::<(CacheId, T)>();
        let (to, mut newest) = (path.clone(), read.clone());
        let thread = thread::spawn(move || {
            let mut is_due = false;
            let mut next = Instant::now();
            loop {
                let wait =
                    if is_due { next.saturating_duration_since(Instant::now()) } else { Duration::MAX };
                match receiver.recv_timeout(wait) {
                    Ok((key, time)) if time > newest.of(key).time => {
                        newest.raise(key, Floor { time, is_exact: false });
                        is_due = true;
                    }
                    Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                if is_due && Instant::now() >= next {
                    match newest.write(&to, false) {
                        Ok(()) => is_due = false,
                        Err(error) => on_error(&error),
                    }
                    next = Instant::now() + interval;
                }
            }
        });
        Ok(Self { path, read, sender, thread })
    }

    /// The floor that the file had for a key at the start.
    #[must_use]
    pub fn first(&self, key: CacheId) -> T {
        self.read.of(key).time
    }

    /// Queues the time of an accepted knock for the thread. Does not block.
    pub fn save(&self, key: CacheId, time: T) {
        // The thread runs until the sender is dropped.
        let _ = self.sender.send((key, time));
    }

    /// Ends the thread and writes the last floors: what was read at the start, raised by what was accepted since.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self, accepted: &BTreeMap<CacheId, Floor<T>>) -> io::Result<()> {
        drop(self.sender);
        // The thread only writes the file; what it was sent is not greater.
        let _ = self.thread.join();
        let mut last = self.read;
        for (key, floor) in accepted {
            last.raise(*key, *floor);
        }
        last.write(&self.path, true)
    }
}

/// The threads of both formats.
#[derive(Debug)]
pub struct Savers {
    /// Of classic knocks.
    pub classic: Saver<UnixSeconds>,
    /// Of knocks of format 2.
    pub format2: Saver<UnixMillis>,
}

impl Savers {
    /// The floor that the file had for a user's key at the start, in seconds.
    #[must_use]
    pub fn first(&self, user: &User) -> UnixSeconds {
        match user.rule {
            UserRule::Classic(_) => self.classic.first(user.cache),
            UserRule::Format2(_) => seconds(self.format2.first(user.cache)),
        }
    }

    /// Queues the time of an accepted knock. Does not block.
    pub fn save(&self, floor: NewFloor) {
        match floor {
            NewFloor::Classic(key, time) => self.classic.save(key, time),
            NewFloor::Format2(key, time) => self.format2.save(key, time),
        }
    }
}

#[cfg(test)]
mod tests;
