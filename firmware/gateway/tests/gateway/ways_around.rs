//! Inline mode from the attacker's side: what is sent to a protected host, by every way there is.

use pkd_core::{Reason, Verdict};
use pkd_gateway::{Action, Config, DropReason, Mode, Port, Protect, Vlans};
use smoltcp::wire::{ArpOperation, EthernetAddress};

use crate::{
    attacks::{self, Cast, DNS, Fate, NAS6},
    frame::{self, ACK, FIN_ACK, Host, Path, RST, SYN, SYN_ACK, Transport},
    frame6::{Host6, icmp6, neighbour, tcp6, udp6},
    harness::{
        CLIENT, GATEWAY, KNOCK_PORT, NAS, READY, RULES, START, STRANGER, Small, SmallTables, inline, knock,
        millis, open, seconds, send_knock,
    },
};

const CAST: Cast = Cast {
    nas: NAS,
    printer: Host::new(9, [192, 168, 1, 21]),
    attacker: STRANGER,
    gateway: GATEWAY,
    knock_port: KNOCK_PORT,
};

fn config(protect: Protect, vlans: Option<Vlans>) -> Config<RULES> {
    let mut config = inline();
    if let Mode::Inline(inline) = &mut config.mode {
        inline.vlans = vlans;
    }
    attacks::configure(&mut config, CAST, protect);
    config
}

/// A gateway that has the time and knows the hosts.
fn gateway<'a>(tables: &'a mut SmallTables, config: &'a Config<RULES>) -> Small<'a> {
    let mut gateway = Small::new(tables, config, GATEWAY.hardware, START.into());
    gateway.set_time(pkd_gateway::Instant(0), millis(START)).unwrap();
    for mut introduction in attacks::introductions(CAST) {
        let _action = gateway.on_frame(READY, Port::Inside, &mut introduction);
    }
    gateway
}

fn fate(action: Action) -> Fate {
    match action {
        Action::Drop(_) | Action::Knock(_) | Action::Local { .. } => Fate::Stops,
        Action::Forward(_) | Action::ForwardAndLocal(_) | Action::ForwardAndUntagged(_) => Fate::Passes,
    }
}

#[test]
fn no_attack_reaches_a_protected_host() {
    for protect in [Protect::Host, Protect::Services] {
        let config = config(protect, None);
        let mut tables = SmallTables::new();
        let mut gateway = gateway(&mut tables, &config);
        for attack in attacks::attacks(CAST) {
            let mut frame = attack.frame.clone();
            let action = gateway.on_frame(READY, Port::Outside, &mut frame);
            let expected = if protect == Protect::Host { attack.host } else { attack.services };
            assert_eq!(fate(action), expected, "{protect:?}: {}: {action:?}", attack.name);
            assert_eq!(frame, attack.frame, "{}: a bridge does not change frames", attack.name);
        }
    }
}

#[test]
fn no_attack_reaches_a_protected_host_on_a_trunk() {
    let config = config(Protect::Host, Some(Vlans { outside: 10, inside: 20 }));
    let mut tables = SmallTables::new();
    let mut gateway = Small::new(&mut tables, &config, GATEWAY.hardware, START.into());
    gateway.set_time(pkd_gateway::Instant(0), millis(START)).unwrap();
    for introduction in attacks::introductions(CAST) {
        let _action = gateway.on_frame(READY, Port::Outside, &mut attacks::tagged(&introduction, 0x8100, 20));
    }
    for attack in attacks::attacks(CAST) {
        let mut frame = attacks::tagged(&attack.frame, 0x8100, 10);
        let action = gateway.on_frame(READY, Port::Outside, &mut frame);
        assert_eq!(fate(action), attack.host, "{}: {action:?}", attack.name);
    }
}

