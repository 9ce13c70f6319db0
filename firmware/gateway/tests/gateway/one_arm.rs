//! Services at the gateway's own address.

use pkd_core::{Reason, Verdict};
use pkd_gateway::{Action, Drop, Gateway, Instant, Port};
use smoltcp::wire::{ArpOperation, EthernetAddress, IpProtocol, Ipv4Packet, TcpPacket, TcpSeqNumber};

use crate::{
    frame::{self, ACK, Carrier, FIN_ACK, HOPS, Host, Path, RST, SEQUENCE, SYN, SYN_ACK, Seen},
    rig::{
        CLIENT, DNS, EVERYBODY, FLOWS, GATEWAY, NAS, READY, SSH, STRANGER, Small, SmallTables, TIME_SERVER,
        TTL, from_nas, knock, one_arm, pass, ready, seconds, send_knock, to_gateway,
    },
};

const TCP_SYN: Carrier = Carrier::Tcp(SYN);
const TCP_ACK: Carrier = Carrier::Tcp(ACK);

fn client(gateway: &mut Small<'_>, now: Instant, carrier: Carrier, from_port: u16) -> Result<Seen, Action> {
    pass(gateway, now, Port::Outside, carrier, to_gateway(CLIENT, from_port, SSH))
}

/// A flow of the client's with its answer; gives the port that the NAS sees.
fn establish(gateway: &mut Small<'_>, now: Instant, from_port: u16) -> u16 {
    let nat_port = client(gateway, now, TCP_SYN, from_port).unwrap().from.1;
    pass(gateway, now, Port::Outside, Carrier::Tcp(SYN_ACK), from_nas(22, nat_port)).unwrap();
    client(gateway, now, TCP_ACK, from_port).unwrap();
    nat_port
}

fn open(gateway: &mut Small<'_>, now: Instant, from: Host, tag: &str) {
    let nonce = from.address.octets()[3];
    assert_eq!(send_knock(gateway, now, from, &knock(tag, now, nonce)), Drop::Knock(Verdict::Accept));
}

#[test]
fn a_knock_opens_its_services_to_its_sender_and_to_nobody_else() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    let refused = Err(Action::Drop(Drop::NoGrant));
    assert_eq!(client(&mut gateway, READY, TCP_SYN, 5_001), refused);
    open(&mut gateway, READY, CLIENT, "SSHK");

    let inwards = client(&mut gateway, READY, TCP_SYN, 5_001).unwrap();
    let nat_port = inwards.from.1;
    assert_eq!(
        inwards,
        Seen {
            hardware: (GATEWAY.hardware, NAS.hardware),
            from: (GATEWAY.address, nat_port),
            to: (NAS.address, 22),
            hops: HOPS - 1,
            carrier: TCP_SYN,
            payload: b"payload".to_vec(),
        }
    );
    let answer =
        pass(&mut gateway, READY, Port::Outside, Carrier::Tcp(SYN_ACK), from_nas(22, nat_port)).unwrap();
    assert_eq!(
        answer,
        Seen {
            hardware: (GATEWAY.hardware, CLIENT.hardware),
            from: (GATEWAY.address, SSH),
            to: (CLIENT.address, 5_001),
            hops: HOPS - 1,
            carrier: Carrier::Tcp(SYN_ACK),
            payload: b"payload".to_vec(),
        }
    );

    let strangers = pass(&mut gateway, READY, Port::Outside, TCP_SYN, to_gateway(STRANGER, 5_001, SSH));
    assert_eq!(strangers, refused, "another address");
    let other = pass(&mut gateway, READY, Port::Outside, Carrier::Udp, to_gateway(CLIENT, 5_001, DNS));
    assert_eq!(other, Err(Action::Drop(Drop::NoGrant)), "a service of another rule");
    open(&mut gateway, READY, CLIENT, "BOTH");
    let other =
        pass(&mut gateway, READY, Port::Outside, Carrier::Udp, to_gateway(CLIENT, 5_001, DNS)).unwrap();
    assert_eq!(other.to, (NAS.address, 53));
}

