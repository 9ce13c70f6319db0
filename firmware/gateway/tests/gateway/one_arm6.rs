//! One-arm mode with IPv6: services at the gateway's own IPv6 address.

use std::net::Ipv6Addr;

use pkd_core::Verdict;
use pkd_gateway::{Action, Config, DropReason, Instant, Port, Services};
use smoltcp::wire::EthernetAddress;

use crate::{
    frame::{ACK, Flags, SYN, SYN_ACK},
    frame6::{HOPS, Host6, Packet6, Parsed6, icmp6, neighbour, parse6, tcp6, udp6},
    harness::{
        GATEWAY, KNOCK_PORT, NAS, READY, RULES, SSH, START, Small, SmallTables, format2, millis, one_arm,
        seal6, seconds,
    },
};

const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
const US: Host6 = Host6 { hardware: GATEWAY.hardware, address: OWN };
const NAS6: Host6 =
    Host6 { hardware: NAS.hardware, address: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x20) };
const ROUTER: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 3]);
const CLIENT6: Host6 = Host6 { hardware: ROUTER, address: Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 1) };
const STRANGER6: Host6 = Host6 { hardware: ROUTER, address: Ipv6Addr::new(0x2001, 0xdb8, 8, 0, 0, 0, 0, 1) };
/// The group of solicitations for the gateway's address.
const GROUP: Host6 = Host6 {
    hardware: EthernetAddress([0x33, 0x33, 0xff, 0, 0, 9]),
    address: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 9),
};
const SENT: Action = Action::Forward(Port::Outside);

fn config() -> Config<RULES> {
    let mut config = format2(one_arm());
    config.address6 = Some((OWN, 64));
    let mut ssh = config.services[0].clone();
    ssh.name = "ssh6".try_into().unwrap();
    ssh.inside.address = NAS6.address.into();
    config.services.push(ssh).unwrap();
    config.rules[0].services = Services::NONE.with(2);
    config
}

/// A gateway that has the time and has asked for its hosts.
fn asking<'a>(tables: &'a mut SmallTables, config: &'a Config<RULES>) -> (Small<'a>, Vec<Vec<u8>>) {
    let mut gateway = Small::new(tables, config, GATEWAY.hardware, millis(START).into());
    gateway.set_time(Instant(0), millis(START)).unwrap();
    let questions = tick(&mut gateway, READY);
    (gateway, questions)
}

fn tick(gateway: &mut Small<'_>, now: Instant) -> Vec<Vec<u8>> {
    let (mut out, mut sent) = ([0; 128], Vec::new());
    while let Some((port, length)) = gateway.on_tick(now, &mut out) {
        assert_eq!(port, Port::Outside);
        sent.push(out[..length].to_vec());
    }
    sent
}

/// The same, after the NAS has answered.
fn ready<'a>(tables: &'a mut SmallTables, config: &'a Config<RULES>) -> Small<'a> {
    let (mut gateway, _) = asking(tables, config);
    let mut answer = neighbour(NAS6, US, 136, NAS6.address, Some(NAS6.hardware)).frame(NAS6, US);
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut answer), Action::Drop(DropReason::NotForUs));
    gateway
}

fn knock(gateway: &mut Small<'_>, from: Host6) -> Verdict {
    let sealed = seal6("SSHK", READY, CLIENT6.address, OWN);
    let mut frame = udp6(from, US, (5_000, KNOCK_PORT), &sealed).frame(from, US);
    match gateway.on_frame(READY, Port::Outside, &mut frame) {
        Action::Knock(outcome) => outcome.verdict,
        other => panic!("{other:?}"),
    }
}

/// Sends a segment to a port of the gateway. Returns what it sends on.
fn send(gateway: &mut Small<'_>, from: Host6, ports: (u16, u16), flags: Flags) -> Result<Parsed6, Action> {
    let mut frame = tcp6(from, US, ports, flags).frame(from, US);
    match gateway.on_frame(READY, Port::Outside, &mut frame) {
        SENT => Ok(parse6(&frame)),
        other => Err(other),
    }
}

