//! A classic gateway, and what its knocks contain.

use pkd_core::{
    Baseline, Key, Knock, KnockParams, Packet, Port, Reason, ReplayCache, Rule, Tag, UnixSeconds, Window,
};

use super::{
    finding::Finding,
    text::{date, time_difference, valid_port},
};
use crate::{hex, model::Format};

/// A simulated gateway.
pub(super) struct Gateway {
    rule: Rule,
    cache: ReplayCache<256>,
}

impl Gateway {
    pub(super) fn new(key: Key, tag: Tag, window: Window) -> Self {
        let start = Baseline::with_memory(UnixSeconds(0));
        Self { rule: Rule::new(key, tag, window), cache: ReplayCache::new(start.floor(window)) }
    }

    /// Whether a holder of the key made this payload, for whatever port.
    pub(super) fn knows(&self, port: Option<Port>, payload: &[u8]) -> bool {
        Knock::parse(payload).is_some_and(|knock| {
            let fits = |port| knock.expected_digest(self.rule.key(), port).matches(&knock.digest());
            valid_port(port, fits).is_some()
        })
    }

    /// Each field and the verdict. `port` is unknown for a bare payload.
    pub(super) fn explain(&mut self, now: UnixSeconds, port: Option<Port>, payload: &[u8]) -> Finding {
        let Some(knock) = Knock::parse(payload) else { return Finding::wrong_length(payload.len()) };
        let (key, tag, window) = (self.rule.key(), self.rule.tag(), self.rule.window());
        let fits = |port: Port| knock.expected_digest(key, port).matches(&knock.digest());
        let valid = valid_port(port, fits);
        let digest = match (valid, port) {
            (Some(valid), None) => format!("valid for this key and port {}", valid.0),
            (Some(valid), Some(given)) if valid == given => {
                format!("valid for this key and port {}", valid.0)
            }
            _ if is_before_1_0(&knock, key, payload) => {
                "valid for this key, in the format before 1.0 without a port; current gateways ignore it"
                    .to_owned()
            }
            (Some(valid), Some(given)) => {
                format!("valid for this key and port {}, not for port {}", valid.0, given.0)
            }
            (None, Some(_)) => "invalid: another key, or altered".to_owned(),
            (None, None) => "invalid for every port: another key, or altered".to_owned(),
        };
        let carried = knock.tag();
        let wrong = if carried == tag { String::new() } else { format!("; the gateway expects {tag}") };
        let mut finding = Finding::new(Format::Classic);
        finding.field("tag", format!("{carried}{wrong}"));
        finding
            .field("time", format!("{}, {}", date(knock.time()), time_difference(knock.time(), now, window)));
        finding.field("nonce", hex::digits(knock.nonce()));
        finding.field("digest", digest);
        let packet = Packet { destination_port: port.or(valid).unwrap_or(Port(1)), payload };
        finding.verdict(self.rule.verify(&mut self.cache, now, &packet), why)
    }
}

fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Length => "wrong length",
        Reason::Tag => "wrong tag, or another format",
        Reason::Window => "time outside the window",
        Reason::Replay => "seen before; or, without a clock, older than the last",
        Reason::Digest | Reason::Filter | Reason::Request => "wrong key, wrong port, or altered",
    }
}

/// Whether this is a knock of before 1.0, whose digest does not cover the port.
fn is_before_1_0(knock: &Knock<'_>, key: &Key, payload: &[u8]) -> bool {
    let params = KnockParams { key, tag: knock.tag(), time: knock.time(), nonce: *knock.nonce() };
    Knock::seal_before_1_0(&params) == payload
}
