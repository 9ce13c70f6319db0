//! `keygen` and `sign`: keys for updates, and signed images.

use std::{fs, path::Path};

use anyhow::{Context, Result, anyhow, ensure};
use pkd_board::Board;
use pkd_gateway::update::{self, Version};

use crate::{hex, key_file, output};

/// Makes a key, and returns what to put into the configuration. Never replaces a file: without the old key, gateways that know it
/// can be updated only by a cable.
pub(crate) fn keygen(to: &Path) -> Result<String> {
    ensure!(!to.exists(), "{} exists: remove it, or choose another name", to.display());
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("no random numbers: {error}"))?;
    output::write(to, format!("{}\n", hex::format(&seed)).as_bytes())?;
    Ok(format!("[update]\nkey = \"{}\"\n", hex::format(&update::public_key(&seed))))
}

/// Puts a signed header in front of an image.
pub(crate) fn sign(key: &Path, board: &Board, version: &str, image: &Path) -> Result<Vec<u8>> {
    let name = board.name;
    let layout = board.updates.with_context(|| format!("{name} takes no updates over the network"))?;
    let seed = hex::parse(&key_file::read(key)?)
        .with_context(|| format!("{}: not a key that keygen has made", key.display()))?;
    let version = Version::parse(version)
        .with_context(|| format!("invalid version {version:?}: expected three numbers, for example 0.1.0"))?;
    let bytes = fs::read(image).with_context(|| image.display().to_string())?;
    let image = image.display();
    ensure!(!bytes.starts_with(b"\x7fELF"), "{image}: an ELF file: expected the .bin beside it");
    let limit = layout.image_bytes;
    ensure!(bytes.len() <= usize::try_from(limit)?, "{image}: too long: {name} has room for {limit} bytes");
    let header =
        update::sign(&seed, name, version, &bytes).with_context(|| format!("{image}: it is empty"))?;
    Ok([&header[..], &bytes].concat())
}
