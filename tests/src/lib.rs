//! The known answers of `tests/vectors/`, for every door to be held against.

use anyhow::{Context, Result};
use pkd_core::{Key, Rule, Tag, Verdict, Window};
use serde::Deserialize;

/// Known payloads: `tests/vectors/classic.json`.
#[derive(Debug, Deserialize)]
pub struct Payload {
    /// What it shows.
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

/// One rule and its cache, step by step: `tests/vectors/verdicts.json`.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    /// What it shows.
    pub name: String,
    /// What it is for.
    pub why: String,
    tag_hex: String,
    key_hex: String,
    window: u32,
    /// Entries that the replay cache holds. Scenario files use the older word.
    #[serde(rename = "guard_capacity")]
    pub cache_capacity: usize,
    /// When the verifier started, without memory.
    pub start: u64,
    /// What happens then.
    pub steps: Vec<Step>,
}

/// One thing that happens to a verifier.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Step {
    /// It is started anew.
    Restart {
        /// The clock then, Unix seconds.
        restart: u64,
        /// The memory it starts with; none: it has to wait.
        saved_floor: Option<u64>,
    },
    /// A datagram comes in.
    Datagram {
        /// The verifier's clock, Unix seconds.
        now: u64,
        /// UDP destination port.
        dst_port: u16,
        /// What is behind the UDP header.
        payload_hex: String,
        /// `Accept`, or the reason to ignore it.
        verdict: String,
    },
}

impl Scenario {
    /// The rule that the datagrams are held against.
    ///
    /// # Errors
    /// If the file does not hold what it should.
    pub fn rule(&self) -> Result<Rule> {
        Ok(Rule {
            key: Key::from_bytes(bytes(&self.key_hex)?),
            tag: Tag(bytes(&self.tag_hex)?),
            window: Window::from_secs(self.window),
        })
    }
}

/// All of `tests/vectors/classic.json`.
///
/// # Errors
/// If the file does not hold what it should.
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
/// If the file does not hold what it should.
pub fn scenarios() -> Result<Vec<Scenario>> {
    #[derive(Deserialize)]
    struct File {
        scenarios: Vec<Scenario>,
    }
    let file: File =
        serde_json::from_str(include_str!("../vectors/verdicts.json")).context("verdicts.json")?;
    Ok(file.scenarios)
}

/// The bytes behind hexadecimal digits, two a byte.
///
/// # Errors
/// If there are others than digits, or an odd number of them.
pub fn unhex(digits: &str) -> Result<Vec<u8>> {
    anyhow::ensure!(
        digits.len().is_multiple_of(2) && digits.is_ascii(),
        "no bytes in hexadecimal: {digits:?}"
    );
    (0..digits.len())
        .step_by(2)
        .map(|at| {
            u8::from_str_radix(&digits[at..at + 2], 16).with_context(|| format!("no digits: {digits:?}"))
        })
        .collect()
}

/// [`unhex`] where the number of bytes is known.
///
/// # Errors
/// As [`unhex`], and if the number is another.
pub fn bytes<const N: usize>(digits: &str) -> Result<[u8; N]> {
    unhex(digits)?.try_into().map_err(|_| anyhow::anyhow!("not {N} bytes: {digits:?}"))
}

/// The word that the vectors use for a verdict.
#[must_use]
pub fn word(verdict: Verdict) -> String {
    match verdict {
        Verdict::Accept => "Accept".to_owned(),
        Verdict::Ignore(reason) => format!("{reason:?}"),
    }
}
