//! Where the platform keeps a program's configuration.

use std::{env, path::PathBuf};

/// The file with the profiles.
#[cfg(feature = "desktop")]
pub(crate) fn config_file() -> Option<PathBuf> {
    Some(folder()?.join("config.toml"))
}

/// `$XDG_CONFIG_HOME/knock`, or `~/.config/knock` (XDG Base Directory Specification 0.8, which ignores relative paths).
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

/// `%APPDATA%\knock` (roaming).
#[cfg(all(feature = "desktop", windows))]
fn folder() -> Option<PathBuf> {
    let given = env::var_os("APPDATA").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(given?.join("knock"))
}

/// The home directory. A relative one is ignored: the working directory is not a home.
pub(crate) fn home() -> Option<PathBuf> {
    env::home_dir().filter(|home| home.is_absolute())
}
