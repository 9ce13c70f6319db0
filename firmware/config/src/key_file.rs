//! Key files.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// The text of a key file, which nobody else may read.
pub(crate) fn read(path: &Path) -> Result<String> {
    let context = || path.display().to_string();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(path).with_context(context)?.permissions().mode();
        // Group and others must not have any permission.
        anyhow::ensure!(
            mode.trailing_zeros() >= 6,
            "{}: accessible by others; run chmod 600",
            path.display()
        );
    }
    fs::read_to_string(path).with_context(context)
}