#[test]
fn a_grant_ends_by_its_ttl_and_established_flows_live_on() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let nat_port = establish(&mut gateway, READY, 5_001);
    let ttl = u64::from(TTL);
    assert!(client(&mut gateway, seconds(ttl - 1), TCP_SYN, 5_002).is_ok(), "a moment before its end");
    assert_eq!(client(&mut gateway, seconds(ttl), TCP_SYN, 5_003), Err(Action::Drop(Drop::NoGrant)));
    assert!(client(&mut gateway, seconds(7_000), TCP_ACK, 5_001).is_ok());
    assert!(pass(&mut gateway, seconds(14_000), Port::Outside, TCP_ACK, from_nas(22, nat_port)).is_ok());
    // Two hours and four minutes of silence (RFC 5382).
    assert_eq!(
        client(&mut gateway, seconds(14_000 + 7_440), TCP_ACK, 5_001),
        Err(Action::Drop(Drop::NoGrant))
    );
}

#[test]
fn a_flow_ends_when_both_sides_have_closed_or_one_breaks_off() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let table = [(5_001, &[FIN_ACK, FIN_ACK][..], "closed by both"), (5_002, &[RST][..], "broken off")];
    for (row, (port, flags, name)) in table.into_iter().enumerate() {
        let nat_port = establish(&mut gateway, READY, port);
        client(&mut gateway, READY, Carrier::Tcp(flags[0]), port).unwrap();
        for flags in &flags[1..] {
            pass(&mut gateway, READY, Port::Outside, Carrier::Tcp(*flags), from_nas(22, nat_port)).unwrap();
        }
        let last = client(&mut gateway, seconds(9), TCP_ACK, port);
        assert!(last.is_ok(), "row {row}: {name}: the last acknowledgement may come late");
        // A closed flow counts on, whatever still comes.
        let late = client(&mut gateway, seconds(11), TCP_ACK, port);
        assert_eq!(late, Err(Action::Drop(Drop::NoFlow)), "row {row}: {name}");
    }
}

#[test]
fn only_who_sees_a_flow_can_end_it() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let beyond = SEQUENCE + (1 << 20) + 1;
    let table =
        [(RST, SEQUENCE - 1, true), (RST, beyond, true), (FIN_ACK, beyond, true), (RST, beyond - 1, false)];
    for ((row, (flags, sequence, lives)), port) in table.into_iter().enumerate().zip(5_001..) {
        establish(&mut gateway, READY, port);
        let path = to_gateway(CLIENT, port, SSH);
        let mut forged = frame::tcp(flags, path, b"");
        let ends = (path.from.address.into(), path.to.address.into());
        let mut segment = TcpPacket::new_unchecked(&mut forged[34..]);
        segment.set_seq_number(TcpSeqNumber(sequence));
        segment.fill_checksum(&ends.0, &ends.1);
        assert_eq!(gateway.on_frame(READY, Port::Outside, &mut forged), Action::Forward(Port::Outside));
        // Longer than a side that has closed gives the other one.
        let later = client(&mut gateway, seconds(700), TCP_ACK, port);
        assert_eq!(later.is_ok(), lives, "row {row}: {flags:?} {sequence}");
    }
}

#[test]
fn a_client_may_use_its_port_again_after_it_has_closed() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let first = establish(&mut gateway, READY, 5_001);
    client(&mut gateway, READY, Carrier::Tcp(RST), 5_001).unwrap();
    let second = establish(&mut gateway, READY, 5_001);
    assert_ne!(first, second, "stragglers of the first must not reach the second");
}

#[test]
fn only_a_syn_begins_a_flow() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    for (row, flags) in [ACK, SYN_ACK, RST, FIN_ACK, frame::Flags(0), frame::Flags(3), frame::Flags(6)]
        .into_iter()
        .enumerate()
    {
        let given = client(&mut gateway, READY, Carrier::Tcp(flags), 5_001);
        assert_eq!(given, Err(Action::Drop(Drop::NoFlow)), "row {row}: {flags:?}");
    }
}

