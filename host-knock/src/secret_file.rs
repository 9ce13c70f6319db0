//! Files that contain keys.

use std::{
    fs::{File, Metadata},
    io::{self, IsTerminal as _, Read},
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use crate::stderr::Stderr;

/// Maximum size in bytes: far more than any ini file needs, and little enough to read at once.
const LIMIT: u64 = 64 * 1024;

/// Reads a file, and warns if other users have access to it.
///
/// # Errors
/// It cannot be read, is larger than 64 KiB, or is not UTF-8. The error names the file.
pub(crate) fn read(path: &Path, stderr: Stderr) -> Result<String> {
    read_unless(path, stderr, |_| false)
}

/// Reads a key file, and warns if other users can write to it.
///
/// # Errors
/// As for [`read`], or other users can read it and `allow_insecure` is not set.
pub(crate) fn read_key(path: &Path, stderr: Stderr, allow_insecure: bool) -> Result<String> {
    read_unless(path, stderr, |metadata| !allow_insecure && accessible_by_others(metadata, 0o044))
}

fn read_unless(path: &Path, stderr: Stderr, refused: impl Fn(&Metadata) -> bool) -> Result<String> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    let metadata = file.metadata().with_context(|| format!("cannot read {name}"))?;
    if metadata.is_file() && refused(&metadata) {
        bail!("{name}: other users can read it; chmod 600 it, or use --insecure-key-mode");
    }
    if metadata.is_file() && accessible_by_others(&metadata, 0o077) {
        stderr.warn(&format!("{name}: other users can access it; chmod 600 it"));
    }
    read_text(file, &name.to_string())
}

/// Reads standard input.
///
/// # Errors
/// As for [`read`], or standard input is a terminal, which would show the key.
pub(crate) fn read_standard_input() -> Result<String> {
    let input = io::stdin();
    if input.is_terminal() {
        bail!("standard input is a terminal, which would show the key; omit --key-file to be prompted");
    }
    read_text(input.lock(), "standard input")
}

fn read_text(source: impl Read, name: &str) -> Result<String> {
    let mut bytes = Vec::new();
    source.take(LIMIT + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > LIMIT {
        bail!("{name}: larger than 64 KiB");
    }
    let Ok(text) = String::from_utf8(bytes) else {
        bail!("{name}: not UTF-8 text; write other key bytes as 0x and hexadecimal digits");
    };
    // Windows editors write a byte order mark, which is not part of the text.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Whether group or others have one of these permissions.
#[cfg(unix)]
fn accessible_by_others(metadata: &Metadata, modes: u32) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & modes != 0
}

/// Other systems have no mode bits.
#[cfg(not(unix))]
fn accessible_by_others(_: &Metadata, _: u32) -> bool {
    false
}
