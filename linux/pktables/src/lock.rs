//! A lock file, held from reading the rules to changing them.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process,
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, ftruncate, open},
    io::Errno,
};

use crate::error::Error;

/// The default lock file.
pub const DEFAULT_PATH: &str = "/run/pktables.lock";

/// How long to wait for another command. Each holds the lock for some milliseconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Holds the lock until it is dropped and the programs that share it have ended.
pub(crate) struct Guard {
    file: File,
}

impl Guard {
    /// A handle for a program that makes a change: if this process is killed, the lock lasts until the change is made. Programs
    /// that other threads start do not inherit it.
    pub(crate) fn share(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

/// Waits for the lock.
pub(crate) fn acquire(path: &Path) -> Result<Guard, Error> {
    let failed = |error: io::Error| Error::Lock { path: path.display().to_string(), error };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = open(path, flags, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH);
    let mut file = File::from(opened.map_err(|errno| failed(errno.into()))?);
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => file = wait(file, path, TIMEOUT)?,
        Err(errno) => return Err(failed(errno.into())),
    }
    // For the message of a command that waits in vain; the lock works without it.
    let named = ftruncate(&file, 0).map_err(io::Error::from).and_then(|()| write!(file, "{}", process::id()));
    named.map_err(failed)?;
    Ok(Guard { file })
}

/// Waits in a thread, because waiting for a file lock has no timeout. After the timeout the thread goes on, and releases
/// the lock as soon as it gets it.
fn wait(file: File, path: &Path, timeout: Duration) -> Result<File, Error> {
    let (sender, receiver) = mpsc::channel();
    let failed = |error: io::Error| Error::Lock { path: path.display().to_string(), error };
    let waiting = thread::Builder::new().spawn(move || {
        let locked = rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive));
        // If the receiver is gone, the lock is released with the file.
        drop(sender.send(locked.map(|()| file)));
    });
    waiting.map_err(failed)?;
    match receiver.recv_timeout(timeout) {
        Ok(locked) => locked.map_err(|errno| failed(errno.into())),
        Err(_) => Err(Error::Locked { path: path.display().to_string(), holder: holder(path) }),
    }
}

fn holder(path: &Path) -> String {
    let process = fs::read_to_string(path).unwrap_or_default();
    let command = PathBuf::from("/proc").join(process.trim()).join("comm");
    let command = fs::read_to_string(command).unwrap_or_default();
    format!("process {} ({})", process.trim(), command.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_names_the_holder() -> Result<(), Error> {
        let path = std::env::temp_dir().join(format!("pktables-lock-{}", process::id()));
        let guard = acquire(&path)?;
        let second = File::options().write(true).open(&path);
        let second = second.map_err(|error| Error::Lock { path: String::new(), error })?;
        let message = wait(second, &path, Duration::from_millis(20)).map(drop).unwrap_err().to_string();
        assert!(message.contains(&format!("process {} (", process::id())), "{message}");
        drop(guard);
        acquire(&path)?;
        fs::remove_file(&path).map_err(|error| Error::Lock { path: String::new(), error })
    }
}
