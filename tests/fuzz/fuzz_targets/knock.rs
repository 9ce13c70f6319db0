//! Sealing, parsing and checking a knock, held against the protocol written once more.

#![no_main]

use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};
use pkd_core::{
    Counters, Key, Knock, KnockParams, Packet, Port, Reason, ReplayCache, Rule, Tag, UnixSeconds, Verdict,
    Window,
};
use pkd_fuzz::{reference, time, window};

fuzz_target!(|bytes: &[u8]| {
    // What the bytes do not suffice for does not happen.
    let _ = scene(&mut Unstructured::new(bytes));
});

fn scene(bytes: &mut Unstructured<'_>) -> Result<()> {
    let (key, tag, window): ([u8; 40], [u8; 4], u32) =
        (bytes.arbitrary()?, bytes.arbitrary()?, window(bytes)?);
    let mut now = time(bytes, 1_800_000_000)?;
    let floor = if bytes.arbitrary()? { 0 } else { time(bytes, now)? };
    let rule = Rule::new(Key::from_bytes(key), Tag(tag), Window::from_secs(window));
    // So many that it is never full: a full one is the business of the target `cache`.
    let mut cache = ReplayCache::<64>::new(UnixSeconds(floor));
    let mut slow = reference::Verifier { key, tag, window, floor, accepted: Vec::new() };
    let mut counters = Counters::default();
    let mut sent: Vec<(u16, Vec<u8>)> = Vec::new();
    while !bytes.is_empty() && sent.len() < 64 {
        let port: u16 = bytes.arbitrary()?;
        let (port, payload) = match bytes.arbitrary::<u8>()? % 8 {
            0 => (port, bytes.arbitrary::<Vec<u8>>()?),
            1 if !sent.is_empty() => sent[usize::from(port) % sent.len()].clone(),
            2 => {
                now = time(bytes, now)?;
                continue;
            }
            kind => {
                let (time, nonce) = (time(bytes, now)?, bytes.arbitrary()?);
                let mut payload = reference::seal(&key, tag, time, nonce, port).to_vec();
                let seal = KnockParams { key: rule.key(), tag: rule.tag(), time: UnixSeconds(time), nonce };
                assert_eq!(payload, Knock::seal(&seal, Port(port)), "sealed otherwise");
                let knock = Knock::parse(&payload).expect("56 bytes");
                assert_eq!(
                    (knock.tag().0, knock.time().0, *knock.nonce()),
                    (tag, time, nonce),
                    "read otherwise"
                );
                assert_eq!(knock.digest().as_bytes()[..], payload[24..], "read otherwise");
                match kind {
                    3 => payload[usize::from(bytes.arbitrary::<u8>()?) % 56] ^= bytes.arbitrary::<u8>()?,
                    4 => payload.truncate(bytes.arbitrary::<u8>()?.into()),
                    5 => payload.push(bytes.arbitrary()?),
                    _ => {}
                }
                (port, payload)
            }
        };
        let packet = Packet { destination_port: Port(port), payload: &payload };
        let verdict = rule.verify(&mut cache, UnixSeconds(now), &packet);
        counters.count(verdict);
        assert_eq!(verdict.as_str(), slow.check(now, port, &payload), "of {payload:02x?} at {now}");
        header(&payload, port, bytes.arbitrary()?);
        sent.push((port, payload));
    }
    let counted: u64 = Reason::ALL.into_iter().map(|reason| counters.of(Verdict::Ignore(reason))).sum();
    assert!(counters.of(Verdict::Accept) == slow.accepted.len() as u64, "counted otherwise");
    assert!(counted + counters.of(Verdict::Accept) == sent.len() as u64, "counted otherwise");
    Ok(())
}

/// The same payload behind a UDP header that may say another length than it has.
fn header(payload: &[u8], port: u16, says: Option<u16>) {
    let says = says.unwrap_or(8 + payload.len() as u16);
    let mut datagram = vec![0x12, 0x34];
    datagram.extend(port.to_be_bytes());
    datagram.extend(says.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let expected = (says == 64 && datagram.len() >= 64).then(|| (port, &datagram[8..64]));
    let read = Packet::from_udp(&datagram).map(|packet| (packet.destination_port.0, packet.payload));
    assert_eq!(read, expected, "of the datagram {datagram:02x?}");
}
