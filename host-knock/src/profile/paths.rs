//! Where the platform keeps a program's configuration.

use std::{env, path::PathBuf};

/// The file of the profiles.
#[cfg(feature = "desktop")]
pub(crate) fn config_file() -> Option<PathBuf> {
    Some(folder()?.join("config.toml"))
}

/// `$XDG_CONFIG_HOME/knock`, or `~/.config/knock` (XDG Base Directory Specification 0.8: a path that is not absolute
/// does not count).
#[cfg(all(feature = "desktop", not(any(windows, target_os = "macos"))))]
fn folder() -> Option<PathBuf> {
    let given = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(given.or_else(|| Some(home()?.join(".config")))?.join("knock"))
}

/// `~/Library/Application Support/knock`.
#[cfg(all(feature = "desktop", target_os = "macos"))]
fn folder() -> Option<PathBuf> {
    Some(home()?.join("Library/Application Support/knock"))
}

/// `%APPDATA%\knock`, the roaming one.
#[cfg(all(feature = "desktop", windows))]
fn folder() -> Option<PathBuf> {
    let given = env::var_os("APPDATA").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(given?.join("knock"))
}

/// Whoever has no absolute home does not live where they stand.
pub(crate) fn home() -> Option<PathBuf> {
    env::home_dir().filter(|home| home.is_absolute())
}
