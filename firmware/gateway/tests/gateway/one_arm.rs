//! One-arm mode: services at the gateway's own address.

use pkd_core::{Reason, Verdict};
use pkd_gateway::{Action, DropReason, Gateway, Instant, Port};
use smoltcp::wire::{ArpOperation, EthernetAddress, IpProtocol, Ipv4Packet};

use crate::{
    frame::{self, Host, Parsed, Path, SYN, SYN_ACK, TTL_SENT, Transport},
    harness::{
        BROADCAST, CLIENT, DNS, GATEWAY, NAS, READY, SSH, STRANGER, Small, SmallTables, TCP_ACK, TCP_SYN,
        TIME_SERVER, client, establish, find, from_nas, knock, one_arm, open, pass, ready, seconds,
        send_knock, to_gateway,
    },
};

#[test]
fn a_knock_opens_its_services_to_its_sender_only() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    let refused = Err(Action::Drop(DropReason::NoGrant));
    assert_eq!(client(&mut gateway, READY, TCP_SYN, 5_001), refused);
    open(&mut gateway, READY, CLIENT, "SSHK");

    let incoming = client(&mut gateway, READY, TCP_SYN, 5_001).unwrap();
    let nat_port = incoming.from.1;
    assert_eq!(
        incoming,
        Parsed {
            hardware: (GATEWAY.hardware, NAS.hardware),
            from: (GATEWAY.address, nat_port),
            to: (NAS.address, 22),
            ttl: TTL_SENT - 1,
            transport: TCP_SYN,
            payload: b"payload".to_vec(),
        }
    );
    let answer =
        pass(&mut gateway, READY, Port::Outside, Transport::Tcp(SYN_ACK), from_nas(22, nat_port)).unwrap();
    assert_eq!(
        answer,
        Parsed {
            hardware: (GATEWAY.hardware, CLIENT.hardware),
            from: (GATEWAY.address, SSH),
            to: (CLIENT.address, 5_001),
            ttl: TTL_SENT - 1,
            transport: Transport::Tcp(SYN_ACK),
            payload: b"payload".to_vec(),
        }
    );

    let strangers = pass(&mut gateway, READY, Port::Outside, TCP_SYN, to_gateway(STRANGER, 5_001, SSH));
    assert_eq!(strangers, refused, "another address");
    let other = pass(&mut gateway, READY, Port::Outside, Transport::Udp, to_gateway(CLIENT, 5_001, DNS));
    assert_eq!(other, Err(Action::Drop(DropReason::NoGrant)), "a service that the rule does not open");
    open(&mut gateway, READY, CLIENT, "BOTH");
    let other =
        pass(&mut gateway, READY, Port::Outside, Transport::Udp, to_gateway(CLIENT, 5_001, DNS)).unwrap();
    assert_eq!(other.to, (NAS.address, 53));
}

#[test]
fn unexpected_packets_are_dropped_with_their_reason() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "BOTH");
    let other = Host { hardware: NAS.hardware, ..GATEWAY };
    let fragment = |offset: u16, more: bool| {
        let mut frame = frame::udp(to_gateway(CLIENT, 5_001, DNS), b"a question");
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
        packet.set_frag_offset(offset);
        packet.set_more_frags(more);
        packet.fill_checksum();
        frame
    };
    let mut broken = frame::tcp(SYN, to_gateway(CLIENT, 5_001, SSH), b"");
    broken[14 + 10] ^= 1;
    let mut last_hop = frame::tcp(SYN, to_gateway(CLIENT, 5_001, SSH), b"");
    let mut packet = Ipv4Packet::new_unchecked(&mut last_hop[14..]);
    packet.set_hop_limit(1);
    packet.fill_checksum();
    let mut ipv6 = frame::tcp(SYN, to_gateway(CLIENT, 5_001, SSH), b"");
    ipv6[12..14].copy_from_slice(&0x86dd_u16.to_be_bytes());
    let version = |version: u8| {
        let mut frame = frame::tcp(SYN, to_gateway(CLIENT, 5_001, SSH), b"");
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
        packet.set_version(version);
        packet.fill_checksum();
        frame
    };
    let table: &[(&str, Vec<u8>, DropReason)] = &[
        (
            "a port without a service",
            frame::tcp(SYN, to_gateway(CLIENT, 5_001, 80), b""),
            DropReason::Unsolicited,
        ),
        ("a datagram to one", frame::udp(to_gateway(CLIENT, 5_001, 53), b""), DropReason::Unsolicited),
        ("a NAT port", frame::tcp(SYN, to_gateway(CLIENT, 5_001, 40_001), b""), DropReason::Unsolicited),
        (
            "counters, from outside",
            frame::tcp(SYN, to_gateway(CLIENT, 5_001, 9_100), b""),
            DropReason::Unsolicited,
        ),
        ("an echo reply", frame::icmp(CLIENT, GATEWAY, 0, b"12345678"), DropReason::Unsolicited),
        ("a first fragment", fragment(0, true), DropReason::Fragment),
        ("a last fragment", fragment(8, false), DropReason::Fragment),
        ("a wrong header checksum", broken, DropReason::Checksum),
        (
            "to another host",
            frame::tcp(SYN, to_gateway(CLIENT, 1, SSH).addressed_to(NAS), b""),
            DropReason::NotForUs,
        ),
        ("from ourselves", frame::tcp(SYN, to_gateway(GATEWAY, 1, SSH), b""), DropReason::NotForUs),
        (
            "our IP address with another MAC address",
            frame::tcp(SYN, to_gateway(other, 1, SSH), b""),
            DropReason::NotForUs,
        ),
        ("IGMP", frame::ipv4(CLIENT, GATEWAY, IpProtocol::Igmp, 8, |_, _, _| {}), DropReason::Protocol),
        (
            "an ICMP message of 4 bytes",
            frame::ipv4(CLIENT, GATEWAY, IpProtocol::Icmp, 4, |_, _, _| {}),
            DropReason::Malformed,
        ),
        ("IPv6", ipv6, DropReason::Protocol),
        ("version 6 in a header of version 4", version(6), DropReason::Malformed),
        ("a TTL of 1", last_hop, DropReason::TtlExpired),
        ("empty", Vec::new(), DropReason::Malformed),
    ];
    for (row, (name, frame, why)) in table.iter().enumerate() {
        let given = gateway.on_frame(READY, Port::Outside, &mut frame.clone());
        assert_eq!(given, Action::Drop(*why), "row {row}: {name}");
    }
}