#[test]
fn a_full_table_lets_idle_flows_go_and_keeps_established_ones_of_granted_addresses() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let ports = || 5_001..5_001 + u16::try_from(FLOWS).unwrap();
    for (port, second) in ports().zip(0..) {
        let now = seconds(second);
        if port.is_multiple_of(2) {
            client(&mut gateway, now, TCP_SYN, port).unwrap();
        } else {
            establish(&mut gateway, now, port);
        }
    }
    // One more: the half-open one that is idle for longest goes, 5002.
    establish(&mut gateway, seconds(10), 6_001);
    assert_eq!(client(&mut gateway, seconds(10), TCP_ACK, 5_002), Err(Action::Drop(Drop::NoFlow)));
    assert!(client(&mut gateway, seconds(10), TCP_ACK, 5_004).is_ok());
    for port in 6_002..6_005 {
        establish(&mut gateway, seconds(11), port);
    }
    assert_eq!(client(&mut gateway, seconds(12), TCP_SYN, 7_001), Err(Action::Drop(Drop::TableFull)));
    for port in ports().filter(|port| !port.is_multiple_of(2)) {
        assert!(client(&mut gateway, seconds(12), TCP_ACK, port).is_ok(), "{port}");
    }
    // After the grant's end, another address's new flow lets the one that is idle for longest go.
    let late = seconds(u64::from(TTL) + 1);
    open(&mut gateway, late, STRANGER, "SSHK");
    let new = pass(&mut gateway, late, Port::Outside, TCP_SYN, to_gateway(STRANGER, 5_001, SSH));
    assert!(new.is_ok(), "{new:?}");
    assert_eq!(client(&mut gateway, late, TCP_ACK, 6_001), Err(Action::Drop(Drop::NoGrant)));
    assert!(client(&mut gateway, late, TCP_ACK, 6_002).is_ok());
}

#[test]
fn a_second_knock_keeps_flows_granted() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    for port in 5_001..5_001 + u16::try_from(FLOWS).unwrap() {
        establish(&mut gateway, READY, port);
    }
    open(&mut gateway, seconds(59), CLIENT, "SSHK");
    open(&mut gateway, seconds(61), STRANGER, "SSHK");
    let new = pass(&mut gateway, seconds(61), Port::Outside, TCP_SYN, to_gateway(STRANGER, 5_001, SSH));
    assert_eq!(new, Err(Action::Drop(Drop::TableFull)));
}

#[test]
fn what_nobody_waits_for_is_silence() {
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
    let table: &[(&str, Vec<u8>, Drop)] = &[
        ("a port without a service", frame::tcp(SYN, to_gateway(CLIENT, 5_001, 80), b""), Drop::Silence),
        ("a datagram to one", frame::udp(to_gateway(CLIENT, 5_001, 53), b""), Drop::Silence),
        ("a port of flows", frame::tcp(SYN, to_gateway(CLIENT, 5_001, 40_001), b""), Drop::Silence),
        ("counters, from elsewhere", frame::tcp(SYN, to_gateway(CLIENT, 5_001, 9_100), b""), Drop::Silence),
        ("an echo reply", frame::icmp(CLIENT, GATEWAY, 0, b"12345678"), Drop::Silence),
        ("a first fragment", fragment(0, true), Drop::Fragment),
        ("a last fragment", fragment(8, false), Drop::Fragment),
        ("a broken header", broken, Drop::Checksum),
        ("to another host", frame::tcp(SYN, to_gateway(CLIENT, 1, SSH).with_to(NAS), b""), Drop::NotOurs),
        ("from ourselves", frame::tcp(SYN, to_gateway(GATEWAY, 1, SSH), b""), Drop::NotOurs),
        ("our address, from elsewhere", frame::tcp(SYN, to_gateway(other, 1, SSH), b""), Drop::NotOurs),
        ("IGMP", frame::ipv4(CLIENT, GATEWAY, IpProtocol::Igmp, 8, |_, _, _| {}), Drop::Protocol),
        (
            "an ICMP message of 4 bytes",
            frame::ipv4(CLIENT, GATEWAY, IpProtocol::Icmp, 4, |_, _, _| {}),
            Drop::Malformed,
        ),
        ("IPv6", ipv6, Drop::Protocol),
        ("version 6 in a header of version 4", version(6), Drop::Malformed),
        ("its last hop", last_hop, Drop::Hops),
        ("nothing", Vec::new(), Drop::Malformed),
    ];
    for (row, (name, frame, why)) in table.iter().enumerate() {
        let given = gateway.on_frame(READY, Port::Outside, &mut frame.clone());
        assert_eq!(given, Action::Drop(*why), "row {row}: {name}");
    }
}

