//! `keygen` and `sign`: keys for updates, and signed images.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result, ensure};
use pkd_gateway::update::{self, Version};

use crate::{hex, private_file};

/// Makes a key, and returns what to put into the configuration. Never replaces a file: without the old key, gateways that know it
/// can be updated only by a cable.
pub(crate) fn keygen(to: &Path) -> Result<String> {
    ensure!(!to.exists(), "{} exists: remove it, or choose another name", to.display());
    let mut seed = [0; 32];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").context("/dev/urandom")?, &mut seed)?;
    private_file::write(to, format!("{}\n", hex::format(&seed)).as_bytes())?;
    Ok(format!("[update]\nkey = \"{}\"\n", hex::format(&update::public_key(&seed))))
}

/// Puts a signed header in front of an image.
pub(crate) fn sign(key: &Path, board: &str, version: &str, image: &Path) -> Result<Vec<u8>> {
    let context = || key.display().to_string();
    let mode = fs::metadata(key).with_context(context)?.permissions().mode();
    ensure!(mode.trailing_zeros() >= 6, "{}: accessible by others; run chmod 600", key.display());
    let seed = hex::parse(&fs::read_to_string(key).with_context(context)?)
        .with_context(|| format!("{}: not a key that keygen has made", key.display()))?;
    let version = Version::parse(version)
        .with_context(|| format!("invalid version {version:?}: expected three numbers, for example 0.1.0"))?;
    let bytes = fs::read(image).with_context(|| image.display().to_string())?;
    ensure!(
        !bytes.starts_with(b"\x7fELF"),
        "{}: an ELF file: convert it with objcopy -O binary first",
        image.display()
    );
    let header = update::sign(&seed, board, version, &bytes).with_context(|| {
        format!("{}: it is empty, or the name of the board is longer than 16 bytes", image.display())
    })?;
    Ok([&header[..], &bytes].concat())
}
