//! Inline mode: a bridge between two sides.

use pkd_core::{Reason, Verdict};
use pkd_gateway::{Action, DropReason, Inline, Mode, Pass, Port, VLAN_TAG_LENGTH, Vlans, untag};
use smoltcp::wire::{ArpOperation, EthernetAddress, Ipv4Packet};

use crate::{
    frame::{self, ACK, Host, Path, SYN, SYN_ACK},
    harness::{
        BROADCAST, CLIENT, GATEWAY, INLINE, NAS, READY, RULES, STRANGER, Small, SmallTables, inline, knock,
        ready, seconds, send_knock,
    },
};

/// From a client directly to the NAS, as a bridge sees it.
fn to_nas(from: Host, from_port: u16, to_port: u16) -> Path {
    Path { from, from_port, to: NAS, to_port }
}

fn to_client(from_port: u16, to_port: u16) -> Path {
    Path { from: NAS, from_port, to: CLIENT, to_port }
}

fn verdict_of(action: Action) -> Option<Verdict> {
    match action {
        Action::Knock(outcome) => Some(outcome.verdict),
        _ => None,
    }
}

fn through(gateway: &mut Small<'_>, port: Port, frame: &[u8]) -> Action {
    let mut bytes = frame.to_vec();
    let action = gateway.on_frame(READY, port, &mut bytes);
    assert_eq!(bytes, frame, "a bridge does not change frames");
    action
}

const IN: Action = Action::Forward(Port::Inside);
const OUT: Action = Action::Forward(Port::Outside);

#[test]
fn everything_is_forwarded_except_new_flows_to_protected_services() {
    let (mut tables, config) = (SmallTables::new(), inline());
    let mut gateway = ready(&mut tables, &config);
    let other = Host::new(9, [192, 168, 1, 21]);
    let everybody = Host::new(0, [255, 255, 255, 255]);
    let all = Host { hardware: BROADCAST, ..everybody };
    let subnet = Host { hardware: BROADCAST, address: [192, 168, 1, 255].into() };
    let group =
        Host { hardware: EthernetAddress([1, 0, 0x5e, 0, 0, 0xfb]), address: [224, 0, 0, 251].into() };
    let fragment = |to: Host| {
        let mut frame = frame::udp(Path { from: CLIENT, from_port: 1, to, to_port: 9 }, b"12345678");
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
        packet.set_frag_offset(64);
        packet.fill_checksum();
        frame
    };
    let to = |to: Host, to_port: u16| frame::udp(Path { from: CLIENT, from_port: 1, to, to_port }, b"");
    let table: &[(&str, Port, Vec<u8>, Action)] = &[
        (
            "a SYN to the service",
            Port::Outside,
            frame::tcp(SYN, to_nas(CLIENT, 1, 22), b""),
            Action::Drop(DropReason::NoGrant),
        ),
        (
            "an ACK to it",
            Port::Outside,
            frame::tcp(ACK, to_nas(CLIENT, 1, 22), b""),
            Action::Drop(DropReason::NoGrant),
        ),
        ("a datagram to the service", Port::Outside, to(NAS, 53), Action::Drop(DropReason::NoGrant)),
        ("the same, broadcast", Port::Outside, to(all, 53), Action::Drop(DropReason::NoGrant)),
        ("directed broadcast", Port::Outside, to(subnet, 53), Action::Drop(DropReason::NoGrant)),
        ("multicast", Port::Outside, to(group, 53), Action::Drop(DropReason::NoGrant)),
        ("a fragment to the host", Port::Outside, fragment(NAS), Action::Drop(DropReason::Fragment)),
        ("a fragment to another host", Port::Outside, fragment(other), IN),
        ("another port of the host", Port::Outside, frame::tcp(SYN, to_nas(CLIENT, 1, 80), b""), IN),
        (
            "that port of another host",
            Port::Outside,
            frame::tcp(SYN, Path { to: other, ..to_nas(CLIENT, 1, 22) }, b""),
            IN,
        ),
        ("multicast to another port", Port::Outside, to(group, 5_353), IN),
        ("a ping to the host", Port::Outside, frame::icmp(CLIENT, NAS, 8, b"12345678"), IN),
        (
            "an ARP request for the host",
            Port::Outside,
            frame::arp(ArpOperation::Request, CLIENT, Host { hardware: BROADCAST, ..NAS }),
            IN,
        ),
        ("the host's own flow", Port::Inside, frame::tcp(SYN, to_client(5_000, 443), b""), OUT),
        ("the host's datagram", Port::Inside, frame::udp(to_client(1, 2), b""), OUT),
    ];
    for (row, (name, port, frame, action)) in table.iter().enumerate() {
        assert_eq!(through(&mut gateway, *port, frame), *action, "row {row}: {name}");
    }
}

