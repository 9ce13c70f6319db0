//! `keygen` and `sign`: keys for updates, and signed images.

use std::{fs, path::Path};

use anyhow::{Context, Result, anyhow, ensure};
use pkd_gateway::update::{self, Identity};

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

/// Puts a signed header in front of an image. Returns the identity that the image contains, and the bytes to send.
pub(crate) fn sign(key: &Path, image: &Path) -> Result<(Identity, Vec<u8>)> {
    let seed = hex::parse(&key_file::read(key)?)
        .with_context(|| format!("{}: not a key that keygen has made", key.display()))?;
    let bytes = fs::read(image).with_context(|| image.display().to_string())?;
    let (identity, header) = signed(&seed, &bytes).with_context(|| image.display().to_string())?;
    Ok((identity, [&header[..], &bytes].concat()))
}

fn signed(seed: &[u8; 32], image: &[u8]) -> Result<(Identity, [u8; update::HEADER_LENGTH])> {
    ensure!(!image.is_empty(), "it is empty");
    ensure!(!image.starts_with(b"\x7fELF"), "an ELF file: expected the .bin beside it");
    let identity = Identity::find(image)
        .context("not an image that a gateway takes over the network: expected BOARD-update.bin")?;
    let name = identity.board();
    let board = pkd_board::find(name).with_context(|| format!("an image for an unknown board \"{name}\""))?;
    let layout = board.updates.with_context(|| format!("{name} takes no updates over the network"))?;
    let limit = layout.image_bytes;
    ensure!(image.len() <= usize::try_from(limit)?, "too long: {name} has room for {limit} bytes");
    Ok((identity, update::sign(seed, &identity, image).context("it cannot be signed")?))
}