/// Before the gateway knows the hosts, it takes every host for one that is protected.
#[test]
fn no_attack_reaches_a_protected_host_before_its_mac_address_is_known() {
    for (protect, known) in [Protect::Host, Protect::Services]
        .into_iter()
        .flat_map(|protect| [(protect, 0), (protect, 1), (protect, 2)])
    {
        let config = config(protect, None);
        let mut tables = SmallTables::new();
        let mut gateway = Small::new(&mut tables, &config, GATEWAY.hardware, START.into());
        gateway.set_time(pkd_gateway::Instant(0), millis(START)).unwrap();
        for mut introduction in attacks::introductions(CAST).into_iter().take(known) {
            let _action = gateway.on_frame(READY, Port::Inside, &mut introduction);
        }
        for mut attack in attacks::attacks(CAST) {
            let expected = if protect == Protect::Host { attack.host } else { attack.services };
            let action = gateway.on_frame(READY, Port::Outside, &mut attack.frame);
            // It may stop more than it has to.
            let is_safe = fate(action) == Fate::Stops || expected == Fate::Passes;
            // Who uses the host's MAC address is not known yet either.
            let is_known = known > 0 || attack.name != "from the host's MAC address";
            assert!(is_safe || !is_known, "{protect:?}, {known}: {}: {action:?}", attack.name);
        }
    }
}

#[test]
fn a_configured_mac_address_needs_no_introduction() {
    let mut config = config(Protect::Host, None);
    for address in [NAS.address.into(), NAS6.into()] {
        config.hosts.push(pkd_gateway::Host { address, hardware: NAS.hardware }).unwrap();
    }
    let mut tables = SmallTables::new();
    let mut gateway = Small::new(&mut tables, &config, GATEWAY.hardware, START.into());
    gateway.set_time(pkd_gateway::Instant(0), millis(START)).unwrap();
    for mut attack in attacks::attacks(CAST) {
        let action = gateway.on_frame(READY, Port::Outside, &mut attack.frame);
        assert_eq!(fate(action), attack.host, "{}: {action:?}", attack.name);
    }
    let mut out = [0; 128];
    assert_eq!(gateway.on_tick(READY, &mut out), None, "nobody is asked");
}

#[test]
fn the_gateway_asks_the_inside_for_hosts_that_it_does_not_know() {
    let vlans = Vlans { outside: 10, inside: 20 };
    for vlans in [None, Some(vlans)] {
        let config = config(Protect::Host, vlans);
        let mut tables = SmallTables::new();
        let mut gateway = Small::new(&mut tables, &config, GATEWAY.hardware, START.into());
        let mut out = [0; 128];
        let mut asked = Vec::new();
        while let Some((port, length)) = gateway.on_tick(READY, &mut out) {
            let (expected, at) = if vlans.is_some() { (Port::Outside, 16) } else { (Port::Inside, 12) };
            assert_eq!(port, expected);
            if vlans.is_some() {
                assert_eq!(out[12..16], [0x81, 0, 0, 20]);
            }
            asked.push((out[at..at + 2].to_vec(), out[..length].to_vec()));
        }
        let kinds: Vec<&[u8]> = asked.iter().map(|(kind, _)| kind.as_slice()).collect();
        assert_eq!(
            kinds,
            [&[8, 6][..], &[0x86, 0xdd]],
            "ARP for one address, neighbour discovery for the other"
        );
    }
}

/// Sends a segment or datagram from a client to the NAS, or back.
fn send(
    gateway: &mut Small<'_>,
    now: pkd_gateway::Instant,
    side: Port,
    transport: Transport,
    path: Path,
) -> Action {
    gateway.on_frame(now, side, &mut frame::segment(transport, path, b"payload"))
}

const IN: Action = Action::Forward(Port::Inside);
const OUT: Action = Action::Forward(Port::Outside);

fn inbound(from: Host, from_port: u16, to_port: u16) -> Path {
    Path { from, from_port, to: NAS, to_port }
}

fn outbound(from_port: u16, to: Host, to_port: u16) -> Path {
    Path { from: NAS, from_port, to, to_port }
}

