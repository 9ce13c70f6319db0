//! Without rules of its own, pkdd leaves the guard to the policy of OpenWrt's firewall4.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::source;

/// What was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// firewall4 guards.
    Current,
    /// Only with rules of pkdd's own.
    LastGood(String),
}

/// firewall4 guards already.
///
/// # Errors
/// None.
pub fn install(_: &Path) -> Result<Guard> {
    Ok(Guard::Current)
}

/// Keeps nothing.
///
/// # Errors
/// None.
pub fn remember(_: &Path, _: &Path) -> Result<()> {
    Ok(())
}

/// The folder `run` of a configuration, whatever it looks like.
#[must_use]
pub fn run_folder_of(path: &Path) -> PathBuf {
    source::read(path).map_or_else(|_| "/var/run/pkdd".into(), |config| config.gate.run)
}
