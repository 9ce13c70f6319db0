//! ICMP errors about packets of flows.

use pkd_gateway::{Action, DropReason, Port};
use smoltcp::wire::{IpProtocol, Ipv4Packet};

use crate::{
    frame::{self, Host, Path, SYN, TTL_SENT, Transport},
    harness::{
        CLIENT, DNS, GATEWAY, NAS, READY, SSH, STRANGER, SmallTables, TCP_SYN, client, establish, from_nas,
        one_arm, open, ready, to_gateway,
    },
};

#[test]
fn icmp_errors_reach_the_sender_and_quote_the_packet_that_it_sent() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "BOTH");
    for (row, (transport, port, inside)) in
        [(TCP_SYN, SSH, 22), (Transport::Udp, DNS, 53)].into_iter().enumerate()
    {
        let sent = frame::segment(transport, to_gateway(CLIENT, 5_001, port), b"payload of a packet");
        let mut forwarded = sent.clone();
        assert_eq!(
            gateway.on_frame(READY, Port::Outside, &mut forwarded),
            Action::Forward(Port::Outside),
            "row {row}"
        );
        // The NAS reports a closed port.
        let mut error = frame::icmp(NAS, GATEWAY, 3, &forwarded[14..]);
        assert_eq!(
            gateway.on_frame(READY, Port::Outside, &mut error),
            Action::Forward(Port::Outside),
            "row {row}"
        );
        check_error(&error, CLIENT, &sent, row);

        let nat_port = frame::parse(&forwarded).unwrap().from.1;
        let reply = frame::segment(transport, from_nas(inside, nat_port), b"payload of a reply");
        let mut reply_frame = reply.clone();
        assert_eq!(
            gateway.on_frame(READY, Port::Outside, &mut reply_frame),
            Action::Forward(Port::Outside),
            "row {row}"
        );
        // A router on the path reports a packet that is too big. It quotes the minimum of RFC 792: 8 bytes after the header.
        let router = Host::new(3, [198, 51, 100, 1]);
        let mut error = frame::icmp(router, GATEWAY, 3, &reply_frame[14..14 + 28]);
        assert_eq!(
            gateway.on_frame(READY, Port::Outside, &mut error),
            Action::Forward(Port::Outside),
            "row {row}"
        );
        check_error(&error, NAS, &reply[..14 + 28], row);

        let mut strange = frame::icmp(router, GATEWAY, 3, &sent[14..]);
        let given = gateway.on_frame(READY, Port::Outside, &mut strange);
        assert_eq!(given, Action::Drop(DropReason::NoFlow), "row {row}: about a packet that we did not send");
    }
}

#[test]
fn an_icmp_error_is_forwarded_only_with_ttl_left_and_if_it_quotes_a_packet_of_a_flow() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let nat_port = client(&mut gateway, READY, TCP_SYN, 5_001).unwrap().from.1;
    let other = Host::new(9, [192, 168, 1, 21]);
    let ours = Path { from: GATEWAY, from_port: nat_port, to: NAS, to_port: 22 };
    let forwarded = Action::Forward(Port::Outside);
    let expired = Action::Drop(DropReason::TtlExpired);
    let no_flow = Action::Drop(DropReason::NoFlow);
    let table = [
        ("the gateway's own packet", TTL_SENT, ours, forwarded),
        ("with a TTL of 2", 2, ours, forwarded),
        ("with a TTL of 1", 1, ours, expired),
        ("with a TTL of 0", 0, ours, expired),
        ("a packet from another address", TTL_SENT, Path { from: STRANGER, ..ours }, no_flow),
        ("a packet to another host", TTL_SENT, Path { to: other, ..ours }, no_flow),
        ("a packet to another port", TTL_SENT, Path { to_port: 23, ..ours }, no_flow),
        ("a packet from another port", TTL_SENT, Path { from_port: nat_port + 1, ..ours }, no_flow),
    ];
    for (row, (name, ttl, about, action)) in table.into_iter().enumerate() {
        let mut error = frame::icmp(NAS, GATEWAY, 3, &frame::tcp(SYN, about, b"")[14..]);
        let mut packet = Ipv4Packet::new_unchecked(&mut error[14..]);
        packet.set_hop_limit(ttl);
        packet.fill_checksum();
        assert_eq!(gateway.on_frame(READY, Port::Outside, &mut error), action, "row {row}: {name}");
        if action == forwarded {
            let left = Ipv4Packet::new_unchecked(&error[14..]).hop_limit();
            assert_eq!(left, ttl - 1, "row {row}: {name}");
        }
    }
}

