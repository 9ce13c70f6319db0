//! The order of the checks, and the calls of the replay store.

use pkd_core::{
    Digest, Key, Knock, KnockId, KnockParams, LENGTH, Packet, Port, Reason, ReplayStore, Rule, Tag,
    UnixSeconds, Verdict, Window, verify_any,
};

const PORT: Port = Port(40_000);
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const WINDOW: Window = Window::from_secs(10);

/// Returns fixed answers and records the calls.
struct FakeStore {
    refuses: bool,
    records: bool,
    calls: Vec<(&'static str, KnockId, Window)>,
}

impl ReplayStore for FakeStore {
    fn refuses(&mut self, id: KnockId, window: Window) -> bool {
        self.calls.push(("refuses", id, window));
        self.refuses
    }

    fn record(&mut self, id: KnockId, window: Window) -> bool {
        self.calls.push(("record", id, window));
        self.records
    }
}

/// Which check the knock would fail, apart from those of the store.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Good,
    Short,
    OtherTag,
    Late,
    OtherKey,
}

fn knock(kind: Kind) -> Vec<u8> {
    let key = Key::from_bytes([if let Kind::OtherKey = kind { 2 } else { 1 }; Key::LENGTH]);
    let params = KnockParams {
        key: &key,
        tag: Tag(if let Kind::OtherTag = kind { *b"HTTP" } else { *b"SSHK" }),
        time: UnixSeconds(if let Kind::Late = kind { NOW.0 - 11 } else { NOW.0 - 10 }),
        nonce: [7; 12],
    };
    let length = if let Kind::Short = kind { LENGTH - 1 } else { LENGTH };
    Knock::seal(&params, PORT)[..length].to_vec()
}

#[test]
fn the_first_check_that_fails_decides_and_only_a_good_digest_is_recorded() {
    use Kind::{Good, Late, OtherKey, OtherTag, Short};
    let ignored = |reason| Verdict::Ignore(reason);
    // knock, whether the first look refuses, whether the second look records, verdict, calls of the store
    let table: [(Kind, bool, bool, Verdict, &[&str]); 9] = [
        (Good, false, true, Verdict::Accept, &["refuses", "record"]),
        (Short, true, false, ignored(Reason::Length), &[]),
        (OtherTag, true, false, ignored(Reason::Tag), &[]),
        (Late, true, false, ignored(Reason::Window), &[]),
        (Good, true, true, ignored(Reason::Replay), &["refuses"]),
        // A replay is refused before the hash, so it does not reveal whether its digest is good.
        (OtherKey, true, true, ignored(Reason::Replay), &["refuses"]),
        (OtherKey, false, true, ignored(Reason::Digest), &["refuses"]),
        (OtherKey, false, false, ignored(Reason::Digest), &["refuses"]),
        // Another CPU accepted the same bytes between the two looks.
        (Good, false, false, ignored(Reason::Replay), &["refuses", "record"]),
    ];
    let rule = Rule::new(Key::from_bytes([1; Key::LENGTH]), Tag(*b"SSHK"), WINDOW);
    for (row, (kind, refuses, records, expected, expected_calls)) in table.into_iter().enumerate() {
        let payload = knock(kind);
        let mut store = FakeStore { refuses, records, calls: Vec::new() };
        let packet = Packet { destination_port: PORT, payload: &payload };
        let verdict = rule.verify(&mut store, NOW, &packet);
        assert_eq!(verdict, expected, "row {row}: {kind:?}");
        let calls: Vec<&str> = store.calls.iter().map(|(call, ..)| *call).collect();
        assert_eq!(calls, expected_calls, "row {row}: {kind:?}");
    }
}

#[test]
fn both_looks_get_the_id_of_the_knock_and_the_window_of_the_rule() {
    let rule = Rule::new(Key::from_bytes([1; Key::LENGTH]), Tag(*b"SSHK"), WINDOW);
    let payload = knock(Kind::Good);
    let mut store = FakeStore { refuses: false, records: true, calls: Vec::new() };
    let packet = Packet { destination_port: PORT, payload: &payload };
    let verdict = rule.verify(&mut store, NOW, &packet);
    assert_eq!(verdict, Verdict::Accept);
    let id = KnockId::new(UnixSeconds(NOW.0 - 10), &Digest::from_bytes(payload[24..].try_into().unwrap()));
    assert_eq!(store.calls, [("refuses", id, WINDOW), ("record", id, WINDOW)]);
}

