//! The classic `Rule::verify`, and the two SHA-256 blocks that a check needs at least.

use pkd_core::{Knock, KnockParams, Packet, Port as UdpPort, Reason, ReplayCache, Tag, UnixSeconds, Verdict};
use pkd_gateway::KNOCKS;
use sha2::block_api::compress256;

use crate::{KNOCK_PORT, START, knocks, measure_rounds, nonce};

/// Measures and logs them.
#[inline(never)]
pub(crate) fn log() {
    let rule = knocks();
    let seal = |tag, number: u32| {
        let time = UnixSeconds(START.0 + u64::from(number));
        Knock::seal(&KnockParams { key: rule.key(), tag, time, nonce: nonce(number) }, UdpPort(KNOCK_PORT))
    };
    let mut cache = ReplayCache::<KNOCKS>::new(UnixSeconds(0));
    let mut check = |payload: &[u8], expected: Verdict| {
        let packet =
            Packet { destination_port: UdpPort(KNOCK_PORT), payload: core::hint::black_box(payload) };
        if rule.verify(&mut cache, START, &packet) != expected {
            defmt::panic!("unexpected verdict");
        }
    };
    let blocks = [[7; 64]; 2];
    let blocks = measure_rounds(|_| {
        let mut state = core::hint::black_box([0; 8]);
        compress256(&mut state, core::hint::black_box(&blocks));
        core::hint::black_box(state);
    });
    let good = seal(rule.tag(), 1);
    let mut forgery = good;
    forgery[55] ^= 1;
    let other = seal(Tag(*b"none"), 1);
    let forged = measure_rounds(|_| check(&forgery, Verdict::Ignore(Reason::Digest)));
    let other_tag = measure_rounds(|_| check(&other, Verdict::Ignore(Reason::Tag)));
    let wrong_length = measure_rounds(|_| check(&good[..20], Verdict::Ignore(Reason::Length)));
    // The cost of making the knocks is subtracted.
    let made = measure_rounds(|number| {
        core::hint::black_box(seal(rule.tag(), number));
    });
    let both = measure_rounds(|number| check(&seal(rule.tag(), number), Verdict::Accept));
    defmt::info!(
        "benchmark: blocks {} core-accepted {} core-forged {} core-other-tag {} core-wrong-length {}",
        blocks,
        both.saturating_sub(made),
        forged,
        other_tag,
        wrong_length
    );
}
