//! A clock that can be set, for the daemon alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// The clock of the day, some seconds away from the computer's. Clocks that only run forward are the computer's.
pub(crate) struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that is right, with its files in this folder.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        fs::create_dir(folder)?;
        let (library, file) = (folder.join("clock.so"), folder.join("ahead"));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).arg(&library);
        compiler.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/net/clock.c"));
        ensure!(compiler.status().context("cannot run cc")?.success(), "clock.c is not compiled");
        let clock = Self { library, file };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets the clock, also of a running daemon.
    pub(crate) fn set(&self, ahead: i64) -> Result<()> {
        // Renamed into place: the daemon may read it at any time.
        let unfinished = self.file.with_extension("new");
        fs::write(&unfinished, ahead.to_string())?;
        Ok(fs::rename(unfinished, &self.file)?)
    }

    /// For the daemon.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library.clone()), ("PKD_CLOCK", self.file.clone())]
    }
}