#[test]
fn a_knock_to_the_gateway_or_the_host_is_accepted_and_never_forwarded() {
    for (row, at) in [GATEWAY, NAS].into_iter().enumerate() {
        let (mut tables, config) = (SmallTables::new(), inline());
        let mut gateway = ready(&mut tables, &config);
        let path = Path { from: CLIENT, from_port: 5_000, to: at, to_port: crate::harness::KNOCK_PORT };
        let given = through(&mut gateway, Port::Outside, &frame::udp(path, &knock("SSHK", READY, 1)));
        assert_eq!(verdict_of(given), Some(Verdict::Accept), "row {row}");
        let syn = |from| frame::tcp(SYN, to_nas(from, 5_001, 22), b"");
        assert_eq!(through(&mut gateway, Port::Outside, &syn(CLIENT)), IN, "row {row}");
        assert_eq!(
            through(&mut gateway, Port::Outside, &syn(STRANGER)),
            Action::Drop(DropReason::NoGrant),
            "row {row}"
        );
        let answer = frame::tcp(SYN_ACK, to_client(22, 5_001), b"");
        assert_eq!(through(&mut gateway, Port::Inside, &answer), OUT, "row {row}");
        // The flow is established, so it outlives the grant.
        let mut later = frame::tcp(ACK, to_nas(CLIENT, 5_001, 22), b"");
        assert_eq!(gateway.on_frame(seconds(3_600), Port::Outside, &mut later), IN, "row {row}");
        let mut new = frame::tcp(SYN, to_nas(CLIENT, 5_002, 22), b"");
        assert_eq!(
            gateway.on_frame(seconds(3_600), Port::Outside, &mut new),
            Action::Drop(DropReason::NoGrant),
            "row {row}"
        );
    }
}

#[test]
fn both_protected_hosts_are_protected() {
    let second = Host::new(9, [192, 168, 1, 21]);
    let (mut tables, mut config) = (SmallTables::new(), inline());
    config.services[1].inside.address = second.address.into();
    let mut gateway = ready(&mut tables, &config);
    let held = Action::Drop(DropReason::NoGrant);
    for (row, host) in [NAS, second].into_iter().enumerate() {
        let path = Path { from: CLIENT, from_port: 5_000, to: host, to_port: crate::harness::KNOCK_PORT };
        let mut fragment = frame::udp(path, b"12345678");
        let mut packet = Ipv4Packet::new_unchecked(&mut fragment[14..]);
        packet.set_frag_offset(64);
        packet.fill_checksum();
        assert_eq!(
            through(&mut gateway, Port::Outside, &fragment),
            Action::Drop(DropReason::Fragment),
            "row {row}"
        );
        let wrong = frame::udp(path, b"a knock that is too short");
        assert_eq!(
            verdict_of(through(&mut gateway, Port::Outside, &wrong)),
            Some(Verdict::Ignore(Reason::Length)),
            "row {row}: knocks to its address are for the gateway"
        );
        let (ssh, dns) = if host == NAS { (held, IN) } else { (IN, held) };
        let syn = frame::tcp(SYN, Path { to_port: 22, ..path }, b"");
        assert_eq!(through(&mut gateway, Port::Outside, &syn), ssh, "row {row}: only the NAS has SSH");
        let query = frame::udp(Path { to_port: 53, ..path }, b"");
        assert_eq!(through(&mut gateway, Port::Outside, &query), dns, "row {row}: only the second has DNS");
    }
}

#[test]
fn a_grant_does_not_cover_broadcast_or_multicast() {
    let (mut tables, config) = (SmallTables::new(), inline());
    let mut gateway = ready(&mut tables, &config);
    assert_eq!(send_knock(&mut gateway, READY, CLIENT, &knock("BOTH", READY, 1)), Ok(Verdict::Accept));
    let to = |address: [u8; 4]| {
        let all = Host { hardware: BROADCAST, address: address.into() };
        frame::udp(Path { from: CLIENT, from_port: 1, to: all, to_port: 53 }, b"")
    };
    for (row, address) in [[255; 4], [192, 168, 1, 255], [224, 0, 0, 251]].into_iter().enumerate() {
        assert_eq!(
            through(&mut gateway, Port::Outside, &to(address)),
            Action::Drop(DropReason::NoGrant),
            "row {row}"
        );
    }
}

