//! Files that are there whole or not at all, and that only their owner can read.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};

/// Makes a file that must not exist, with mode 0600.
///
/// # Errors
/// It exists, or cannot be written; nothing is left then.
pub(crate) fn create(path: &Path, content: &[u8]) -> Result<()> {
    let name = path.display();
    create_parent(path)?;
    let mut file = options().create_new(true).open(path).with_context(|| format!("cannot make {name}"))?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        // What is half a key must not stay; that it stays is no worse than what is reported.
        let _ = fs::remove_file(path);
    }
    written.with_context(|| format!("cannot write {name}"))
}

/// Puts a file in the place of what is there, at once. A link stays a link.
///
/// # Errors
/// It cannot be written; what was there stays then.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let name = path.display();
    create_parent(path)?;
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let random = getrandom::u32().context("the system gives no random bytes")?;
    let file_name = path.file_name().context("a file without a name")?.to_string_lossy();
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

/// The folder of a file, made where it is missing, for its owner alone.
fn create_parent(path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder).with_context(|| format!("cannot make {}", folder.display()))
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

/// So that the new name outlives a loss of power. Not every system can; the file itself is safe by then.
fn sync_parent(path: &Path) {
    if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
}

/// New files that go again unless all that belongs to them is done.
#[derive(Debug, Default)]
pub(crate) struct NewFiles(Vec<PathBuf>);

impl NewFiles {
    /// Makes a file, as [`create`] does.
    ///
    /// # Errors
    /// As for [`create`].
    pub(crate) fn create(&mut self, path: &Path, content: &[u8]) -> Result<()> {
        create(path, content)?;
        self.0.push(path.to_owned());
        Ok(())
    }

    /// They stay.
    pub(crate) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            // Nothing knows of them; what stands in the way is reported.
            let _ = fs::remove_file(path);
        }
    }
}
