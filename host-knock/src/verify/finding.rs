//! What a gateway makes of a knock.

use std::fmt;

use pkd_core::{LENGTH, Reason, Verdict};
use serde_json::{Map, Value, json};

use crate::model::Format;

/// The fields of a knock and the verdict on it.
pub(super) struct Finding {
    format: Option<Format>,
    /// Names and texts, in the order in which they are printed.
    fields: Vec<(&'static str, String)>,
    verdict: Verdict,
    /// Why it is not accepted, in words.
    why: &'static str,
}

impl Finding {
    /// A knock of this format, whose fields follow.
    pub(super) fn new(format: Format) -> Self {
        Self { format: Some(format), fields: Vec::new(), verdict: Verdict::Ignore(Reason::Length), why: "" }
    }

    /// Not a knock in any format.
    pub(super) fn wrong_length(length: usize) -> Self {
        Self {
            format: None,
            fields: vec![("length", format!("{length} bytes; a knock has {LENGTH}"))],
            verdict: Verdict::Ignore(Reason::Length),
            why: "",
        }
    }

    pub(super) fn field(&mut self, name: &'static str, text: impl Into<String>) {
        self.fields.push((name, text.into()));
    }

    /// A field before all others.
    pub(super) fn first_field(&mut self, name: &'static str, text: impl Into<String>) {
        self.fields.retain(|(other, _)| *other != name);
        self.fields.insert(0, (name, text.into()));
    }

    /// Ends the finding.
    pub(super) fn verdict(mut self, verdict: Verdict, why: impl FnOnce(Reason) -> &'static str) -> Self {
        self.verdict = verdict;
        if let Verdict::Ignore(reason) = verdict {
            self.why = why(reason);
        }
        self
    }

    pub(super) fn is_accepted(&self) -> bool {
        !matches!(self.verdict, Verdict::Ignore(_))
    }

    /// The members that it adds to the object of a knock.
    pub(super) fn json(&self) -> Map<String, Value> {
        let fields: Map<_, _> =
            self.fields.iter().map(|(name, text)| ((*name).to_owned(), text.as_str().into())).collect();
        let (verdict, reason) = match self.verdict {
            Verdict::Accept => ("accept", None),
            Verdict::Close => ("close", None),
            Verdict::Ignore(reason) => ("ignore", Some(reason.as_str())),
        };
        let members = json!({
            "format": self.format.map(Format::as_str),
            "fields": fields,
            "verdict": verdict,
            "reason": reason,
            "accepted": self.is_accepted(),
        });
        members.as_object().cloned().unwrap_or_default()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, text) in &self.fields {
            writeln!(f, "{name:<9}{text}")?;
        }
        match self.verdict {
            Verdict::Ignore(reason) if self.why.is_empty() => writeln!(f, "verdict  ignore: {reason}"),
            Verdict::Ignore(reason) => writeln!(f, "verdict  ignore: {reason}: {}", self.why),
            verdict => writeln!(f, "verdict  {verdict}"),
        }
    }
}
