//! A bound knock is of no use from another address, or at another gateway.

use pkd_core::{
    Packet, Reason, ReplayCache, UnixMillis, Verdict,
    format2::{Addresses, Bindings, KnockParams, Request},
};

use crate::{Gateway, HERE, KNOCK, NOW, PORT, requiring, rule, seal};

const THIEF: Addresses<'_> = Addresses::V4 { source: &[198, 51, 100, 8], destination: &[203, 0, 113, 9] };
const ELSEWHERE: Addresses<'_> =
    Addresses::V4 { source: &[198, 51, 100, 7], destination: &[203, 0, 113, 10] };

fn bound(bindings: Bindings) -> [u8; 56] {
    seal(&KnockParams { bindings, ..KNOCK })
}

#[test]
fn what_is_bound_has_to_be_the_same() {
    let (source, destination) = (Bindings::SOURCE, Bindings::DESTINATION);
    // bindings, whether a thief's address is refused, whether another gateway refuses
    for (row, (bindings, from_a_thief, elsewhere)) in [
        (Bindings::NONE, false, false),
        (source, true, false),
        (destination, false, true),
        (source | destination, true, true),
    ]
    .into_iter()
    .enumerate()
    {
        for (addresses, is_refused) in [(THIEF, from_a_thief), (ELSEWHERE, elsewhere), (HERE, false)] {
            let verdict = Gateway::new(rule(10)).check(&bound(bindings), PORT, &addresses);
            let expected = if is_refused { Verdict::Ignore(Reason::Digest) } else { Verdict::Accept };
            assert_eq!(verdict, expected, "row {row}: {addresses:?}");
        }
    }
}

#[test]
fn a_stolen_knock_is_refused_and_the_owner_s_still_works() {
    let mut gateway = Gateway::new(rule(10));
    let stolen = bound(Bindings::SOURCE);
    assert_eq!(gateway.check(&stolen, PORT, &THIEF), Verdict::Ignore(Reason::Digest));
    assert_eq!(gateway.check(&stolen, PORT, &HERE), Verdict::Accept);
    assert_eq!(gateway.check(&stolen, PORT, &THIEF), Verdict::Ignore(Reason::Replay));
}

#[test]
fn a_gateway_behind_nat_knows_its_outside_address_for_bound_knocks_only() {
    let rule = rule(10);
    let outside: &[&[u8]] = &[&[0; 16], &[192, 0, 2, 1], &[203, 0, 113, 9]];
    let inside = Addresses::V4 { source: &[198, 51, 100, 7], destination: &[10, 0, 0, 2] };
    for (own, expected) in [
        (outside, Verdict::Accept),
        (&outside[..2], Verdict::Ignore(Reason::Digest)),
        (&[], Verdict::Ignore(Reason::Digest)),
    ] {
        let mut cache = ReplayCache::<4, _>::new(UnixMillis(0));
        let payload = bound(Bindings::DESTINATION | Bindings::SOURCE);
        let packet = Packet { destination_port: PORT, payload: &payload };
        let verdict = rule.verify(&rule.hints(NOW), &mut cache, NOW, &packet, &inside, own);
        assert_eq!(verdict, expected, "{own:?}");
    }
}

#[test]
fn what_a_rule_requires_has_to_be_bound_and_refused_knocks_are_not_recorded() {
    let all =
        [Bindings::NONE, Bindings::SOURCE, Bindings::DESTINATION, Bindings::SOURCE | Bindings::DESTINATION];
    for required in all {
        for given in all {
            let mut gateway = Gateway::new(requiring(10, required));
            let verdict = gateway.check(&bound(given), PORT, &HERE);
            let is_enough = required.bits() & !given.bits() == 0;
            let expected = if is_enough { Verdict::Accept } else { Verdict::Ignore(Reason::Request) };
            assert_eq!(verdict, expected, "{given:?} where {required:?} is required");
            assert_eq!(gateway.cache.is_empty(), !is_enough);
        }
    }
}

#[test]
fn a_request_to_close_is_a_knock_too_and_works_once() {
    let mut gateway = Gateway::new(rule(10));
    let close = seal(&KnockParams { request: Request::Close, ..KNOCK });
    assert_eq!(gateway.check(&close, PORT, &HERE), Verdict::Close);
    assert_eq!(gateway.check(&close, PORT, &HERE), Verdict::Ignore(Reason::Replay));
}

#[test]
fn a_rule_for_one_request_leaves_the_other_to_its_neighbour() {
    let (open, close) = (Request::Open, Request::Close);
    let refused = Verdict::Ignore(Reason::Request);
    for (asked, accepted) in [(open, Verdict::Accept), (close, Verdict::Close)] {
        for first in [open, close] {
            let mut gateway = Gateway::new(rule(10).only(first));
            let knock = seal(&KnockParams { request: asked, ..KNOCK });
            let expected = if first == asked { accepted } else { refused };
            assert_eq!(gateway.check(&knock, PORT, &HERE), expected, "{asked:?}, first rule {first:?}");
            assert_eq!(gateway.cache.is_empty(), first != asked, "{asked:?}, first rule {first:?}");

            gateway.rule = rule(10).only(if first == open { close } else { open });
            let expected = if first == asked { Verdict::Ignore(Reason::Replay) } else { accepted };
            assert_eq!(gateway.check(&knock, PORT, &HERE), expected, "{asked:?}, second rule");
            let replayed = Verdict::Ignore(Reason::Replay);
            assert_eq!(gateway.check(&knock, PORT, &HERE), replayed, "{asked:?}, again");
        }
    }
}

#[test]
fn bits_without_a_meaning_are_no_bindings() {
    let known = (0..=u8::MAX).filter(|bits| Bindings::from_bits(*bits).is_some());
    assert_eq!(known.collect::<Vec<_>>(), [0, 1, 2, 3]);
    let requests = (0..=u8::MAX).filter(|byte| Request::from_byte(*byte).is_some());
    assert_eq!(requests.collect::<Vec<_>>(), [0, 1]);
}