#[test]
fn a_knock_id_is_the_time_and_the_first_8_bytes_of_the_digest() {
    let digest = |place: usize| {
        let mut bytes = [9; 32];
        bytes[place] = 8;
        Digest::from_bytes(bytes)
    };
    let id = KnockId::new(UnixSeconds(5), &Digest::from_bytes([9; 32]));
    for place in 0..32 {
        let other = KnockId::new(UnixSeconds(5), &digest(place));
        assert_eq!(other == id, place >= 8, "byte {place}");
        assert!(!digest(place).matches(&Digest::from_bytes([9; 32])), "byte {place}");
    }
    assert_ne!(KnockId::new(UnixSeconds(6), &Digest::from_bytes([9; 32])), id);
    assert!(Digest::from_bytes([9; 32]).matches(&Digest::from_bytes([9; 32])));
}

#[test]
fn a_knock_id_is_restored_from_its_time_and_id() {
    let digest = Digest::from_bytes(std::array::from_fn(|at| u8::try_from(at + 1).unwrap()));
    let table = [
        ("a digest", KnockId::new(NOW, &digest), NOW, 0x0102_0304_0506_0708),
        (
            "all ones",
            KnockId::new(UnixSeconds(u64::MAX), &Digest::from_bytes([0xff; 32])),
            UnixSeconds(u64::MAX),
            u64::MAX,
        ),
        ("all zeros", KnockId::new(UnixSeconds(0), &Digest::from_bytes([0; 32])), UnixSeconds(0), 0),
    ];
    for (name, knock, time, id) in table {
        assert_eq!((knock.time(), knock.id()), (time, id), "{name}");
        assert_eq!(KnockId::kept(knock.time(), knock.id()), knock, "{name}");
    }
}

#[test]
fn of_several_rules_the_first_that_accepts_wins_and_otherwise_the_reason_of_the_furthest() {
    use Reason::{Digest, Length, Replay, Tag, Window};
    /// Payload, verdicts of the rules, result, rules that are asked.
    type Row<'a> = (&'a [u8], &'a [Verdict], Result<usize, Reason>, usize);
    let knock = knock(Kind::Good);
    let packet = |payload| Packet { destination_port: PORT, payload };
    let ignore = Verdict::Ignore;
    let table: [Row<'_>; 10] = [
        (&knock, &[], Err(Tag), 0),
        (&knock[1..], &[], Err(Length), 0),
        (&knock[1..], &[Verdict::Accept], Err(Length), 0),
        (&knock, &[ignore(Tag)], Err(Tag), 1),
        (&knock, &[ignore(Window), ignore(Tag)], Err(Window), 2),
        (&knock, &[ignore(Tag), ignore(Replay), ignore(Window)], Err(Replay), 3),
        (&knock, &[ignore(Digest), ignore(Replay)], Err(Digest), 2),
        (&knock, &[ignore(Digest), Verdict::Accept, ignore(Tag)], Ok(1), 2),
        (&knock, &[Verdict::Accept, Verdict::Accept], Ok(0), 1),
        // Who asks for all rules opens, so a request to close is none of theirs.
        (&knock, &[ignore(Tag), Verdict::Close, Verdict::Accept], Err(Reason::Request), 2),
    ];
    for (row, (payload, verdicts, expected, expected_asked)) in table.into_iter().enumerate() {
        let mut asked = 0;
        let result = verify_any(&packet(payload), verdicts.iter().enumerate(), |(_, verdict)| {
            asked += 1;
            **verdict
        });
        assert_eq!(result.map(|(index, _)| index), expected, "row {row}");
        assert_eq!(asked, expected_asked, "row {row}");
    }
}

#[test]
fn debug_output_of_a_digest_is_redacted() {
    let key = Key::from_bytes([1; Key::LENGTH]);
    let payload = knock(Kind::Good);
    let digest = Knock::parse(&payload).unwrap().expected_digest(&key, PORT);
    assert_eq!(format!("{digest:?}"), "Digest(..)");
    assert_eq!(digest.as_bytes()[..], payload[24..]);
}
