//! Where a key comes from: a file, standard input, the command line, the terminal.
//!
//! No error here repeats a part of a key.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use pkd_core::Key;

#[cfg(feature = "desktop")]
use crate::hex;
use crate::{model::KeySource, secret_file, stderr::Stderr, terminal};

/// The key in a file: one line, with or without its line end. `-` is standard input.
///
/// # Errors
/// The file cannot be read, others can read it and `allow_insecure` is not set, or its text is no key; the
/// error names the file.
pub(crate) fn from_file(path: &Path, stderr: Stderr, allow_insecure: bool) -> Result<Key> {
    let (name, text) = if path.as_os_str() == "-" {
        ("standard input".to_owned(), secret_file::read_standard_input()?)
    } else {
        (path.display().to_string(), secret_file::read_key(path, stderr, allow_insecure)?)
    };
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    parse(line, &format!("key in {name}"))
}

/// The key of a profile; `None`: the terminal has to be asked for it.
///
/// # Errors
/// It cannot be had from where the profile says that it is.
pub(crate) fn from_source(
    source: &KeySource,
    #[cfg_attr(not(feature = "desktop"), expect(unused_variables, reason = "only questions name it"))]
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

/// The key on the command line, with a warning, because `ps` shows it to everyone.
///
/// # Errors
/// The text is no key.
pub(crate) fn from_argument(text: &str, stderr: Stderr) -> Result<Key> {
    stderr.warn("a key on the command line can be seen by every user of this computer; use --key-file");
    parse(text, "key of --key")
}

/// The key that somebody types on the terminal, which does not show it. `purpose` says what for.
///
/// # Errors
/// There is no terminal, the input ends, or the text is no key.
pub(crate) fn from_prompt(purpose: &str) -> Result<Key> {
    let text = terminal::ask(&format!("Key for {purpose}: "))
        .with_context(|| format!("no key for {purpose}, use --key-file; cannot ask on the terminal"))?;
    parse(&text, "key")
}

/// The key in hexadecimal after `0x`, without the zero bytes that fill it.
#[cfg(feature = "desktop")]
pub(crate) fn to_text(key: &Key) -> String {
    let bytes = key.as_bytes();
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    format!("0x{}", hex::digits(bytes.get(..length).unwrap_or(bytes)))
}

/// Reads a key in text form; errors call it `name`.
///
/// # Errors
/// The text is no key.
pub(crate) fn parse(text: &str, name: &str) -> Result<Key> {
    if text.contains(['\n', '\r']) {
        bail!("{name} has more than one line");
    }
    if text.contains('\0') {
        bail!("{name} has a NUL byte; such keys are written in hexadecimal after 0x");
    }
    Key::parse(text).map_err(|error| anyhow::anyhow!("{name} {error}"))
}