#[test]
fn a_knock_from_the_inside_is_forwarded_like_any_datagram() {
    let (mut tables, config) = (SmallTables::new(), inline());
    let mut gateway = ready(&mut tables, &config);
    let path = Path { from: NAS, from_port: 5_000, to: CLIENT, to_port: crate::harness::KNOCK_PORT };
    assert_eq!(through(&mut gateway, Port::Inside, &frame::udp(path, &knock("SSHK", READY, 1))), OUT);
}

#[test]
fn a_source_routed_packet_is_dropped() {
    let (mut tables, config) = (SmallTables::new(), inline());
    let mut gateway = ready(&mut tables, &config);
    let with = |options: [u8; 4]| {
        let mut frame = frame::icmp(CLIENT, NAS, 8, b"12345678");
        frame.splice(34..34, options);
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
        packet.set_header_len(24);
        packet.set_total_len(40);
        packet.fill_checksum();
        frame
    };
    let malformed = Action::Drop(DropReason::Malformed);
    let table = [
        ("padding", [1, 1, 1, 0], IN),
        ("router alert (RFC 2113)", [148, 4, 0, 0], IN),
        ("loose source route", [131, 3, 4, 0], malformed),
        ("strict source route, behind padding", [1, 137, 3, 4], malformed),
        ("an option without a length", [148, 0, 0, 0], malformed),
    ];
    for (row, (name, options, action)) in table.into_iter().enumerate() {
        assert_eq!(through(&mut gateway, Port::Outside, &with(options)), action, "row {row}: {name}");
    }
}

#[test]
fn the_counters_can_be_read_from_the_inside_only() {
    let (mut tables, config) = (SmallTables::new(), inline());
    let mut gateway = ready(&mut tables, &config);
    let syn = frame::tcp(SYN, Path { from: NAS, from_port: 5_000, to: GATEWAY, to_port: 9_100 }, b"");
    assert_eq!(through(&mut gateway, Port::Inside, &syn), Action::Local { skip: 0 });
    assert_eq!(through(&mut gateway, Port::Outside, &syn), Action::Drop(DropReason::Spoofed));
    let neighbour = Host::new(9, [192, 168, 1, 21]);
    let syn = frame::tcp(SYN, Path { from: neighbour, from_port: 5_000, to: GATEWAY, to_port: 9_100 }, b"");
    assert_eq!(through(&mut gateway, Port::Inside, &syn), Action::Local { skip: 0 });
    assert_eq!(through(&mut gateway, Port::Outside, &syn), Action::Drop(DropReason::Unsolicited));
}

#[test]
fn protocols_that_cannot_be_checked_are_forwarded_only_if_configured() {
    let with = |kind: u16| {
        let mut frame = frame::udp(to_nas(CLIENT, 1, 80), b"");
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        frame
    };
    let held = Action::Drop(DropReason::Protocol);
    let pass = |ethertype| Pass { ethertypes: [ethertype, 0, 0, 0, 0, 0, 0, 0], ..Pass::default() };
    let table = [(pass(0), held), (pass(0x8892), held), (pass(0x88cc), IN)];
    for (row, (pass, expected)) in table.into_iter().enumerate() {
        let (mut tables, mut config) = (SmallTables::new(), inline());
        config.mode = Mode::Inline(Inline { pass, ipv6: false, ..INLINE });
        let mut gateway = ready(&mut tables, &config);
        assert_eq!(through(&mut gateway, Port::Outside, &with(0x86dd)), held, "row {row}: IPv6");
        assert_eq!(through(&mut gateway, Port::Outside, &with(0x88cc)), expected, "row {row}: LLDP");
        // A tag would hide the protocol behind it.
        assert_eq!(through(&mut gateway, Port::Outside, &with(0x8100)), held, "row {row}: a VLAN tag");
        assert_eq!(through(&mut gateway, Port::Outside, &with(0)), held, "row {row}: an unused place");
    }
}

const VLANS: Vlans = Vlans { outside: 10, inside: 20 };

fn tagged(frame: &[u8], control: u16) -> Vec<u8> {
    let mut tagged = frame.to_vec();
    let [a, b] = control.to_be_bytes();
    tagged.splice(12..12, [0x81, 0, a, b]);
    tagged
}

