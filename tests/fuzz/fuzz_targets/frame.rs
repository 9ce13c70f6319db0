//! The gateway's frame path: strangers get nothing through, lengths stay, and checksums that held hold still.

#![no_main]

use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};
use pkd_gateway::{
    Action, Config, Floors, Gateway, Inline, Instant, Mode, Pass, Port, Protect, VERSION, Vlans,
};
use smoltcp::wire::ArpOperation;

// What the gateway's own tests make frames and gateways with.
#[allow(dead_code, missing_docs)]
#[path = "../../../firmware/gateway/tests/gateway/attacks.rs"]
mod attacks;
#[allow(dead_code, missing_docs)]
#[path = "../../../firmware/gateway/tests/gateway/frame.rs"]
mod frame;
#[allow(dead_code, missing_docs)]
#[path = "../../../firmware/gateway/tests/gateway/frame6.rs"]
mod frame6;
#[allow(dead_code, missing_docs)]
#[path = "../../../firmware/gateway/tests/gateway/harness.rs"]
mod harness;

// The judge of what an inline gateway forwards, which shares no code with it.
#[allow(dead_code, missing_docs)]
#[path = "../../../firmware/gateway/tests/gateway/overseer.rs"]
mod overseer;
#[allow(dead_code, missing_docs)]
#[path = "../../../firmware/gateway/tests/gateway/watch.rs"]
mod watch;

use frame6::{Host6, icmp6, neighbour, tcp6, udp6};
use watch::Event;

use frame::{Flags, Host, Path, Transport};
use harness::{CLIENT, DNS, GATEWAY, Knock2, NAS, READY, SSH, START, STRANGER, SmallTables};

fuzz_target!(|bytes: &[u8]| {
    // What the bytes do not suffice for does not happen.
    let _ = scene(Unstructured::new(bytes));
});

fn scene(mut own: Unstructured<'_>) -> Result<()> {
    let bytes = &mut own;
    let kind: u8 = bytes.arbitrary()?;
    if kind.is_multiple_of(16) {
        stored(own.take_rest());
        return Ok(());
    }
    if kind % 16 == 15 {
        return watched(bytes);
    }
    let one_arm = kind & 1 == 0;
    let mut config = if one_arm { harness::one_arm() } else { harness::inline() };
    if !one_arm {
        let vlans = (kind & 2 != 0).then_some(Vlans { outside: 10, inside: 20 });
        let mut pass = Pass::default();
        if kind & 8 != 0 {
            (pass.ethertypes[0], pass.protocols[0]) = (0x8892, 47);
        }
        let protect = if kind & 16 == 0 { Protect::Host } else { Protect::Services };
        config.mode = Mode::Inline(Inline { vlans, protect, ipv6: kind & 4 != 0, pass });
    }
    let mut tables = SmallTables::new();
    if kind & 32 != 0 {
        config = harness::format2(config);
    }
    let floors = Floors { classic: Some(START), format2: Some(harness::millis(START)) };
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, floors);
    assert!(gateway.set_time(Instant(0), harness::millis(START)).is_ok());
    let mut now = READY;
    let mut question = [0; 128];
    while gateway.on_tick(now, &mut question).is_some() {}
    let _ = gateway.on_frame(now, Port::Inside, &mut frame::arp(ArpOperation::Reply, NAS, GATEWAY));
    let mut knocked = false;
    for _ in 0..32 {
        if bytes.is_empty() {
            break;
        }
        now = Instant(now.0 + u64::from(bytes.arbitrary::<u8>()?));
        let (from, transport) = (
            *bytes.choose(&[CLIENT, STRANGER, NAS, GATEWAY])?,
            if bytes.arbitrary()? { Transport::Tcp(Flags(bytes.arbitrary()?)) } else { Transport::Udp },
        );
        let to: Host = *bytes.choose(&[GATEWAY, NAS, CLIENT, STRANGER])?;
        let ports = [22, 53, SSH, DNS, harness::KNOCK_PORT, 49_152, 49_153, bytes.arbitrary()?];
        let path = Path { from, from_port: *bytes.choose(&ports)?, to, to_port: *bytes.choose(&ports)? };
        let mut made = match bytes.arbitrary::<u8>()? % 8 {
            0 => bytes.arbitrary::<Vec<u8>>()?,
            1 => {
                // Only who has the key can make one, and from the client alone.
                knocked = true;
                let knock = match bytes.arbitrary::<u8>()? {
                    nonce if nonce & 3 == 0 => Knock2::close("BOTH", CLIENT).seal(now),
                    nonce if nonce & 3 == 1 => Knock2::open("BOTH", CLIENT).seal(now),
                    nonce => harness::knock("BOTH", now, nonce),
                };
                frame::udp(
                    Path { from: CLIENT, from_port: 5_000, to: GATEWAY, to_port: harness::KNOCK_PORT },
                    &knock,
                )
            }
            2 => frame::arp(
                if bytes.arbitrary()? { ArpOperation::Request } else { ArpOperation::Reply },
                from,
                to,
            ),
            3 => {
                let about = frame::segment(transport, path, b"12345678");
                frame::icmp(from, to, bytes.arbitrary()?, &about[14..])
            }
            _ => frame::segment(transport, path, &bytes.arbitrary::<Vec<u8>>()?),
        };
        if bytes.arbitrary::<u8>()? < 64 && !made.is_empty() {
            let at = bytes.arbitrary::<u16>()? as usize % made.len();
            made[at] ^= bytes.arbitrary::<u8>()?;
        }
        if bytes.arbitrary::<u8>()? < 16 {
            made.truncate(bytes.arbitrary::<u16>()?.into());
        }
        let side = if bytes.arbitrary()? { Port::Outside } else { Port::Inside };
        let good = is_whole(&made);
        let mut sent = made.clone();
        let action = gateway.on_frame(now, side, &mut sent);
        assert_eq!(sent.len(), made.len(), "a frame has grown");
        if good && matches!(action, Action::Forward(_)) {
            assert!(is_whole(&sent), "it had right checksums before: {made:02x?}");
        }
        if matches!(action, Action::Knock(outcome) if outcome.sender.is_some()) {
            assert!(knocked, "nobody has made a knock");
        }
        if one_arm && !knocked {
            assert!(
                !matches!(action, Action::Forward(_) | Action::ForwardAndLocal(_)),
                "a stranger gets through: {made:02x?}"
            );
        }
        if let Some(floors) = gateway.unsaved_floors() {
            assert!(knocked, "a floor without a knock");
            gateway.floors_saved(floors);
            assert_eq!(gateway.unsaved_floors(), None);
        }
        let mut own = [0; 1_600];
        if let Some((_, length)) = gateway.on_tick(now, &mut own) {
            assert!(length <= own.len());
        }
    }
    let mut text = String::new();
    assert!(gateway.write_metrics(now, &mut text).is_ok() && text.len() < 3_072, "{} bytes", text.len());
    Ok(())
}

