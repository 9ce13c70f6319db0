//! What outlives the daemon: the journals of accepted knocks, and the floors on disk.

use std::{collections::BTreeMap, io};

use anyhow::{Context as _, Result};
use pkd_core::{CacheId, UnixMillis, UnixSeconds};

use crate::{
    caches::Caches,
    config::{Config, Gate},
    engine::FormatCaches,
    floor::{self, Floor, Saved, Saver, Savers},
    format::{Unit, seconds},
    journal::Journal,
    report::log,
    run_folder,
};

/// The caches of both formats as earlier lives left them, and the floors that were saved.
pub(crate) struct Stored {
    caches: FormatCaches,
    floors: Floors,
}

/// What the files with the floors said; `None`: unknown.
pub(crate) struct Floors {
    classic: Option<Saved<UnixSeconds>>,
    format2: Option<Saved<UnixMillis>>,
}

impl Stored {
    /// Reads it.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(crate) fn open(gate: &Gate, config: &Config, now: UnixMillis) -> Result<Self> {
        let classic = open_caches::<UnixSeconds>(gate, config, seconds(now))?;
        let format2 = open_caches::<UnixMillis>(gate, config, now)?;
        Ok(Self {
            caches: FormatCaches { classic: classic.0, format2: format2.0 },
            floors: Floors { classic: classic.1, format2: format2.1 },
        })
    }

    pub(crate) fn into_parts(self) -> (FormatCaches, Floors) {
        (self.caches, self.floors)
    }
}

impl Floors {
    /// Starts the threads that save what the caches accept from now on.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn start_savers(self, gate: &Gate, caches: &FormatCaches) -> Result<Savers> {
        Ok(Savers {
            classic: start_saver(gate, self.classic, caches.classic.greatest())?,
            format2: start_saver(gate, self.format2, caches.format2.greatest())?,
        })
    }
}

/// Starts the thread that saves the floors of a format.
fn start_saver<T: Unit>(
    gate: &Gate,
    before: Option<Saved<T>>,
    greatest: BTreeMap<CacheId, Floor<T>>,
) -> Result<Saver<T>> {
    let state = floor::path::<T>(&gate.state);
    let name = state.display().to_string();
    let on_error = move |error: &io::Error| {
        log(&format!("cannot write {name}: {error}; after a reboot, knocks wait for one window"));
    };
    let saver = Saver::start(state.clone(), before, gate.save, on_error).with_context(|| {
        format!("cannot write {}, which protects from replays after a reboot", state.display())
    })?;
    // A daemon that was killed may not have saved its last ones.
    for (key, floor) in greatest {
        saver.save(key, floor.time);
    }
    Ok(saver)
}

/// Restores the caches of a format from the journal and the saved floor, and returns that floor; `None` if it is unknown.
fn open_caches<T: Unit>(gate: &Gate, config: &Config, now: T) -> Result<(Caches<T>, Option<Saved<T>>)> {
    let (journal, state) = (run_folder::journal::<T>(&gate.run), floor::path::<T>(&gate.state));
    let opened = Journal::open(&journal).with_context(|| format!("cannot open {}", journal.display()))?;
    let saved = match Saved::read(&state) {
        Ok(saved) => saved,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            log(&format!("{} is damaged; knocks wait for one window: {error}", state.display()));
            None
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", state.display())),
    };
    if opened.damaged {
        log(&format!("{} is damaged or of another version; knocks wait for one window", journal.display()));
    }
    let widest = config.widest();
    let start = Saved::start(saved.as_ref(), now, widest);
    let caches = Caches::open(opened, &start, now, widest)
        .with_context(|| format!("cannot write {}", journal.display()))?;
    Ok((caches, saved))
}
