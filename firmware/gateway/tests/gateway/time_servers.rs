//! Which time server is asked, and when; the age of the clock; time servers by DHCP.

use core::net::{Ipv4Addr, SocketAddrV4};

use pkd_gateway::{
    Action, Address, Config, DropReason, EthernetAddress, Floors, Gateway, Instant, Light, NamedServer, Port,
    STALE_AFTER, TIME_SERVERS, TimeClient, TimeFailure, TimeSource, TimeTask, sntp,
};

use crate::{
    frame::{self, Host, Path},
    harness::{
        CLIENT, GATEWAY, NAS, RULES, START, Small, SmallTables, TIME_SERVER, inline, millis, one_arm, trunk,
    },
};

const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

fn at(seconds: u64) -> Instant {
    Instant(seconds * 1_000)
}

fn named() -> TimeSource {
    TimeSource::Name(NamedServer {
        name: "pool.ntp.example".try_into().unwrap(),
        port: 123,
        interval: 64,
        dns: Some(TIME_SERVER),
    })
}

/// Lets every request end in this way. Returns the seconds between them.
fn delays(outcome: Result<(), TimeFailure>, requests: usize) -> Vec<u64> {
    let mut client = TimeClient::new(&one_arm().time).unwrap();
    let mut now = Instant(0);
    let mut delays = Vec::new();
    while delays.len() < requests {
        match client.next(now) {
            TimeTask::Ask(server) => {
                assert_eq!((*server.ip(), server.port()), (TIME_SERVER, 123));
                client.finished(now, *server.ip(), outcome);
                let TimeTask::Wait(until) = client.next(now) else { panic!("no pause after {outcome:?}") };
                delays.push(until.since(now) / 1_000);
                now = until;
            }
            other => panic!("{other:?}"),
        }
    }
    delays
}

#[test]
fn every_failure_in_a_row_delays_the_next_request_up_to_a_limit_and_none_is_the_last() {
    let table: [(Result<(), TimeFailure>, &[u64]); 6] = [
        (Ok(()), &[64, 64, 64]),
        (Err(TimeFailure::NoReply), &[1, 2, 4, 8, 16, 32, 64, 64]),
        (Err(TimeFailure::NotSynchronised), &[1, 2, 4, 8, 16, 32, 64, 64]),
        (Err(TimeFailure::Disbelieved), &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 1_024]),
        (Err(TimeFailure::Rate), &[128, 256, 512, 1_024, 2_048, 3_600, 3_600]),
        (Err(TimeFailure::Denied), &[64, 128, 256, 512, 1_024, 2_048, 3_600, 3_600]),
    ];
    for (outcome, expected) in table {
        assert_eq!(delays(outcome, expected.len()), expected, "{outcome:?}");
        // No count overflows into a short delay, or into none.
        assert_eq!(delays(outcome, 600).last(), expected.last(), "{outcome:?}");
    }
}

