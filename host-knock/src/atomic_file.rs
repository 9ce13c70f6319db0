//! Files that are written whole or not at all, and that only the owner can read.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};

/// Creates a file with mode 0600.
///
/// # Errors
/// It exists already, or cannot be written; nothing is left then.
pub(crate) fn create(path: &Path, content: &[u8]) -> Result<()> {
    let name = path.display();
    create_parent(path)?;
    let mut file = options().create_new(true).open(path).with_context(|| format!("cannot create {name}"))?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key must not stay. If removing fails too, the error below is reported anyway.
        let _ = fs::remove_file(path);
    }
    written.with_context(|| format!("cannot write {name}"))
}

/// Replaces a file atomically. A symbolic link stays a link.
///
/// # Errors
/// It cannot be written; the old file stays then.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let name = path.display();
    create_parent(path)?;
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let random = getrandom::u32().context("cannot get random bytes")?;
    let file_name = path.file_name().context("missing file name")?.to_string_lossy();
    let unfinished = path.with_file_name(format!(".{file_name}.{random:08x}"));
    let write = || -> Result<()> {
        create(&unfinished, content)?;
        if let Ok(metadata) = path.metadata() {
            fs::set_permissions(&unfinished, metadata.permissions())?;
        }
        fs::rename(&unfinished, &path)?;
        Ok(())
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        anyhow!("cannot write {name}: {error:#}")
    })?;
    sync_parent(&path);
    Ok(())
}

/// Creates the directory of a file if it is missing, with mode 0700.
fn create_parent(path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder).with_context(|| format!("cannot create {}", folder.display()))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
}

/// Makes the new name survive a power failure. Not every system can; the content is safe by then.
fn sync_parent(path: &Path) {
    if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
}

/// New files that are removed again when this is dropped before [`NewFiles::keep`].
#[derive(Debug, Default)]
pub(crate) struct NewFiles(Vec<PathBuf>);

impl NewFiles {
    /// Creates a file, as [`create`] does.
    ///
    /// # Errors
    /// As for [`create`].
    pub(crate) fn create(&mut self, path: &Path, content: &[u8]) -> Result<()> {
        create(path, content)?;
        self.0.push(path.to_owned());
        Ok(())
    }

    /// Keeps the files.
    pub(crate) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            // Nothing refers to them, and the error that led here is reported.
            let _ = fs::remove_file(path);
        }
    }
}
