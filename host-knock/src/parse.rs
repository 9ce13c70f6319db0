//! The small texts that an argument and an ini file have in common.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use pkd_core::{Port, Tag};

/// Whether the text is digits only.
pub(crate) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads a tag.
///
/// # Errors
/// The text is no tag.
pub(crate) fn tag(text: &str) -> Result<Tag> {
    Tag::parse(text).map_err(|error| anyhow!("tag {text:?} {error}"))
}

/// Reads a destination port.
///
/// # Errors
/// The text is no number of 1 to 65535.
pub(crate) fn port(text: &str) -> Result<Port> {
    let number = Some(text).filter(|text| is_number(text)).and_then(|text| text.parse().ok());
    match number {
        Some(port @ 1..) => Ok(Port(port)),
        _ => bail!("port {text:?} is no number of 1 to 65535"),
    }
}

/// Reads how long to wait.
///
/// # Errors
/// The text is no number of 1 to 86400.
pub(crate) fn timeout(text: &str) -> Result<Duration> {
    let number = Some(text).filter(|text| is_number(text)).and_then(|text| text.parse().ok());
    match number {
        Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => bail!("timeout {text:?} is no number of seconds, 1 to 86400"),
    }
}

/// Reads how many hosts are knocked at at the same time.
///
/// # Errors
/// The text is no number of 1 to 256.
pub(crate) fn parallel(text: &str) -> Result<usize> {
    let number = Some(text).filter(|text| is_number(text)).and_then(|text| text.parse().ok());
    match number {
        Some(number @ 1..=256) => Ok(number),
        _ => bail!("number {text:?} of hosts at the same time is none of 1 to 256"),
    }
}

/// Reads how far a clock is ahead; negative: behind. A hundred years are enough for a clock without battery.
///
/// # Errors
/// The text is no such number of seconds.
pub(crate) fn time_offset(text: &str) -> Result<i64> {
    const MOST: i64 = 100 * 366 * 86_400;
    match text.parse::<i64>() {
        Ok(seconds) if (-MOST..=MOST).contains(&seconds) => Ok(seconds),
        _ => bail!("time offset {text:?} is no number of seconds, of at most a hundred years"),
    }
}

/// The name of a profile or of a service becomes a word on the command line and a part of a URI or a file's name.
///
/// # Errors
/// It has other letters than that allows.
pub(crate) fn name(name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !begins || name.len() > 64 || !name.bytes().all(fits) {
        bail!("name {name:?} does not fit: letters, digits, and inside also - . _, at most 64 of them");
    }
    Ok(())
}