#[test]
fn a_grant_opens_the_service_and_nothing_else() {
    let config = config(Protect::Host, None);
    let mut tables = SmallTables::new();
    let mut gateway = gateway(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let tcp = |flags| Transport::Tcp(flags);
    assert_eq!(send(&mut gateway, READY, Port::Outside, tcp(SYN), inbound(CLIENT, 5_001, 22)), IN);
    assert_eq!(send(&mut gateway, READY, Port::Inside, tcp(SYN_ACK), outbound(22, CLIENT, 5_001)), OUT);
    assert_eq!(send(&mut gateway, READY, Port::Outside, tcp(ACK), inbound(CLIENT, 5_001, 22)), IN);
    let elsewhere = Path { to: Host { address: [10, 9, 8, 7].into(), ..NAS }, ..inbound(CLIENT, 5_002, 22) };
    let to_all =
        Path { to: Host { hardware: EthernetAddress([0xff; 6]), ..NAS }, ..inbound(CLIENT, 5_001, 22) };
    let table = [
        ("another port", inbound(CLIENT, 5_002, 80), DropReason::Unsolicited),
        ("another service", inbound(CLIENT, 5_002, 2_222), DropReason::Unsolicited),
        ("another address of the host", elsewhere, DropReason::Unsolicited),
        ("the service, in a frame to all", to_all, DropReason::Unsolicited),
        ("a stranger", inbound(STRANGER, 5_001, 22), DropReason::NoGrant),
    ];
    for (row, (name, path, reason)) in table.into_iter().enumerate() {
        assert_eq!(
            send(&mut gateway, READY, Port::Outside, tcp(SYN), path),
            Action::Drop(reason),
            "row {row}: {name}"
        );
    }
    // The connection outlives the grant.
    let late = seconds(3_600);
    assert_eq!(send(&mut gateway, late, Port::Outside, tcp(ACK), inbound(CLIENT, 5_001, 22)), IN);
}

#[test]
fn a_connection_is_not_a_way_in_for_another_one() {
    let config = config(Protect::Host, None);
    for (row, (name, last)) in
        [("established", None), ("closed by the host", Some(FIN_ACK)), ("reset by it", Some(RST))]
            .into_iter()
            .enumerate()
    {
        let mut tables = SmallTables::new();
        let mut gateway = gateway(&mut tables, &config);
        open(&mut gateway, READY, CLIENT, "SSHK");
        let path = inbound(CLIENT, 5_001, 22);
        assert_eq!(send(&mut gateway, READY, Port::Outside, Transport::Tcp(SYN), path), IN);
        assert_eq!(send(&mut gateway, READY, Port::Outside, Transport::Tcp(SYN), path), IN, "sent again");
        assert_eq!(
            send(&mut gateway, READY, Port::Inside, Transport::Tcp(SYN_ACK), outbound(22, CLIENT, 5_001)),
            OUT
        );
        assert_eq!(send(&mut gateway, READY, Port::Outside, Transport::Tcp(ACK), path), IN);
        let over = seconds(100);
        if let Some(flags) = last {
            let _sent =
                send(&mut gateway, over, Port::Inside, Transport::Tcp(flags), outbound(22, CLIENT, 5_001));
        }
        let again = send(&mut gateway, over, Port::Outside, Transport::Tcp(SYN), path);
        assert_eq!(again, Action::Drop(DropReason::NoGrant), "row {row}: {name}");
        // With a grant, it is a new connection.
        open(&mut gateway, over, CLIENT, "SSHK");
        let again = send(&mut gateway, over, Port::Outside, Transport::Tcp(SYN), path);
        assert_eq!(again, IN, "row {row}: {name}");
    }
}

#[test]
fn a_syn_that_was_lost_is_sent_again_without_a_grant() {
    let config = config(Protect::Host, None);
    let mut tables = SmallTables::new();
    let mut gateway = gateway(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let syn = frame::tcp(SYN, inbound(CLIENT, 5_001, 22), b"");
    assert_eq!(gateway.on_frame(seconds(59), Port::Outside, &mut syn.clone()), IN);
    assert_eq!(gateway.on_frame(seconds(61), Port::Outside, &mut syn.clone()), IN);
    let mut other = syn.clone();
    other[14 + 20 + 4] ^= 1;
    let given = gateway.on_frame(seconds(62), Port::Outside, &mut other);
    assert_eq!(given, Action::Drop(DropReason::NoGrant), "it is not the same");
}

#[test]
fn the_network_stack_gets_no_ipv6() {
    let config = config(Protect::Host, None);
    let mut tables = SmallTables::new();
    let mut gateway = gateway(&mut tables, &config);
    let from = Host6 { hardware: NAS.hardware, address: NAS6 };
    let to = Host6 { hardware: GATEWAY.hardware, address: "2001:db8::9".parse().unwrap() };
    for side in [Port::Inside, Port::Outside] {
        let from = if side == Port::Inside {
            from
        } else {
            Host6 { hardware: STRANGER.hardware, address: "2001:db8:8::1".parse().unwrap() }
        };
        let mut ping = icmp6(from, to, 128, &[0; 12]).frame(from, to);
        assert_eq!(gateway.on_frame(READY, side, &mut ping), Action::Drop(DropReason::Unsolicited));
    }
}

#[test]
fn datagrams_need_a_grant_each_time() {
    let config = config(Protect::Host, None);
    let mut tables = SmallTables::new();
    let mut gateway = gateway(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "BOTH");
    // One each 20 seconds, which the host answers, and a second knock after 40.
    for second in (0..=200).step_by(20) {
        if second == 40 {
            open(&mut gateway, seconds(40), CLIENT, "BOTH");
        }
        let now = seconds(second);
        let given = send(&mut gateway, now, Port::Outside, Transport::Udp, inbound(CLIENT, 5_001, DNS));
        let expected = if second < 100 { IN } else { Action::Drop(DropReason::NoGrant) };
        assert_eq!(given, expected, "{second} s");
        assert_eq!(send(&mut gateway, now, Port::Inside, Transport::Udp, outbound(DNS, CLIENT, 5_001)), OUT);
    }
}

#[test]
fn answers_to_what_the_host_began_come_in() {
    let server = Host::new(3, [198, 51, 100, 53]);
    let udp = Transport::Udp;
    let table = [
        ("DNS", udp, 40_123, 53),
        ("from the port of a service", udp, DNS, 53),
        ("from the knock port", udp, KNOCK_PORT, 123),
    ];
    for (row, (name, transport, from_port, to_port)) in table.into_iter().enumerate() {
        for protect in [Protect::Host, Protect::Services] {
            let config = config(protect, None);
            let mut tables = SmallTables::new();
            let mut gateway = gateway(&mut tables, &config);
            let answer = inbound(server, to_port, from_port);
            let before = send(&mut gateway, READY, Port::Outside, transport, answer);
            let is_open = protect == Protect::Services && from_port == 40_123;
            assert_eq!(fate(before), if is_open { Fate::Passes } else { Fate::Stops }, "row {row}: {name}");
            assert_eq!(
                send(&mut gateway, READY, Port::Inside, transport, outbound(from_port, server, to_port)),
                OUT
            );
            for second in [0, 20, 40, 280] {
                let given = send(&mut gateway, seconds(second), Port::Outside, transport, answer);
                assert_eq!(given, IN, "row {row}: {name}, {second} s");
            }
            // Answers alone do not keep the way open.
            let late = send(&mut gateway, seconds(301), Port::Outside, transport, answer);
            assert_eq!(fate(late), if is_open { Fate::Passes } else { Fate::Stops }, "row {row}: {name}");
            let other = inbound(STRANGER, to_port, from_port);
            let stranger = send(&mut gateway, READY, Port::Outside, transport, other);
            assert_eq!(fate(stranger), if is_open { Fate::Passes } else { Fate::Stops }, "row {row}: {name}");
        }
    }
}

#[test]
fn a_connection_of_the_host_is_for_its_answers_only() {
    let config = config(Protect::Host, None);
    let mut tables = SmallTables::new();
    let mut gateway = gateway(&mut tables, &config);
    let server = Host::new(3, [198, 51, 100, 80]);
    let answer = inbound(server, 443, 40_123);
    assert_eq!(
        send(&mut gateway, READY, Port::Inside, Transport::Tcp(SYN), outbound(40_123, server, 443)),
        OUT
    );
    let syn = send(&mut gateway, READY, Port::Outside, Transport::Tcp(SYN), answer);
    assert_eq!(syn, Action::Drop(DropReason::NoFlow), "the server opens none");
    assert_eq!(send(&mut gateway, READY, Port::Outside, Transport::Tcp(SYN_ACK), answer), IN);
    assert_eq!(
        send(&mut gateway, READY, Port::Inside, Transport::Tcp(ACK), outbound(40_123, server, 443)),
        OUT
    );
    assert_eq!(send(&mut gateway, seconds(7_000), Port::Outside, Transport::Tcp(ACK), answer), IN);
    let syn = send(&mut gateway, seconds(7_000), Port::Outside, Transport::Tcp(SYN), answer);
    assert_eq!(syn, Action::Drop(DropReason::NoFlow));
}

#[test]
fn after_a_reset_the_hosts_own_connections_go_on_and_those_of_clients_do_not() {
    let config = config(Protect::Host, None);
    let mut tables = SmallTables::new();
    let mut gateway = gateway(&mut tables, &config);
    let server = Host::new(3, [198, 51, 100, 80]);
    assert_eq!(
        send(&mut gateway, READY, Port::Inside, Transport::Tcp(ACK), outbound(40_123, server, 443)),
        OUT
    );
    assert_eq!(
        send(&mut gateway, READY, Port::Outside, Transport::Tcp(ACK), inbound(server, 443, 40_123)),
        IN
    );
    for flags in [ACK, SYN_ACK, RST, FIN_ACK] {
        assert_eq!(
            send(&mut gateway, READY, Port::Inside, Transport::Tcp(flags), outbound(22, CLIENT, 5_001)),
            OUT
        );
        let given = send(&mut gateway, READY, Port::Outside, Transport::Tcp(ACK), inbound(CLIENT, 5_001, 22));
        assert_eq!(given, Action::Drop(DropReason::NoGrant), "{flags:?}");
    }
}

#[test]
fn errors_and_pings_come_in_if_they_are_about_what_the_host_has_sent() {
    let config = config(Protect::Host, None);
    let mut tables = SmallTables::new();
    let mut gateway = gateway(&mut tables, &config);
    let router = Host::new(3, [198, 51, 100, 1]);
    let server = Host::new(3, [198, 51, 100, 80]);
    let sent = frame::tcp(SYN, outbound(40_123, server, 443), b"");
    assert_eq!(gateway.on_frame(READY, Port::Inside, &mut sent.clone()), OUT);
    let error = |quoted: &[u8]| frame::icmp(router, NAS, 3, &quoted[14..]);
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut error(&sent)), IN);
    let alias = Host { address: [10, 9, 8, 7].into(), ..NAS };
    let mut elsewhere = frame::icmp(router, alias, 3, &sent[14..]);
    let given = gateway.on_frame(READY, Port::Outside, &mut elsewhere);
    assert_eq!(given, Action::Drop(DropReason::NoFlow), "to another address than it quotes");
    let mut other = sent.clone();
    // Two MiB away from what the host has sent.
    other[14 + 20 + 4..14 + 20 + 8].copy_from_slice(&(77_u32.wrapping_sub(2 << 20)).to_be_bytes());
    let closed = Action::Drop(DropReason::NoFlow);
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut error(&other)), closed, "a guess");
    let port = frame::tcp(SYN, outbound(40_124, server, 443), b"");
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut error(&port)), closed, "another port");

    let ping = |from, to, kind| frame::icmp(from, to, kind, b"12345678");
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut ping(server, NAS, 0)), closed);
    assert_eq!(gateway.on_frame(READY, Port::Inside, &mut ping(NAS, server, 8)), OUT);
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut ping(server, NAS, 0)), IN);
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut ping(STRANGER, NAS, 0)), closed);
}

