//! A lock file, held from reading the rules to changing them.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open},
    io::Errno,
};

use crate::error::Error;

/// The default lock file.
pub const DEFAULT_PATH: &str = "/run/pktables.lock";

/// The lock file of the programs of iptables-legacy.
pub(crate) const XTABLES: &str = "/run/xtables.lock";

/// The lock file, and how long to wait.
#[derive(Clone, Debug)]
pub(crate) struct Lock {
    pub(crate) path: PathBuf,
    /// For the lock, and for each program that is run under it. Usually either takes some milliseconds.
    pub(crate) timeout: Duration,
}

impl Default for Lock {
    fn default() -> Self {
        Self { path: DEFAULT_PATH.into(), timeout: Duration::from_secs(30) }
    }
}

/// Holds the lock until it is dropped and the programs that share it have ended.
pub(crate) struct Guard {
    file: File,
    /// See [`Lock::timeout`].
    pub(crate) timeout: Duration,
}

impl Guard {
    /// A handle for a program that makes a change: if this process is killed, the lock lasts until the change is made. Programs
    /// that other threads start do not inherit it.
    pub(crate) fn share(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl Lock {
    /// Waits for the lock.
    pub(crate) fn acquire(&self) -> Result<Guard, Error> {
        let failed = |errno: Errno| self.failed(errno.into());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = open(&self.path, flags, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH);
        let mut file = File::from(opened.map_err(failed)?);
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => file = self.wait(file)?,
            Err(errno) => return Err(failed(errno)),
        }
        Ok(Guard { file, timeout: self.timeout })
    }

    /// Waits in a thread, because waiting for a file lock has no timeout. After the timeout the thread goes on, and releases
    /// the lock as soon as it gets it.
    fn wait(&self, file: File) -> Result<File, Error> {
        let (sender, receiver) = mpsc::channel();
        let waiting = thread::Builder::new().spawn(move || {
            let locked = rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive));
            // If the receiver is gone, the lock is released with the file.
            drop(sender.send(locked.map(|()| file)));
        });
        waiting.map_err(|error| self.failed(error))?;
        match receiver.recv_timeout(self.timeout) {
            Ok(locked) => locked.map_err(|errno| self.failed(errno.into())),
            Err(_) => Err(locked(&self.path)),
        }
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::Lock { path: self.path.display().to_string(), error }
    }
}

/// The error for a lock that another program does not release in time.
pub(crate) fn locked(path: &Path) -> Error {
    let holder = holder(path).unwrap_or_else(|| "another program".to_owned());
    Error::Locked { path: path.display().to_string(), holder }
}

/// The process that holds the lock, as the kernel lists it: `1: FLOCK  ADVISORY  WRITE 4711 00:1a:815 0 EOF`.
fn holder(path: &Path) -> Option<String> {
    let inode = fs::metadata(path).ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let process = locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, process, file) = (words.next()?, words.nth(2)?, words.next()?);
        (kind == "FLOCK" && file.rsplit(':').next() == Some(&inode)).then_some(process)
    })?;
    // 0: a process of another container.
    let command = fs::read_to_string(Path::new("/proc").join(process).join("comm")).ok()?;
    Some(format!("process {process} ({})", command.trim()))
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn a_timeout_names_the_holder() -> Result<(), Error> {
        let path = std::env::temp_dir().join(format!("pktables-lock-{}", process::id()));
        let lock = Lock { path, timeout: Duration::from_millis(20) };
        let guard = lock.acquire()?;
        let message = lock.acquire().map(drop).unwrap_err().to_string();
        assert!(message.contains(&format!("process {} (", process::id())), "{message}");
        drop(guard);
        lock.acquire()?;
        fs::remove_file(&lock.path).map_err(|error| lock.failed(error))
    }
}
