//! Grants and flows: how they begin, end, and are evicted.

use pkd_core::Verdict;
use pkd_gateway::{Action, DropReason, Port};
use smoltcp::wire::{TcpPacket, TcpSeqNumber};

use crate::{
    frame::{self, ACK, FIN_ACK, Host, Path, RST, SEQUENCE, SYN_ACK, Transport},
    harness::{
        CLIENT, DNS, FLOWS, GATEWAY, NAS, READY, SSH, STRANGER, Small, SmallTables, TCP_ACK, TCP_SYN, TTL,
        client, establish, from_nas, knock, one_arm, open, pass, ready, seconds, send_knock, to_gateway,
    },
};

#[test]
fn a_grant_expires_after_its_ttl_and_established_flows_continue() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let nat_port = establish(&mut gateway, READY, 5_001);
    let ttl = u64::from(TTL);
    assert!(client(&mut gateway, seconds(ttl - 1), TCP_SYN, 5_002).is_ok(), "just before it expires");
    assert_eq!(client(&mut gateway, seconds(ttl), TCP_SYN, 5_003), Err(Action::Drop(DropReason::NoGrant)));
    assert!(client(&mut gateway, seconds(7_000), TCP_ACK, 5_001).is_ok());
    assert!(pass(&mut gateway, seconds(14_000), Port::Outside, TCP_ACK, from_nas(22, nat_port)).is_ok());
    // The idle timeout: two hours and four minutes (RFC 5382).
    assert_eq!(
        client(&mut gateway, seconds(14_000 + 7_440), TCP_ACK, 5_001),
        Err(Action::Drop(DropReason::NoGrant))
    );
}

#[test]
fn a_flow_ends_when_both_sides_close_it_or_one_resets_it() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let table = [(5_001, &[FIN_ACK, FIN_ACK][..], "closed by both"), (5_002, &[RST][..], "reset")];
    for (row, (port, flags, name)) in table.into_iter().enumerate() {
        let nat_port = establish(&mut gateway, READY, port);
        client(&mut gateway, READY, Transport::Tcp(flags[0]), port).unwrap();
        for flags in &flags[1..] {
            pass(&mut gateway, READY, Port::Outside, Transport::Tcp(*flags), from_nas(22, nat_port)).unwrap();
        }
        let last = client(&mut gateway, seconds(9), TCP_ACK, port);
        assert!(last.is_ok(), "row {row}: {name}: the last acknowledgement may come late");
        // Frames do not restart the timeout of a closed flow.
        let late = client(&mut gateway, seconds(11), TCP_ACK, port);
        assert_eq!(late, Err(Action::Drop(DropReason::NoFlow)), "row {row}: {name}");
    }
}

#[test]
fn an_attacker_that_cannot_see_a_flow_cannot_end_it() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let beyond = SEQUENCE + (1 << 20) + 1;
    let table =
        [(RST, SEQUENCE - 1, true), (RST, beyond, true), (FIN_ACK, beyond, true), (RST, beyond - 1, false)];
    for ((row, (flags, sequence, survives)), port) in table.into_iter().enumerate().zip(5_001..) {
        establish(&mut gateway, READY, port);
        let path = to_gateway(CLIENT, port, SSH);
        let mut forged = frame::tcp(flags, path, b"");
        let ends = (path.from.address.into(), path.to.address.into());
        let mut segment = TcpPacket::new_unchecked(&mut forged[34..]);
        segment.set_seq_number(TcpSeqNumber(sequence));
        segment.fill_checksum(&ends.0, &ends.1);
        assert_eq!(gateway.on_frame(READY, Port::Outside, &mut forged), Action::Forward(Port::Outside));
        // Longer than the timeout of a half-closed flow.
        let later = client(&mut gateway, seconds(700), TCP_ACK, port);
        assert_eq!(later.is_ok(), survives, "row {row}: {flags:?} {sequence}");
    }
}

#[test]
fn a_client_can_reuse_its_port_after_closing() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let first = establish(&mut gateway, READY, 5_001);
    client(&mut gateway, READY, Transport::Tcp(RST), 5_001).unwrap();
    let second = establish(&mut gateway, READY, 5_001);
    assert_ne!(first, second, "late packets of the first flow must not reach the second");
}