#[test]
fn the_own_stack_gets_what_is_for_it() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    let server = Host { address: TIME_SERVER, ..NAS };
    let everybody = Host { hardware: EVERYBODY, ..GATEWAY };
    let time = |from, from_port| frame::udp(Path { from, from_port, to: GATEWAY, to_port: 12_300 }, b"time");
    let table: &[(&str, Vec<u8>, bool)] = &[
        ("a ping", frame::icmp(CLIENT, GATEWAY, 8, b"12345678"), true),
        ("who has our address", frame::arp(ArpOperation::Request, NAS, everybody), true),
        (
            "who has another",
            frame::arp(ArpOperation::Request, NAS, Host { hardware: EVERYBODY, ..NAS }),
            false,
        ),
        ("the time server's answer", time(server, 123), true),
        ("another's answer", time(NAS, 123), false),
        ("from another port", time(server, 124), false),
        ("counters, from the inside", frame::tcp(SYN, from_nas(5_000, 9_100), b""), true),
        ("counters, by datagram", frame::udp(from_nas(5_000, 9_100), b""), true),
        (
            "DHCP, which was not asked",
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
fn an_inside_host_is_asked_for_and_only_one_that_answers_gets_flows() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, None);
    gateway.set_time(Instant(0), crate::rig::START).unwrap();
    open(&mut gateway, READY, CLIENT, "SSHK");
    assert_eq!(client(&mut gateway, READY, TCP_SYN, 5_001), Err(Action::Drop(Drop::NoNeighbour)));
    let unknown = pass(&mut gateway, READY, Port::Outside, TCP_SYN, to_gateway(STRANGER, 5_001, SSH));
    assert_eq!(unknown, Err(Action::Drop(Drop::NoGrant)), "a stranger must not learn who answers");

    let mut out = [0; 64];
    let question =
        |gateway: &mut Small<'_>, now, out: &mut [u8]| gateway.on_tick(now, out).map(|(_, length)| length);
    assert_eq!(question(&mut gateway, READY, &mut out), Some(42));
    let nobody = Host { hardware: EthernetAddress([0; 6]), ..NAS };
    let mut expected = frame::arp(ArpOperation::Request, GATEWAY, nobody);
    expected[..6].fill(0xff);
    assert_eq!(out[..42], expected, "two services of one host make one question");
    assert_eq!(question(&mut gateway, READY, &mut out), None, "not twice in a second");
    assert_eq!(question(&mut gateway, seconds(1), &mut out), Some(42), "again, until it answers");
    gateway.on_frame(seconds(1), Port::Outside, &mut frame::arp(ArpOperation::Reply, NAS, GATEWAY));
    assert!(client(&mut gateway, seconds(1), TCP_SYN, 5_001).is_ok());
    assert_eq!(question(&mut gateway, seconds(30), &mut out), None);
    assert_eq!(question(&mut gateway, seconds(31), &mut out), Some(42), "whether it is still there");
}

#[test]
fn an_arp_answer_with_an_impossible_hardware_address_does_not_redirect_a_service() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let new_card = Host::new(9, [192, 168, 1, 20]).hardware;
    let table = [
        ("the gateway's own", GATEWAY.hardware, NAS.hardware),
        ("broadcast", EVERYBODY, NAS.hardware),
        ("a group's", EthernetAddress([1, 0, 0x5e, 0, 0, 1]), NAS.hardware),
        ("none", EthernetAddress([0; 6]), NAS.hardware),
        ("a new card's", new_card, new_card),
    ];
    for ((row, (name, claimed, reached)), port) in table.into_iter().enumerate().zip(5_001..) {
        let mut answer = frame::arp(ArpOperation::Reply, Host { hardware: claimed, ..NAS }, GATEWAY);
        // The frame itself has a good source, so only the claim in it is wrong.
        answer[6..12].copy_from_slice(&NAS.hardware.0);
        assert_eq!(
            gateway.on_frame(READY, Port::Outside, &mut answer),
            Action::Local { skip: 0 },
            "row {row}: {name}"
        );
        let inwards = client(&mut gateway, READY, TCP_SYN, port).unwrap();
        assert_eq!(inwards.hardware, (GATEWAY.hardware, reached), "row {row}: {name}");
    }
}

#[test]
fn answers_go_to_the_hardware_address_that_the_client_used_last() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let nat_port = establish(&mut gateway, READY, 5_001);
    // Another router takes over.
    let moved = Host { hardware: Host::new(9, [0; 4]).hardware, ..CLIENT };
    for (row, from) in [CLIENT, moved, CLIENT].into_iter().enumerate() {
        pass(&mut gateway, READY, Port::Outside, TCP_ACK, to_gateway(from, 5_001, SSH)).unwrap();
        let answer = pass(&mut gateway, READY, Port::Outside, TCP_ACK, from_nas(22, nat_port)).unwrap();
        assert_eq!(answer.hardware, (GATEWAY.hardware, from.hardware), "row {row}");
    }
}

