//! `knock share`: a profile and its key for another computer, as a QR code.

use std::{
    io::{self, IsTerminal as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use pkd_uri::QrCode;

use crate::{
    atomic_file, cli, key,
    model::KeySource,
    profile::{config::Config, uri},
    stderr::Stderr,
};

/// Pixels per module of an image.
const SCALE: u32 = 8;

/// Returns the lines to print: the code for a terminal, or nothing if it goes to a file.
///
/// # Errors
/// There is no such profile or key, or standard output is not a terminal: a pipe may be recorded.
pub(crate) fn share(args: &cli::Share) -> Result<String> {
    let config = Config::open_for_update(args.config.as_deref())?;
    let name = &args.name;
    let Some(profile) = config.profile(name).transpose()? else {
        bail!("{}: unknown profile {name:?}", config.path().display())
    };
    if args.png.is_none() && !args.uri {
        ensure!(
            io::stdout().is_terminal(),
            "standard output is not a terminal; use --png FILE, or --uri if others may see the key"
        );
    }
    let stderr = Stderr { quiet: false };
    let key = match &profile.key {
        KeySource::Prompt => bail!("profile {name} has no key; create one with knock keygen {name}"),
        source => key::from_source(source, name, stderr, args.insecure_key_mode)?,
    };
    let text = uri::write(name, &profile, &key.context("no key")?);
    if args.uri {
        return Ok(text);
    }
    let code = QrCode::new(&text).with_context(|| format!("profile {name}"))?;
    match &args.png {
        Some(path) => image(&code, path).map(|()| String::new()),
        None => Ok(code.lines()),
    }
}

/// A greyscale image with 1 bit per pixel.
fn image(code: &QrCode, path: &Path) -> Result<()> {
    let side = code.side() * SCALE;
    let mut rows = Vec::new();
    for y in 0..side {
        let mut row = vec![0_u8; side.div_ceil(8) as usize];
        for x in 0..side {
            if !code.is_dark(x / SCALE, y / SCALE)
                && let Some(byte) = row.get_mut((x / 8) as usize)
            {
                *byte |= 0x80 >> (x % 8);
            }
        }
        rows.extend(row);
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().context("cannot create an image")?;
    writer.write_image_data(&rows).context("cannot create an image")?;
    writer.finish().context("cannot create an image")?;
    atomic_file::create(path, &bytes)
}