#[test]
fn a_knock_opens_a_service_of_ipv6_to_its_sender_only() {
    let (mut tables, config) = (SmallTables::new(), config());
    let mut gateway = ready(&mut tables, &config);
    let closed = Err(Action::Drop(DropReason::NoGrant));
    assert_eq!(send(&mut gateway, CLIENT6, (5_001, SSH), SYN), closed);
    assert!(
        matches!(knock(&mut gateway, STRANGER6), Verdict::Ignore(_)),
        "it is bound to the client's address"
    );
    assert_eq!(knock(&mut gateway, CLIENT6), Verdict::Accept);
    assert_eq!(send(&mut gateway, STRANGER6, (5_001, SSH), SYN), closed);

    let there = send(&mut gateway, CLIENT6, (5_001, SSH), SYN).unwrap();
    let nat_port = there.from.1;
    assert_eq!(there.hardware, (GATEWAY.hardware, NAS.hardware));
    assert_eq!((there.from.0, there.to, there.hops), (OWN, (NAS6.address, 22), HOPS - 1));
    let back = send(&mut gateway, NAS6, (22, nat_port), SYN_ACK).unwrap();
    assert_eq!(back.hardware, (GATEWAY.hardware, ROUTER));
    assert_eq!((back.from, back.to), ((OWN, SSH), (CLIENT6.address, 5_001)));
    assert!(send(&mut gateway, CLIENT6, (5_001, SSH), ACK).is_ok());
    let thief = Host6 { hardware: ROUTER, ..NAS6 };
    assert_eq!(send(&mut gateway, thief, (22, nat_port), ACK), Err(Action::Drop(DropReason::NoFlow)));
}

#[test]
fn an_error_about_a_flow_of_ipv6_reaches_the_host_that_sent_the_packet() {
    let (mut tables, config) = (SmallTables::new(), config());
    let mut gateway = ready(&mut tables, &config);
    knock(&mut gateway, CLIENT6);
    let nat_port = send(&mut gateway, CLIENT6, (5_001, SSH), SYN).unwrap().from.1;
    send(&mut gateway, NAS6, (22, nat_port), SYN_ACK).unwrap();
    // A router on the way says that a packet was too big, and quotes what the client would have received.
    let seen = tcp6(US, CLIENT6, (SSH, 5_001), ACK).frame(US, CLIENT6);
    let error = icmp6(STRANGER6, US, 2, &[&[0, 0, 5, 0], &seen[14..]].concat());
    let mut frame = error.frame(STRANGER6, US);
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut frame), SENT);
    let given = parse6(&frame);
    assert_eq!(given.hardware, (GATEWAY.hardware, NAS.hardware));
    assert_eq!((given.from.0, given.to.0, given.hops), (OWN, NAS6.address, HOPS - 1));
    let sent = tcp6(NAS6, US, (22, nat_port), ACK).frame(NAS6, US);
    assert_eq!(given.body[8..], sent[14..], "it quotes what the host sent");

    let mut far = seen.clone();
    far[14 + 40 + 4] ^= 0x80;
    let other = icmp6(STRANGER6, US, 2, &[&[0, 0, 5, 0], &far[14..]].concat()).frame(STRANGER6, US);
    let given = gateway.on_frame(READY, Port::Outside, &mut other.clone());
    assert_eq!(given, Action::Drop(DropReason::NoFlow), "a sequence number that was guessed");
}

#[test]
fn the_gateway_finds_its_hosts_and_is_found() {
    let (mut tables, config) = (SmallTables::new(), config());
    let (mut gateway, questions) = asking(&mut tables, &config);
    let question = questions.iter().find(|frame| frame[12..14] == [0x86, 0xdd]).unwrap();
    let asked = parse6(question);
    assert_eq!(asked.hardware, (GATEWAY.hardware, EthernetAddress([0x33, 0x33, 0xff, 0, 0, 0x20])));
    assert_eq!((asked.from.0, asked.to.0), (OWN, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x20)));
    assert_eq!((asked.hops, asked.body[0], &asked.body[8..24]), (255, 135, &NAS6.address.octets()[..]));
    assert_eq!(asked.body[24..], [&[1, 1], &GATEWAY.hardware.0[..]].concat());

    let answer = |packet: &Packet6, to: Host6, gateway: &mut Small<'_>| {
        let mut frame = packet.frame(CLIENT6, to);
        (gateway.on_frame(READY, Port::Outside, &mut frame), frame)
    };
    let whole = neighbour(CLIENT6, GROUP, 135, OWN, Some(ROUTER));
    let short = neighbour(CLIENT6, US, 135, OWN, None);
    for (name, packet, to, length) in [("to the group", whole, GROUP, 32), ("to the gateway", short, US, 24)]
    {
        let (action, frame) = answer(&packet, to, &mut gateway);
        assert_eq!(action, SENT, "{name}");
        let given = parse6(&frame);
        assert_eq!(given.hardware, (GATEWAY.hardware, ROUTER), "{name}");
        assert_eq!((given.from.0, given.to.0, given.hops), (OWN, CLIENT6.address, 255), "{name}");
        assert_eq!((given.body[0], given.body[4], given.body.len()), (136, 0x60, length), "{name}");
        assert_eq!(given.body[8..24], OWN.octets(), "{name}");
    }
    let closed = Action::Drop(DropReason::NotForUs);
    let other = neighbour(CLIENT6, GROUP, 135, NAS6.address, Some(ROUTER));
    assert_eq!(answer(&other, GROUP, &mut gateway).0, closed, "about another host");
    let mut damaged = neighbour(CLIENT6, GROUP, 135, OWN, Some(ROUTER));
    damaged.body[2] ^= 1;
    assert_eq!(answer(&damaged, GROUP, &mut gateway).0, Action::Drop(DropReason::Checksum));
    let far = Packet6 { hops: 254, ..neighbour(CLIENT6, GROUP, 135, OWN, Some(ROUTER)) };
    assert_eq!(
        answer(&far, GROUP, &mut gateway).0,
        Action::Drop(DropReason::Malformed),
        "a router has forwarded it"
    );
}

