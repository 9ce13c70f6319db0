//! Whether the duration of a comparison reveals where two values differ, by the method of dudect (Reparaz, Balasch,
//! Verbauwhede, "Dude, is my code constant time?", 2017).
//!
//! Inputs of two classes alternate at random; Welch's t measures whether their times differ by more than chance. Above
//! 4.5 they may, above 10 they do. As a control, a comparison that stops at the first difference is measured too.
//! Prints `row: NAME | T`; fails if the method does not detect the control.

use std::{hint::black_box, time::Instant};

use pkd_core::{
    Digest, Key, Knock, KnockParams, Packet, Port, ReplayCache, Rule, Tag, UnixMillis, UnixSeconds, Window,
    format2::{self, Addresses, Bindings, Request},
};

/// Measurements of both classes together. `cargo test --bench` builds without optimization, where only the control
/// says anything.
const SAMPLES: usize = if cfg!(debug_assertions) { 10_000 } else { 200_000 };
/// Comparisons in one measurement, so that the clock's resolution does not matter.
const BATCH: usize = 20;

const START: UnixSeconds = UnixSeconds(1_800_000_000);
const PORT: Port = Port(40_000);

fn main() {
    let ours = Digest::from_bytes([0x5a; 32]);
    let wrong = [with_wrong_byte(&ours, 0), with_wrong_byte(&ours, 31)];
    let control = row("a comparison that stops at the first difference", wrong, |other| {
        black_box(early_exit_equal(ours.as_bytes(), black_box(other).as_bytes()));
    });
    assert!(control > 10.0, "the method does not detect a comparison that stops at the first difference");
    row("Digest::matches, first or last byte wrong", wrong, |other| {
        black_box(ours.matches(black_box(other)));
    });
    row("Digest::matches, all right or the last byte wrong", [ours, with_wrong_byte(&ours, 31)], |other| {
        black_box(ours.matches(black_box(other)));
    });

    let rule = Rule::new(Key::from_bytes([7; Key::LENGTH]), Tag(*b"SSHK"), Window::from_secs(3_600));
    let mut cache = ReplayCache::<256>::new(UnixSeconds(0));
    let mut check = |name: &str, payloads: [[u8; 56]; 2]| {
        row(name, payloads, |payload| {
            let packet = Packet { destination_port: PORT, payload: black_box(payload) };
            black_box(rule.verify(&mut cache, START, &packet));
        });
    };
    let knock =
        Knock::seal(&KnockParams { key: rule.key(), tag: rule.tag(), time: START, nonce: [1; 12] }, PORT);
    let with = |byte: usize| {
        let mut knock = knock;
        knock[byte] ^= 1;
        knock
    };
    check("a check of a forgery, the digest's first or last byte wrong", [with(24), with(55)]);
    check("a check of another tag, its first or last byte wrong", [with(0), with(3)]);
    format2();
}

/// The same for the two comparisons of format 2 that a forger meets.
fn format2() {
    let now = UnixMillis(1_800_000_000_000);
    let rule =
        format2::Rule::new(&Key::from_bytes([7; 40]), Tag(*b"SSHK"), Window::from_secs(10), Bindings::NONE);
    let (hints, mut cache) = (rule.hints(now), ReplayCache::<256, _>::new(UnixMillis(0)));
    let here = Addresses::V4 { source: &[198, 51, 100, 7], destination: &[203, 0, 113, 9] };
    let params = format2::KnockParams {
        time: now,
        nonce: [1; 12],
        bindings: Bindings::SOURCE,
        request: Request::Open,
    };
    let knock = format2::Knock::seal(rule.keys(), &params, PORT, &here);
    let with = |byte: usize| {
        let mut knock = knock;
        knock[byte] ^= 1;
        knock
    };
    let mut check = |name: &str, payloads: [[u8; 56]; 2]| {
        row(name, payloads, |payload| {
            let packet = Packet { destination_port: PORT, payload: black_box(payload) };
            black_box(rule.verify(&hints, &mut cache, now, &packet, &here, &[]));
        });
    };
    check("format 2: a check of a forgery, the filter's first or last byte wrong", [with(24), with(31)]);
    check("format 2: a check of a forgery, the auth's first or last byte wrong", [with(32), with(55)]);
}

fn with_wrong_byte(digest: &Digest, byte: usize) -> Digest {
    let mut bytes = *digest.as_bytes();
    bytes[byte] ^= 1;
    Digest::from_bytes(bytes)
}

#[inline(never)]
fn early_exit_equal(ours: &[u8; 32], theirs: &[u8; 32]) -> bool {
    ours.iter().zip(theirs).all(|(ours, theirs)| black_box(ours) == black_box(theirs))
}

/// Measures one comparison with inputs of class 0 and 1, prints its row and returns Welch's t.
fn row<T: Copy>(name: &str, inputs: [T; 2], mut compare: impl FnMut(&T)) -> f64 {
    // xorshift64: the order of the classes must not correlate with anything periodic.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let class = usize::from(state >> 63 == 1);
        // Both classes use the same memory: the address of a value can change the time, too.
        let input = black_box(inputs[class]);
        let begin = Instant::now();
        for _ in 0..BATCH {
            compare(&input);
        }
        samples.push((class, begin.elapsed().as_secs_f64() * 1e9));
    }
    // Interrupts and other programs cause the slowest tenth.
    let mut sorted: Vec<f64> = samples.iter().map(|(_, time)| *time).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let limit = sorted[SAMPLES * 9 / 10];
    let statistics = |wanted: usize| {
        let class = samples.iter().filter(|(class, time)| *class == wanted && *time <= limit);
        Statistics::of(class.map(|(_, time)| *time))
    };
    let t = welch(&statistics(0), &statistics(1));
    println!("row: {name} | {t:.1}");
    t
}

struct Statistics {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Statistics {
    /// Welford's method.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for value in values {
            count += 1.0;
            let deviation = value - mean;
            mean += deviation / count;
            squares += deviation * (value - mean);
        }
        Self { count, mean, variance: squares / (count - 1.0) }
    }
}

/// The absolute value of Welch's t.
fn welch(a: &Statistics, b: &Statistics) -> f64 {
    ((a.mean - b.mean) / (a.variance / a.count + b.variance / b.count).sqrt()).abs()
}
