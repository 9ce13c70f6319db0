//! Properties that hold for every frame.

use pkd_gateway::{
    Action, DropReason, Gateway, Inline, Instant, KnockOutcome, Mode, Pass, Port, Protect, Vlans,
};
use proptest::prelude::*;
use smoltcp::wire::{ArpOperation, EthernetFrame, EthernetProtocol, Ipv4Packet};

use crate::{
    frame::{self, Flags, Host, Path, SYN, Transport},
    harness::{
        CLIENT, DNS, GATEWAY, INLINE, NAS, READY, SSH, START, Small, SmallTables, from_nas, inline, millis,
        one_arm, open, ready, to_gateway,
    },
};

/// Frames from strangers: random bytes, or valid frames with a few changed bytes and some truncated.
fn stranger() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..1_515);
    let good =
        (any::<bool>(), any::<u8>(), any::<u16>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..64))
            .prop_map(|(tcp, flags, from_port, to_port, payload)| {
                let ports = [SSH, DNS, 40_000, 9_100, 22, 53, 12_300];
                let to_port = ports.get(usize::from(to_port) % 9).copied().unwrap_or(to_port);
                let transport = if tcp { Transport::Tcp(Flags(flags)) } else { Transport::Udp };
                frame::segment(transport, to_gateway(CLIENT, from_port, to_port), &payload)
            });
    let turned = (
        good,
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(mut frame, turns, end)| {
            for (at, byte) in turns {
                let at = at.index(frame.len());
                frame[at] ^= byte;
            }
            // Three in four are not truncated.
            let end = end.index(frame.len() * 4);
            frame.truncate(end.max(1));
            frame
        });
    prop_oneof![noise, turned]
}

fn modes() -> impl Strategy<Value = Mode> {
    let trunk = Some(Vlans { outside: 10, inside: 20 });
    let pass = Pass { ethertypes: [0x8892, 0x88cc, 0, 0, 0, 0, 0, 0], protocols: [47, 50, 0, 0, 0, 0, 0, 0] };
    prop_oneof![
        Just(Mode::OneArm),
        Just(Mode::Inline(Inline { pass, ..INLINE })),
        Just(Mode::Inline(Inline { vlans: trunk, protect: Protect::Host, ipv6: true, pass })),
    ]
}

