//! A classic gateway, and what its knocks contain.

use std::fmt::Write as _;

use pkd_core::{
    Baseline, Key, Knock, KnockParams, LENGTH, Packet, Port, Reason, ReplayCache, Rule, Tag, UnixSeconds,
    Verdict, Window,
};

use super::text::{date, describe, time_difference, valid_port};
use crate::hex;

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

    /// Writes a line for each field and the verdict; returns whether it is accepted. `port` is unknown for a bare payload.
    pub(super) fn explain(
        &mut self,
        text: &mut String,
        now: UnixSeconds,
        port: Option<Port>,
        payload: &[u8],
    ) -> bool {
        let Some(knock) = Knock::parse(payload) else {
            let _ = writeln!(
                text,
                "length   {} bytes; a knock has {LENGTH}\nverdict  ignore: length",
                payload.len()
            );
            return false;
        };
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
        let _ = writeln!(
            text,
            "tag      {carried}{}",
            if carried == tag { String::new() } else { format!("; the gateway expects {tag}") }
        );
        let _ =
            writeln!(text, "time     {}, {}", date(knock.time()), time_difference(knock.time(), now, window));
        let _ = writeln!(text, "nonce    {}", hex::digits(knock.nonce()));
        let _ = writeln!(text, "digest   {digest}");
        let packet = Packet { destination_port: port.or(valid).unwrap_or(Port(1)), payload };
        let verdict = self.rule.verify(&mut self.cache, now, &packet);
        let _ = writeln!(text, "verdict  {}", describe(verdict, why));
        verdict == Verdict::Accept
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
