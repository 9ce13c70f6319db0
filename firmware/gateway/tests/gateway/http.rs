//! The status page, and HTTP.

use core::fmt::Write as _;

use pkd_core::UnixMillis;
use pkd_gateway::{
    Address, DATAGRAM, Floors, Gateway, Instant, RESPONSE_LIMIT, Service, Services, TimeSource,
    WithoutComments, datagrams,
    http::{self, Buffer, RequestError, RequestReader, Target},
};
use proptest::prelude::*;

use crate::{
    frame::Host,
    harness::{CLIENT, READY, START, Small, SmallTables, millis, one_arm, open, ready, seconds},
};

/// What the whole request is answered with, and how many of its bytes were read.
fn read(request: &[u8]) -> Option<(Result<Target, RequestError>, usize)> {
    let mut reader = RequestReader::new();
    request.iter().enumerate().find_map(|(at, byte)| Some((reader.push(*byte)?, at + 1)))
}

#[test]
fn each_request_has_its_answer() {
    use RequestError::{Malformed, Method, NoLength, NotFound, TooLong};
    let table: [(&str, Result<Target, RequestError>); 25] = [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(Target::Status)),
        ("GET / HTTP/1.0\r\n\r\n", Ok(Target::Status)),
        ("GET / HTTP/1.1\n\n", Ok(Target::Status)),
        ("GET /metrics HTTP/1.1\r\nAccept: text/plain\r\nX: y\r\n\r\n", Ok(Target::Metrics)),
        ("GET /metric HTTP/1.1\r\n\r\n", Err(NotFound)),
        ("GET /metrics/ HTTP/1.1\r\n\r\n", Err(NotFound)),
        ("GET /../metrics HTTP/1.1\r\n\r\n", Err(NotFound)),
        ("GET //metrics HTTP/1.1\r\n\r\n", Err(NotFound)),
        ("POST / HTTP/1.1\r\n\r\n", Err(Method("GET"))),
        ("HEAD /metrics HTTP/1.1\r\n\r\n", Err(Method("GET"))),
        ("get / HTTP/1.1\r\n\r\n", Err(Method("GET"))),
        ("POST /update HTTP/1.1\r\nContent-Length: 300\r\n\r\n", Ok(Target::Update(300))),
        ("POST /update HTTP/1.1\r\nHost: a\r\ncontent-length:7\r\nX: y\r\n\r\n", Ok(Target::Update(7))),
        ("POST /update HTTP/1.1\r\nHost: a\r\n\r\n", Err(NoLength)),
        ("POST /update HTTP/1.1\r\nContent-Length: -1\r\n\r\n", Err(NoLength)),
        ("POST /update HTTP/1.1\r\nContent-Length: 4294967296\r\n\r\n", Err(NoLength)),
        ("GET /update HTTP/1.1\r\n\r\n", Err(Method("POST"))),
        ("GET  / HTTP/1.1\r\n\r\n", Err(Malformed)),
        ("GET / HTTP/2\r\n\r\n", Err(Malformed)),
        ("GET /\r\n\r\n", Err(Malformed)),
        ("GET http://a/ HTTP/1.1\r\n\r\n", Err(Malformed)),
        ("\r\n\r\n", Err(Malformed)),
        ("\x16\x03\x01\n\n", Err(Malformed)),
        (&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1_000)), Err(NotFound)),
        (&format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(3_000)), Err(TooLong)),
    ];
    for (request, expected) in &table {
        let (answer, length) = read(request.as_bytes()).unwrap_or_else(|| panic!("no answer to {request:?}"));
        assert_eq!(answer, *expected, "{request:?}");
        assert!(length == request.len() || answer == Err(TooLong), "{request:?}");
    }
}

#[test]
fn nothing_is_answered_before_the_head_is_complete() {
    let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    for length in 0..request.len() {
        assert_eq!(read(&request[..length]), None, "{length} bytes");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered_at_the_end_of_their_head_or_at_the_limit(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b' ')], 2_100..2_200)
    ) {
        prop_assert!(read(&bytes).is_some());
    }
}

fn page(gateway: &Small<'_>, now: Instant) -> String {
    let mut text = String::new();
    gateway.write_status_page(now, &mut text).unwrap();
    text
}