#[test]
fn the_ports_that_inside_hosts_see_rotate() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    let mut ports = std::collections::BTreeSet::new();
    for second in 0..5_000 {
        // Each is over before the next one begins.
        let now = seconds(second * 20);
        if second.is_multiple_of(2) {
            let again = knock("SSHK", now, u8::try_from(second % 251).unwrap());
            assert_eq!(send_knock(&mut gateway, now, CLIENT, &again), Ok(Verdict::Accept));
        }
        let from_port = 10_000 + u16::try_from(second).unwrap();
        let port = client(&mut gateway, now, TCP_SYN, from_port).unwrap().from.1;
        let _closed = client(&mut gateway, now, Transport::Tcp(RST), from_port);
        ports.insert(port);
    }
    assert_eq!(ports.len(), 5_000, "5,000 flows used {} ports", ports.len());
    assert!(ports.iter().all(|port| (32_768..49_152).contains(port)), "{ports:?}");
}

#[test]
fn only_a_syn_opens_a_flow() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    for (row, flags) in [ACK, SYN_ACK, RST, FIN_ACK, frame::Flags(0), frame::Flags(3), frame::Flags(6)]
        .into_iter()
        .enumerate()
    {
        let given = client(&mut gateway, READY, Transport::Tcp(flags), 5_001);
        assert_eq!(given, Err(Action::Drop(DropReason::NoFlow)), "row {row}: {flags:?}");
    }
}

#[test]
fn a_full_table_evicts_idle_flows_and_keeps_established_flows_with_a_grant() {
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
    // One more evicts the half-open flow that was idle for longest, 5002.
    establish(&mut gateway, seconds(10), 6_001);
    assert_eq!(client(&mut gateway, seconds(10), TCP_ACK, 5_002), Err(Action::Drop(DropReason::NoFlow)));
    assert!(client(&mut gateway, seconds(10), TCP_ACK, 5_004).is_ok());
    for port in 6_002..6_005 {
        establish(&mut gateway, seconds(11), port);
    }
    assert_eq!(client(&mut gateway, seconds(12), TCP_SYN, 7_001), Err(Action::Drop(DropReason::TableFull)));
    for port in ports().filter(|port| !port.is_multiple_of(2)) {
        assert!(client(&mut gateway, seconds(12), TCP_ACK, port).is_ok(), "{port}");
    }
    // After the grant has expired, another client's new flow evicts the longest idle one.
    let late = seconds(u64::from(TTL) + 1);
    open(&mut gateway, late, STRANGER, "SSHK");
    let new = pass(&mut gateway, late, Port::Outside, TCP_SYN, to_gateway(STRANGER, 5_001, SSH));
    assert!(new.is_ok(), "{new:?}");
    assert_eq!(client(&mut gateway, late, TCP_ACK, 6_001), Err(Action::Drop(DropReason::NoGrant)));
    assert!(client(&mut gateway, late, TCP_ACK, 6_002).is_ok());
}

#[test]
fn a_second_knock_extends_the_grant_of_existing_flows() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    for port in 5_001..5_001 + u16::try_from(FLOWS).unwrap() {
        establish(&mut gateway, READY, port);
    }
    open(&mut gateway, seconds(59), CLIENT, "SSHK");
    open(&mut gateway, seconds(61), STRANGER, "SSHK");
    let new = pass(&mut gateway, seconds(61), Port::Outside, TCP_SYN, to_gateway(STRANGER, 5_001, SSH));
    assert_eq!(new, Err(Action::Drop(DropReason::TableFull)));
}

#[test]
fn a_full_grant_table_replaces_the_grant_that_expires_first() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    let from = |last: u8| Host::new(3, [203, 0, 113, last]);
    // The second expires first, because the first client knocks again.
    for (last, second) in [(1, 0), (2, 1), (3, 2), (4, 3), (1, 4), (5, 5)] {
        let knock = knock("SSHK", seconds(second), 10 * last + u8::try_from(second).unwrap());
        assert_eq!(send_knock(&mut gateway, seconds(second), from(last), &knock), Ok(Verdict::Accept));
    }
    for (last, granted) in [(1, true), (2, false), (3, true), (4, true), (5, true)] {
        let syn = pass(&mut gateway, seconds(6), Port::Outside, TCP_SYN, to_gateway(from(last), 5_001, SSH));
        assert_eq!(syn.is_ok(), granted, "address {last}: {syn:?}");
    }
}

#[test]
fn evicting_a_flow_removes_no_other_flow() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let flows = u16::try_from(FLOWS).unwrap();
    let mut live: Vec<u16> = (5_001..5_001 + flows).collect();
    for port in &live {
        establish(&mut gateway, READY, *port);
    }
    // There are as many buckets as flows, so some chains have several flows. They differ from round to round.
    for (round, new) in (0..100).zip(6_000..) {
        let ended = live.remove(round * 5 % FLOWS);
        client(&mut gateway, READY, Transport::Tcp(RST), ended).unwrap();
        establish(&mut gateway, READY, new);
        live.push(new);
        for port in &live {
            let given = client(&mut gateway, READY, TCP_ACK, *port);
            assert!(given.is_ok(), "round {round}: the flow of port {port}: {given:?}");
        }
        let given = client(&mut gateway, READY, TCP_ACK, ended);
        assert_eq!(given, Err(Action::Drop(DropReason::NoFlow)), "round {round}");
    }
}