#[test]
fn the_network_stack_receives_only_what_it_expects() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    let server = Host { address: TIME_SERVER, ..NAS };
    let everybody = Host { hardware: BROADCAST, ..GATEWAY };
    let time = |from, from_port| frame::udp(Path { from, from_port, to: GATEWAY, to_port: 12_300 }, b"time");
    let table: &[(&str, Vec<u8>, bool)] = &[
        ("a ping", frame::icmp(CLIENT, GATEWAY, 8, b"12345678"), true),
        ("an ARP request for our address", frame::arp(ArpOperation::Request, NAS, everybody), true),
        (
            "an ARP request for another address",
            frame::arp(ArpOperation::Request, NAS, Host { hardware: BROADCAST, ..NAS }),
            false,
        ),
        ("the time server's reply", time(server, 123), true),
        ("a reply from another host", time(NAS, 123), false),
        ("a reply from another port", time(server, 124), false),
        ("counters over TCP, from the inside", frame::tcp(SYN, from_nas(5_000, 9_100), b""), true),
        ("counters over UDP, from the inside", frame::udp(from_nas(5_000, 9_100), b""), true),
        (
            "DHCP, although not configured",
            frame::udp(Path { from: NAS, from_port: 67, to: GATEWAY, to_port: 68 }, b""),
            false,
        ),
    ];
    for (row, (name, frame, local)) in table.iter().enumerate() {
        let given = gateway.on_frame(READY, Port::Outside, &mut frame.clone());
        assert_eq!(given == Action::Local { skip: 0 }, *local, "row {row}: {name}: {given:?}");
    }
}

#[test]
fn an_inside_host_receives_flows_once_it_has_answered_arp() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, pkd_gateway::Floors::default());
    gateway.set_time(Instant(0), crate::harness::millis(crate::harness::START)).unwrap();
    open(&mut gateway, READY, CLIENT, "SSHK");
    assert_eq!(client(&mut gateway, READY, TCP_SYN, 5_001), Err(Action::Drop(DropReason::NoNeighbour)));
    let unknown = pass(&mut gateway, READY, Port::Outside, TCP_SYN, to_gateway(STRANGER, 5_001, SSH));
    assert_eq!(
        unknown,
        Err(Action::Drop(DropReason::NoGrant)),
        "a stranger must not learn which hosts answer"
    );

    let mut out = [0; 64];
    let request =
        |gateway: &mut Small<'_>, now, out: &mut [u8]| gateway.on_tick(now, out).map(|(_, length)| length);
    assert_eq!(request(&mut gateway, READY, &mut out), Some(42));
    let unknown_mac = Host { hardware: EthernetAddress([0; 6]), ..NAS };
    let mut expected = frame::arp(ArpOperation::Request, GATEWAY, unknown_mac);
    expected[..6].fill(0xff);
    assert_eq!(out[..42], expected, "one request for two services of the same host");
    assert_eq!(request(&mut gateway, READY, &mut out), None, "not twice within a second");
    assert_eq!(request(&mut gateway, seconds(1), &mut out), Some(42), "repeated until it answers");
    let _ = gateway.on_frame(seconds(1), Port::Outside, &mut frame::arp(ArpOperation::Reply, NAS, GATEWAY));
    assert!(client(&mut gateway, seconds(1), TCP_SYN, 5_001).is_ok());
    assert_eq!(request(&mut gateway, seconds(30), &mut out), None);
    assert_eq!(request(&mut gateway, seconds(31), &mut out), Some(42), "refreshed");
}

