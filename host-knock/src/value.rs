//! The small texts that an argument and an ini file have in common.

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