/// Nothing from outside reaches a protected host unless a grant or a flow covers it.
fn watched(bytes: &mut Unstructured<'_>) -> Result<()> {
    let protect = if bytes.arbitrary()? { Protect::Host } else { Protect::Services };
    let mut events = Vec::new();
    while !bytes.is_empty() && events.len() < 64 {
        events.push(match bytes.arbitrary::<u8>()? % 16 {
            0 => Event::Knock { v6: bytes.arbitrary()?, close: false },
            1 => Event::Knock { v6: false, close: true },
            2 => Event::Wait(u64::from(bytes.arbitrary::<u16>()?)),
            _ => {
                let side = if bytes.ratio(1, 4)? { Port::Inside } else { Port::Outside };
                Event::Frame { side, frame: made(bytes)? }
            }
        });
    }
    if let Err(why) = watch::watch(protect, &events) {
        panic!("{protect:?}: {why}");
    }
    Ok(())
}

/// A frame of either family, between hosts that matter, with a few changed bytes.
fn made(bytes: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let alias = Host { address: [10, 9, 8, 7].into(), ..NAS };
    let all = Host { hardware: harness::BROADCAST, address: [255; 4].into() };
    let hosts = [NAS, CLIENT, STRANGER, alias, watch::PRINTER, all, Host { hardware: all.hardware, ..NAS }];
    let six = |host: Host| Host6 { hardware: host.hardware, address: attacks::NAS6 };
    let hosts6 =
        [six(NAS), watch::CLIENT6, six(watch::PRINTER), six(all), Host6 { address: alias6(), ..six(NAS) }];
    let ports = [22, 53, 80, 67, 68, 40_123, harness::KNOCK_PORT];
    let (from_port, to_port) = (*bytes.choose(&ports)?, *bytes.choose(&ports)?);
    let path = Path { from: *bytes.choose(&hosts)?, from_port, to: *bytes.choose(&hosts)?, to_port };
    let transport =
        if bytes.arbitrary()? { Transport::Tcp(Flags(bytes.arbitrary()?)) } else { Transport::Udp };
    let (from, to) = (*bytes.choose(&hosts6)?, *bytes.choose(&hosts6)?);
    let six = match transport {
        Transport::Tcp(flags) => tcp6(from, to, (from_port, to_port), flags),
        Transport::Udp => udp6(from, to, (from_port, to_port), b"12345678"),
    };
    let mut frame = match bytes.arbitrary::<u8>()? % 8 {
        0 => bytes.arbitrary::<Vec<u8>>()?,
        1 => frame::arp(
            if bytes.arbitrary()? { ArpOperation::Request } else { ArpOperation::Reply },
            path.from,
            path.to,
        ),
        2 => {
            let about = frame::segment(transport, path, b"12345678");
            let (from, to) = (*bytes.choose(&hosts)?, *bytes.choose(&hosts)?);
            frame::icmp(from, to, bytes.arbitrary()?, &about[14..])
        }
        3 => six.behind(*bytes.choose(&[0, 43, 44, 60])?).frame(from, to),
        4 => six.frame(from, to),
        5 => {
            let about = six.frame(from, to);
            let (from, to) = (*bytes.choose(&hosts6)?, *bytes.choose(&hosts6)?);
            icmp6(from, to, bytes.arbitrary()?, &[&[0; 4], &about[14..]].concat()).frame(from, to)
        }
        6 => neighbour(from, to, 133 + bytes.arbitrary::<u8>()? % 5, to.address, Some(from.hardware))
            .frame(from, to),
        _ => frame::segment(transport, path, b"12345678"),
    };
    if bytes.arbitrary::<u8>()? < 64 && frame.len() >= 12 {
        frame = attacks::tagged(&frame, 0x8100, bytes.arbitrary()?);
    }
    if bytes.arbitrary::<u8>()? < 64 && !frame.is_empty() {
        let at = bytes.arbitrary::<u16>()? as usize % frame.len();
        frame[at] ^= bytes.arbitrary::<u8>()?;
    }
    Ok(frame)
}