#[test]
fn an_arp_reply_with_an_invalid_mac_address_does_not_redirect_a_service() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let new_card = Host::new(9, [192, 168, 1, 20]).hardware;
    let table = [
        ("the gateway's own", GATEWAY.hardware, NAS.hardware),
        ("broadcast", BROADCAST, NAS.hardware),
        ("multicast", EthernetAddress([1, 0, 0x5e, 0, 0, 1]), NAS.hardware),
        ("all zeros", EthernetAddress([0; 6]), NAS.hardware),
        ("another host's, while the NAS answers", new_card, NAS.hardware),
    ];
    for ((row, (name, claimed, reached)), port) in table.into_iter().enumerate().zip(5_001..) {
        let mut answer = frame::arp(ArpOperation::Reply, Host { hardware: claimed, ..NAS }, GATEWAY);
        // The frame's source is valid; only the address in the ARP packet is wrong.
        answer[6..12].copy_from_slice(&NAS.hardware.0);
        assert_eq!(
            gateway.on_frame(READY, Port::Outside, &mut answer),
            Action::Local { skip: 0 },
            "row {row}: {name}"
        );
        let incoming = client(&mut gateway, READY, TCP_SYN, port).unwrap();
        assert_eq!(incoming.hardware, (GATEWAY.hardware, reached), "row {row}: {name}");
    }
}

#[test]
fn a_replaced_network_card_is_found_when_the_old_one_no_longer_answers() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    let new = Host { hardware: Host::new(9, [0; 4]).hardware, ..NAS };
    open(&mut gateway, READY, CLIENT, "SSHK");
    // One request in 30 seconds, then one each second. The old card answers none of them.
    for (row, (second, reached)) in [(30, NAS), (34, NAS), (35, new)].into_iter().enumerate() {
        let now = seconds(second);
        find(&mut gateway, now, new);
        let incoming = client(&mut gateway, now, TCP_SYN, 5_001 + u16::try_from(row).unwrap()).unwrap();
        assert_eq!(incoming.hardware.1, reached.hardware, "{second} s");
    }
}

#[test]
fn only_an_answer_to_a_request_moves_a_host() {
    let thief = Host { hardware: Host::new(9, [0; 4]).hardware, ..NAS };
    let broadcast = Host { hardware: BROADCAST, ..GATEWAY };
    let table = [
        ("a request by another host in its name", ArpOperation::Request, GATEWAY, true),
        ("an announcement", ArpOperation::Request, Host { hardware: BROADCAST, ..NAS }, true),
        ("a reply that nobody has asked for", ArpOperation::Reply, GATEWAY, false),
        ("a reply to all", ArpOperation::Reply, broadcast, true),
    ];
    for (row, (name, operation, to, is_asked)) in table.into_iter().enumerate() {
        let (mut tables, config) = (SmallTables::new(), one_arm());
        let mut gateway = ready(&mut tables, &config);
        open(&mut gateway, READY, CLIENT, "SSHK");
        // Long after the NAS has answered for the last time, and the last request for it; and just after a request, if there is one.
        let now = Instant(READY.0 + 50_000);
        if is_asked {
            let mut question = [0; 128];
            while gateway.on_tick(now, &mut question).is_some() {}
        }
        let _action = gateway.on_frame(now, Port::Outside, &mut frame::arp(operation, thief, to));
        let incoming = client(&mut gateway, now, TCP_SYN, 5_001).unwrap();
        assert_eq!(incoming.hardware.1, NAS.hardware, "row {row}: {name}");
    }
}

#[test]
fn a_forged_segment_does_not_redirect_replies() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let nat_port = establish(&mut gateway, READY, 5_001);
    let thief = Host { hardware: Host::new(9, [0; 4]).hardware, ..CLIENT };
    for transport in [TCP_ACK, TCP_SYN, Transport::Tcp(frame::FIN_ACK)] {
        pass(&mut gateway, READY, Port::Outside, transport, to_gateway(thief, 5_001, SSH)).unwrap();
        let answer = pass(&mut gateway, READY, Port::Outside, TCP_ACK, from_nas(22, nat_port)).unwrap();
        assert_eq!(answer.hardware, (GATEWAY.hardware, CLIENT.hardware), "{transport:?}");
    }
}