#[test]
fn the_page_shows_the_light_the_clock_the_grants_and_the_counters() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = ready(&mut tables, &config);
    assert!(page(&gateway, READY).contains("<td>none<td>"), "there is no grant yet");
    open(&mut gateway, READY, CLIENT, "BOTH");
    let text = page(&gateway, seconds(7));
    for shown in [
        "<tr><td>light<td>normal\n",
        "<tr><td>clock<td>2027-01-15 08:00:27 UTC, set 27 s ago\n",
        "<tr><td>address<td>192.168.1.9\n",
        "<tr><td>up<td>27 s\n",
        "<tr><td>203.0.113.7<td>ssh dns for 53 s\n",
        "<tr><td>accept<td>1\n",
        "<tr><td>no_grant<td>0\n",
        "http-equiv=\"refresh\"",
    ] {
        assert!(text.contains(shown), "no {shown} in {text}");
    }
    // The countdown ends with the grant.
    assert!(page(&gateway, seconds(59)).contains("for 1 s"));
    assert!(!page(&gateway, seconds(60)).contains("203.0.113.7"));
    for absent in ["<script", "http://", "https://", "src=", "href=", "url("] {
        assert!(!text.contains(absent), "{absent} in {text}");
    }
}

#[test]
fn the_page_says_why_there_is_no_time() {
    let (mut tables, mut config) = (SmallTables::new(), one_arm());
    let gateway = Gateway::new(&mut tables, &config, CLIENT.hardware, Floors::default());
    let text = page(&gateway, READY);
    assert!(text.contains("<td>clock<td>not set yet") && text.contains("<td>waiting for the time"), "{text}");
    let mut tables = SmallTables::new();
    config.time = TimeSource::None;
    let gateway = Gateway::new(&mut tables, &config, CLIENT.hardware, Floors::default());
    assert!(page(&gateway, READY).contains("<td>clock<td>none"));
}

#[test]
fn names_cannot_add_to_the_page() {
    let (mut tables, mut config) = (SmallTables::new(), one_arm());
    config.services[0].name = "<b>'\"&\u{1}\n".try_into().unwrap();
    let mut gateway = ready(&mut tables, &config);
    open(&mut gateway, READY, CLIENT, "SSHK");
    let text = page(&gateway, READY);
    assert!(text.contains("&lt;b&gt;&#39;&quot;&amp;\u{fffd}\u{fffd} for"), "{text}");
    assert!(!text.contains("<b>"), "{text}");
}

#[test]
fn the_clock_is_shown_as_a_date() {
    // seconds since 1970, date: as `date --utc` shows them
    let table = [
        (0, "1970-01-01 00:00:00"),
        (951_782_400, "2000-02-29 00:00:00"),
        (951_868_799, "2000-02-29 23:59:59"),
        (951_868_800, "2000-03-01 00:00:00"),
        (1_709_164_800, "2024-02-29 00:00:00"),
        (1_735_689_599, "2024-12-31 23:59:59"),
        (1_800_000_000, "2027-01-15 08:00:00"),
        (4_107_542_399, "2100-02-28 23:59:59"),
        (4_107_542_400, "2100-03-01 00:00:00"),
    ];
    let (mut tables, mut config) = (SmallTables::new(), one_arm());
    config.created = pkd_core::UnixSeconds(0);
    let mut gateway = Gateway::new(&mut tables, &config, CLIENT.hardware, Floors::default());
    for (time, date) in table {
        gateway.set_time(READY, UnixMillis(time * 1_000)).unwrap();
        let text = page(&gateway, READY);
        assert!(text.contains(&format!("<td>{date} UTC")), "{time}: {text}");
    }
}

/// The largest counters: each number becomes ten digits.
fn widened(text: &str) -> usize {
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    text.len() + numbers.map(|digits| 10_usize.saturating_sub(digits.len())).sum::<usize>()
}

