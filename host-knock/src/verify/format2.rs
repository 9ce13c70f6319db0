//! A gateway of format 2, and what its knocks contain.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use pkd_core::{
    Key, Packet, Port, Reason, ReplayCache, Tag, Timestamp as _, UnixMillis, UnixSeconds, Verdict, Window,
    format2::{Addresses, Bindings, Contents, Knock, Request, Rule},
};

use super::{
    finding::Finding,
    text::{date, time_difference, valid_port},
};
use crate::{
    hex,
    model::{Format, binding_words},
};

/// Where the nonce is, between hint and what is masked.
const NONCE: Range<usize> = 4..16;

/// A simulated gateway.
pub(super) struct Gateway {
    rule: Rule,
    /// With a window that needs hints.
    clocked: Rule,
    cache: ReplayCache<256, UnixMillis>,
}

/// The addresses that a knock was sent between, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    pub(super) source: Option<IpAddr>,
    pub(super) destination: Option<IpAddr>,
}

impl Ends {
    /// An unknown address is one that no knock is bound to.
    fn pair(self) -> (IpAddr, IpAddr) {
        let is_v6 = self.source.or(self.destination).is_some_and(|known| known.is_ipv6());
        let nowhere = if is_v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        (self.source.unwrap_or(nowhere), self.destination.unwrap_or(nowhere))
    }

    /// The bound ones whose address is unknown.
    fn missing(self, bindings: Bindings) -> Vec<&'static str> {
        let ends = [
            (Bindings::SOURCE, "--source", self.source),
            (Bindings::DESTINATION, "--destination", self.destination),
        ];
        let missing = ends.into_iter().filter(|(one, _, known)| bindings.contains(*one) && known.is_none());
        missing.map(|(_, option, _)| option).collect()
    }
}

impl Gateway {
    pub(super) fn new(key: &Key, tag: Tag, window: Window) -> Self {
        Self {
            rule: Rule::new(key, tag, window, Bindings::NONE),
            clocked: Rule::new(key, tag, Window::default(), Bindings::NONE),
            cache: ReplayCache::new(UnixMillis(0)),
        }
    }

    /// Whether a holder of the key made this payload, for whatever port.
    pub(super) fn knows(&self, port: Option<Port>, payload: &[u8]) -> bool {
        Knock::parse(payload).is_some_and(|knock| {
            valid_port(port, |port| knock.filter_matches(self.rule.keys(), port)).is_some()
        })
    }

    /// Each field and the verdict. `port` is unknown for a bare payload.
    pub(super) fn explain(
        &mut self,
        now: UnixSeconds,
        port: Option<Port>,
        ends: Ends,
        payload: &[u8],
    ) -> Finding {
        let Some(knock) = Knock::parse(payload) else { return Finding::wrong_length(payload.len()) };
        let keys = self.rule.keys();
        let valid = valid_port(port, |port| knock.filter_matches(keys, port));
        let now = UnixMillis(now.0.saturating_mul(UnixMillis::PER_SECOND.into()));
        let (source, destination) = ends.pair();
        let contents = knock.open(keys);
        // Of a later version's flags, those that have a meaning.
        let bound = Bindings::from_bits(contents.flags & 3).unwrap_or_default();
        let mut finding = Finding::new(Format::Two);
        finding.field("format", Format::Two.as_str());
        finding.field("nonce", hex::digits(payload.get(NONCE).unwrap_or_default()));
        if valid.is_some() {
            // Without the key, what is under the mask is noise.
            self.add_contents(&mut finding, knock, contents, now);
        }
        let filter = match (valid, port) {
            (Some(valid), Some(given)) if valid != given => {
                format!("valid for this key and port {}, not for port {}", valid.0, given.0)
            }
            (Some(valid), _) => format!("valid for this key and port {}", valid.0),
            (None, _) => "invalid: another key, tag or format, or altered".to_owned(),
        };
        finding.field("filter", filter);
        let packet = Packet { destination_port: port.or(valid).unwrap_or(Port(1)), payload };
        let missing = ends.missing(bound);
        if valid == Some(packet.destination_port) {
            let only = |one, address| if bound.contains(one) { octets(address) } else { Vec::new() };
            let (to, from) = (only(Bindings::DESTINATION, destination), only(Bindings::SOURCE, source));
            let is_valid = knock.auth_matches(keys, packet.destination_port, [&to, &from]);
            let auth = match (is_valid, missing.is_empty()) {
                (true, _) => "valid".to_owned(),
                (_, false) => format!("unknown: it is bound to addresses; give {}", missing.join(" and ")),
                (_, true) if bound == Bindings::NONE => "invalid: altered".to_owned(),
                (_, true) => {
                    let seen = seen(bound, source, destination);
                    format!("invalid {seen}: a NAT changed an address that it is bound to, or it was altered")
                }
            };
            finding.field("auth", auth);
        }
        let hints = self.rule.hints(now);
        let verdict = Addresses::with(source, destination, |addresses| {
            self.rule.verify(&hints, &mut self.cache, now, &packet, addresses, &[])
        });
        let verdict = verdict.unwrap_or(Verdict::Ignore(Reason::Digest));
        finding.verdict(verdict, why)
    }

    fn add_contents(&self, finding: &mut Finding, knock: Knock<'_>, contents: Contents, now: UnixMillis) {
        let Contents { time, flags, request } = contents;
        let seconds = |time: UnixMillis| UnixSeconds(time.0 / u64::from(UnixMillis::PER_SECOND));
        let difference = time_difference(seconds(time), seconds(now), self.rule.window());
        finding.field("time", format!("{}, {difference}", date(seconds(time))));
        let of_its_time = self.clocked.hints(time);
        let is_own = of_its_time.iter().any(|hint| hint == knock.hint());
        finding.field("hint", if is_own { "of its time" } else { "of another time: altered" });
        let request = match Request::from_byte(request) {
            Some(Request::Open) => "open".to_owned(),
            Some(Request::Close) => "close".to_owned(),
            None => format!("unknown ({request}): of a later version"),
        };
        let bound = match Bindings::from_bits(flags) {
            Some(bindings) => binding_words(bindings).join(", "),
            None => format!("unknown ({flags:#04x}): of a later version"),
        };
        finding.field("request", request);
        finding.field("bound", bound);
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The addresses that count.
fn seen(bound: Bindings, source: IpAddr, destination: IpAddr) -> String {
    let mut words = Vec::new();
    if bound.contains(Bindings::SOURCE) {
        words.push(format!("from {source}"));
    }
    if bound.contains(Bindings::DESTINATION) {
        words.push(format!("to {destination}"));
    }
    words.join(" ")
}

fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Length => "wrong length",
        Reason::Tag => "the hint is of no time within the window: wrong key, tag, time or format",
        Reason::Window => "time outside the window",
        Reason::Replay => "seen before; or, without a clock, older than the last",
        Reason::Filter => "wrong key, wrong port, or altered",
        Reason::Digest => "bound to other addresses, or altered",
        Reason::Request => "of a later version",
    }
}