#[test]
fn the_metrics_count_flows_that_have_not_expired() {
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
    // Unreplied flows expire after 30 seconds.
    assert_eq!((counted(&gateway, seconds(29)), counted(&gateway, seconds(30))), (4, 1));
}

#[test]
fn a_half_closed_flow_is_forwarded_both_ways_until_the_other_side_closes() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    for (row, client_first) in [true, false].into_iter().enumerate() {
        let port = 5_001 + u16::try_from(row).unwrap();
        let nat_port = establish(&mut gateway, READY, port);
        let mut send = |second: u64, from_client: bool, flags| {
            let transport = Transport::Tcp(flags);
            let path = if from_client { to_gateway(CLIENT, port, SSH) } else { from_nas(22, nat_port) };
            pass(&mut gateway, seconds(second), Port::Outside, transport, path).is_ok()
        };
        assert!(send(0, client_first, FIN_ACK), "row {row}");
        // The idle timeout is ten minutes.
        for (second, from_client) in [(599, !client_first), (1_198, client_first)] {
            assert!(send(second, from_client, ACK), "row {row}: it is open after {second} s");
        }
        assert!(send(1_200, client_first, FIN_ACK), "row {row}: a repeated FIN does not close it");
        assert!(send(1_300, !client_first, ACK), "row {row}");
        assert!(send(1_301, !client_first, FIN_ACK), "row {row}");
        assert!(send(1_310, client_first, ACK), "row {row}: the last acknowledgement");
        assert!(!send(1_312, client_first, ACK), "row {row}: it is closed");
    }
}

#[test]
fn a_half_closed_flow_expires_after_ten_idle_minutes() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    for (row, (port, client_closes)) in [(5_001, true), (5_002, false)].into_iter().enumerate() {
        let nat_port = establish(&mut gateway, READY, port);
        let path = if client_closes { to_gateway(CLIENT, port, SSH) } else { from_nas(22, nat_port) };
        pass(&mut gateway, READY, Port::Outside, Transport::Tcp(FIN_ACK), path).unwrap();
        let late = client(&mut gateway, seconds(600), TCP_ACK, port);
        assert_eq!(late, Err(Action::Drop(DropReason::NoGrant)), "row {row}");
    }
}

#[test]
fn a_full_table_evicts_udp_flows_before_established_tcp_flows() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "BOTH");
    let udp = |gateway: &mut Small<'_>, now, port| {
        pass(gateway, now, Port::Outside, Transport::Udp, to_gateway(CLIENT, port, DNS)).unwrap().from.1
    };
    establish(&mut gateway, READY, 5_001);
    let nat_ports: Vec<u16> = (6_001..6_000 + u16::try_from(FLOWS).unwrap())
        .map(|port| {
            let nat_port = udp(&mut gateway, seconds(1), port);
            pass(&mut gateway, seconds(1), Port::Outside, Transport::Udp, from_nas(53, nat_port)).unwrap();
            nat_port
        })
        .collect();
    // The TCP flow stays although it was idle for longer. So does the UDP flow that was used since.
    udp(&mut gateway, seconds(2), 6_001);
    establish(&mut gateway, seconds(3), 5_002);
    assert!(client(&mut gateway, seconds(3), TCP_ACK, 5_001).is_ok());
    let answers: Vec<bool> = nat_ports
        .iter()
        .map(|port| {
            pass(&mut gateway, seconds(3), Port::Outside, Transport::Udp, from_nas(53, *port)).is_ok()
        })
        .collect();
    assert!(answers[0], "{answers:?}");
    assert_eq!(answers.iter().filter(|passes| !**passes).count(), 1, "{answers:?}");
}

#[test]
fn only_the_inside_host_of_a_flow_can_reply() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let nat_port = client(&mut gateway, READY, TCP_SYN, 5_001).unwrap().from.1;
    let other = Host::new(9, [192, 168, 1, 21]);
    for (row, (from, port)) in [(other, 22), (NAS, 23)].into_iter().enumerate() {
        let path = Path { from, from_port: port, to: GATEWAY, to_port: nat_port };
        let given = pass(&mut gateway, READY, Port::Outside, Transport::Tcp(SYN_ACK), path);
        assert_eq!(given, Err(Action::Drop(DropReason::NoFlow)), "row {row}");
    }
}
