//! Where the platform keeps a program's configuration.

use std::{env, path::PathBuf};

#[cfg(not(windows))]
use super::home;

/// The file of the profiles.
pub(crate) fn config_file() -> Option<PathBuf> {
    Some(folder()?.join("config.toml"))
}

/// `$XDG_CONFIG_HOME/knock`, or `~/.config/knock` (XDG Base Directory Specification 0.8: a path that is not absolute
/// does not count).
#[cfg(not(any(windows, target_os = "macos")))]
pub(crate) fn folder() -> Option<PathBuf> {
    let given = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(given.or_else(|| Some(home()?.join(".config")))?.join("knock"))
}

/// `~/Library/Application Support/knock`.
#[cfg(target_os = "macos")]
pub(crate) fn folder() -> Option<PathBuf> {
    Some(home()?.join("Library/Application Support/knock"))
}

/// `%APPDATA%\knock`, the roaming one.
#[cfg(windows)]
pub(crate) fn folder() -> Option<PathBuf> {
    let given = env::var_os("APPDATA").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(given?.join("knock"))
}
