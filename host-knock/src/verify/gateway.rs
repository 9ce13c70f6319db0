//! A gateway of either format.

use pkd_core::{Key, Port, Tag, UnixSeconds, Window};

use super::{
    classic,
    finding::Finding,
    format2::{self, Ends},
};
use crate::model::Format;

/// A gateway of each format, each with the same key.
pub(super) struct Gateways {
    /// Decides for all knocks, if given.
    format: Option<Format>,
    classic: classic::Gateway,
    format2: format2::Gateway,
}

impl Gateways {
    pub(super) fn new(key: Key, tag: Tag, window: Window, format: Option<Format>) -> Self {
        Self {
            format,
            format2: format2::Gateway::new(&key, tag, window),
            classic: classic::Gateway::new(key, tag, window),
        }
    }

    /// Without a given format, a knock is explained in the one that the key finds in it.
    pub(super) fn explain(
        &mut self,
        now: UnixSeconds,
        port: Option<Port>,
        ends: Ends,
        payload: &[u8],
    ) -> Finding {
        // A classic gateway's answer says as much itself.
        let may_be_classic = || self.format == Some(Format::Two) && self.classic.knows(port, payload);
        let found = if self.format2.knows(port, payload) {
            Some(Format::Two)
        } else {
            may_be_classic().then_some(Format::Classic)
        };
        let expected = self.format.or(found).unwrap_or(Format::Classic);
        let mut finding = if expected == Format::Two {
            self.format2.explain(now, port, ends, payload)
        } else {
            self.classic.explain(now, port, payload)
        };
        if let Some(found) = found.filter(|found| *found != expected) {
            let (found, expected) = (found.as_str(), expected.as_str());
            finding.first_field("format", format!("{found}; the gateway expects {expected}"));
        }
        finding
    }
}