#[test]
fn icmp_errors_reach_the_side_that_sent_and_name_its_own_packet() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "BOTH");
    for (row, (carrier, port, inside)) in
        [(TCP_SYN, SSH, 22), (Carrier::Udp, DNS, 53)].into_iter().enumerate()
    {
        let sent = frame::carried(carrier, to_gateway(CLIENT, 5_001, port), b"payload of a packet");
        let mut forwarded = sent.clone();
        assert_eq!(
            gateway.on_frame(READY, Port::Outside, &mut forwarded),
            Action::Forward(Port::Outside),
            "row {row}"
        );
        // The NAS says: nobody listens there.
        let mut error = frame::icmp(NAS, GATEWAY, 3, &forwarded[14..]);
        assert_eq!(
            gateway.on_frame(READY, Port::Outside, &mut error),
            Action::Forward(Port::Outside),
            "row {row}"
        );
        check_error(&error, CLIENT, &sent, row);

        let nat_port = frame::seen(&forwarded).unwrap().from.1;
        let reply = frame::carried(carrier, from_nas(inside, nat_port), b"payload of a reply");
        let mut outwards = reply.clone();
        assert_eq!(
            gateway.on_frame(READY, Port::Outside, &mut outwards),
            Action::Forward(Port::Outside),
            "row {row}"
        );
        // A router on the way says: too big. RFC 792 promises 8 bytes behind the header.
        let router = Host::new(3, [198, 51, 100, 1]);
        let mut error = frame::icmp(router, GATEWAY, 3, &outwards[14..14 + 28]);
        assert_eq!(
            gateway.on_frame(READY, Port::Outside, &mut error),
            Action::Forward(Port::Outside),
            "row {row}"
        );
        check_error(&error, NAS, &reply[..14 + 28], row);

        let mut strange = frame::icmp(router, GATEWAY, 3, &sent[14..]);
        let given = gateway.on_frame(READY, Port::Outside, &mut strange);
        assert_eq!(given, Action::Drop(Drop::NoFlow), "row {row}: about a packet that we never sent");
    }
}

#[test]
fn an_icmp_error_is_forwarded_only_with_a_hop_left_and_about_a_packet_of_the_flow() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let nat_port = client(&mut gateway, READY, TCP_SYN, 5_001).unwrap().from.1;
    let other = Host::new(9, [192, 168, 1, 21]);
    let ours = Path { from: GATEWAY, from_port: nat_port, to: NAS, to_port: 22 };
    let forwarded = Action::Forward(Port::Outside);
    let hops = Action::Drop(Drop::Hops);
    let no_flow = Action::Drop(Drop::NoFlow);
    let table = [
        ("the gateway's own packet", HOPS, ours, forwarded),
        ("with two hops left", 2, ours, forwarded),
        ("with its last hop", 1, ours, hops),
        ("with no hop", 0, ours, hops),
        ("a packet from another address", HOPS, Path { from: STRANGER, ..ours }, no_flow),
        ("a packet to another host", HOPS, Path { to: other, ..ours }, no_flow),
        ("a packet to another port", HOPS, Path { to_port: 23, ..ours }, no_flow),
        ("a packet from another port", HOPS, Path { from_port: nat_port + 1, ..ours }, no_flow),
    ];
    for (row, (name, hops, about, action)) in table.into_iter().enumerate() {
        let mut error = frame::icmp(NAS, GATEWAY, 3, &frame::tcp(SYN, about, b"")[14..]);
        let mut packet = Ipv4Packet::new_unchecked(&mut error[14..]);
        packet.set_hop_limit(hops);
        packet.fill_checksum();
        assert_eq!(gateway.on_frame(READY, Port::Outside, &mut error), action, "row {row}: {name}");
        if action == forwarded {
            let left = Ipv4Packet::new_unchecked(&error[14..]).hop_limit();
            assert_eq!(left, hops - 1, "row {row}: {name}");
        }
    }
}

