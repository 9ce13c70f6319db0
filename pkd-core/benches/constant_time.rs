//! Whether the time of a comparison tells where two values differ: the method of dudect (Reparaz, Balasch, Verbauwhede,
//! "Dude, is my code constant time?", 2017).
//!
//! Two classes of input take turns at random; Welch's t says whether their times differ by more than chance. Above 4.5 they may,
//! above 10 they do. A comparison that stops at the first difference is measured beside, to show that the method sees one.
//! Prints `row: NAME | T`; ends with an error if the method does not see the one that stops.

use std::{hint::black_box, time::Instant};

use pkd_core::{
    Digest, Key, Knock, KnockParams, Packet, Port, ReplayCache, Rule, Tag, UnixSeconds, Verifier, Window,
};

/// Measurements of both classes together. `cargo test --bench` builds without optimization, where only the comparison that
/// stops is worth a look.
const SAMPLES: usize = if cfg!(debug_assertions) { 10_000 } else { 200_000 };
/// What is measured at once, so that the clock's step does not matter.
const BATCH: usize = 20;

const START: UnixSeconds = UnixSeconds(1_800_000_000);
const PORT: Port = Port(40_000);

fn main() {
    let ours = Digest([0x5a; 32]);
    let differ = [differing(&ours, 0), differing(&ours, 31)];
    let seen = row("a comparison that stops at the first difference", differ, |other| {
        black_box(stops(&ours.0, &black_box(other).0));
    });
    assert!(seen > 10.0, "the method sees no difference where there is one");
    row("Digest::matches, first or last byte wrong", differ, |other| {
        black_box(ours.matches(black_box(other)));
    });
    row("Digest::matches, all right or the last byte wrong", [ours, differing(&ours, 31)], |other| {
        black_box(ours.matches(black_box(other)));
    });

    let rule =
        Rule { key: Key::from_bytes([7; Key::LENGTH]), tag: Tag(*b"SSHK"), window: Window::from_secs(3_600) };
    let mut cache = ReplayCache::<256>::new(UnixSeconds(0));
    let mut check = |name: &str, payloads: [[u8; 56]; 2]| {
        let mut verifier = Verifier::new(&rule, &mut cache);
        row(name, payloads, |payload| {
            let packet = Packet { destination_port: PORT, payload: black_box(payload) };
            black_box(verifier.check(START, &packet));
        });
    };
    let knock =
        Knock::seal(&KnockParams { key: &rule.key, tag: rule.tag, time: START, nonce: [1; 12] }, PORT);
    let with = |byte: usize| {
        let mut knock = knock;
        knock[byte] ^= 1;
        knock
    };
    check("a check of a forgery, the digest's first or last byte wrong", [with(24), with(55)]);
    check("a check of another tag, its first or last byte wrong", [with(0), with(3)]);
}

fn differing(digest: &Digest, byte: usize) -> Digest {
    let mut bytes = digest.0;
    bytes[byte] ^= 1;
    Digest(bytes)
}

#[inline(never)]
fn stops(ours: &[u8; 32], theirs: &[u8; 32]) -> bool {
    ours.iter().zip(theirs).all(|(ours, theirs)| black_box(ours) == black_box(theirs))
}

/// Measures one comparison with inputs of class 0 and 1; gives Welch's t.
fn row<T: Copy>(name: &str, inputs: [T; 2], mut compare: impl FnMut(&T)) -> f64 {
    // xorshift64: which class comes next must not go with anything that repeats.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let class = usize::from(state >> 63 == 1);
        // Both classes lie in one place: where a value lies can cost time, too.
        let input = black_box(inputs[class]);
        let begin = Instant::now();
        for _ in 0..BATCH {
            compare(&input);
        }
        samples.push((class, begin.elapsed().as_secs_f64() * 1e9));
    }
    // The longest tenth is the system's: interrupts, other programs.
    let mut sorted: Vec<f64> = samples.iter().map(|(_, time)| *time).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let limit = sorted[SAMPLES * 9 / 10];
    let of = |wanted: usize| {
        Sample::of(samples.iter().filter(|(class, time)| *class == wanted && *time <= limit).map(|(_, t)| *t))
    };
    let t = welch(&of(0), &of(1));
    println!("row: {name} | {t:.1}");
    t
}

/// Number, mean and variance.
struct Sample {
    number: f64,
    mean: f64,
    variance: f64,
}

impl Sample {
    /// By Welford's method.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (mut number, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for value in values {
            number += 1.0;
            let off = value - mean;
            mean += off / number;
            squares += off * (value - mean);
        }
        Self { number, mean, variance: squares / (number - 1.0) }
    }
}

/// Welch's t, without its sign.
fn welch(a: &Sample, b: &Sample) -> f64 {
    ((a.mean - b.mean) / (a.variance / a.number + b.variance / b.number).sqrt()).abs()
}