#[test]
fn dhcp_comes_in_for_a_minute_after_a_host_has_asked() {
    let config = config(Protect::Host, None);
    let mut tables = SmallTables::new();
    let mut gateway = gateway(&mut tables, &config);
    let all = Host { hardware: EthernetAddress([0xff; 6]), address: [255; 4].into() };
    let request = frame::udp(
        Path { from: Host { address: [0; 4].into(), ..NAS }, from_port: 68, to: all, to_port: 67 },
        b"",
    );
    let offer =
        frame::udp(Path { from: Host::new(3, [192, 168, 1, 1]), from_port: 67, to: NAS, to_port: 68 }, b"");
    let closed = Action::Drop(DropReason::Unsolicited);
    assert_eq!(gateway.on_frame(READY, Port::Outside, &mut offer.clone()), closed);
    assert_eq!(gateway.on_frame(READY, Port::Inside, &mut request.clone()), OUT);
    assert_eq!(gateway.on_frame(seconds(59), Port::Outside, &mut offer.clone()), IN);
    assert_eq!(gateway.on_frame(seconds(61), Port::Outside, &mut offer.clone()), closed);
}

#[test]
fn a_host_that_opens_many_connections_does_not_end_those_of_clients() {
    let config = config(Protect::Host, None);
    let mut tables = SmallTables::new();
    let mut gateway = gateway(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "BOTH");
    // All places are taken by clients, half of them by datagrams.
    let tcp = |port| inbound(CLIENT, port, 22);
    let udp = |port| inbound(CLIENT, port, DNS);
    for port in 5_001..5_005 {
        assert_eq!(send(&mut gateway, READY, Port::Outside, Transport::Tcp(SYN), tcp(port)), IN);
        assert_eq!(
            send(&mut gateway, READY, Port::Inside, Transport::Tcp(SYN_ACK), outbound(22, CLIENT, port)),
            OUT
        );
        assert_eq!(send(&mut gateway, READY, Port::Outside, Transport::Udp, udp(port)), IN);
        assert_eq!(send(&mut gateway, READY, Port::Inside, Transport::Udp, outbound(DNS, CLIENT, port)), OUT);
    }
    let server = Host::new(3, [198, 51, 100, 80]);
    for port in 10_000..10_100 {
        let syn = Transport::Tcp(SYN);
        assert_eq!(send(&mut gateway, seconds(1), Port::Inside, syn, outbound(port, server, 443)), OUT);
        let answer = send(
            &mut gateway,
            seconds(1),
            Port::Outside,
            Transport::Tcp(SYN_ACK),
            inbound(server, 443, port),
        );
        assert_eq!(answer, Action::Drop(DropReason::Unsolicited), "there is no room for its answers");
    }
    for port in 5_001..5_005 {
        assert_eq!(send(&mut gateway, seconds(2), Port::Outside, Transport::Udp, udp(port)), IN);
        assert_eq!(send(&mut gateway, seconds(90), Port::Outside, Transport::Tcp(ACK), tcp(port)), IN);
    }
}