/// Replaces the `EtherType` of a frame.
fn typed(frame: &[u8], kind: u16) -> Vec<u8> {
    let mut typed = frame.to_vec();
    typed[12..14].copy_from_slice(&kind.to_be_bytes());
    typed
}

fn trunk() -> pkd_gateway::Config<RULES> {
    let mut config = inline();
    config.mode = Mode::Inline(Inline { vlans: Some(VLANS), ..INLINE });
    config
}

/// A test case: its name, a frame, the expected action, and the expected tag.
type Crossing = (&'static str, Vec<u8>, Result<Action, DropReason>, u16);

#[test]
fn on_a_trunk_frames_change_their_vlan_and_keep_their_priority() {
    let (mut tables, config) = (SmallTables::new(), trunk());
    let mut gateway =
        pkd_gateway::Gateway::new(&mut tables, &config, GATEWAY.hardware, pkd_gateway::Floors::default());
    gateway.set_time(pkd_gateway::Instant(0), crate::harness::millis(crate::harness::START)).unwrap();
    let web = frame::tcp(SYN, to_nas(CLIENT, 1, 80), b"");
    let ssh = frame::tcp(SYN, to_nas(CLIENT, 1, 22), b"");
    let back = frame::tcp(SYN, to_client(5_000, 443), b"");
    let crossed = Ok(Action::Forward(Port::Outside));
    let table: &[Crossing] = &[
        ("ingress", tagged(&web, 10), crossed, 20),
        ("with a priority", tagged(&web, 0xe00a), crossed, 0xe014),
        ("egress", tagged(&back, 20), crossed, 10),
        ("to the service", tagged(&ssh, 10), Err(DropReason::NoGrant), 0),
        ("to the service, from the inside", tagged(&ssh, 20), crossed, 10),
        ("another VLAN", tagged(&web, 30), Err(DropReason::NotForUs), 0),
        ("untagged", web.clone(), Err(DropReason::NotForUs), 0),
        ("a provider's tag (802.1ad)", typed(&tagged(&web, 10), 0x88a8), Err(DropReason::NotForUs), 0),
        (
            "no tag, and a VLAN's number by chance",
            typed(&tagged(&web, 20), 0x88cc),
            Err(DropReason::NotForUs),
            0,
        ),
    ];
    for (row, (name, frame, action, control)) in table.iter().enumerate() {
        let mut bytes = frame.clone();
        let given = gateway.on_frame(READY, Port::Outside, &mut bytes);
        assert_eq!(given, action.unwrap_or_else(Action::Drop), "row {row}: {name}");
        if action.is_ok() {
            let mut expected = frame.clone();
            expected[14..16].copy_from_slice(&control.to_be_bytes());
            assert_eq!(bytes, expected, "row {row}: {name}");
        }
    }
}

#[test]
fn on_a_trunk_the_network_stack_receives_and_sends_untagged_frames() {
    let (mut tables, config) = (SmallTables::new(), trunk());
    let mut gateway =
        pkd_gateway::Gateway::new(&mut tables, &config, GATEWAY.hardware, pkd_gateway::Floors::default());
    let ping = frame::icmp(CLIENT, GATEWAY, 8, b"12345678");
    let mut bytes = tagged(&ping, 10);
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut bytes), Action::Local { skip: VLAN_TAG_LENGTH });
    assert_eq!(bytes[VLAN_TAG_LENGTH..], ping);

    let question = frame::arp(ArpOperation::Request, NAS, Host { hardware: BROADCAST, ..GATEWAY });
    let mut bytes = tagged(&question, 20);
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut bytes), Action::ForwardAndUntagged(Port::Outside));
    assert_eq!(bytes, tagged(&question, 10));
    untag(&mut bytes);
    assert_eq!(bytes[VLAN_TAG_LENGTH..], question);

    let mut out = [0; 128];
    for (copy, vlan) in [(0, 10), (1, 20)] {
        let (port, length) = gateway.on_stack_frame(&ping, copy, &mut out).unwrap();
        assert_eq!((port, &out[..length]), (Port::Outside, &tagged(&ping, vlan)[..]), "copy {copy}");
    }
    assert_eq!(gateway.on_stack_frame(&ping, 2, &mut out), None);
}