#[test]
fn an_icmp_error_with_a_broken_quote_reaches_nobody() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let nat_port = client(&mut gateway, READY, TCP_SYN, 5_001).unwrap().from.1;
    let sent = frame::tcp(SYN, Path { from: GATEWAY, from_port: nat_port, to: NAS, to_port: 22 }, b"");
    let quote = &sent[14..];
    let with = |change: fn(&mut Ipv4Packet<&mut [u8]>)| {
        let mut changed = quote.to_vec();
        change(&mut Ipv4Packet::new_unchecked(&mut changed[..]));
        frame::icmp(NAS, GATEWAY, 3, &changed)
    };
    let mut checksum = frame::icmp(NAS, GATEWAY, 3, quote);
    checksum[14 + 20 + 2] ^= 1;
    let table = [
        ("whole", frame::icmp(NAS, GATEWAY, 3, quote), Action::Forward(Port::Outside)),
        ("the least", frame::icmp(NAS, GATEWAY, 3, &quote[..28]), Action::Forward(Port::Outside)),
        ("a byte less", frame::icmp(NAS, GATEWAY, 3, &quote[..27]), Action::Drop(Drop::Malformed)),
        ("nothing", frame::icmp(NAS, GATEWAY, 3, b""), Action::Drop(Drop::Malformed)),
        ("a wrong checksum", checksum, Action::Drop(Drop::Checksum)),
        ("of version 6", with(|packet| packet.set_version(6)), Action::Drop(Drop::Malformed)),
        ("a header of 16 bytes", with(|packet| packet.set_header_len(16)), Action::Drop(Drop::Malformed)),
        ("a header beyond its end", with(|packet| packet.set_header_len(60)), Action::Drop(Drop::Malformed)),
        ("a fragment", with(|packet| packet.set_frag_offset(8)), Action::Drop(Drop::Fragment)),
        ("ICMP", with(|packet| packet.set_next_header(IpProtocol::Icmp)), Action::Drop(Drop::Protocol)),
        ("UDP", with(|packet| packet.set_next_header(IpProtocol::Udp)), Action::Drop(Drop::NoFlow)),
    ];
    for (row, (name, mut error, action)) in table.into_iter().enumerate() {
        assert_eq!(gateway.on_frame(READY, Port::Outside, &mut error), action, "row {row}: {name}");
    }
}

#[test]
fn until_dhcp_gives_an_address_only_its_answers_are_looked_at() {
    let (mut tables, mut config) = (SmallTables::new(), one_arm());
    let pkd_gateway::Address::Static(interface) = config.address else { panic!("{:?}", config.address) };
    config.address = pkd_gateway::Address::Dhcp;
    let mut gateway = Small::new(&mut tables, &config, GATEWAY.hardware, None);
    let all = Host { hardware: EVERYBODY, address: [255; 4].into() };
    let dhcp = |to| frame::udp(Path { from: NAS, from_port: 67, to, to_port: 68 }, b"offer");
    let local = Action::Local { skip: 0 };
    let (not_ready, not_ours) = (Action::Drop(Drop::NotReady), Action::Drop(Drop::NotOurs));
    // what comes; what becomes of it without an address, and with one
    let table = [
        ("an offer to all", dhcp(all), local, local),
        ("an offer to the gateway", dhcp(GATEWAY), local, local),
        ("a SYN", frame::tcp(SYN, to_gateway(CLIENT, 1, SSH), b""), not_ready, Action::Drop(Drop::NoGrant)),
        ("counters", frame::udp(from_nas(5_000, 9_100), b""), not_ready, local),
        ("who has its address", frame::arp(ArpOperation::Request, NAS, GATEWAY), not_ours, local),
    ];
    let mut out = [0; 64];
    for given in [None, Some(interface), None] {
        gateway.set_interface(given);
        assert_eq!(gateway.interface(), given);
        for (row, (name, frame, without, with)) in table.iter().enumerate() {
            let action = gateway.on_frame(READY, Port::Outside, &mut frame.clone());
            let expected = if given.is_some() { with } else { without };
            assert_eq!(action, *expected, "row {row}: {name}, {given:?}");
        }
        if given.is_none() {
            assert_eq!(gateway.on_tick(READY, &mut out), None, "it asks nobody without an address");
        }
    }
}

#[test]
fn the_own_stacks_frames_go_out_once() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let gateway = ready(&mut tables, &config);
    let mut out = [0; 7];
    assert_eq!(gateway.on_own_frame(b"a frame", 0, &mut out), Some((Port::Outside, 7)));
    assert_eq!(out, *b"a frame");
    assert_eq!(gateway.on_own_frame(b"a frame", 1, &mut out), None);
    assert_eq!(gateway.on_own_frame(b"a longer frame", 0, &mut out), None, "it does not fit");
}

