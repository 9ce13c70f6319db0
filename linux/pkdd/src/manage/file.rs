//! The configuration file while a command changes it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use toml_edit::{DocumentMut, Item, Table};

use crate::{
    atomic_file,
    config::Config,
    control::{self, Query},
    run_folder,
};

/// The file, which no other command changes meanwhile.
pub(super) struct ConfigFile {
    path: PathBuf,
    before: String,
    document: DocumentMut,
    _lock: Flock<File>,
}

/// Whether a daemon has taken over what was saved.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It has.
    Over,
    /// None is running.
    ByNobody,
}

impl ConfigFile {
    /// Opens the file, and checks it: what is wrong already is not this command's doing.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let folder = folder(path);
        let file = File::open(&folder).with_context(|| format!("cannot open {}", folder.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| error)
            .with_context(|| format!("cannot lock {}", folder.display()))?;
        let before = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("{} does not exist: run pkdd init first", path.display())
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        crate::source::read(path)?;
        let document = before.parse().with_context(|| format!("cannot parse {}", path.display()))?;
        Ok(Self { path: path.to_owned(), before, document, _lock: lock })
    }

    /// The folder that relative paths are in.
    pub(super) fn folder(&self) -> PathBuf {
        folder(&self.path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The tables of a kind, `service` or `user`; made if there are none.
    pub(super) fn tables(&mut self, kind: &str) -> Result<&mut Table> {
        let item = self.document.entry(kind).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        item.as_table_mut().with_context(|| format!("{}: {kind} is not a table", self.path.display()))
    }

    /// A table of a kind.
    pub(super) fn table(&mut self, kind: &str, name: &str) -> Result<&mut Table> {
        let path = self.path.display().to_string();
        let found = self.tables(kind)?.get_mut(name).and_then(Item::as_table_mut);
        found.with_context(|| format!("{path}: there is no {kind} \"{name}\""))
    }

    /// The configuration as it would be.
    pub(super) fn check(&self) -> Result<Config> {
        Config::parse(&self.document.to_string(), &self.folder())
            .map_err(|error| error.in_file(&self.path.display().to_string()))
            .context("nothing was changed")
    }

    /// Checks and replaces the file, and has the daemon reload it; if that fails, the file is as before.
    pub(super) fn save(self) -> Result<(Config, Taken)> {
        let config = self.check()?;
        self.write(&self.document.to_string())?;
        let socket = run_folder::socket(&config.gate.run);
        let answer = match control::ask(&socket, Query::Reload) {
            Err(error) if is_nobody(&error) => return Ok((config, Taken::ByNobody)),
            answer => answer,
        };
        match answer {
            Ok(answer) if answer == control::RELOADED => Ok((config, Taken::Over)),
            other => {
                self.write(&self.before)?;
                let why = other.unwrap_or_else(|error| format!("pkdd does not answer: {error}"));
                bail!("nothing was changed, because pkdd cannot take it over: {why}")
            }
        }
    }

    fn write(&self, text: &str) -> Result<()> {
        replace(&self.path, text)
    }
}

/// No daemon is there to reload anything.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn folder(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

/// Replaces a file, which keeps its mode and owner.
fn replace(path: &Path, text: &str) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    // A link is followed, so that what it names is replaced.
    let path = fs::canonicalize(path).with_context(cannot)?;
    let old = fs::metadata(&path).with_context(cannot)?;
    atomic_file::replace_durably(&path, old.mode() & 0o777, text.as_bytes()).with_context(cannot)?;
    let new = fs::metadata(&path).with_context(cannot)?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        chown(&path, Some(old.uid()), Some(old.gid())).with_context(cannot)?;
    }
    Ok(())
}