#[test]
fn an_inside_hosts_own_flows_make_room_for_its_new_ones_and_for_clients() {
    let config = config(Protect::Host, None);
    let mut tables = SmallTables::new();
    let mut gateway = gateway(&mut tables, &config);
    let server = Host::new(3, [198, 51, 100, 80]);
    for port in 10_000..10_100 {
        let now = seconds(u64::from(port - 10_000));
        assert_eq!(
            send(&mut gateway, now, Port::Inside, Transport::Tcp(SYN), outbound(port, server, 443)),
            OUT
        );
        assert_eq!(
            send(&mut gateway, now, Port::Outside, Transport::Tcp(SYN_ACK), inbound(server, 443, port)),
            IN
        );
    }
    let now = seconds(100);
    let first = send(&mut gateway, now, Port::Outside, Transport::Tcp(ACK), inbound(server, 443, 10_000));
    assert_eq!(first, Action::Drop(DropReason::Unsolicited), "the oldest was evicted");
    open(&mut gateway, now, CLIENT, "SSHK");
    assert_eq!(send(&mut gateway, now, Port::Outside, Transport::Tcp(SYN), inbound(CLIENT, 5_001, 22)), IN);
}

#[test]
fn flows_of_ipv6_have_fewer_places_and_evict_each_other() {
    let config = config(Protect::Host, None);
    let mut tables = pkd_gateway::Tables::<1_024, 4, RULES, 16>::new();
    let mut gateway = pkd_gateway::Gateway::new(&mut tables, &config, GATEWAY.hardware, START.into());
    for mut introduction in attacks::introductions(CAST) {
        let _action = gateway.on_frame(READY, Port::Inside, &mut introduction);
    }
    let nas = Host6 { hardware: NAS.hardware, address: NAS6 };
    let server = Host6 { hardware: STRANGER.hardware, address: "2001:db8:8::1".parse().unwrap() };
    let old = Path { from_port: 9, ..outbound(9, STRANGER, 443) };
    let _out = gateway.on_frame(READY, Port::Inside, &mut frame::tcp(SYN, old, b""));
    for port in 10_000..10_300 {
        let now = seconds(u64::from(port - 10_000) / 20);
        let mut syn = tcp6(nas, server, (port, 443), SYN).frame(nas, server);
        assert_eq!(gateway.on_frame(now, Port::Inside, &mut syn), OUT);
        let mut answer = tcp6(server, nas, (443, port), SYN_ACK).frame(server, nas);
        assert_eq!(gateway.on_frame(now, Port::Outside, &mut answer), IN, "{port}");
    }
    let mut is_open = |port| {
        let mut answer = tcp6(server, nas, (443, port), ACK).frame(server, nas);
        gateway.on_frame(seconds(20), Port::Outside, &mut answer) == IN
    };
    assert_eq!((10_000..10_300).filter(|port| is_open(*port)).count(), 256);
    assert!(is_open(10_299) && !is_open(10_000), "the oldest are evicted");
    let answer = Path { from: STRANGER, from_port: 443, to: NAS, to_port: 9 };
    let given = gateway.on_frame(seconds(20), Port::Outside, &mut frame::tcp(SYN_ACK, answer, b""));
    assert_eq!(given, IN, "one of IPv4 is not evicted for one of IPv6");
}