#[test]
fn when_all_grants_are_taken_the_one_that_ends_first_goes() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    let from = |last: u8| Host::new(3, [203, 0, 113, last]);
    // The second is the oldest: the first knocks once more.
    for (last, second) in [(1, 0), (2, 1), (3, 2), (4, 3), (1, 4), (5, 5)] {
        let knock = knock("SSHK", seconds(second), 10 * last + u8::try_from(second).unwrap());
        assert_eq!(
            send_knock(&mut gateway, seconds(second), from(last), &knock),
            Drop::Knock(Verdict::Accept)
        );
    }
    for (last, granted) in [(1, true), (2, false), (3, true), (4, true), (5, true)] {
        let syn = pass(&mut gateway, seconds(6), Port::Outside, TCP_SYN, to_gateway(from(last), 5_001, SSH));
        assert_eq!(syn.is_ok(), granted, "address {last}: {syn:?}");
    }
}

#[test]
fn a_flow_that_makes_room_takes_no_other_with_it() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let flows = u16::try_from(FLOWS).unwrap();
    let mut live: Vec<u16> = (5_001..5_001 + flows).collect();
    for port in &live {
        establish(&mut gateway, READY, *port);
    }
    // With as many chains as flows some have more than one flow; which ones differs from round to round.
    for (round, new) in (0..100).zip(6_000..) {
        let ended = live.remove(round * 5 % FLOWS);
        client(&mut gateway, READY, Carrier::Tcp(RST), ended).unwrap();
        establish(&mut gateway, READY, new);
        live.push(new);
        for port in &live {
            let given = client(&mut gateway, READY, TCP_ACK, *port);
            assert!(given.is_ok(), "round {round}: the flow of port {port}: {given:?}");
        }
        let given = client(&mut gateway, READY, TCP_ACK, ended);
        assert_eq!(given, Err(Action::Drop(Drop::NoFlow)), "round {round}");
    }
}

#[test]
fn the_flows_that_are_not_over_are_counted() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let counted = |gateway: &Small<'_>, now| {
        let mut text = String::new();
        gateway.write_metrics(now, &mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("pkd_flows ")).unwrap();
        line.parse::<usize>().unwrap()
    };
    assert_eq!(counted(&gateway, READY), 0);
    for (port, flows) in [(5_001, 1), (5_002, 2), (5_003, 3)] {
        client(&mut gateway, READY, TCP_SYN, port).unwrap();
        assert_eq!(counted(&gateway, READY), flows, "port {port}");
    }
    establish(&mut gateway, seconds(1), 5_004);
    // Those without an answer are over after half a minute.
    assert_eq!((counted(&gateway, seconds(29)), counted(&gateway, seconds(30))), (4, 1));
}

#[test]
fn a_flow_that_one_side_has_closed_passes_both_ways_until_the_other_has() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    for (row, client_first) in [true, false].into_iter().enumerate() {
        let port = 5_001 + u16::try_from(row).unwrap();
        let nat_port = establish(&mut gateway, READY, port);
        let mut send = |second: u64, from_client: bool, flags| {
            let carrier = Carrier::Tcp(flags);
            let path = if from_client { to_gateway(CLIENT, port, SSH) } else { from_nas(22, nat_port) };
            pass(&mut gateway, seconds(second), Port::Outside, carrier, path).is_ok()
        };
        assert!(send(0, client_first, FIN_ACK), "row {row}");
        // Ten minutes of silence are too long.
        for (second, from_client) in [(599, !client_first), (1_198, client_first)] {
            assert!(send(second, from_client, ACK), "row {row}: it is open after {second} s");
        }
        assert!(send(1_200, client_first, FIN_ACK), "row {row}: the same side's FIN again closes nothing");
        assert!(send(1_300, !client_first, ACK), "row {row}");
        assert!(send(1_301, !client_first, FIN_ACK), "row {row}");
        assert!(send(1_310, client_first, ACK), "row {row}: the last acknowledgement");
        assert!(!send(1_312, client_first, ACK), "row {row}: it is closed");
    }
}

