//! Reading keys from a file, standard input, the command line or the terminal.
//!
//! No error repeats any part of a key.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use pkd_core::Key;

#[cfg(feature = "desktop")]
use crate::hex;
use crate::{model::KeySource, secret_file, stderr::Stderr, terminal};

/// Reads a key file: one line, with or without a line end. `-` is standard input.
///
/// # Errors
/// The file cannot be read, other users can read it and `allow_insecure` is not set, or its text is not a key. The error
/// names the file.
pub(crate) fn from_file(path: &Path, stderr: Stderr, allow_insecure: bool) -> Result<Key> {
    let (name, text) = if path.as_os_str() == "-" {
        ("standard input".to_owned(), secret_file::read_standard_input()?)
    } else {
        (path.display().to_string(), secret_file::read_key(path, stderr, allow_insecure)?)
    };
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    parse(line).context(name)
}

/// Gets the key of a profile; `None`: the user must be prompted for it.
///
/// # Errors
/// It is not where the profile says.
pub(crate) fn from_source(
    source: &KeySource,
    #[cfg_attr(not(feature = "desktop"), expect(unused_variables, reason = "only prompts show the name"))]
    name: &str,
    stderr: Stderr,
    allow_insecure: bool,
) -> Result<Option<Key>> {
    Ok(match source {
        KeySource::Known(key) => Some(key.clone()),
        KeySource::File(path) => Some(from_file(path, stderr, allow_insecure)?),
        #[cfg(feature = "desktop")]
        KeySource::Keyring(entry) => Some(crate::keyring::load(entry)?),
        #[cfg(feature = "desktop")]
        KeySource::Passphrase(salt) => Some(crate::passphrase::prompt(name, salt)?),
        KeySource::Prompt => None,
    })
}

/// Parses `--key`, and warns, because all users can see it with `ps`.
///
/// # Errors
/// The text is not a key.
pub(crate) fn from_argument(text: &str, stderr: Stderr) -> Result<Key> {
    stderr.warn("a key on the command line is visible to all users of this computer; use --key-file");
    parse(text).context("--key")
}

/// Prompts for a key, without echo. `purpose` says what it is for.
///
/// # Errors
/// There is no terminal, the input ends, or the text is not a key.
pub(crate) fn from_prompt(purpose: &str) -> Result<Key> {
    let text = terminal::ask(&format!("Key for {purpose}: ")).with_context(|| {
        format!("no key for {purpose}; use a profile or --key-file; cannot prompt for it")
    })?;
    parse(&text)
}

/// The key in hexadecimal after `0x`, without the zero bytes that fill it.
#[cfg(feature = "desktop")]
pub(crate) fn to_text(key: &Key) -> String {
    let bytes = key.as_bytes();
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    format!("0x{}", hex::digits(bytes.get(..length).unwrap_or(bytes)))
}

/// Parses a key.
///
/// # Errors
/// The text is not a key.
pub(crate) fn parse(text: &str) -> Result<Key> {
    if text.contains(['\n', '\r']) {
        bail!("key has more than one line");
    }
    if text.contains('\0') {
        bail!("key has a NUL byte; write such keys as 0x and hexadecimal digits");
    }
    Key::parse(text).map_err(|error| anyhow::anyhow!("invalid key: {error}"))
}