#[test]
fn knocks_and_grants_work_with_ipv6() {
    for (prefix, neighbour_may) in [(128, false), (64, true)] {
        let mut config = crate::harness::format2(config(Protect::Host, None));
        config.grant_prefix = prefix;
        config.rules[0].services = pkd_gateway::Services::NONE.with(2);
        let mut tables = SmallTables::new();
        let mut gateway = gateway(&mut tables, &config);
        let client = Host6 { hardware: CLIENT.hardware, address: "2001:db8:7::1".parse().unwrap() };
        let same_network = Host6 { address: "2001:db8:7::2".parse().unwrap(), ..client };
        let stranger = Host6 { address: "2001:db8:8::1".parse().unwrap(), ..client };
        let nas = Host6 { hardware: NAS.hardware, address: NAS6 };
        let syn = |from: Host6, port| tcp6(from, nas, (port, 22), SYN).frame(from, nas);
        let closed = Action::Drop(DropReason::NoGrant);
        assert_eq!(gateway.on_frame(READY, Port::Outside, &mut syn(client, 1)), closed);
        let sealed = crate::harness::seal6("SSHK", READY, client.address, NAS6);
        let sent = |from: Host6| udp6(from, nas, (5_000, KNOCK_PORT), &sealed).frame(from, nas);
        let verdict = |action| match action {
            Action::Knock(outcome) => outcome.verdict,
            other => panic!("{other:?}"),
        };
        let stolen = verdict(gateway.on_frame(READY, Port::Outside, &mut sent(stranger)));
        assert_eq!(stolen, Verdict::Ignore(Reason::Digest), "it is bound to the client's address");
        let mut unchecked = sent(client);
        unchecked[14 + 40 + 6..14 + 40 + 8].fill(0);
        let given = gateway.on_frame(READY, Port::Outside, &mut unchecked);
        assert_eq!(given, Action::Drop(DropReason::Checksum), "IPv6 has no datagrams without a checksum");
        let mut knock = sent(client);
        assert_eq!(verdict(gateway.on_frame(READY, Port::Outside, &mut knock)), Verdict::Accept);
        assert_eq!(gateway.on_frame(READY, Port::Outside, &mut syn(client, 2)), IN);
        assert_eq!(gateway.on_frame(READY, Port::Outside, &mut syn(stranger, 2)), closed);
        let other = gateway.on_frame(READY, Port::Outside, &mut syn(same_network, 2));
        assert_eq!(other == IN, neighbour_may, "/{prefix}");
        let answer = tcp6(nas, client, (22, 2), SYN_ACK).frame(nas, client);
        assert_eq!(gateway.on_frame(READY, Port::Inside, &mut answer.clone()), OUT);
        let mut late = tcp6(client, nas, (2, 22), ACK).frame(client, nas);
        assert_eq!(gateway.on_frame(seconds(3_600), Port::Outside, &mut late), IN);
        let too_big = icmp6(client, nas, 2, &[&[0, 0, 5, 0], &answer[14..]].concat()).frame(client, nas);
        assert_eq!(gateway.on_frame(READY, Port::Outside, &mut too_big.clone()), IN);
    }
}