#[test]
fn a_flow_that_one_side_has_closed_ends_after_ten_silent_minutes() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    for (row, (port, client_closes)) in [(5_001, true), (5_002, false)].into_iter().enumerate() {
        let nat_port = establish(&mut gateway, READY, port);
        let path = if client_closes { to_gateway(CLIENT, port, SSH) } else { from_nas(22, nat_port) };
        pass(&mut gateway, READY, Port::Outside, Carrier::Tcp(FIN_ACK), path).unwrap();
        let late = client(&mut gateway, seconds(600), TCP_ACK, port);
        assert_eq!(late, Err(Action::Drop(Drop::NoGrant)), "row {row}");
    }
}

#[test]
fn a_full_table_lets_udp_flows_go_before_established_tcp_ones() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "BOTH");
    let udp = |gateway: &mut Small<'_>, now, port| {
        pass(gateway, now, Port::Outside, Carrier::Udp, to_gateway(CLIENT, port, DNS)).unwrap().from.1
    };
    establish(&mut gateway, READY, 5_001);
    let nat_ports: Vec<u16> = (6_001..6_000 + u16::try_from(FLOWS).unwrap())
        .map(|port| {
            let nat_port = udp(&mut gateway, seconds(1), port);
            pass(&mut gateway, seconds(1), Port::Outside, Carrier::Udp, from_nas(53, nat_port)).unwrap();
            nat_port
        })
        .collect();
    // The TCP flow is idle for longer, and stays; so does the UDP flow that has been used since.
    udp(&mut gateway, seconds(2), 6_001);
    establish(&mut gateway, seconds(3), 5_002);
    assert!(client(&mut gateway, seconds(3), TCP_ACK, 5_001).is_ok());
    let answers: Vec<bool> = nat_ports
        .iter()
        .map(|port| pass(&mut gateway, seconds(3), Port::Outside, Carrier::Udp, from_nas(53, *port)).is_ok())
        .collect();
    assert!(answers[0], "{answers:?}");
    assert_eq!(answers.iter().filter(|passes| !**passes).count(), 1, "{answers:?}");
}

/// The error goes to `to` from the gateway, and quotes `about` as that host sent it, less a hop.
fn check_error(error: &[u8], to: Host, about: &[u8], row: usize) {
    let packet = Ipv4Packet::new_checked(&error[14..]).unwrap();
    assert!(packet.verify_checksum(), "row {row}");
    assert_eq!((packet.src_addr(), packet.dst_addr()), (GATEWAY.address, to.address), "row {row}");
    assert_eq!(error[..6], to.hardware.0, "row {row}");
    let message = smoltcp::wire::Icmpv4Packet::new_checked(packet.payload()).unwrap();
    assert!(message.verify_checksum(), "row {row}");
    let mut quoted = packet.payload()[8..].to_vec();
    let mut quote = Ipv4Packet::new_unchecked(&mut quoted);
    assert!(quote.verify_checksum(), "row {row}: that of the quoted header");
    // It had one hop less when it went on.
    quote.set_hop_limit(HOPS);
    quote.fill_checksum();
    assert_eq!(quoted, about[14..], "row {row}");
}

#[test]
fn every_wrong_knock_has_its_reason_and_is_counted_under_it() {
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
        assert_eq!(send_knock(&mut gateway, READY, CLIENT, payload), Drop::Knock(*verdict), "row {row}");
        assert_eq!(gateway.counters().dropped(Drop::Knock(*verdict)), 1, "row {row}");
    }
    assert_eq!(
        gateway.take_knocked().map(|knocked| (knocked.address, knocked.rule)),
        Some((CLIENT.address, 0))
    );
    assert_eq!(gateway.take_knocked(), None);
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
fn a_knock_with_a_wrong_udp_checksum_is_none() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    let path = to_gateway(CLIENT, 5_000, crate::rig::KNOCK_PORT);
    let mut frame = frame::udp(path, &knock("SSHK", READY, 1));
    frame[14 + 20 + 6] ^= 1;
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut frame), Action::Drop(Drop::Checksum));
}

#[test]
fn only_the_host_of_the_flow_answers_in_it() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let nat_port = client(&mut gateway, READY, TCP_SYN, 5_001).unwrap().from.1;
    let other = Host::new(9, [192, 168, 1, 21]);
    for (row, (from, port)) in [(other, 22), (NAS, 23)].into_iter().enumerate() {
        let path = Path { from, from_port: port, to: GATEWAY, to_port: nat_port };
        let given = pass(&mut gateway, READY, Port::Outside, Carrier::Tcp(SYN_ACK), path);
        assert_eq!(given, Err(Action::Drop(Drop::NoFlow)), "row {row}");
    }
}
