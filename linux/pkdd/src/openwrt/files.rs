//! Files of the service.

use std::{fmt::Write as _, fs::DirBuilder, io, os::unix::fs::DirBuilderExt as _, path::Path};

use anyhow::{Context, Result};

use crate::atomic_file::{self, PRIVATE, PUBLIC};

/// Bytes as digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// Replaces a file that only root may read, and makes its folder.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    replace(path, (0o700, PRIVATE), text)
}

/// Replaces a file that everyone may read, and makes its folder.
pub(super) fn write_public(path: &Path, text: &str) -> Result<()> {
    replace(path, (0o755, PUBLIC), text)
}

fn replace(path: &Path, (folder_mode, mode): (u32, u32), text: &str) -> Result<()> {
    let replace = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(folder_mode).create(folder)?;
        }
        atomic_file::replace_durably(path, mode, text.as_bytes())
    };
    replace().with_context(|| format!("cannot write {}", path.display()))
}
