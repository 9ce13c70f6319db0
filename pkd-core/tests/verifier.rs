//! The order of the checks, seen from the memory.

use pkd_core::{
    Digest, Key, Knock, KnockId, KnockParams, LENGTH, Packet, Port, Reason, ReplayStore, Rule, Tag,
    UnixSeconds, Verdict, Verifier, Window,
};

const PORT: Port = Port(40_000);
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const WINDOW: Window = Window::from_secs(10);

/// Answers as it is told, and notes what it was asked.
struct Memory {
    refuses: bool,
    records: bool,
    asked: Vec<(&'static str, KnockId, Window)>,
}

impl ReplayStore for Memory {
    fn refuses(&mut self, mark: KnockId, window: Window) -> bool {
        self.asked.push(("refuses", mark, window));
        self.refuses
    }

    fn record(&mut self, mark: KnockId, window: Window) -> bool {
        self.asked.push(("record", mark, window));
        self.records
    }
}

/// Which check the knock would fail, beside what the memory says of it.
#[derive(Clone, Copy, Debug)]
enum Knocks {
    Good,
    Short,
    OtherTag,
    Late,
    OtherKey,
}

fn knock(kind: Knocks) -> Vec<u8> {
    let key = Key::from_bytes([if let Knocks::OtherKey = kind { 2 } else { 1 }; Key::LENGTH]);
    let seal = KnockParams {
        key: &key,
        tag: Tag(if let Knocks::OtherTag = kind { *b"HTTP" } else { *b"SSHK" }),
        time: UnixSeconds(if let Knocks::Late = kind { NOW.0 - 11 } else { NOW.0 - 10 }),
        nonce: [7; 12],
    };
    let length = if let Knocks::Short = kind { LENGTH - 1 } else { LENGTH };
    Knock::seal(&seal, PORT)[..length].to_vec()
}

#[test]
fn the_first_check_that_fails_decides_and_only_a_good_digest_is_recorded() {
    use Knocks::{Good, Late, OtherKey, OtherTag, Short};
    let ignored = |reason| Verdict::Ignore(reason);
    // the knock, the first look refuses, the second look records, verdict, what the memory is asked
    let table: [(Knocks, bool, bool, Verdict, &[&str]); 9] = [
        (Good, false, true, Verdict::Accept, &["refuses", "record"]),
        (Short, true, false, ignored(Reason::Length), &[]),
        (OtherTag, true, false, ignored(Reason::Tag), &[]),
        (Late, true, false, ignored(Reason::Window), &[]),
        (Good, true, true, ignored(Reason::Replay), &["refuses"]),
        // A known knock costs no hash, so nobody learns whether its digest is good.
        (OtherKey, true, true, ignored(Reason::Replay), &["refuses"]),
        (OtherKey, false, true, ignored(Reason::Digest), &["refuses"]),
        (OtherKey, false, false, ignored(Reason::Digest), &["refuses"]),
        // Another CPU accepted the same bytes between the two looks.
        (Good, false, false, ignored(Reason::Replay), &["refuses", "record"]),
    ];
    let rule = Rule { key: Key::from_bytes([1; Key::LENGTH]), tag: Tag(*b"SSHK"), window: WINDOW };
    for (row, (kind, refuses, records, expected, asked)) in table.into_iter().enumerate() {
        let payload = knock(kind);
        let mut memory = Memory { refuses, records, asked: Vec::new() };
        let packet = Packet { destination_port: PORT, payload: &payload };
        let verdict = Verifier::new(&rule, &mut memory).check(NOW, &packet);
        assert_eq!(verdict, expected, "row {row}: {kind:?}");
        let calls: Vec<&str> = memory.asked.iter().map(|(call, ..)| *call).collect();
        assert_eq!(calls, asked, "row {row}: {kind:?}");
    }
}

#[test]
fn both_looks_get_the_mark_of_the_knock_and_the_window_of_the_rule() {
    let rule = Rule { key: Key::from_bytes([1; Key::LENGTH]), tag: Tag(*b"SSHK"), window: WINDOW };
    let payload = knock(Knocks::Good);
    let mut memory = Memory { refuses: false, records: true, asked: Vec::new() };
    let packet = Packet { destination_port: PORT, payload: &payload };
    let verdict = Verifier::new(&rule, &mut memory).check(NOW, &packet);
    assert_eq!(verdict, Verdict::Accept);
    let mark = KnockId::new(UnixSeconds(NOW.0 - 10), &Digest(payload[24..].try_into().unwrap()));
    assert_eq!(memory.asked, [("refuses", mark, WINDOW), ("record", mark, WINDOW)]);
}

#[test]
fn a_mark_is_the_time_and_the_first_8_bytes_of_the_digest() {
    let digest = |place: usize| {
        let mut bytes = [9; 32];
        bytes[place] = 8;
        Digest(bytes)
    };
    let mark = KnockId::new(UnixSeconds(5), &Digest([9; 32]));
    for place in 0..32 {
        let other = KnockId::new(UnixSeconds(5), &digest(place));
        assert_eq!(other == mark, place >= 8, "byte {place}");
        assert!(!digest(place).matches(&Digest([9; 32])), "byte {place}");
    }
    assert_ne!(KnockId::new(UnixSeconds(6), &Digest([9; 32])), mark);
    assert!(Digest([9; 32]).matches(&Digest([9; 32])));
}

#[test]
fn a_mark_is_the_same_again_from_the_time_and_id_that_were_kept_of_it() {
    let digest = Digest(std::array::from_fn(|at| u8::try_from(at + 1).unwrap()));
    let table = [
        ("a digest", KnockId::new(NOW, &digest), NOW, 0x0102_0304_0506_0708),
        (
            "all ones",
            KnockId::new(UnixSeconds(u64::MAX), &Digest([0xff; 32])),
            UnixSeconds(u64::MAX),
            u64::MAX,
        ),
        ("all zeros", KnockId::new(UnixSeconds(0), &Digest([0; 32])), UnixSeconds(0), 0),
    ];
    for (name, mark, time, id) in table {
        assert_eq!((mark.time(), mark.id()), (time, id), "{name}");
        assert_eq!(KnockId::kept(mark.time(), mark.id()), mark, "{name}");
    }
}
