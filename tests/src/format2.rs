//! The known answers of format 2: `tests/vectors/format2.json`.

use anyhow::{Context, Result, bail};
use pkd_core::{
    Key, Tag, Verdict, Window,
    format2::{Addresses, Bindings, Request, Rule},
};
use serde::Deserialize;

use crate::{bytes, unhex};

/// The whole file.
#[derive(Debug, Deserialize)]
pub struct KnownAnswers {
    /// What a key and a tag become.
    pub derived_keys: Vec<DerivedKeys>,
    /// What a knock becomes.
    pub payloads: Vec<Payload>,
    /// A rule and its replay cache, step by step.
    pub scenarios: Vec<Scenario>,
}

/// Keys of one pair; all in hexadecimal.
#[derive(Debug, Deserialize)]
pub struct DerivedKeys {
    /// 40 bytes.
    pub key_hex: String,
    /// 4 bytes.
    pub tag_hex: String,
    /// 16 bytes.
    pub hint_key: String,
    /// 16 bytes.
    pub mask_key: String,
    /// 16 bytes.
    pub filter_key: String,
    /// 32 bytes.
    pub auth_key: String,
}

/// A knock and its bytes.
#[derive(Debug, Deserialize)]
pub struct Payload {
    /// 40 bytes in hexadecimal.
    pub key_hex: String,
    /// 4 bytes in hexadecimal.
    pub tag_hex: String,
    /// Unix milliseconds.
    pub time_ms: u64,
    /// 12 bytes in hexadecimal.
    pub nonce_hex: String,
    /// UDP destination port.
    pub dst_port: u16,
    /// Whether it is bound to its source.
    pub bind_source: bool,
    /// Whether it is bound to its destination.
    pub bind_destination: bool,
    request: String,
    /// 4 or 16 bytes in hexadecimal.
    pub source_hex: String,
    /// As many.
    pub destination_hex: String,
    /// 56 bytes in hexadecimal.
    pub payload_hex: String,
}

impl Payload {
    /// What the knock asks for.
    ///
    /// # Errors
    /// The request is unknown.
    pub fn request(&self) -> Result<Request> {
        match self.request.as_str() {
            "open" => Ok(Request::Open),
            "close" => Ok(Request::Close),
            other => bail!("unknown request {other:?}"),
        }
    }
}

/// A rule and its replay cache.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    /// The subject of the case.
    pub name: String,
    /// The purpose of the scenario.
    pub why: String,
    /// 4 bytes in hexadecimal.
    pub tag_hex: String,
    /// 40 bytes in hexadecimal.
    pub key_hex: String,
    /// Seconds; 0: no clock.
    pub window: u32,
    /// Capacity of the replay cache.
    pub capacity: usize,
    /// Time of the first start, without a saved floor.
    pub start_ms: u64,
    /// `source`, `destination`.
    pub require: Vec<String>,
    own_addresses_hex: Vec<String>,
    /// The events after the start.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// The rule that the datagrams are checked against.
    ///
    /// # Errors
    /// A field is invalid.
    pub fn rule(&self) -> Result<Rule> {
        Ok(Rule::new(&self.key()?, self.tag()?, self.window(), self.required()?))
    }

    /// The shared key.
    ///
    /// # Errors
    /// A field is invalid.
    pub fn key(&self) -> Result<Key> {
        Ok(Key::from_bytes(bytes(&self.key_hex)?))
    }

    /// The tag.
    ///
    /// # Errors
    /// A field is invalid.
    pub fn tag(&self) -> Result<Tag> {
        Ok(Tag(bytes(&self.tag_hex)?))
    }

    /// The window.
    #[must_use]
    pub fn window(&self) -> Window {
        Window::from_secs(self.window)
    }

    /// The addresses that knocks must be bound to.
    ///
    /// # Errors
    /// A field is invalid.
    pub fn required(&self) -> Result<Bindings> {
        let mut require = Bindings::NONE;
        for address in &self.require {
            require = require
                | match address.as_str() {
                    "source" => Bindings::SOURCE,
                    "destination" => Bindings::DESTINATION,
                    other => bail!("unknown binding {other:?}"),
                };
        }
        Ok(require)
    }

    /// The gateway's addresses outside of NAT.
    ///
    /// # Errors
    /// A field is invalid.
    pub fn own_addresses(&self) -> Result<Vec<Vec<u8>>> {
        self.own_addresses_hex.iter().map(|digits| unhex(digits)).collect()
    }
}

/// An event.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Step {
    /// The verifier restarts.
    Restart {
        /// The clock at the restart, Unix milliseconds.
        restart: u64,
        /// The saved floor; without one, the verifier waits for one window.
        saved_floor_ms: Option<u64>,
    },
    /// A datagram arrives.
    Datagram {
        /// The verifier's clock, Unix milliseconds.
        now_ms: u64,
        /// UDP destination port.
        dst_port: u16,
        /// 4 or 16 bytes in hexadecimal.
        source_hex: String,
        /// As many.
        destination_hex: String,
        /// The bytes after the UDP header.
        payload_hex: String,
        /// `Open`, `Close`, or the reason to ignore the datagram.
        verdict: String,
    },
}

/// All of the file.
///
/// # Errors
/// The file is invalid.
pub fn known_answers() -> Result<KnownAnswers> {
    serde_json::from_str(include_str!("../vectors/format2.json")).context("format2.json")
}

/// Calls `with` with addresses in hexadecimal.
///
/// # Errors
/// They are not two addresses of one family.
pub fn with_addresses<R>(
    source: &str,
    destination: &str,
    with: impl FnOnce(&Addresses<'_>) -> R,
) -> Result<R> {
    Ok(if source.len() == 8 {
        with(&Addresses::V4 { source: &bytes(source)?, destination: &bytes(destination)? })
    } else {
        with(&Addresses::V6 { source: &bytes(source)?, destination: &bytes(destination)? })
    })
}

/// The name of a verdict in the file.
#[must_use]
pub fn word(verdict: Verdict) -> String {
    match verdict {
        Verdict::Accept => "Open".to_owned(),
        other => crate::word(other),
    }
}