#[test]
fn only_the_inside_host_itself_answers_for_it() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let nat_port = establish(&mut gateway, READY, 5_001);
    let thief = Host { hardware: Host::new(9, [0; 4]).hardware, ..NAS };
    let forged = Path { from: thief, ..from_nas(22, nat_port) };
    let given = pass(&mut gateway, READY, Port::Outside, TCP_ACK, forged);
    assert_eq!(given, Err(Action::Drop(DropReason::NoFlow)));
    pass(&mut gateway, READY, Port::Outside, TCP_ACK, from_nas(22, nat_port)).unwrap();
}

#[test]
fn without_an_address_only_dhcp_is_handled() {
    let (mut tables, mut config) = (SmallTables::new(), one_arm());
    let pkd_gateway::Address::Static(interface) = config.address else { panic!("{:?}", config.address) };
    config.address = pkd_gateway::Address::Dhcp;
    let mut gateway = Small::new(&mut tables, &config, GATEWAY.hardware, pkd_gateway::Floors::default());
    let all = Host { hardware: BROADCAST, address: [255; 4].into() };
    let dhcp = |to| frame::udp(Path { from: NAS, from_port: 67, to, to_port: 68 }, b"offer");
    let local = Action::Local { skip: 0 };
    let (not_ready, not_ours) = (Action::Drop(DropReason::NotReady), Action::Drop(DropReason::NotForUs));
    // name, frame, action without an address, action with an address
    let table = [
        ("a broadcast offer", dhcp(all), local, local),
        ("an offer to the gateway", dhcp(GATEWAY), local, local),
        (
            "a SYN",
            frame::tcp(SYN, to_gateway(CLIENT, 1, SSH), b""),
            not_ready,
            Action::Drop(DropReason::NoGrant),
        ),
        ("counters", frame::udp(from_nas(5_000, 9_100), b""), not_ready, local),
        ("an ARP request for its address", frame::arp(ArpOperation::Request, NAS, GATEWAY), not_ours, local),
    ];
    let mut out = [0; 64];
    for given in [None, Some(interface), None] {
        gateway.set_interface(given).unwrap();
        assert_eq!(gateway.interface(), given);
        for (row, (name, frame, without, with)) in table.iter().enumerate() {
            let action = gateway.on_frame(READY, Port::Outside, &mut frame.clone());
            let expected = if given.is_some() { with } else { without };
            assert_eq!(action, *expected, "row {row}: {name}, {given:?}");
        }
        if given.is_none() {
            assert_eq!(gateway.on_tick(READY, &mut out), None, "no ARP requests without an address");
        }
    }
}

#[test]
fn frames_of_the_network_stack_are_sent_once() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let gateway = ready(&mut tables, &config);
    let mut out = [0; 7];
    assert_eq!(gateway.on_stack_frame(b"a frame", 0, &mut out), Some((Port::Outside, 7)));
    assert_eq!(out, *b"a frame");
    assert_eq!(gateway.on_stack_frame(b"a frame", 1, &mut out), None);
    assert_eq!(gateway.on_stack_frame(b"a longer frame", 0, &mut out), None, "it does not fit");
}

#[test]
fn every_ignored_knock_has_its_reason_and_counter() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    let good = knock("SSHK", READY, 1);
    let mut turned = knock("SSHK", READY, 2);
    turned[55] ^= 1;
    let table: &[(&[u8], Verdict)] = &[
        (&good[..55], Verdict::Ignore(Reason::Length)),
        (&knock("OTHR", READY, 1), Verdict::Ignore(Reason::Tag)),
        (&knock("SSHK", seconds(11), 1), Verdict::Ignore(Reason::Window)),
        (&turned, Verdict::Ignore(Reason::Digest)),
        (&good, Verdict::Accept),
        (&good, Verdict::Ignore(Reason::Replay)),
    ];
    for (row, (payload, verdict)) in table.iter().enumerate() {
        assert_eq!(send_knock(&mut gateway, READY, CLIENT, payload), Ok(*verdict), "row {row}");
        assert_eq!(gateway.counters().knocks(*verdict), 1, "row {row}");
    }
    let mut text = String::new();
    gateway.write_metrics(READY, &mut text).unwrap();
    for line in
        ["pkd_knocks_total{verdict=\"accept\"} 1", "pkd_knocks_total{verdict=\"replay\"} 1", "pkd_grants 1"]
    {
        assert!(text.lines().any(|given| given == line), "{line} is not in {text}");
    }
    assert!(text.len() < 2_048, "{} bytes", text.len());
}

#[test]
fn a_knock_with_a_wrong_udp_checksum_is_dropped() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    let path = to_gateway(CLIENT, 5_000, crate::harness::KNOCK_PORT);
    let mut frame = frame::udp(path, &knock("SSHK", READY, 1));
    frame[14 + 20 + 6] ^= 1;
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut frame), Action::Drop(DropReason::Checksum));
}
