//! The property of inline mode: nothing from outside reaches a protected host unless a grant or a flow covers it.

use pkd_gateway::{Port, Protect};
use proptest::{prelude::*, strategy::ValueTree};
use smoltcp::wire::{ArpOperation, EthernetAddress, IpProtocol};

use crate::{
    attacks::{self, DNS, NAS6, SSH},
    frame::{self, Flags, Host, Path, Transport},
    frame6::{Host6, Packet6, icmp6, neighbour, tcp6, udp6},
    harness::{CLIENT, GATEWAY, KNOCK_PORT, NAS, STRANGER},
    watch::{CLIENT6, Event, PRINTER, watch},
};

fn hosts() -> BoxedStrategy<Host> {
    let alias = Host { address: [10, 9, 8, 7].into(), ..NAS };
    let all = Host { hardware: EthernetAddress([0xff; 6]), ..NAS };
    let everybody = Host { address: [255; 4].into(), ..all };
    let unknown = Host::new(0x55, [192, 168, 1, 99]);
    prop::sample::select(vec![
        NAS, NAS, NAS, alias, all, everybody, PRINTER, CLIENT, CLIENT, STRANGER, GATEWAY, unknown,
    ])
    .boxed()
}

fn hosts6() -> BoxedStrategy<Host6> {
    let at = |hardware, last| Host6 {
        hardware,
        address: std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last),
    };
    let nas = Host6 { hardware: NAS.hardware, address: NAS6 };
    let local = Host6 { address: "fe80::20".parse().unwrap(), ..nas };
    let all =
        Host6 { hardware: EthernetAddress([0x33, 0x33, 0, 0, 0, 1]), address: "ff02::1".parse().unwrap() };
    prop::sample::select(vec![
        nas,
        nas,
        nas,
        local,
        all,
        at(PRINTER.hardware, 0x21),
        CLIENT6,
        CLIENT6,
        at(STRANGER.hardware, 0x77),
    ])
    .boxed()
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let port = prop::sample::select(vec![SSH, DNS, 80, 67, 68, 40_123, 40_124, KNOCK_PORT]);
    let ports = (port.clone(), port);
    let transport =
        prop_oneof![Just(Transport::Udp), (0_u8..64).prop_map(|flags| Transport::Tcp(Flags(flags)))];
    let segment = (hosts(), hosts(), ports.clone(), transport.clone())
        .prop_map(|(from, to, (from_port, to_port), transport)| {
            frame::segment(transport, Path { from, from_port, to, to_port }, b"12345678")
        })
        .boxed();
    let error = (hosts(), hosts(), 0_u8..20, segment.clone())
        .prop_map(|(from, to, kind, about)| frame::icmp(from, to, kind, &about[14..]));
    let other = (hosts(), hosts(), any::<u8>())
        .prop_map(|(from, to, protocol)| frame::ipv4(from, to, IpProtocol::from(protocol), 24, |_, _, _| {}));
    let arp = (hosts(), hosts(), any::<bool>()).prop_map(|(from, to, asks)| {
        frame::arp(if asks { ArpOperation::Request } else { ArpOperation::Reply }, from, to)
    });
    let six = (
        hosts6(),
        hosts6(),
        ports,
        transport,
        prop::collection::vec(prop::sample::select(vec![0_u8, 60, 43, 44]), 0..3),
    )
        .prop_map(|(from, to, ports, transport, behind)| {
            let packet = match transport {
                Transport::Tcp(flags) => tcp6(from, to, ports, flags),
                Transport::Udp => udp6(from, to, ports, b"12345678"),
            };
            behind.into_iter().fold(packet, Packet6::behind).frame(from, to)
        })
        .boxed();
    let icmp = (hosts6(), hosts6(), any::<u8>(), prop::sample::select(vec![1_u8, 64, 255]), six.clone())
        .prop_map(|(from, to, kind, hops, about)| {
            let message = icmp6(from, to, kind, &[&[0; 4], &about[14..]].concat());
            Packet6 { hops, ..message }.frame(from, to)
        });
    let found = (hosts6(), hosts6())
        .prop_map(|(from, to)| neighbour(from, to, 135, to.address, Some(from.hardware)).frame(from, to));
    let plain = prop_oneof![4 => segment, 2 => error, 1 => other, 1 => arp, 3 => six, 2 => icmp, 1 => found];
    let tag = prop_oneof![4 => Just(None), 1 => prop::sample::select(vec![0_u16, 0xa000, 5]).prop_map(Some)];
    let change =
        prop_oneof![3 => Just(None), 1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(Some)];
    (plain, tag, change).prop_map(
        |(frame, tag, change): (Vec<u8>, Option<u16>, Option<(prop::sample::Index, u8)>)| {
            let mut frame = match tag {
                Some(control) => attacks::tagged(&frame, 0x8100, control),
                None => frame,
            };
            if let Some((at, byte)) = change {
                let at = at.index(frame.len());
                frame[at] ^= byte;
            }
            frame
        },
    )
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let side = prop_oneof![3 => Just(Port::Outside), 1 => Just(Port::Inside)];
    let event = prop_oneof![
        20 => (side, frames()).prop_map(|(side, frame)| Event::Frame { side, frame }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(v6, close)| Event::Knock { v6, close: close && !v6 }),
        1 => (0_u64..40_000).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_reaches_a_protected_host_unless_a_grant_or_a_flow_covers_it(
        events in events(),
        whole in any::<bool>(),
    ) {
        let protect = if whole { Protect::Host } else { Protect::Services };
        if let Err(why) = watch(protect, &events) {
            prop_assert!(false, "{protect:?}: {}", why);
        }
    }
}

#[test]
fn the_judge_sees_frames_that_pass() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut passed = 0;
    for _ in 0..300 {
        let events = events().new_tree(&mut runner).unwrap().current();
        passed += watch(Protect::Host, &events).unwrap();
    }
    assert!(passed > 300, "{passed} frames passed");
}
