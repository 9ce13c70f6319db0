//! The iptables extension, driven through libxtables as iptables drives it, without a kernel.

mod harness;
mod key_file;
mod options;
mod random;
mod saved;
mod texts;

use std::fs;

use anyhow::Result;

use crate::harness::{KEY_BYTES, accepted, built, drive, filled};

#[test]
fn each_revision_gives_the_kernel_its_own_layout() -> Result<()> {
    let options = ["--key", "secret"];
    let rule = [filled(b"secret", KEY_BYTES), b"PKD0".to_vec(), 10_u32.to_ne_bytes().to_vec()].concat();
    assert_eq!(accepted(0, &options)?.0.info, rule);
    assert_eq!(accepted(1, &options)?.0.info, filled(&rule, 304));
    let with_format =
        |format, require, request| [filled(&rule, 304), filled(&[format, require, request], 8)].concat();
    assert_eq!(accepted(2, &options)?.0.info, with_format(1, 0, 0));
    // A kernel that serves more than we know gets the highest that we know.
    assert_eq!(accepted(3, &options)?.0.info, with_format(1, 0, 0));
    let close = ["--key", "secret", "--format", "2", "--require", "destination", "--request", "close"];
    assert_eq!(accepted(2, &close)?.0.info, with_format(2, 2, 1));
    Ok(())
}

#[test]
fn the_help_names_every_option_with_its_default_and_limit() -> Result<()> {
    for revision in [0, 1, 2] {
        let (code, output, errors) = drive(revision, &["--help"])?;
        assert_eq!((code, errors.as_str()), (Some(0), ""));
        let help = String::from_utf8(output)?;
        for part in [
            "--key KEY",
            "at most 40 bytes",
            "--key-file PATH",
            "at most 255 bytes",
            "--tag TAG",
            "at most 4 bytes (default PKD0)",
            "--window SECONDS",
            "0 to 4294967295 (default 10)",
            "no clock",
            "--format FORMAT",
            "classic (default), or 2",
            "--require LIST",
            "--request WHAT",
            "0xa1b is a1 b0",
            "ps shows it",
        ] {
            assert!(help.contains(part), "{part} is not in:\n{help}");
        }
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    }
    Ok(())
}

#[test]
fn the_extension_is_smaller_than_16_kib() -> Result<()> {
    let size = fs::metadata(built()?.extension())?.len();
    assert!(size < 16 * 1024, "{size} bytes");
    Ok(())
}
