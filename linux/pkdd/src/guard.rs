//! The guard by itself: the services' ports are closed before the daemon starts, when it cannot start, and after it has
//! stopped. Only `pkdd clear` opens them.
//!
//! A guard needs the sections `gate` and `service` alone. Where the configuration has an error elsewhere, they still
//! count; where they have one themselves, those of the last good configuration do.

use std::{
    env, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    atomic_file::{self, PRIVATE},
    config::{Config, Firewall},
    firewall, run_folder, source,
};

/// The sections of the last good configuration, without keys, in the folder `state`.
const LAST_GOOD: &str = "guard.json";
/// The folder where the configuration does not say so. systemd names that of the unit.
const STATE: &str = "/var/lib/pkdd";
const RUN: &str = "/run/pkdd";

/// What was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The guard of the configuration.
    Current,
    /// The guard of the configuration, which has another error.
    Partly(String),
    /// The guard of the last good configuration, as the present one has an error.
    LastGood(String),
    /// A daemon is running, and guards.
    Running,
}

/// Installs the guard of a configuration file.
///
/// # Errors
/// There is neither a configuration nor a last good one, or the firewall refuses.
pub fn install(path: &Path) -> Result<Guard> {
    let (config, guard) = find(path)?;
    if config.gate.firewall == Firewall::Firewall4 {
        // firewall4's policy is the guard.
        return Ok(guard);
    }
    let run = &config.gate.run;
    run_folder::create(run)?;
    let Some(_lock) = run_folder::lock(run)? else { return Ok(Guard::Running) };
    firewall::open(config.gate.firewall)?.install(&config, &run_folder::service_list(run))?;
    Ok(guard)
}

/// Removes the rules and grants that a daemon left, and with them the guard.
///
/// # Errors
/// A daemon is running, or the firewall refuses.
pub fn clear(path: &Path) -> Result<()> {
    let (config, _) = find(path)?;
    let run = &config.gate.run;
    run_folder::create(run)?;
    let _lock = run_folder::lock(run)?.with_context(|| run_folder::in_use(run))?;
    firewall::open(config.gate.firewall)?.clear(&run_folder::service_list(run))
}

/// The configuration, or what there is of it to guard with.
///
/// # Errors
/// It has an error, and there is no last good one.
pub fn find(path: &Path) -> Result<(Config, Guard)> {
    let error = match source::read(path) {
        Ok(config) => return Ok((config, Guard::Current)),
        Err(error) => error,
    };
    if let Some(config) = services(path) {
        return Ok((config, Guard::Partly(error.to_string())));
    }
    let nothing = || format!("{error}; and there is no last good configuration to guard with");
    Ok((last_good(&state()).with_context(nothing)?, Guard::LastGood(error.to_string())))
}

/// The folder `run` of a configuration, whatever it looks like.
#[must_use]
pub fn run_folder_of(path: &Path) -> PathBuf {
    let found = find(path).map(|(config, _)| config.gate.run);
    found.unwrap_or_else(|_| env::var_os("RUNTIME_DIRECTORY").map_or_else(|| RUN.into(), PathBuf::from))
}

/// The command `pkdd guard`; returns a line about what was done.
///
/// # Errors
/// See [`install`].
pub fn run(path: &Path) -> Result<String> {
    Ok(match install(path)? {
        Guard::Current => "the guard is installed".to_owned(),
        Guard::Partly(error) => format!("the guard is installed, but pkdd cannot run: {error}"),
        Guard::LastGood(error) => {
            format!(
                "the guard of the last good configuration is installed, as the present one has an error: {error}"
            )
        }
        Guard::Running => "a running pkdd guards".to_owned(),
    })
}

/// Keeps the sections that the next guard may need.
///
/// # Errors
/// The file cannot be written.
pub fn remember(path: &Path, state: &Path) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let Some(sections) = Config::guard_sections(&text) else { return Ok(()) };
    let to = state.join(LAST_GOOD);
    match atomic_file::read_to_string(&to) {
        Ok(old) if old == sections => Ok(()),
        _ => {
            let replaced = atomic_file::replace_durably(&to, PRIVATE, sections.as_bytes());
            replaced.with_context(|| format!("cannot write {}", to.display()))
        }
    }
}

/// What can be read of the configuration without its users.
fn services(path: &Path) -> Option<Config> {
    Config::for_guard(&Config::guard_sections(&fs::read_to_string(path).ok()?)?).ok()
}

fn last_good(state: &Path) -> Result<Config> {
    let path = state.join(LAST_GOOD);
    let text = match atomic_file::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("no {}", path.display()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let config = Config::for_guard(&text)?;
    // pkdd's user can write the file, and must not choose where root writes.
    if let (Ok(state), Ok(run)) = (fs::metadata(state), fs::metadata(&config.gate.run))
        && state.uid() != run.uid()
    {
        bail!("{} names the folder {}, which has another owner", path.display(), config.gate.run.display());
    }
    Ok(config)
}

fn state() -> PathBuf {
    let folders = env::var("STATE_DIRECTORY").unwrap_or_default();
    folders.split(':').find(|folder| !folder.is_empty()).unwrap_or(STATE).into()
}