/// Removes a VLAN tag, if there is one.
fn plain(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame.len() > 18 && frame[12..14] == [0x81, 0] {
        frame.drain(12..16);
    }
    frame
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_frame_panics_grows_or_leaves_with_a_wrong_checksum(
        frames in prop::collection::vec((stranger(), any::<bool>()), 1..20),
        mode in modes(),
        granted in any::<bool>(),
    ) {
        let mut tables = SmallTables::new();
        let mut config = if mode == Mode::OneArm { one_arm() } else { inline() };
        config.mode = mode;
        let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, START.into());
        gateway.set_time(Instant(0), millis(START)).unwrap();
        let mut question = [0; 128];
        while gateway.on_tick(READY, &mut question).is_some() {}
        let _ = gateway.on_frame(READY, Port::Inside, &mut frame::arp(ArpOperation::Reply, NAS, GATEWAY));
        if granted && mode == Mode::OneArm {
            open(&mut gateway, READY, CLIENT, "BOTH");
        }
        for (frame, inside) in frames {
            let good = is_whole(&frame);
            let mut bytes = frame.clone();
            let action = gateway.on_frame(READY, if inside { Port::Inside } else { Port::Outside }, &mut bytes);
            prop_assert_eq!(bytes.len(), frame.len());
            if good && matches!(action, Action::Forward(_)) {
                prop_assert!(is_whole(&bytes), "it had right checksums before: {:?}", frame);
            }
        }
    }

    #[test]
    fn a_round_trip_restores_the_packet(
        tcp in any::<bool>(),
        from_port in 1_u16..,
        payload in prop::collection::vec(any::<u8>(), 0..1_400),
        checksum in any::<bool>(),
    ) {
        let (mut tables, config) = (SmallTables::new(), one_arm());
        let mut gateway = ready(&mut tables, &config);
        open(&mut gateway, READY, CLIENT, "BOTH");
        let (transport, port, inside) = if tcp { (Transport::Tcp(SYN), SSH, 22) } else { (Transport::Udp, DNS, 53) };
        let sent = without_checksum(frame::segment(transport, to_gateway(CLIENT, from_port, port), &payload), checksum || tcp);
        let there = forwarded(&mut gateway, &sent);
        // The NAS sends the same payload back.
        let echo = frame::segment(transport, from_nas(inside, frame::parse(&there).unwrap().from.1), &payload);
        let back = forwarded(&mut gateway, &without_checksum(echo, checksum || tcp));
        let mut expected = frame::segment(
            transport,
            Path { from: GATEWAY, from_port: port, to: CLIENT, to_port: from_port },
            &payload,
        );
        let mut packet = Ipv4Packet::new_unchecked(&mut expected[14..]);
        packet.set_hop_limit(frame::TTL_SENT - 1);
        packet.fill_checksum();
        prop_assert_eq!(back, without_checksum(expected, checksum || tcp));
        prop_assert!(there.len() == sent.len());
    }

    #[test]
    fn a_stranger_never_reaches_a_service(
        frames in prop::collection::vec((any::<bool>(), any::<u8>(), any::<u16>(), any::<u16>()), 1..50),
        bridge in any::<bool>(),
    ) {
        let mut tables = SmallTables::new();
        let config = if bridge { inline() } else { one_arm() };
        let mut gateway = ready(&mut tables, &config);
        // Another client has a grant.
        let honest = Host::new(3, [203, 0, 113, 200]);
        open(&mut gateway, READY, honest, "BOTH");
        for (tcp, flags, from_port, to_port) in frames {
            let transport = if tcp { Transport::Tcp(Flags(flags)) } else { Transport::Udp };
            let (to, ports) = if bridge { (NAS, [22, 53]) } else { (GATEWAY, [SSH, DNS]) };
            let to_port = if tcp { ports[0] } else if to_port.is_multiple_of(4) { to_port } else { ports[1] };
            let path = Path { from: CLIENT, from_port, to, to_port };
            let action = gateway.on_frame(READY, Port::Outside, &mut frame::segment(transport, path, b""));
            let to_service = !bridge || ports.contains(&to_port) || to_port == 40_000;
            let is_blocked = matches!(action, Action::Drop(_) | Action::Knock(KnockOutcome { sender: None, .. }));
            prop_assert!(!to_service || is_blocked, "{:?}", action);
        }
        prop_assert_eq!(gateway.counters().flows, 0);
    }
}

/// UDP may have no checksum (RFC 768).
fn without_checksum(mut frame: Vec<u8>, keep: bool) -> Vec<u8> {
    if !keep {
        frame[14 + 20 + 6..14 + 20 + 8].fill(0);
    }
    frame
}

fn forwarded(gateway: &mut Small<'_>, frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut bytes), Action::Forward(Port::Outside));
    bytes
}

/// Whether a frame is an IPv4 packet with correct checksums.
fn is_whole(frame: &[u8]) -> bool {
    let frame = plain(frame);
    let Ok(ethernet) = EthernetFrame::new_checked(&frame[..]) else { return false };
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return false;
    }
    // `parse` panics if a checksum is wrong.
    std::panic::catch_unwind(|| frame::parse(&frame)).is_ok_and(|seen| seen.is_some())
}

#[test]
fn a_truncated_frame_of_any_length_is_malformed() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    let whole = frame::tcp(SYN, to_gateway(CLIENT, 1, SSH), &[0; 1_460]);
    assert_eq!(whole.len(), 1_514);
    for length in 0..whole.len() {
        let given = gateway.on_frame(READY, Port::Outside, &mut whole[..length].to_vec());
        assert_eq!(given, Action::Drop(DropReason::Malformed), "{length}");
    }
}
