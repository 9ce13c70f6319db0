//! What is kept between clones: `$XDG_CACHE_HOME/pkd`. Every entry is named after its inputs, so
//! an entry that is there is right, and the whole folder may be deleted at any time.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::files;

/// The cache folder, made if it is not there.
pub(crate) fn folder() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|value| Path::new(value).is_absolute())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME says where the cache is")?;
    let folder = base.join("pkd");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The entry `name` made from `inputs`. Where it is missing, `make` fills it in a folder that gets
/// the entry's name only when it is whole; the path that it will have is passed beside it.
pub(crate) fn entry(
    name: &str,
    inputs: &[&str],
    make: impl FnOnce(&Path, &Path) -> Result<()>,
) -> Result<PathBuf> {
    let entry = folder()?.join(format!("{name}-{}", key(inputs)));
    if entry.is_dir() {
        return Ok(entry);
    }
    // Two runs may make the same entry at a time; the first to finish wins.
    let unfinished = folder()?.join(format!("unfinished-{}-{name}", std::process::id()));
    fs::create_dir_all(&unfinished)?;
    let result = make(&unfinished, &entry).and_then(|()| match fs::rename(&unfinished, &entry) {
        Err(error) if !entry.is_dir() => {
            Err(error).with_context(|| format!("cannot keep {}", entry.display()))
        }
        _ => Ok(()),
    });
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    result.map(|()| entry)
}

fn key(inputs: &[&str]) -> String {
    let mut hash = Sha256::new();
    for input in inputs {
        hash.update(input.len().to_le_bytes());
        hash.update(input);
    }
    files::hex(&hash.finalize()[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_named_after_all_of_its_inputs() {
        let keys = [key(&["a", "b"]), key(&["ab"]), key(&["a", "c"]), key(&["b", "a"])];
        for (row, one) in keys.iter().enumerate() {
            assert!(!keys[row + 1..].contains(one), "row {row}");
        }
        assert_eq!(key(&["a", "b"]), keys[0]);
    }
}