#[test]
fn a_host_that_wants_the_gateways_address_is_told() {
    let (mut tables, config) = (SmallTables::new(), config());
    let mut gateway = ready(&mut tables, &config);
    assert!(tick(&mut gateway, READY).is_empty());
    let nobody = Host6 { address: Ipv6Addr::UNSPECIFIED, ..CLIENT6 };
    let mut probe = neighbour(nobody, GROUP, 135, OWN, None).frame(nobody, GROUP);
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut probe), Action::Drop(DropReason::NotForUs));
    let sent = tick(&mut gateway, READY);
    let given = parse6(&sent[0]);
    assert_eq!(sent.len(), 1);
    assert_eq!(given.hardware, (GATEWAY.hardware, EthernetAddress([0x33, 0x33, 0, 0, 0, 1])));
    assert_eq!((given.body[0], &given.body[8..24]), (136, &OWN.octets()[..]));
}

#[test]
fn only_an_answer_to_a_question_moves_a_host() {
    let thief = Host6 { hardware: EthernetAddress([2, 0, 0, 0, 0, 9]), ..NAS6 };
    let all = Host6 { hardware: EthernetAddress([0x33, 0x33, 0, 0, 0, 1]), ..US };
    let table = [
        ("while the host answers", US, 0, true),
        ("unasked", US, 60, false),
        ("to a group's MAC address", all, 60, true),
    ];
    for (name, to, late, is_asked) in table {
        let (mut tables, config) = (SmallTables::new(), config());
        let mut gateway = ready(&mut tables, &config);
        knock(&mut gateway, CLIENT6);
        if is_asked {
            let _questions = tick(&mut gateway, seconds(late));
        }
        let mut answer = neighbour(thief, to, 136, NAS6.address, Some(thief.hardware)).frame(thief, to);
        let _dropped = gateway.on_frame(seconds(late), Port::Outside, &mut answer);
        let given = send(&mut gateway, CLIENT6, (5_001, SSH), SYN).unwrap();
        assert_eq!(given.hardware.1, NAS.hardware, "{name}");
    }
}

#[test]
fn pings_are_answered_if_the_configuration_says_so() {
    for answers in [true, false] {
        let (mut tables, mut config) = (SmallTables::new(), config());
        config.answer_ping = answers;
        let mut gateway = ready(&mut tables, &config);
        let mut ping = icmp6(CLIENT6, US, 128, b"\x12\x34\x00\x01payload").frame(CLIENT6, US);
        let action = gateway.on_frame(READY, Port::Outside, &mut ping);
        assert_eq!(action, if answers { SENT } else { Action::Drop(DropReason::Unsolicited) });
        if answers {
            let given = parse6(&ping);
            assert_eq!((given.from.0, given.to.0), (OWN, CLIENT6.address));
            assert_eq!(given.hardware, (GATEWAY.hardware, ROUTER));
            assert_eq!((given.body[0], &given.body[4..]), (129, &b"\x12\x34\x00\x01payload"[..]));
        }
    }
}

#[test]
fn without_an_address_of_its_own_a_gateway_ignores_ipv6() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = crate::harness::ready(&mut tables, &config);
    let mut question = neighbour(CLIENT6, GROUP, 135, OWN, Some(ROUTER)).frame(CLIENT6, GROUP);
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut question), Action::Drop(DropReason::NotForUs));
    let mut syn = tcp6(CLIENT6, US, (1, SSH), SYN).frame(CLIENT6, US);
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut syn), Action::Drop(DropReason::Protocol));
}
