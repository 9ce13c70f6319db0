//! Programs from the crate registry, each of a fixed version, built once for all clones.

use std::{fs, path::PathBuf};

use anyhow::Result;

use crate::{cache, run};

/// A program of the crate of the same name.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

impl Program {
    /// Where it lies; built first if it is not in the cache.
    pub(crate) fn path(&self) -> Result<PathBuf> {
        let Self { name, version } = self;
        let folder = cache::entry(name, &[version], |unfinished, _| {
            run::progress(&format!("building {name}, which takes some minutes"));
            let mut cargo = run::command(env!("CARGO"));
            cargo.args(["install", "--quiet", "--locked", "--version", version, "--root"]).arg(unfinished);
            let target = unfinished.join("target");
            run::quiet(cargo.arg("--target-dir").arg(&target).arg(name))?;
            Ok(fs::remove_dir_all(target)?)
        })?;
        Ok(folder.join("bin").join(name))
    }
}