#[test]
fn a_loop_stops_everything_until_it_is_gone() {
    let config = config(Protect::Host, None);
    let mut tables = SmallTables::new();
    let mut gateway = gateway(&mut tables, &config);
    gateway.set_loop_cookie(0x1234_5678_9abc_def0);
    let probe = |gateway: &mut Small<'_>, now| {
        let mut out = [0; 128];
        while let Some((port, length)) = gateway.on_tick(now, &mut out) {
            if out[12..14] == [0x90, 0] {
                assert_eq!(port, Port::Inside);
                return out[..length].to_vec();
            }
        }
        panic!("no probe")
    };
    let sent = probe(&mut gateway, READY);
    let mut ping = frame::icmp(STRANGER, CAST.printer, 8, b"12345678");
    let mut forged = sent.clone();
    forged[20] ^= 1;
    for (name, side, frame, looped) in [
        ("a forged one", Port::Outside, &forged, false),
        ("one that the inside sends back", Port::Inside, &sent, false),
        ("one that comes in from outside", Port::Outside, &sent, true),
    ] {
        let _dropped = gateway.on_frame(READY, side, &mut frame.clone());
        assert_eq!(gateway.is_looped(READY), looped, "{name}");
        let given = gateway.on_frame(READY, Port::Outside, &mut ping);
        assert_eq!(given, if looped { Action::Drop(DropReason::Loop) } else { IN }, "{name}");
    }
    assert_eq!(gateway.on_frame(seconds(9), Port::Outside, &mut ping), Action::Drop(DropReason::Loop));
    assert_eq!(gateway.on_frame(seconds(10), Port::Outside, &mut ping), IN);
}