#[test]
fn an_icmp_error_with_a_damaged_quote_is_dropped() {
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
        ("complete", frame::icmp(NAS, GATEWAY, 3, quote), Action::Forward(Port::Outside)),
        ("the minimum", frame::icmp(NAS, GATEWAY, 3, &quote[..28]), Action::Forward(Port::Outside)),
        ("one byte less", frame::icmp(NAS, GATEWAY, 3, &quote[..27]), Action::Drop(DropReason::Malformed)),
        ("empty", frame::icmp(NAS, GATEWAY, 3, b""), Action::Drop(DropReason::Malformed)),
        ("a wrong checksum", checksum, Action::Drop(DropReason::Checksum)),
        ("version 6", with(|packet| packet.set_version(6)), Action::Drop(DropReason::Malformed)),
        (
            "a header of 16 bytes",
            with(|packet| packet.set_header_len(16)),
            Action::Drop(DropReason::Malformed),
        ),
        (
            "a header beyond its end",
            with(|packet| packet.set_header_len(60)),
            Action::Drop(DropReason::Malformed),
        ),
        ("a fragment", with(|packet| packet.set_frag_offset(8)), Action::Drop(DropReason::Fragment)),
        ("ICMP", with(|packet| packet.set_next_header(IpProtocol::Icmp)), Action::Drop(DropReason::NoFlow)),
        ("IGMP", with(|packet| packet.set_next_header(IpProtocol::Igmp)), Action::Drop(DropReason::Protocol)),
        ("UDP", with(|packet| packet.set_next_header(IpProtocol::Udp)), Action::Drop(DropReason::NoFlow)),
    ];
    for (row, (name, mut error, action)) in table.into_iter().enumerate() {
        assert_eq!(gateway.on_frame(READY, Port::Outside, &mut error), action, "row {row}: {name}");
    }
}

#[test]
fn a_stranger_that_cannot_see_a_flow_cannot_report_errors_about_it() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let nat_port = establish(&mut gateway, READY, 5_001);
    let about = |from: Host, from_port, to: Host, to_port, sequence: i32| {
        let mut sent = frame::tcp(frame::ACK, Path { from, from_port, to, to_port }, b"");
        sent[14 + 20 + 4..14 + 20 + 8].copy_from_slice(&sequence.to_be_bytes());
        sent
    };
    let to_client = |sequence| about(GATEWAY, SSH, CLIENT, 5_001, sequence);
    let to_host = about(GATEWAY, nat_port, NAS, 22, frame::SEQUENCE);
    let stranger = STRANGER;
    let (passes, closed) = (Action::Forward(Port::Outside), Action::Drop(DropReason::NoFlow));
    let table = [
        ("a router, about what the host has sent", stranger, to_client(frame::SEQUENCE), passes),
        ("about what it sent a while ago", stranger, to_client(frame::SEQUENCE - (1 << 20)), passes),
        ("about what it has not sent", stranger, to_client(frame::SEQUENCE + 1), closed),
        ("about what it sent long ago", stranger, to_client(frame::SEQUENCE - (1 << 20) - 1), closed),
        ("a stranger, about what the client has sent", stranger, to_host.clone(), closed),
        ("the host, about that", NAS, to_host, passes),
    ];
    for (row, (name, from, quoted, expected)) in table.into_iter().enumerate() {
        let mut error = frame::icmp(from, GATEWAY, 3, &quoted[14..]);
        assert_eq!(gateway.on_frame(READY, Port::Outside, &mut error), expected, "row {row}: {name}");
    }
    // The host sends more, and then something once again.
    for sequence in [frame::SEQUENCE + 2_000, frame::SEQUENCE] {
        let mut sent = frame::tcp(frame::ACK, from_nas(22, nat_port), b"");
        sent[14 + 20 + 4..14 + 20 + 8].copy_from_slice(&sequence.to_be_bytes());
        let _sent = gateway.on_frame(READY, Port::Outside, &mut sent);
    }
    let mut error = frame::icmp(stranger, GATEWAY, 3, &to_client(frame::SEQUENCE + 2_000)[14..]);
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut error), passes);
}

/// Checks that the error goes from the gateway to `to`, and quotes `about` as that host sent it, with a decremented TTL.
fn check_error(error: &[u8], to: Host, about: &[u8], row: usize) {
    let packet = Ipv4Packet::new_checked(&error[14..]).unwrap();
    assert!(packet.verify_checksum(), "row {row}");
    assert_eq!((packet.src_addr(), packet.dst_addr()), (GATEWAY.address, to.address), "row {row}");
    assert_eq!(error[..6], to.hardware.0, "row {row}");
    let message = smoltcp::wire::Icmpv4Packet::new_checked(packet.payload()).unwrap();
    assert!(message.verify_checksum(), "row {row}");
    let mut quoted = packet.payload()[8..].to_vec();
    let mut quote = Ipv4Packet::new_unchecked(&mut quoted);
    assert!(quote.verify_checksum(), "row {row}: the checksum of the quoted header");
    // Its TTL was decremented when it was forwarded.
    quote.set_hop_limit(TTL_SENT);
    quote.fill_checksum();
    assert_eq!(quoted, about[14..], "row {row}");
}
