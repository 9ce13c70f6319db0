//! `Rule::verify` of format 2.

use pkd_core::{
    Packet, Port as UdpPort, Reason, ReplayCache, UnixMillis, Verdict, Window,
    format2::{Addresses, Bindings, Knock, KnockParams, Request, Rule},
};
use pkd_gateway::KNOCKS;

use crate::{CLIENT, KNOCK_PORT, OWN_ADDRESS, START_MILLIS, TAG, knocks, measure_rounds, nonce};

/// Of knocks whose times rise, all within a few seconds.
pub(crate) fn params(number: u32, bindings: Bindings) -> KnockParams {
    let time = UnixMillis(START_MILLIS.0 + u64::from(number));
    KnockParams { time, nonce: nonce(number), bindings, request: Request::Open }
}

/// A datagram to the knock port.
fn packet(payload: &[u8]) -> Packet<'_> {
    Packet { destination_port: UdpPort(KNOCK_PORT), payload }
}

/// Measures and logs them.
#[inline(never)]
pub(crate) fn log() {
    let rule = Rule::new(knocks().key(), TAG, Window::default(), Bindings::NONE);
    let addresses = Addresses::V4 { source: &CLIENT, destination: &OWN_ADDRESS };
    let seal = |number| {
        let params = params(number, Bindings::SOURCE);
        Knock::seal(rule.keys(), &params, UdpPort(KNOCK_PORT), &addresses)
    };
    let hints = rule.hints(START_MILLIS);
    let mut cache = ReplayCache::<KNOCKS, UnixMillis>::new(UnixMillis(0));
    let mut check = |packet: &Packet<'_>, expected: Verdict| {
        let packet = core::hint::black_box(packet);
        if rule.verify(&hints, &mut cache, START_MILLIS, packet, &addresses, &[]) != expected {
            defmt::panic!("unexpected verdict");
        }
    };
    let good = seal(1);
    let with = |at: usize| {
        let mut payload = good;
        payload[at] ^= 1;
        payload
    };
    let payloads = [with(0), with(24), with(55)];
    let [noise, forgery, copy] = [0, 1, 2].map(|at| packet(&payloads[at][..]));
    let short = packet(&good[..20]);
    let noise = measure_rounds(|_| check(&noise, Verdict::Ignore(Reason::Tag)));
    let wrong_length = measure_rounds(|_| check(&short, Verdict::Ignore(Reason::Length)));
    let forged = measure_rounds(|_| check(&forgery, Verdict::Ignore(Reason::Filter)));
    let other_auth = measure_rounds(|_| check(&copy, Verdict::Ignore(Reason::Digest)));
    // The cost of making the knocks is subtracted.
    let made = measure_rounds(|number| {
        core::hint::black_box(seal(number));
    });
    let both = measure_rounds(|number| check(&packet(&seal(number)), Verdict::Accept));
    defmt::info!(
        "benchmark: core2-accepted {} core2-forged {} core2-other-auth {} core2-noise {} core2-wrong-length {}",
        both.saturating_sub(made),
        forged,
        other_auth,
        noise,
        wrong_length
    );
}
