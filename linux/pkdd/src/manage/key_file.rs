//! New key files.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// A file that goes again unless it is [kept](Self::keep).
pub(super) struct NewKeyFile {
    path: PathBuf,
    is_kept: bool,
}

impl NewKeyFile {
    /// Writes a key of 32 random bytes. Whoever may read the folder's configuration by its group may read the file.
    pub(super) fn create(path: PathBuf, like: &Path) -> Result<Self> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).context("cannot get random bytes")?;
        let digits = bytes.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"));
        let folder = path.parent().context("a file has a folder")?;
        let of = fs::metadata(like).with_context(|| format!("cannot read {}", like.display()))?;
        if !folder.exists() {
            fs::create_dir(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            let mode = if shares_with_group(&of) { 0o750 } else { 0o700 };
            give(folder, mode, &of)
                .with_context(|| format!("cannot set the owner of {}", folder.display()))?;
        }
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = created.with_context(|| format!("cannot create {}", path.display()))?;
        let new = Self { path, is_kept: false };
        let cannot_write = || format!("cannot write {}", new.path.display());
        file.write_all(format!("0x{digits}\n").as_bytes()).with_context(cannot_write)?;
        file.sync_all().with_context(cannot_write)?;
        let mode = if shares_with_group(&of) { 0o640 } else { 0o600 };
        give(&new.path, mode, &of).with_context(cannot_write)?;
        Ok(new)
    }

    /// It stays.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for NewKeyFile {
    fn drop(&mut self) {
        if !self.is_kept {
            // A key that nothing names opens nothing.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the daemon's user reads the configuration as a member of its group.
fn shares_with_group(of: &fs::Metadata) -> bool {
    of.gid() != 0 && of.mode() & 0o040 != 0
}

fn give(path: &Path, mode: u32, of: &fs::Metadata) -> std::io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    let own = fs::metadata(path)?;
    if (own.uid(), own.gid()) != (of.uid(), of.gid()) {
        chown(path, Some(of.uid()), Some(of.gid()))?;
    }
    Ok(())
}
