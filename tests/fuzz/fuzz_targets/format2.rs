//! Sealing, opening and checking a knock of format 2, held against the protocol written once more.

#![no_main]

use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};
use pkd_core::{
    Key, Packet, Port, ReplayCache, Tag, Timestamp, UnixMillis, Window,
    format2::{self, Addresses, Bindings, Hints, KnockParams, Request},
};
use pkd_fuzz::{reference_format2 as reference, time, window};

fuzz_target!(|bytes: &[u8]| {
    // What the bytes do not suffice for does not happen.
    let _ = scene(&mut Unstructured::new(bytes));
});

/// The addresses that matter: a few of each family.
fn address(bytes: &mut Unstructured<'_>, long: bool) -> Result<Vec<u8>> {
    let last = bytes.arbitrary::<u8>()? % 3;
    Ok(if long { [&[0x20; 15][..], &[last]].concat() } else { vec![192, 0, 2, last] })
}

fn scene(bytes: &mut Unstructured<'_>) -> Result<()> {
    let (key, tag, window): ([u8; 40], [u8; 4], u32) =
        (bytes.arbitrary()?, bytes.arbitrary()?, window(bytes)?);
    let require = bytes.arbitrary::<u8>()? & bytes.arbitrary::<u8>()? & 3;
    let mut own = Vec::new();
    for _ in 0..bytes.arbitrary::<u8>()? % 3 {
        let long = bytes.arbitrary()?;
        own.push(address(bytes, long)?);
    }
    let own_slices: Vec<_> = own.iter().map(Vec::as_slice).collect();
    let mut now = time(bytes, 1_800_000_000_000)?;
    let floor = if bytes.arbitrary()? { 0 } else { time(bytes, now)? };
    let bindings = Bindings::from_bits(require).expect("two bits");
    let rule = format2::Rule::new(&Key::from_bytes(key), Tag(tag), Window::from_secs(window), bindings);
    let mut hints = Hints::default();
    // So many that it is never full: a full one is the business of the target `cache`.
    let mut cache = ReplayCache::<64, _>::new(UnixMillis(floor));
    let mut slow = reference::Verifier::new(&key, tag, window, require, own.clone(), floor);
    let mut sent: Vec<(u16, Vec<u8>)> = Vec::new();
    while !bytes.is_empty() && sent.len() < 64 {
        let (port, long): (u16, bool) = (bytes.arbitrary::<u16>()? % 4, bytes.arbitrary()?);
        let (source, destination) = (address(bytes, long)?, address(bytes, long)?);
        let (port, payload) = match bytes.arbitrary::<u8>()? % 8 {
            0 => (port, bytes.arbitrary::<Vec<u8>>()?),
            1 if !sent.is_empty() => sent[usize::from(port) % sent.len()].clone(),
            2 => {
                now = time(bytes, now)?;
                continue;
            }
            kind => {
                let flags = if kind == 6 { bytes.arbitrary()? } else { bytes.arbitrary::<u8>()? & 3 };
                let request = if kind == 7 { bytes.arbitrary()? } else { bytes.arbitrary::<u8>()? & 1 };
                let knock = reference::Knock {
                    time: time(bytes, now)?,
                    nonce: bytes.arbitrary()?,
                    flags,
                    request,
                    source: source.clone(),
                    destination: destination.clone(),
                };
                let mut payload = slow.seal(&knock, port);
                sealed(&rule, &knock, port, &payload);
                match kind {
                    3 => payload[usize::from(bytes.arbitrary::<u8>()?) % 56] ^= bytes.arbitrary::<u8>()?,
                    4 => payload.truncate(bytes.arbitrary::<u8>()?.into()),
                    _ => {}
                }
                (port, payload)
            }
        };
        let (now_here, packet) =
            (UnixMillis(now), Packet { destination_port: Port(port), payload: &payload });
        rule.refresh(&mut hints, now_here);
        let verdict = with(&source, &destination, |addresses| {
            rule.verify(&hints, &mut cache, now_here, &packet, addresses, &own_slices)
        });
        let expected = slow.check(now, port, &payload, &source, &destination);
        assert_eq!(verdict.as_str(), expected, "of {payload:02x?} at {now}");
        sent.push((port, payload));
    }
    let newest = slow.accepted.iter().map(|(time, _)| *time).max();
    assert_eq!(cache.newest().map(Timestamp::units), newest, "recorded otherwise");
    Ok(())
}

/// The same knock made and read by pkd-core.
fn sealed(rule: &format2::Rule, knock: &reference::Knock, port: u16, payload: &[u8]) {
    let read = format2::Knock::parse(payload).expect("56 bytes").open(rule.keys());
    let time = knock.time & 0xffff_ffff_ffff;
    assert_eq!((read.time.0, read.flags, read.request), (time, knock.flags, knock.request), "read otherwise");
    let (Some(bindings), Some(request)) =
        (Bindings::from_bits(knock.flags), Request::from_byte(knock.request))
    else {
        return;
    };
    let params = KnockParams { time: UnixMillis(time), nonce: knock.nonce, bindings, request };
    let own = with(&knock.source, &knock.destination, |addresses| {
        format2::Knock::seal(rule.keys(), &params, Port(port), addresses)
    });
    assert_eq!(own[..], *payload, "sealed otherwise");
}

fn with<R>(source: &[u8], destination: &[u8], with: impl FnOnce(&Addresses<'_>) -> R) -> R {
    match (source.try_into(), destination.try_into()) {
        (Ok(source), Ok(destination)) => with(&Addresses::V4 { source, destination }),
        _ => with(&Addresses::V6 {
            source: source.try_into().expect("16 bytes"),
            destination: destination.try_into().expect("16 bytes"),
        }),
    }
}