#[test]
fn the_longest_page_and_metrics_fit_their_buffers() {
    const FULL: usize = 256;
    type Full<'a> = Gateway<'a, 8, FULL, 4, 512>;
    let mut config = one_arm();
    config.address = Address::Dhcp;
    config.services.clear();
    // Names of 16 bytes that all become six times as long.
    for port in 1..=32 {
        let service = Service {
            name: "\"".repeat(16).as_str().try_into().unwrap(),
            port,
            ..one_arm().services[0].clone()
        };
        config.services.push(service).unwrap();
    }
    config.rules[0].services = (0..32).fold(Services::NONE, Services::with);
    let mut tables = pkd_gateway::Tables::<8, FULL, 4, 512>::new();
    let mut gateway: Full<'_> =
        Gateway::new(&mut tables, &config, crate::harness::GATEWAY.hardware, Floors::default());
    gateway
        .set_interface(Some(pkd_gateway::Interface {
            network: pkd_gateway::Network { address: crate::harness::GATEWAY.address, prefix: 24 },
            router: None,
        }))
        .unwrap();
    gateway.set_time(Instant(0), millis(START)).unwrap();
    for last in 1..=250 {
        let client = Host { address: [203, 113, 113, last].into(), ..CLIENT };
        let path = crate::frame::Path {
            from: client,
            from_port: 5_000,
            to: crate::harness::GATEWAY,
            to_port: crate::harness::KNOCK_PORT,
        };
        let knock = crate::harness::knock("SSHK", READY, last);
        let _accepted =
            gateway.on_frame(READY, pkd_gateway::Port::Outside, &mut crate::frame::udp(path, &knock));
    }
    let mut text = String::new();
    let page = |target, out: &mut dyn core::fmt::Write| match target {
        Target::Status => gateway.write_status_page(READY, out),
        Target::Metrics => gateway.write_metrics(READY, out),
        Target::Update(_) => Ok(()),
    };
    http::respond(Ok(Target::Status), page, &mut text).unwrap();
    assert!(text.contains(" more<td>"), "not all grants are listed: {text}");
    assert!(widened(&text) < RESPONSE_LIMIT, "{} bytes: {text}", widened(&text));
    text.clear();
    http::respond(Ok(Target::Metrics), page, &mut text).unwrap();
    assert!(widened(&text) < RESPONSE_LIMIT, "{} bytes", widened(&text));
    // Over UDP: with the metric that the board adds, and without comments.
    text.clear();
    let mut out = WithoutComments::new(&mut text);
    gateway.write_metrics(READY, &mut out).unwrap();
    writeln!(out, "# TYPE x gauge\npkd_stack_free_bytes 12345").unwrap();
    assert!(text.ends_with("\npkd_stack_free_bytes 12345\n") && !text.contains('#'), "{text}");
    assert!(widened(&text) < 2_048, "{} bytes: {text}", widened(&text));
}

#[test]
fn metrics_are_split_at_line_ends() {
    let line = "pkd_dropped_total{reason=\"no_grant\"} 4294967295\n";
    for lines in [0, 1, 29, 30, 31, 59, 60, 61, 200] {
        let text = line.repeat(lines);
        let parts: Vec<&str> = datagrams(&text).collect();
        assert_eq!(parts.concat(), text, "{lines} lines");
        assert!(parts.iter().all(|part| part.len() <= DATAGRAM && part.ends_with('\n')), "{lines} lines");
        assert_eq!(parts.len(), lines.div_ceil(DATAGRAM / line.len()), "{lines} lines");
    }
}

#[test]
fn a_response_says_how_long_it_is_and_what_is_allowed() {
    let table = [
        (Ok(Target::Status), "200 OK", "text/html"),
        (Ok(Target::Metrics), "200 OK", "text/plain; version=0.0.4"),
        (Err(RequestError::Malformed), "400 ", "text/plain"),
        (Err(RequestError::NotFound), "404 ", "text/plain"),
        (Err(RequestError::Method("GET")), "405 ", "text/plain"),
        (Err(RequestError::TooLong), "431 ", "text/plain"),
    ];
    for (request, status, kind) in table {
        let mut bytes = [0; 512];
        let mut out = Buffer::new(&mut bytes);
        http::respond(request, |_, out| out.write_str("body\n"), &mut out).unwrap();
        let length = out.written();
        let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}: {body}");
        assert!(head.contains(&format!("Content-Type: {kind}")), "{head}");
        assert_eq!(body.lines().count(), 1, "{body}");
        assert_eq!(head.contains("Allow: GET"), request == Err(RequestError::Method("GET")), "{head}");
        // Without room, nothing is sent that looks complete.
        let mut small = vec![0; length - 1];
        assert!(
            http::respond(request, |_, out| out.write_str("body\n"), &mut Buffer::new(&mut small)).is_err()
        );
    }
}
