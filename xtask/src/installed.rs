//! Programs from the crate registry, each of a fixed version, built once for all clones.

use crate::prelude::*;

/// Where the program of the crate `name` is; built first if it is not in the cache.
pub(crate) fn program(name: &str, version: &str) -> Result<PathBuf> {
    program_with(name, version, &[])
}

/// The same, built with these options of `cargo install`.
pub(crate) fn program_with(name: &str, version: &str, options: &[&str]) -> Result<PathBuf> {
    let folder = cache::entry(name, &[&[version], options].concat(), |unfinished, _| {
        progress!("building {name}, which takes some minutes");
        let target = unfinished.join("target");
        cmd!("{CARGO} install --quiet --locked --version {version} --root {unfinished} --target-dir {target} {options...} {name}")
            .quiet()?;
        Ok(fs::remove_dir_all(target)?)
    })?;
    Ok(folder.join("bin").join(name))
}
