//! Verdicts, reasons and counters.

use pkd_core::{Counters, Reason, Verdict};

#[test]
fn reasons_are_named_in_the_order_of_the_checks() {
    let names = Reason::ALL.map(|reason| reason.to_string());
    assert_eq!(names, ["length", "tag", "window", "replay", "filter", "digest", "request"]);
}

#[test]
fn each_verdict_has_its_own_counter() {
    let verdicts = Verdict::ALL;
    let mut counters = Counters::default();
    for (times, verdict) in verdicts.iter().enumerate() {
        for _ in 0..=times {
            counters.count(*verdict);
        }
    }
    let counts: Vec<u64> = verdicts.iter().map(|verdict| counters.of(*verdict)).collect();
    assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn new_counters_are_zero() {
    let counters = Counters::default();
    assert_eq!(counters.of(Verdict::Accept), 0);
    assert_eq!(Reason::ALL.map(|reason| counters.of(Verdict::Ignore(reason))), [0; 7]);
}

#[test]
fn verdicts_are_acceptance_and_every_reason_and_are_named_like_them() {
    let expected: Vec<Verdict> =
        [Verdict::Accept, Verdict::Close].into_iter().chain(Reason::ALL.map(Verdict::Ignore)).collect();
    assert_eq!(Verdict::ALL[..], expected);
    let names = Verdict::ALL.map(|verdict| verdict.to_string());
    assert_eq!(
        names,
        ["accept", "close", "length", "tag", "window", "replay", "filter", "digest", "request"]
    );
    assert_eq!(names, Verdict::ALL.map(Verdict::as_str));
}

#[test]
fn classic_verdicts_keep_their_names_and_order() {
    let names = Verdict::CLASSIC.map(Verdict::as_str);
    assert_eq!(names, ["accept", "length", "tag", "window", "replay", "digest"]);
}
