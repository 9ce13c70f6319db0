//! Files that hold keys.

use std::{
    fs::{File, Metadata},
    io::{self, IsTerminal as _, Read},
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use crate::stderr::Stderr;

/// Bytes; far more than any ini file of this kind has, and little enough to read in one go.
const LIMIT: u64 = 64 * 1024;

/// The text of a file that nobody but its owner should use; warns if others may.
///
/// # Errors
/// It cannot be read, is larger than 64 KiB, or is not UTF-8. The error names the file.
pub(crate) fn read(path: &Path, stderr: Stderr) -> Result<String> {
    read_unless(path, stderr, |_| false)
}

/// The text of a file that is nothing but a key; warns if others may change it.
///
/// # Errors
/// As for [`read`]; and others can read it, unless `allow_insecure`.
pub(crate) fn read_key(path: &Path, stderr: Stderr, allow_insecure: bool) -> Result<String> {
    read_unless(path, stderr, |metadata| !allow_insecure && accessible_by_others(metadata, 0o044))
}

fn read_unless(path: &Path, stderr: Stderr, refused: impl Fn(&Metadata) -> bool) -> Result<String> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    let metadata = file.metadata().with_context(|| format!("cannot read {name}"))?;
    if metadata.is_file() && refused(&metadata) {
        bail!("{name} can be read by others; chmod 600 it, or use --insecure-key-mode");
    }
    if metadata.is_file() && accessible_by_others(&metadata, 0o077) {
        stderr.warn(&format!("{name} can be used by others; chmod 600 it"));
    }
    read_text(file, &name.to_string())
}

/// The same for standard input.
///
/// # Errors
/// As for [`read`]; and where standard input is a terminal, because it would show the key.
pub(crate) fn read_standard_input() -> Result<String> {
    let input = io::stdin();
    if input.is_terminal() {
        bail!("standard input is a terminal and would show the key; leave out --key-file to be asked for it");
    }
    read_text(input.lock(), "standard input")
}

fn read_text(source: impl Read, name: &str) -> Result<String> {
    let mut bytes = Vec::new();
    source.take(LIMIT + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > LIMIT {
        bail!("{name} is larger than 64 KiB");
    }
    let Ok(text) = String::from_utf8(bytes) else {
        bail!("{name} is not UTF-8 text; other bytes of a key are written in hexadecimal after 0x");
    };
    // Editors on Windows begin a file with a mark that is no part of its text.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Whether group or others may do one of these.
#[cfg(unix)]
fn accessible_by_others(metadata: &Metadata, modes: u32) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & modes != 0
}

/// Other systems have no mode to look at.
#[cfg(not(unix))]
fn accessible_by_others(_: &Metadata, _: u32) -> bool {
    false
}