#[test]
fn after_a_success_failures_start_again_but_a_server_that_was_asked_too_often_is_asked_less_often() {
    let mut client = TimeClient::new(&one_arm().time).unwrap();
    let mut pause = |now: u64, outcome| {
        client.finished(at(now), TIME_SERVER, outcome);
        match client.next(at(now)) {
            TimeTask::Wait(until) => until.since(at(now)) / 1_000,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(pause(0, Err(TimeFailure::Disbelieved)), 1);
    assert_eq!(pause(1, Err(TimeFailure::Disbelieved)), 2);
    assert_eq!(pause(3, Ok(())), 64);
    assert_eq!(pause(67, Err(TimeFailure::Disbelieved)), 1);
    assert_eq!(pause(68, Err(TimeFailure::Rate)), 128);
    assert_eq!(pause(196, Ok(())), 128, "the server's wish holds");
}

#[test]
fn a_name_is_resolved_first_and_again_after_each_failure_but_not_after_success() {
    let mut client = TimeClient::new(&named()).unwrap();
    assert_eq!(client.next(at(0)), TimeTask::Find);
    client.found(at(0), &[TIME_SERVER]);
    let TimeTask::Ask(server) = client.next(at(0)) else { panic!("not asked") };
    client.finished(at(0), *server.ip(), Ok(()));
    assert_eq!(client.next(at(1)), TimeTask::Wait(at(64)));
    assert_eq!(client.next(at(64)), TimeTask::Ask(server));
    client.finished(at(64), *server.ip(), Err(TimeFailure::NoReply));
    assert_eq!(client.next(at(64)), TimeTask::Wait(at(65)));
    assert_eq!(client.next(at(65)), TimeTask::Find);
    client.found(at(65), &[OTHER]);
    let TimeTask::Ask(server) = client.next(at(65)) else { panic!("not asked") };
    assert_eq!(*server.ip(), OTHER, "the name has moved");
}

#[test]
fn a_name_that_does_not_resolve_is_tried_again_with_growing_delays() {
    let mut client = TimeClient::new(&named()).unwrap();
    let mut now = at(0);
    for expected in [1, 2, 4, 8, 16, 32, 64, 64, 64] {
        assert_eq!(client.next(now), TimeTask::Find);
        client.found(now, &[]);
        let TimeTask::Wait(until) = client.next(now) else { panic!("no pause") };
        assert_eq!(until.since(now), expected * 1_000);
        now = until;
    }
    client.found(now, &[OTHER]);
    assert!(matches!(client.next(now), TimeTask::Ask(_)));
}

#[test]
fn a_server_that_denies_access_is_left_alone_even_if_the_name_still_resolves_to_it() {
    let mut client = TimeClient::new(&named()).unwrap();
    client.found(at(0), &[TIME_SERVER]);
    client.finished(at(0), TIME_SERVER, Err(TimeFailure::Denied));
    for now in 0..64 {
        assert!(matches!(client.next(at(now)), TimeTask::Wait(_) | TimeTask::Find), "at {now} s");
        client.found(at(now), &[TIME_SERVER]);
        assert!(matches!(client.next(at(now)), TimeTask::Wait(_)), "at {now} s");
    }
    assert!(matches!(client.next(at(64)), TimeTask::Ask(_)), "it is never given up");
}

#[test]
fn a_server_that_denies_access_is_left_alone_even_if_the_name_moves_and_returns() {
    let mut client = TimeClient::new(&named()).unwrap();
    client.found(at(0), &[TIME_SERVER]);
    client.finished(at(0), TIME_SERVER, Err(TimeFailure::Denied));
    client.found(at(1), &[OTHER]);
    client.finished(at(1), OTHER, Err(TimeFailure::NoReply));
    client.found(at(2), &[TIME_SERVER]);
    assert!(matches!(client.next(at(2)), TimeTask::Wait(_)));
}

#[test]
fn of_several_servers_another_is_asked_while_one_has_to_be_left_alone() {
    let mut client = TimeClient::new(&TimeSource::Dhcp { interval: 64 }).unwrap();
    client.found(at(0), &[TIME_SERVER, OTHER]);
    client.finished(at(0), TIME_SERVER, Err(TimeFailure::Denied));
    assert_eq!(client.next(at(0)), TimeTask::Find);
    client.found(at(0), &[TIME_SERVER, OTHER]);
    let TimeTask::Ask(server) = client.next(at(0)) else { panic!("no server is asked") };
    assert_eq!((*server.ip(), server.port()), (OTHER, sntp::SERVER_PORT));
    // A name with more addresses than there is room for still finds one that may be asked.
    let many: Vec<Ipv4Addr> = (1..=20).map(|last| Ipv4Addr::new(198, 51, 100, last)).collect();
    for round in 0..5 {
        client.found(at(0), &many);
        assert!(matches!(client.next(at(0)), TimeTask::Ask(_)), "round {round}");
    }
    assert!(many.len() > TIME_SERVERS);
}

#[test]
fn a_gateway_without_a_time_server_asks_none() {
    assert!(TimeClient::new(&TimeSource::None).is_none());
}

/// The offset of each reply's field is that of RFC 5905, section 7.3.
fn reply(stratum: u8, code: [u8; 4], cookie: u8) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[..2].copy_from_slice(&[0x24, stratum]);
    bytes[12..16].copy_from_slice(&code);
    bytes[24..32].fill(cookie);
    bytes[40..44].copy_from_slice(&4_008_988_800_u32.to_be_bytes());
    bytes
}

#[test]
fn a_kiss_of_death_is_understood_only_in_reply_to_our_request() {
    type Read = Option<Result<u64, TimeFailure>>;
    let table: [(&str, [u8; 48], Read); 7] = [
        ("the time", reply(2, *b"\0\0\0\0", 7), Some(Ok(1_800_000_000_000))),
        ("RATE", reply(0, *b"RATE", 7), Some(Err(TimeFailure::Rate))),
        ("DENY", reply(0, *b"DENY", 7), Some(Err(TimeFailure::Denied))),
        ("RSTR", reply(0, *b"RSTR", 7), Some(Err(TimeFailure::Denied))),
        ("INIT", reply(0, *b"INIT", 7), Some(Err(TimeFailure::NotSynchronised))),
        ("a forged DENY", reply(0, *b"DENY", 8), None),
        ("a forged time", reply(2, *b"\0\0\0\0", 8), None),
    ];
    for (name, bytes, expected) in table {
        let read = sntp::parse_reply(&bytes, [7; 8]).map(|reply| reply.map(|time| time.0));
        assert_eq!(read, expected, "{name}");
    }
}

#[test]
fn the_clock_has_an_age_and_the_light_and_the_counters_show_when_it_is_stale() {
    let stale = u64::from(STALE_AFTER);
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    assert_eq!((gateway.clock_age(at(5)), gateway.light(at(5))), (None, Light::NoTime));
    gateway.set_time(at(10), millis(START)).unwrap();
    // A time that is rejected does not make the clock younger.
    gateway.set_time(at(20), millis(START)).unwrap();
    gateway.set_time(at(30), pkd_core::UnixMillis(1)).unwrap_err();
    let table = [(0, 0, Light::Normal), (stale - 1, 0, Light::Normal), (stale, 1, Light::Stale)];
    for (age, flag, light) in table {
        let now = at(20 + age);
        assert_eq!((gateway.clock_age(now), gateway.light(now)), (Some(age), light), "{age} s");
        let mut text = String::new();
        gateway.write_metrics(now, &mut text).unwrap();
        for line in [format!("pkd_clock_age_seconds {age}"), format!("pkd_clock_stale {flag}")] {
            assert!(text.lines().any(|known| known == line), "{age} s: no line {line}");
        }
    }
    gateway.set_time(at(20 + stale), millis(START)).unwrap();
    assert_eq!(gateway.light(at(20 + stale)), Light::Normal);
}

#[test]
fn a_long_interval_between_requests_does_not_make_the_clock_stale() {
    let (mut tables, mut config) = (SmallTables::new(), one_arm());
    config.time = TimeSource::Dhcp { interval: 20_000 };
    config.address = Address::Dhcp;
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    gateway.set_time(at(0), millis(START)).unwrap();
    assert_eq!(gateway.light(at(59_999)), Light::Normal);
    assert_eq!(gateway.light(at(60_000)), Light::Stale);
}

#[test]
fn each_light_has_its_own_rhythm() {
    let rhythm = |light: Light| (0..40).map(|tick| light.is_on(tick)).collect::<Vec<_>>();
    let changes = |light| rhythm(light).windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!([Light::Normal, Light::NoTime, Light::Stale].map(changes), [3, 7, 7]);
    assert_ne!(rhythm(Light::NoTime), rhythm(Light::Stale));
    let (mut tables, mut config) = (SmallTables::new(), one_arm());
    config.time = TimeSource::None;
    let gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    assert_eq!(gateway.light(at(0)), Light::Normal, "a gateway without a clock waits for nothing");
}

#[test]
fn only_the_awaited_server_reaches_the_network_stack() {
    let (mut tables, mut config) = (SmallTables::new(), one_arm());
    config.time = named();
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    let server = Host { address: TIME_SERVER, ..CLIENT };
    let arrives = |gateway: &mut Small<'_>, from: Host, from_port, to_port| {
        let path = Path { from, from_port, to: GATEWAY, to_port };
        gateway.on_frame(at(1), Port::Outside, &mut frame::udp(path, b"reply"))
    };
    let (local, dropped) = (Action::Local { skip: 0 }, Action::Drop(DropReason::Unsolicited));
    assert_eq!(arrives(&mut gateway, server, 53, 50_000), dropped, "nothing was asked yet");
    gateway.expect_reply(SocketAddrV4::new(TIME_SERVER, pkd_gateway::DNS_PORT));
    assert_eq!(arrives(&mut gateway, server, 53, 50_000), local);
    assert_eq!(arrives(&mut gateway, CLIENT, 53, 50_000), dropped, "another DNS server");
    assert_eq!(arrives(&mut gateway, server, 54, 50_000), dropped, "another port");
    gateway.expect_reply(SocketAddrV4::new(OTHER, 123));
    let other = Host { address: OTHER, ..CLIENT };
    assert_eq!(arrives(&mut gateway, other, 123, sntp::CLIENT_PORT), local);
    assert_eq!(arrives(&mut gateway, other, 123, 50_000), dropped, "another port of the gateway");
    assert_eq!(arrives(&mut gateway, server, 53, 50_000), dropped, "DNS is no longer awaited");
}

