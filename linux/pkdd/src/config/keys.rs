//! Keys, from the configuration or from files of their own. No error contains a part of one.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use pkd_core::Key;

use super::error::{Error, Section};

/// A key with fewer bytes can be guessed from one recorded knock.
pub(crate) const WEAK: usize = 16;

/// Parses a key; `file` is where it comes from, or empty.
pub(super) fn parse(section: &Section, option: &str, file: &str, text: &str) -> Result<Key, Error> {
    let what = if file.is_empty() { "invalid key".to_owned() } else { format!("invalid key in {file}") };
    if text.contains(['\n', '\r', '\0']) {
        return Err(section.at(option, format!("{what}: it contains a line break or a NUL byte")));
    }
    Key::parse(text).map_err(|error| section.at(option, format!("{what}: {error}")))
}

/// Reads the only line of a file.
pub(super) fn read(section: &Section, file: &Path, warnings: &mut Vec<String>) -> Result<Key, Error> {
    let name = file.display();
    let text = fs::read_to_string(file)
        .map_err(|error| section.at("key_file", format!("cannot read key_file {name}: {error}")))?;
    if is_loose(file) {
        warnings.push(format!("{name} is accessible to others: run chmod 600 {name}"));
    }
    parse(section, "key_file", &name.to_string(), text.strip_suffix('\n').unwrap_or(&text))
}

/// Whether others than owner and group have access to a file. The group may be that of the daemon's user.
pub(crate) fn is_loose(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

/// Whether only the first few bytes are not padding.
pub(super) fn is_weak(key: &Key) -> bool {
    key.as_bytes().iter().skip(WEAK - 1).all(|byte| *byte == 0)
}
