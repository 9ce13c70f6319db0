//! What tests share: the known answers in `tests/vectors/`, for the tests of every verifier, and the report of programs that
//! check something in guests and on boards.

pub mod format2;
mod report;

use anyhow::{Context, Result};
use pkd_core::{Key, Rule, Tag, Verdict, Window};
use serde::Deserialize;

pub use report::Report;

/// Known payloads: `tests/vectors/classic.json`.
#[derive(Debug, Deserialize)]
pub struct Payload {
    /// The subject of the case.
    pub name: String,
    /// `classic` or `pre1.0`.
    pub format: String,
    /// 4 bytes in hexadecimal.
    pub tag_hex: String,
    /// 40 bytes in hexadecimal.
    pub key_hex: String,
    /// Unix seconds.
    pub time: u64,
    /// 12 bytes in hexadecimal.
    pub random_hex: String,
    /// UDP destination port.
    pub dst_port: u16,
    /// 56 bytes in hexadecimal.
    pub payload_hex: String,
}

/// A rule and its replay cache, step by step: `tests/vectors/verdicts.json`.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    /// The subject of the case.
    pub name: String,
    /// The purpose of the scenario.
    pub why: String,
    tag_hex: String,
    key_hex: String,
    window: u32,
    /// Capacity of the replay cache. The file keeps the older name.
    #[serde(rename = "guard_capacity")]
    pub cache_capacity: usize,
    /// Time of the first start, without a saved floor.
    pub start: u64,
    /// The events after the start.
    pub steps: Vec<Step>,
}

/// An event.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Step {
    /// The verifier restarts.
    Restart {
        /// The clock at the restart, Unix seconds.
        restart: u64,
        /// The saved floor; without one, the verifier waits for one window.
        saved_floor: Option<u64>,
    },
    /// A datagram arrives.
    Datagram {
        /// The verifier's clock, Unix seconds.
        now: u64,
        /// UDP destination port.
        dst_port: u16,
        /// The bytes after the UDP header.
        payload_hex: String,
        /// The expected verdict: `Accept`, or the reason to ignore the datagram.
        verdict: String,
    },
}

impl Scenario {
    /// The rule that the datagrams are checked against.
    ///
    /// # Errors
    /// A field is invalid.
    pub fn rule(&self) -> Result<Rule> {
        Ok(Rule::new(
            Key::from_bytes(bytes(&self.key_hex)?),
            Tag(bytes(&self.tag_hex)?),
            Window::from_secs(self.window),
        ))
    }
}

/// All of `tests/vectors/classic.json`.
///
/// # Errors
/// The file is invalid.
pub fn payloads() -> Result<Vec<Payload>> {
    #[derive(Deserialize)]
    struct File {
        vectors: Vec<Payload>,
    }
    let file: File = serde_json::from_str(include_str!("../vectors/classic.json")).context("classic.json")?;
    Ok(file.vectors)
}

/// All of `tests/vectors/verdicts.json`.
///
/// # Errors
/// The file is invalid.
pub fn scenarios() -> Result<Vec<Scenario>> {
    #[derive(Deserialize)]
    struct File {
        scenarios: Vec<Scenario>,
    }
    let file: File =
        serde_json::from_str(include_str!("../vectors/verdicts.json")).context("verdicts.json")?;
    Ok(file.scenarios)
}

/// Decodes hexadecimal digits.
///
/// # Errors
/// A character is not a digit, or the number of digits is odd.
pub fn unhex(digits: &str) -> Result<Vec<u8>> {
    anyhow::ensure!(
        digits.len().is_multiple_of(2) && digits.is_ascii(),
        "not bytes in hexadecimal: {digits:?}"
    );
    (0..digits.len())
        .step_by(2)
        .map(|at| {
            u8::from_str_radix(&digits[at..at + 2], 16)
                .with_context(|| format!("not hexadecimal: {digits:?}"))
        })
        .collect()
}

/// Like [`unhex`], for a known number of bytes.
///
/// # Errors
/// See [`unhex`]; or the number of bytes is another.
pub fn bytes<const N: usize>(digits: &str) -> Result<[u8; N]> {
    unhex(digits)?.try_into().map_err(|_| anyhow::anyhow!("not {N} bytes: {digits:?}"))
}

/// The name of a verdict in the vectors.
#[must_use]
pub fn word(verdict: Verdict) -> String {
    match verdict {
        Verdict::Accept => "Accept".to_owned(),
        Verdict::Close => "Close".to_owned(),
        Verdict::Ignore(reason) => format!("{reason:?}"),
    }
}
