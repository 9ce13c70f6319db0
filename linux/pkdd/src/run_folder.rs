//! The folder `run`: what outlives the process, but not a reboot.

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::{atomic_file, format::Unit};

/// The control socket.
#[must_use]
pub fn socket(run: &Path) -> PathBuf {
    run.join("socket")
}

/// The list of services that have rules.
pub(crate) fn service_list(run: &Path) -> PathBuf {
    run.join("services")
}

/// The journal of accepted knocks of a format.
pub(crate) fn journal<T: Unit>(run: &Path) -> PathBuf {
    run.join(T::JOURNAL)
}

/// Creates a folder that only its owner may enter.
pub(crate) fn create(path: &Path) -> Result<()> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.with_context(|| format!("cannot create {}", path.display()))
}

/// Keeps a second daemon out of the folder: neither would know what the other has accepted. `None`: one is there.
pub(crate) fn lock(run: &Path) -> Result<Option<Flock<File>>> {
    let path = run.join("lock");
    let opened = atomic_file::open_or_create(&path);
    let file = opened.with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EAGAIN)) => Ok(None),
        Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// What to say if [`lock`] is held.
pub(crate) fn in_use(run: &Path) -> String {
    format!("another pkdd is running: {} is locked", run.join("lock").display())
}
