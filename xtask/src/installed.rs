//! Programs from the crate registry, each of a fixed version, built once for all clones.

use crate::prelude::*;

/// Where the program of the crate `name` is; built first if it is not in the cache.
pub(crate) fn program(name: &str, version: &str) -> Result<PathBuf> {
    let folder = cache::entry(name, &[version], |unfinished, _| {
        progress!("building {name}, which takes some minutes");
        let target = unfinished.join("target");
        cmd!("{CARGO} install --quiet --locked --version {version} --root {unfinished} --target-dir {target} {name}")
            .quiet()?;
        Ok(fs::remove_dir_all(target)?)
    })?;
    Ok(folder.join("bin").join(name))
}
