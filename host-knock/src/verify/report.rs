//! The findings, as text or JSON.

use std::{fmt::Write as _, net::IpAddr};

use pkd_core::{Port, UnixSeconds};
use serde_json::{Map, Value, json};

use super::finding::Finding;

/// All that is printed.
#[derive(Default)]
pub(crate) struct Report {
    knocks: Vec<Entry>,
    /// UDP datagrams of a capture; `None`: it was not a capture.
    datagrams: Option<usize>,
    /// What could not be read, a sentence each.
    unread: Vec<String>,
}

/// A knock, and what is made of it.
pub(super) struct Entry {
    pub(super) origin: Origin,
    /// The port that it was sent to, if known.
    pub(super) port: Option<Port>,
    /// `Err`: why there is no finding.
    pub(super) finding: Result<Finding, String>,
}

/// Where a knock was found.
pub(super) enum Origin {
    Payload,
    Line { number: usize, host: Option<String> },
    Packet { number: u64, time: Option<UnixSeconds>, source: IpAddr, destination: IpAddr },
}

impl Report {
    pub(super) fn of_capture(datagrams: usize, unread: Vec<String>) -> Self {
        Self { knocks: Vec::new(), datagrams: Some(datagrams), unread }
    }

    pub(super) fn add(&mut self, entry: Entry) {
        self.knocks.push(entry);
    }

    fn accepted(&self) -> usize {
        self.knocks.iter().filter(|entry| entry.is_accepted()).count()
    }

    /// Whether a gateway would accept all knocks, and there is one.
    pub(crate) fn is_accepted(&self) -> bool {
        !self.knocks.is_empty() && self.accepted() == self.knocks.len()
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for entry in &self.knocks {
            text.push_str(&entry.head(self.knocks.len() == 1));
            // Writing to a String cannot fail.
            let _ = match &entry.finding {
                Ok(finding) => write!(text, "{finding}"),
                Err(problem) => writeln!(text, "verdict  none: {problem}"),
            };
        }
        let (knocks, accepted) = (self.knocks.len(), self.accepted());
        let _ = match self.datagrams {
            Some(datagrams) => writeln!(
                text,
                "{datagrams} UDP datagrams, {knocks} with the length of a knock, {accepted} accepted"
            ),
            None if knocks > 1 => writeln!(text, "{knocks} knocks, {accepted} accepted"),
            None => Ok(()),
        };
        for problem in &self.unread {
            let _ = writeln!(text, "{problem}");
        }
        text
    }

    /// `damage`: why the rest of a capture cannot be read.
    pub(crate) fn json(&self, damage: Option<&anyhow::Error>) -> Value {
        json!({
            "accepted": self.is_accepted(),
            "knocks": self.knocks.iter().map(Entry::json).collect::<Vec<_>>(),
            "datagrams": self.datagrams,
            "unread": self.unread,
            "error": damage.map(|error| format!("{error:#}")),
        })
    }
}

impl Entry {
    fn is_accepted(&self) -> bool {
        self.finding.as_ref().is_ok_and(Finding::is_accepted)
    }

    /// The line before the fields, if any.
    fn head(&self, is_only_one: bool) -> String {
        let port = self.port.map_or(String::new(), |port| format!(" port {}", port.0));
        match &self.origin {
            Origin::Line { number, host: Some(host) } => format!("line {number}, to {host}{port}\n"),
            Origin::Line { number, host: None } if !is_only_one => format!("line {number}\n"),
            Origin::Packet { number, time, source, .. } => {
                let now = if time.is_none() { "; the capture has no time for it" } else { "" };
                format!("packet {number}, from {source} to{port}{now}\n")
            }
            Origin::Payload | Origin::Line { .. } => String::new(),
        }
    }

    fn json(&self) -> Value {
        let mut object = Map::new();
        let (line, packet, host, time, ends) = match &self.origin {
            Origin::Payload => (None, None, None, None, None),
            Origin::Line { number, host } => (Some(number), None, host.as_deref(), None, None),
            Origin::Packet { number, time, source, destination } => {
                (None, Some(number), None, *time, Some((source.to_string(), destination.to_string())))
            }
        };
        let (source, destination) = ends.unzip();
        let place: [(&str, Value); 7] = [
            ("line", line.copied().into()),
            ("packet", packet.copied().into()),
            ("time", time.map(|time| time.0).into()),
            ("host", host.into()),
            ("source", source.into()),
            ("destination", destination.into()),
            ("port", self.port.map(|port| port.0).into()),
        ];
        object.extend(place.map(|(name, value)| (name.to_owned(), value)));
        match &self.finding {
            Ok(finding) => object.extend(finding.json()),
            Err(problem) => {
                let none = json!({
                    "format": null, "fields": {}, "verdict": "none", "reason": problem, "accepted": false,
                });
                object.extend(none.as_object().cloned().unwrap_or_default());
            }
        }
        object.into()
    }
}
