//! Short values as the command line, ini files, profiles and URIs write them.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use pkd_core::{Port, Tag};

/// Whether the text consists of digits.
pub(crate) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses a tag.
///
/// # Errors
/// The text is not a tag.
pub(crate) fn tag(text: &str) -> Result<Tag> {
    Tag::parse(text).map_err(|error| anyhow!("invalid tag {text:?}: {error}"))
}

/// Parses a port.
///
/// # Errors
/// The text is not a number from 1 to 65535.
pub(crate) fn port(text: &str) -> Result<Port> {
    let number = Some(text).filter(|text| is_number(text)).and_then(|text| text.parse().ok());
    match number {
        Some(port @ 1..) => Ok(Port(port)),
        _ => bail!("invalid port {text:?}: expected 1–65535"),
    }
}

/// Checks a date such as `2027-12-31`. Whether its month has that day is the gateway's to say.
///
/// # Errors
/// The text is something else.
#[cfg(feature = "desktop")]
pub(crate) fn day(text: &str) -> Result<String> {
    let parts: Vec<&str> = text.split('-').collect();
    let is_day = matches!(parts[..], [year, month, day]
        if [(year, 4), (month, 2), (day, 2)].iter().all(|(part, length)| part.len() == *length && is_number(part)));
    anyhow::ensure!(is_day, "invalid date {text:?}: expected one such as 2027-12-31");
    Ok(text.to_owned())
}

/// Parses how long to wait for a port.
///
/// # Errors
/// The text is not a number from 1 to 86400.
pub(crate) fn timeout(text: &str) -> Result<Duration> {
    let number = Some(text).filter(|text| is_number(text)).and_then(|text| text.parse().ok());
    match number {
        Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => bail!("invalid timeout {text:?}: expected 1–86400 seconds"),
    }
}

/// Parses how many hosts to knock at simultaneously.
///
/// # Errors
/// The text is not a number from 1 to 256.
pub(crate) fn parallel(text: &str) -> Result<usize> {
    let number = Some(text).filter(|text| is_number(text)).and_then(|text| text.parse().ok());
    match number {
        Some(number @ 1..=256) => Ok(number),
        _ => bail!("invalid number of parallel hosts {text:?}: expected 1–256"),
    }
}

/// Parses the seconds that a clock is ahead; negative: behind. A clock without battery may be decades off.
///
/// # Errors
/// The text is not a whole number of seconds, or more than a hundred years.
pub(crate) fn time_offset(text: &str) -> Result<i64> {
    const MAX: i64 = 100 * 366 * 86_400;
    match text.parse::<i64>() {
        Ok(seconds) if (-MAX..=MAX).contains(&seconds) => Ok(seconds),
        _ => bail!("invalid time offset {text:?}: expected seconds, at most a hundred years"),
    }
}

/// Checks the name of a profile or service: it must work as a word on the command line, in a URI and as a file name.
///
/// # Errors
/// It contains other characters, or is too long.
pub(crate) fn name(name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !begins || name.len() > 64 || !name.bytes().all(fits) {
        bail!(
            "invalid name {name:?}: use up to 64 letters, digits, - _ or ., and start with a letter, digit or _"
        );
    }
    Ok(())
}