/// A DHCP message with these options.
fn dhcp(transaction: u32, options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[4..8].copy_from_slice(&transaction.to_be_bytes());
    message[236..240].copy_from_slice(&[99, 130, 83, 99]);
    message.extend_from_slice(options);
    message
}

const NOBODY: Host = Host { address: Ipv4Addr::UNSPECIFIED, ..GATEWAY };
const EVERYBODY: Host = Host { hardware: EthernetAddress([0xff; 6]), ..Host::new(9, [255, 255, 255, 255]) };
const DHCP_SERVER: Host = Host::new(3, [192, 168, 1, 1]);

fn request(transaction: u32, options: &[u8]) -> Vec<u8> {
    let path = Path { from: NOBODY, from_port: 68, to: EVERYBODY, to_port: 67 };
    frame::udp(path, &dhcp(transaction, options))
}

fn answer(transaction: u32, options: &[u8]) -> Vec<u8> {
    let path = Path { from: DHCP_SERVER, from_port: 67, to: GATEWAY, to_port: 68 };
    frame::udp(path, &dhcp(transaction, options))
}

fn by_dhcp(mut config: Config<RULES>) -> Config<RULES> {
    config.address = Address::Dhcp;
    config.time = TimeSource::Dhcp { interval: 64 };
    config
}