/// Another address of the protected host.
fn alias6() -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x20)
}

/// A configuration in flash: what is read is written the same way.
fn stored(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    for sealed in [false, true] {
        if sealed && bytes.len() >= 12 {
            // Behind a right head, so that the rest is read.
            let length = (bytes.len().min(4_096) as u16).to_le_bytes();
            let version = if bytes[4] & 1 == 0 { VERSION as u8 } else { 1 };
            bytes.truncate(4_096);
            bytes[..8].copy_from_slice(&[b'P', b'K', b'D', b'g', version, 0, length[0], length[1]]);
            let crc = crc32(bytes[..8].iter().chain(&bytes[12..]));
            bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok(config) = Config::<4>::parse(&bytes) {
            let mut again = [0; 4_096];
            let length = config.emit(&mut again).unwrap_or_else(|error| panic!("{error:?} of {config:?}"));
            assert_eq!(Config::<4>::parse(&again[..length]).as_ref(), Ok(&config));
        }
    }
}

/// CRC-32 as Ethernet has it, bit by bit.
fn crc32<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// Whether a frame carries TCP or UDP over IPv4 and all its checksums hold.
fn is_whole(frame: &[u8]) -> bool {
    let mut frame = frame.to_vec();
    if frame.len() > 18 && frame[12..14] == [0x81, 0] {
        frame.drain(12..16);
    }
    if frame.len() < 34 || frame[12..14] != [8, 0] || frame[14] >> 4 != 4 {
        return false;
    }
    let header = usize::from(frame[14] & 15) * 4;
    let total = usize::from(frame[16]) * 256 + usize::from(frame[17]);
    if header < 20
        || total < header + 8
        || frame.len() < 14 + total
        || (frame[20] & 0x3f, frame[21]) != (0, 0)
    {
        return false;
    }
    let (packet, protocol) = (&frame[14..14 + total], frame[23]);
    let sum = |words: &[u8], start: u32| {
        let mut sum = start;
        for pair in words.chunks(2) {
            sum += u32::from(pair[0]) * 256 + u32::from(pair.get(1).copied().unwrap_or(0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    };
    if sum(&packet[..header], 0) != 0xffff {
        return false;
    }
    let carried = &packet[header..];
    let pseudo = sum(&packet[12..20], u32::from(protocol) + carried.len() as u32);
    match protocol {
        6 if carried.len() >= 20 => sum(carried, pseudo) == 0xffff,
        17 => {
            let length = usize::from(carried[4]) * 256 + usize::from(carried[5]);
            length == carried.len() && (carried[6..8] == [0, 0] || sum(carried, pseudo) == 0xffff)
        }
        _ => false,
    }
}