#[test]
fn a_frame_without_room_for_a_tag_is_not_changed() {
    for length in 0..20_u8 {
        let frame: Vec<u8> = (0..length).collect();
        let mut untagged = frame.clone();
        untag(&mut untagged);
        if length < 16 {
            assert_eq!(untagged, frame, "{length} bytes");
        } else {
            assert_eq!(
                (&untagged[VLAN_TAG_LENGTH..16], &untagged[16..]),
                (&frame[..12], &frame[16..]),
                "{length} bytes"
            );
        }
    }
}

#[test]
fn frames_of_the_network_stack_are_sent_to_both_sides() {
    let (mut tables, config) = (SmallTables::new(), inline());
    let gateway = ready(&mut tables, &config);
    let mut out = [0; 64];
    let sent = |copy, out: &mut [u8]| gateway.on_stack_frame(b"a frame", copy, out);
    assert_eq!(sent(0, &mut out), Some((Port::Outside, 7)));
    assert_eq!(sent(1, &mut out), Some((Port::Inside, 7)));
    assert_eq!(sent(2, &mut out), None);
    assert_eq!(out[..7], *b"a frame");
}

#[test]
fn frames_for_an_inside_host_stay_inside() {
    let (mut tables, config) = (SmallTables::new(), inline());
    let mut gateway = ready(&mut tables, &config);
    let mut out = [0; 128];
    let mut sides = |gateway: &Small<'_>, to: Host| {
        let answer = frame::icmp(GATEWAY, to, 0, b"counters");
        [0, 1].map(|copy| gateway.on_stack_frame(&answer, copy, &mut out).map(|(port, _)| port))
    };
    // `ready` has received a frame from the NAS.
    assert_eq!(sides(&gateway, NAS), [Some(Port::Inside), None]);
    assert_eq!(sides(&gateway, CLIENT), [Some(Port::Outside), Some(Port::Inside)]);
    // Strangers cannot change this, whatever their MAC address, not even with the NAS's.
    for last in 0..=255 {
        let stranger = Host::new(last, [203, 0, 113, last]);
        let _ = gateway.on_frame(READY, Port::Outside, &mut frame::icmp(stranger, GATEWAY, 8, b"12345678"));
    }
    assert_eq!(sides(&gateway, NAS), [Some(Port::Inside), None]);
}

/// A test case: its name, the hosts that send to the gateway in this order, those that it remembers, and others.
type Speaking = (&'static str, Vec<u8>, Vec<u8>, Vec<u8>);

#[test]
fn the_gateway_remembers_the_last_eight_inside_hosts() {
    let speaker = |number: u8| Host::new(100 + number, [192, 168, 1, 100 + number]);
    let table: [Speaking; 4] = [
        ("no host", vec![], vec![], vec![1]),
        ("eight", (1..=8).collect(), (1..=8).collect(), vec![9]),
        ("nine: the first is evicted", (1..=9).collect(), (2..=9).collect(), vec![1]),
        ("one host nine times uses one slot", [vec![1], vec![2; 9]].concat(), vec![1, 2], vec![3]),
    ];
    for (row, (name, speaking, known, unknown)) in table.into_iter().enumerate() {
        let (mut tables, config) = (SmallTables::new(), inline());
        let mut gateway = Small::new(&mut tables, &config, GATEWAY.hardware, pkd_gateway::Floors::default());
        for number in speaking {
            let mut ping = frame::icmp(speaker(number), GATEWAY, 8, b"12345678");
            let given = gateway.on_frame(READY, Port::Inside, &mut ping);
            assert_eq!(given, Action::Local { skip: 0 }, "row {row}: {name}");
        }
        let both = [Some(Port::Outside), Some(Port::Inside)];
        let expected = known
            .into_iter()
            .map(|number| (number, [Some(Port::Inside), None]))
            .chain(unknown.into_iter().map(|number| (number, both)));
        for (number, sides) in expected {
            let answer = frame::icmp(GATEWAY, speaker(number), 0, b"counters");
            let mut out = [0; 128];
            let sent =
                [0, 1].map(|copy| gateway.on_stack_frame(&answer, copy, &mut out).map(|(port, _)| port));
            assert_eq!(sent, sides, "row {row}: {name}: host {number}");
        }
    }
}

#[test]
fn a_knock_is_never_answered() {
    let (mut tables, config) = (SmallTables::new(), inline());
    let mut gateway = ready(&mut tables, &config);
    assert_eq!(send_knock(&mut gateway, READY, CLIENT, &knock("SSHK", READY, 1)), Ok(Verdict::Accept));
    let mut out = [0; 64];
    assert_eq!(gateway.on_tick(READY, &mut out), None);
}