/// Sends a frame of the network stack. Returns its length in `out`.
fn send(gateway: &mut Small<'_>, frame: &[u8], out: &mut [u8]) -> usize {
    let (_, length) = gateway.on_stack_frame(frame, 0, out).unwrap();
    gateway.complete_request(out, length)
}

/// A discover: its type, a host name, and the list of what it requests.
const DISCOVER: [u8; 14] = [53, 1, 1, 12, 2, b'g', b'w', 55, 3, 1, 3, 6, 255, 0];

#[test]
fn dhcp_requests_ask_for_time_servers_and_stay_valid() {
    for (name, config) in [("one-arm", one_arm()), ("inline", inline()), ("trunk", trunk())] {
        let (mut tables, config) = (SmallTables::new(), by_dhcp(config));
        let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
        let mut out = [0; 1_600];
        let length = send(&mut gateway, &request(5, &DISCOVER), &mut out);
        let mut sent = out[..length].to_vec();
        if name == "trunk" {
            sent.drain(12..16);
        }
        let seen = frame::parse(&sent).expect("the checksums and lengths are right");
        let options = [53, 1, 1, 12, 2, b'g', b'w', 55, 4, 42, 1, 3, 6, 255, 0];
        assert_eq!(seen.payload, dhcp(5, &options), "{name}");
    }
}

