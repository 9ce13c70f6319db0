//! Files of the service.

use std::{fmt::Write as _, fs::DirBuilder, io, os::unix::fs::DirBuilderExt as _, path::Path};

use anyhow::{Context, Result};

use crate::atomic_file::{self, PRIVATE};

/// Bytes as digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// Replaces a file that only root may read, and makes its folder.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    let replace = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        atomic_file::replace_durably(path, PRIVATE, text.as_bytes())
    };
    replace().with_context(|| format!("cannot write {}", path.display()))
}