#[test]
fn a_lease_of_a_hosts_address_is_refused() {
    let mut config = config(Protect::Host, None);
    let pkd_gateway::Address::Static(interface) = config.address else { panic!("{:?}", config.address) };
    config.address = pkd_gateway::Address::Dhcp;
    let mut tables = SmallTables::new();
    let mut gateway = gateway(&mut tables, &config);
    let at = |address: [u8; 4]| {
        let network = pkd_gateway::Network { address: address.into(), ..interface.network };
        pkd_gateway::Interface { network, ..interface }
    };
    for (address, is_free) in
        [([192, 168, 1, 20], false), ([192, 168, 1, 30], true), ([224, 0, 0, 1], false), ([0; 4], false)]
    {
        let given = gateway.set_interface(Some(at(address)));
        assert_eq!(given.is_ok(), is_free, "{address:?}");
        assert_eq!(gateway.interface(), is_free.then(|| at(address)), "{address:?}");
        if let Err(error) = given {
            assert!(error.to_string().contains(&std::net::Ipv4Addr::from(address).to_string()), "{error}");
        }
    }
}

#[test]
fn an_inside_host_that_announces_itself_is_known() {
    let config = config(Protect::Host, None);
    let mut tables = SmallTables::new();
    let mut gateway = Small::new(&mut tables, &config, GATEWAY.hardware, START.into());
    let alias = Host { address: [10, 9, 8, 7].into(), ..NAS };
    let mut to_printer = frame::icmp(STRANGER, CAST.printer, 8, b"12345678");
    let is_open =
        |gateway: &mut Small<'_>, frame: &mut [u8]| gateway.on_frame(READY, Port::Outside, frame) == IN;
    assert!(!is_open(&mut gateway, &mut to_printer));
    // Answers to the gateway's own questions.
    let nas = Host6 { hardware: NAS.hardware, address: NAS6 };
    let us = Host6 { hardware: GATEWAY.hardware, address: "fe80::ff:fe00:1".parse().unwrap() };
    let mut advertisement = neighbour(nas, us, 136, NAS6, Some(NAS.hardware)).frame(nas, us);
    let _action = gateway.on_frame(READY, Port::Inside, &mut advertisement);
    let _action = gateway.on_frame(READY, Port::Inside, &mut frame::arp(ArpOperation::Reply, NAS, GATEWAY));
    assert!(
        is_open(&mut gateway, &mut to_printer),
        "all protected hosts are known, and the printer is not one"
    );
    assert!(!is_open(&mut gateway, &mut frame::icmp(STRANGER, alias, 8, b"12345678")));
    // A second network card of the NAS.
    let second = Host { hardware: EthernetAddress([2, 0, 0, 0, 0, 0x55]), ..NAS };
    let alias = Host { hardware: second.hardware, ..alias };
    assert!(is_open(&mut gateway, &mut frame::icmp(STRANGER, alias, 8, b"12345678")), "unknown so far");
    let _action = gateway.on_frame(READY, Port::Inside, &mut frame::icmp(second, STRANGER, 0, b"12345678"));
    assert!(!is_open(&mut gateway, &mut frame::icmp(STRANGER, alias, 8, b"12345678")));
    let _verdict = send_knock(&mut gateway, READY, CLIENT, &knock("SSHK", READY, 1));
}