#[test]
fn other_frames_and_other_configurations_leave_the_network_stack_unchanged() {
    let nas = Path { from: GATEWAY, from_port: 68, to: NAS, to_port: 67 };
    let frames = [
        ("not DHCP", frame::udp(Path { to_port: 69, ..nas }, &dhcp(5, &DISCOVER))),
        ("no list", request(5, &[53, 1, 1, 255])),
        ("a list beyond the end", request(5, &[53, 1, 1, 55, 200, 1])),
        ("no end", request(5, &[53, 1])),
        ("already there", request(5, &[55, 2, 1, 42, 255])),
        ("too short", request(5, &[])[..200].to_vec()),
        ("empty", Vec::new()),
    ];
    let (mut tables, config) = (SmallTables::new(), by_dhcp(one_arm()));
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    let mut out = [0; 1_600];
    for (name, frame) in &frames {
        let length = send(&mut gateway, frame, &mut out);
        assert_eq!(out[..length], frame[..], "{name}");
    }
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    let frame = request(5, &DISCOVER);
    let length = send(&mut gateway, &frame, &mut out);
    assert_eq!(out[..length], frame[..], "the time server is configured");
}

#[test]
fn a_request_that_leaves_no_room_for_the_option_is_sent_unchanged() {
    let (mut tables, config) = (SmallTables::new(), by_dhcp(one_arm()));
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    let frame = request(5, &DISCOVER);
    let mut out = vec![0; frame.len()];
    assert_eq!(send(&mut gateway, &frame, &mut out), frame.len());
    assert_eq!(out, frame);
}

#[test]
fn only_the_answer_to_the_last_request_names_time_servers() {
    const ACK: [u8; 3] = [53, 1, 5];
    let good = [&ACK[..], &[42, 8, 192, 168, 1, 1, 192, 168, 1, 2, 255]].concat();
    let multicast = [&ACK[..], &[42, 8, 224, 0, 1, 1, 192, 168, 1, 2, 255]].concat();
    let odd = [&ACK[..], &[42, 7, 192, 168, 1, 1, 192, 168, 1, 255]].concat();
    let beyond = [&ACK[..], &[42, 80, 192, 168, 1, 1]].concat();
    let none = [&ACK[..], &[255]].concat();
    let offer = [&[53, 1, 2][..], &good[3..]].concat();
    let both: &[Ipv4Addr] = &[TIME_SERVER, OTHER];
    // name, transaction, options, the servers afterwards
    let table: [(&str, u32, &[u8], &[Ipv4Addr]); 8] = [
        ("an offer", 5, &offer, &[]),
        ("another transaction", 6, &good, &[]),
        ("an acknowledgement", 5, &good, both),
        ("a forged one", 7, &none, both),
        ("an address of many hosts", 5, &multicast, &[OTHER]),
        ("half an address", 5, &odd, &[TIME_SERVER]),
        ("a length beyond the end", 5, &beyond, &[]),
        ("without the option", 5, &none, &[]),
    ];
    let (mut tables, config) = (SmallTables::new(), by_dhcp(one_arm()));
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    gateway.before_stack(&answer(0, &good));
    assert!(gateway.dhcp_time_servers().is_empty(), "nothing was requested");
    let mut out = [0; 1_600];
    send(&mut gateway, &request(5, &DISCOVER), &mut out);
    for (name, transaction, options, servers) in table {
        gateway.before_stack(&answer(transaction, options));
        assert_eq!(gateway.dhcp_time_servers(), servers, "{name}");
    }
}

#[test]
fn truncated_dhcp_messages_do_no_harm() {
    let (mut tables, config) = (SmallTables::new(), by_dhcp(one_arm()));
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    let mut out = [0; 1_600];
    let whole = dhcp(5, &[53, 1, 5, 42, 4, 192, 168, 1, 1, 55, 2, 1, 3, 255]);
    for length in 0..whole.len() {
        let path = Path { from: NOBODY, from_port: 68, to: EVERYBODY, to_port: 67 };
        let sent = frame::udp(path, &whole[..length]);
        send(&mut gateway, &sent, &mut out);
        let path = Path { from: DHCP_SERVER, from_port: 67, to: GATEWAY, to_port: 68 };
        gateway.before_stack(&frame::udp(path, &whole[..length]));
    }
}
