//! Format 2: what its knocks are bound to, requests to close, hints, and floors of its own.

use pkd_core::{
    Key, Reason, UnixMillis, UnixSeconds, Verdict, Window,
    format2::{Bindings, Request},
};
use pkd_gateway::{
    Action, Config, DropReason, Floors, Format, Gateway, Inline, Instant, KnockSender, Mode, Port, Rule,
    TimeSource, Vlans,
};

use crate::{
    frame::{self, Host, Path, Transport},
    harness::{
        CLIENT, DNS, GATEWAY, INLINE, KNOCK_PORT, Knock2, NAS, READY, RULES, SSH, START, STRANGER, Small,
        SmallTables, TCP_ACK, TCP_SYN, format2, inline, knock, knock_at, knock_outcome, knocks, millis,
        one_arm, pass, ready, seconds, send_knock,
    },
};

const ACCEPT: Result<Verdict, DropReason> = Ok(Verdict::Accept);
const CLOSE: Result<Verdict, DropReason> = Ok(Verdict::Close);

const REPLAY: Result<Verdict, DropReason> = Ok(Verdict::Ignore(Reason::Replay));
const TAG: Result<Verdict, DropReason> = Ok(Verdict::Ignore(Reason::Tag));
const DIGEST: Result<Verdict, DropReason> = Ok(Verdict::Ignore(Reason::Digest));
const REQUEST: Result<Verdict, DropReason> = Ok(Verdict::Ignore(Reason::Request));

/// The same gateway in both modes, with where a client finds SSH.
fn modes() -> [(&'static str, Config<RULES>, Host, u16); 2] {
    [
        ("one-arm", format2(one_arm()), GATEWAY, SSH),
        ("inline", format2(inline()), Host { hardware: NAS.hardware, ..NAS }, 22),
    ]
}

/// Sends a client's segment to SSH. Returns why it is dropped.
fn segment(
    gateway: &mut Small<'_>,
    now: Instant,
    transport: Transport,
    (from, from_port): (Host, u16),
    (to, to_port): (Host, u16),
) -> Result<(), DropReason> {
    let path = Path { from, from_port, to, to_port };
    match pass(gateway, now, Port::Outside, transport, path) {
        Ok(_) => Ok(()),
        Err(Action::Drop(reason)) => Err(reason),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_captured_knock_is_refused_from_another_address() {
    for (mode, config, host, port) in modes() {
        let mut tables = SmallTables::new();
        let mut gateway = ready(&mut tables, &config);
        let captured = Knock2::open("SSHK", CLIENT).bound(Bindings::SOURCE).seal(READY);
        let table = [
            ("a stranger, before the sender", STRANGER, DIGEST),
            ("the sender", CLIENT, ACCEPT),
            ("the sender again", CLIENT, REPLAY),
            ("a stranger, after the sender", STRANGER, REPLAY),
        ];
        for (name, from, expected) in table {
            assert_eq!(send_knock(&mut gateway, READY, from, &captured), expected, "{mode}: {name}");
        }
        let mut open = |from| segment(&mut gateway, READY, TCP_SYN, (from, 5_001), (host, port));
        assert_eq!(open(STRANGER), Err(DropReason::NoGrant), "{mode}");
        assert_eq!(open(CLIENT), Ok(()), "{mode}");
    }
}

#[test]
fn a_knock_bound_to_its_destination_is_refused_at_another_gateway() {
    let outside = Host::new(1, [198, 51, 100, 1]);
    let elsewhere = Host::new(1, [198, 51, 100, 2]);
    let own = [outside.address, [198, 51, 100, 9].into()];
    // name, the address that the knock is bound to, the gateway's addresses outside of NAT, the verdict
    let table = [
        ("the gateway's address", GATEWAY, &[][..], ACCEPT),
        ("another gateway's", elsewhere, &[], DIGEST),
        ("an address outside of NAT that is not configured", outside, &[], DIGEST),
        ("an address outside of NAT", outside, &own, ACCEPT),
        ("the last address outside of NAT", Host { address: own[1], ..outside }, &own, ACCEPT),
        ("another gateway's, behind NAT", elsewhere, &own, DIGEST),
        ("the gateway's address, behind NAT", GATEWAY, &own, ACCEPT),
    ];
    for (mode, config, ..) in modes() {
        for (name, to, own, expected) in &table {
            let mut config = config.clone();
            config.own_addresses.extend_from_slice(own).unwrap();
            for bindings in [Bindings::DESTINATION, Bindings::SOURCE | Bindings::DESTINATION] {
                let mut tables = SmallTables::new();
                let mut gateway = ready(&mut tables, &config);
                let payload = Knock2 { to: *to, ..Knock2::open("SSHK", CLIENT) }.bound(bindings).seal(READY);
                assert_eq!(send_knock(&mut gateway, READY, CLIENT, &payload), *expected, "{mode}: {name}");
            }
        }
    }
}

/// In inline mode a knock may be sent to a host behind the gateway.
#[test]
fn inline_a_knock_is_bound_to_the_address_that_it_was_sent_to() {
    let config = format2(inline());
    for (bound_to, expected) in [(NAS, ACCEPT), (GATEWAY, DIGEST)] {
        let mut tables = SmallTables::new();
        let mut gateway = ready(&mut tables, &config);
        let payload = Knock2 { to: bound_to, ..Knock2::open("SSHK", CLIENT) };
        let payload = payload.bound(Bindings::DESTINATION).seal(READY);
        let path = Path { from: CLIENT, from_port: 5_000, to: NAS, to_port: KNOCK_PORT };
        let action = gateway.on_frame(READY, Port::Outside, &mut frame::udp(path, &payload));
        let Action::Knock(outcome) = action else { panic!("{action:?}") };
        assert_eq!(Ok(outcome.verdict), expected, "{bound_to:?}");
    }
}

#[test]
fn a_rule_accepts_only_knocks_that_are_bound_as_it_requires() {
    let (none, source, destination) = (Bindings::NONE, Bindings::SOURCE, Bindings::DESTINATION);
    let both = source | destination;
    let refused = REQUEST;
    // what the rule requires, what the knock is bound to
    let table = [
        (none, none, ACCEPT),
        (none, both, ACCEPT),
        (source, none, refused),
        (source, destination, refused),
        (source, source, ACCEPT),
        (source, both, ACCEPT),
        (both, source, refused),
        (both, both, ACCEPT),
    ];
    for (row, (require, bindings, expected)) in table.into_iter().enumerate() {
        let (mut tables, mut config) = (SmallTables::new(), format2(one_arm()));
        config.rules[0].format = Format::Format2 { require };
        let mut gateway = ready(&mut tables, &config);
        for request in [Request::Open, Request::Close] {
            let knock = Knock2 { request, ..Knock2::open("SSHK", CLIENT) }.bound(bindings);
            let time = if request == Request::Open { READY } else { seconds(1) };
            let given = send_knock(&mut gateway, time, CLIENT, &knock.seal(time));
            let expected = if request == Request::Close && expected == ACCEPT { CLOSE } else { expected };
            assert_eq!(given, expected, "row {row}: {request:?}");
        }
    }
}

#[test]
fn a_request_to_close_ends_new_flows_at_once_and_established_ones_continue() {
    for (mode, config, host, port) in modes() {
        let mut tables = SmallTables::new();
        let mut gateway = ready(&mut tables, &config);
        let opened = Knock2::open("SSHK", CLIENT).seal(READY);
        assert_eq!(send_knock(&mut gateway, READY, CLIENT, &opened), ACCEPT, "{mode}");
        let to = (host, port);
        assert_eq!(segment(&mut gateway, READY, TCP_SYN, (CLIENT, 5_001), to), Ok(()), "{mode}");
        let closed = Knock2::close("SSHK", CLIENT).seal(seconds(1));
        let outcome = knock_outcome(&mut gateway, seconds(1), CLIENT, &closed).unwrap();
        let sender = Some(KnockSender { address: CLIENT.address.into(), rule: 0 });
        assert_eq!((outcome.verdict, outcome.sender), (Verdict::Close, sender), "{mode}");
        assert!(outcome.save_floors.is_some(), "{mode}: it must not work again after a reset");

        let mut at =
            |now, transport, from_port| segment(&mut gateway, now, transport, (CLIENT, from_port), to);
        assert_eq!(at(seconds(1), TCP_SYN, 5_002), Err(DropReason::NoGrant), "{mode}: a new flow");
        assert_eq!(at(seconds(1), TCP_ACK, 5_001), Ok(()), "{mode}: an established flow");
        let replays = [("open", &opened), ("close", &closed)];
        for (name, payload) in replays {
            let given = send_knock(&mut gateway, seconds(1), CLIENT, payload);
            assert_eq!(given, REPLAY, "{mode}: {name} again");
        }
        let again = Knock2::open("SSHK", CLIENT).seal(seconds(2));
        assert_eq!(send_knock(&mut gateway, seconds(2), CLIENT, &again), ACCEPT, "{mode}");
        assert_eq!(
            send_knock(&mut gateway, seconds(2), CLIENT, &closed),
            REPLAY,
            "{mode}: a captured request to close"
        );
        let opens = segment(&mut gateway, seconds(2), TCP_SYN, (CLIENT, 5_003), to);
        assert_eq!(opens, Ok(()), "{mode}: the grant is still there");
    }
}

#[test]
fn a_request_to_close_ends_only_grants_of_its_key_for_its_address() {
    // name, the knock that opened, the one that closes, whether the client's flows to SSH are still opened
    let table = [
        ("the same", Knock2::open("SSHK", CLIENT), Knock2::close("SSHK", CLIENT), false),
        ("another address", Knock2::open("SSHK", CLIENT), Knock2::close("SSHK", STRANGER), true),
        ("another key", Knock2::open("SSHK", CLIENT), Knock2::close("BOTH", CLIENT), true),
    ];
    for (mode, config, host, port) in modes() {
        for (name, opens, closes, is_open) in table {
            let mut tables = SmallTables::new();
            let mut gateway = ready(&mut tables, &config);
            assert_eq!(send_knock(&mut gateway, READY, opens.from, &opens.seal(READY)), ACCEPT);
            let closed = closes.seal(seconds(1));
            assert_eq!(send_knock(&mut gateway, seconds(1), closes.from, &closed), CLOSE, "{mode}: {name}");
            let given = segment(&mut gateway, seconds(1), TCP_SYN, (CLIENT, 5_001), (host, port));
            assert_eq!(given.is_ok(), is_open, "{mode}: {name}: {given:?}");
        }
    }
}

/// A user with a rule of each format, as while the user's devices move from one to the other.
fn migration() -> Config<RULES> {
    let mut config = one_arm();
    let new = Rule { format: Format::Format2 { require: Bindings::NONE }, ..config.rules[0].clone() };
    config.rules = [config.rules[0].clone(), new].into_iter().collect();
    config
}

#[test]
fn a_user_with_a_rule_of_each_format_has_two_caches_and_one_key() {
    let (mut tables, config) = (SmallTables::new(), migration());
    let mut gateway = ready(&mut tables, &config);
    let classic = |now| knock("SSHK", now, 1);
    let new = |now| Knock2::open("SSHK", CLIENT).seal(now);
    let later = seconds(5);
    let table = [
        ("format 2", new(later), ACCEPT, 1),
        ("classic, with an earlier time", classic(READY), ACCEPT, 0),
        ("format 2 again", new(later), REPLAY, 1),
        ("classic again", classic(READY), REPLAY, 0),
    ];
    for (name, payload, expected, rule) in table {
        let outcome = knock_outcome(&mut gateway, later, CLIENT, &payload).unwrap();
        assert_eq!(Ok(outcome.verdict), expected, "{name}");
        assert!(outcome.sender.is_none_or(|sender| sender.rule == rule), "{name}");
    }
    let floors = Floors {
        classic: Some(UnixSeconds(START.0 + READY.0 / 1_000)),
        format2: Some(UnixMillis(millis(START).0 + later.0)),
    };
    assert_eq!(gateway.unsaved_floors(), Some(floors));
    let closed = Knock2::close("SSHK", CLIENT).seal(seconds(6));
    assert_eq!(send_knock(&mut gateway, seconds(6), CLIENT, &closed), CLOSE);
    let given = segment(&mut gateway, seconds(6), TCP_SYN, (CLIENT, 5_001), (GATEWAY, SSH));
    assert_eq!(given, Err(DropReason::NoGrant), "what the key opened with either format is closed");
}

#[test]
fn a_request_to_close_ends_datagrams_too() {
    let modes = [("one-arm", one_arm(), GATEWAY, DNS), ("inline", inline(), NAS, 53)];
    for (mode, config, host, port) in modes {
        let config = format2(config);
        let mut tables = SmallTables::new();
        let mut gateway = ready(&mut tables, &config);
        let datagram = |gateway: &mut Small<'_>, second| {
            segment(gateway, seconds(second), Transport::Udp, (CLIENT, 5_001), (host, port))
        };
        let knock = |second, sealed: Knock2| (seconds(second), sealed.seal(seconds(second)));
        let (now, open) = knock(6, Knock2::open("BOTH", CLIENT));
        assert_eq!(send_knock(&mut gateway, now, CLIENT, &open), ACCEPT, "{mode}");
        assert_eq!(datagram(&mut gateway, 7), Ok(()), "{mode}");
        let (now, close) = knock(8, Knock2::close("BOTH", CLIENT));
        assert_eq!(send_knock(&mut gateway, now, CLIENT, &close), CLOSE, "{mode}");
        assert_eq!(datagram(&mut gateway, 9), Err(DropReason::NoGrant), "{mode}: with the ports of before");
        let (now, open) = knock(10, Knock2::open("BOTH", CLIENT));
        assert_eq!(send_knock(&mut gateway, now, CLIENT, &open), ACCEPT, "{mode}");
        assert_eq!(datagram(&mut gateway, 11), Ok(()), "{mode}: after another knock");
    }
}

#[test]
fn a_rule_refuses_knocks_of_the_other_format() {
    for (name, config) in [("classic", one_arm()), ("format 2", format2(one_arm()))] {
        let mut tables = SmallTables::new();
        let mut gateway = ready(&mut tables, &config);
        let (old, new) = (knock("SSHK", READY, 1), Knock2::open("SSHK", CLIENT).seal(READY));
        let expected = if name == "classic" { [ACCEPT, TAG] } else { [TAG, ACCEPT] };
        let given = [old, new].map(|payload| send_knock(&mut gateway, READY, CLIENT, &payload));
        assert_eq!(given, expected, "{name}");
    }
}

#[test]
fn hints_are_made_by_the_timer_and_when_the_clock_is_set_and_not_by_knocks() {
    let (mut tables, config) = (SmallTables::new(), format2(one_arm()));
    let mut gateway = ready(&mut tables, &config);
    let mut out = [0; 64];
    let try_at = |gateway: &mut Small<'_>, now| {
        send_knock(gateway, now, CLIENT, &Knock2::open("SSHK", CLIENT).seal(now))
    };
    // Within one more slot than when they were made.
    let soon = seconds(60);
    assert_eq!(try_at(&mut gateway, soon), ACCEPT);
    // Three slots later, nothing has called the gateway in between.
    let later = seconds(200);
    for _ in 0..2 {
        assert_eq!(try_at(&mut gateway, later), TAG, "knocks make no hints");
    }
    while gateway.on_tick(later, &mut out).is_some() {}
    assert_eq!(try_at(&mut gateway, later), ACCEPT);
    // The clock jumps. There is no tick, but whoever sets the clock makes the hints.
    let jumped = UnixMillis(millis(START).0 + 100_000_000);
    gateway.set_time(later, jumped).unwrap();
    let payload = Knock2::open("SSHK", CLIENT).seal_at(jumped);
    assert_eq!(send_knock(&mut gateway, later, CLIENT, &payload), ACCEPT);
    // For a year of ticks, a sender with the right clock is accepted in every slot.
    let mut now = later;
    for slot in 0..500_u64 {
        now = Instant(now.0 + 65_536);
        while gateway.on_tick(now, &mut out).is_some() {}
        let time = UnixMillis(jumped.0 + (slot + 1) * 65_536);
        let payload = Knock2::open("SSHK", CLIENT).seal_at(time);
        assert_eq!(send_knock(&mut gateway, now, CLIENT, &payload), ACCEPT, "slot {slot}");
    }
}

#[test]
fn no_format_uses_the_saved_floor_of_the_other() {
    let unix = |seconds: u64| UnixSeconds(START.0 + seconds);
    let (old, new) = (Some(unix(0)), Some(millis(unix(0))));
    // name, the saved floors, whether classic knocks and those of format 2 wait for one window
    let table = [
        ("none", Floors::default(), true, true),
        ("classic", Floors { classic: old, format2: None }, false, true),
        ("format 2", Floors { classic: None, format2: new }, true, false),
        ("both", Floors { classic: old, format2: new }, false, false),
    ];
    for (name, floors, classic_waits, format2_waits) in table {
        let (mut tables, config) = (SmallTables::new(), migration());
        let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, floors);
        gateway.set_time(Instant(0), millis(unix(1))).unwrap();
        let expected = |waits| if waits { REPLAY } else { ACCEPT };
        let (early, late) = (Instant(10_000), Instant(12_000));
        for (now, waited) in [(early, false), (late, true)] {
            // The gateway's clock is a second ahead.
            let time = UnixMillis(millis(unix(1)).0 + now.0);
            let classic = knock_at("SSHK", UnixSeconds(time.0 / 1_000), 1);
            let given = send_knock(&mut gateway, now, CLIENT, &classic);
            assert_eq!(given, expected(classic_waits && !waited), "{name}: classic at {now:?}");
            let new = Knock2::open("SSHK", CLIENT).seal_at(time);
            let given = send_knock(&mut gateway, now, CLIENT, &new);
            assert_eq!(given, expected(format2_waits && !waited), "{name}: format 2 at {now:?}");
        }
    }
}

#[test]
fn the_floor_of_format_2_keeps_old_knocks_rejected_after_a_reboot_to_the_millisecond() {
    let config = format2(one_arm());
    let mut tables = SmallTables::new();
    let mut gateway = ready(&mut tables, &config);
    let at = |ms| Instant(READY.0 + ms);
    let accepted = Knock2::open("SSHK", CLIENT).seal(at(500));
    assert_eq!(send_knock(&mut gateway, at(500), CLIENT, &accepted), ACCEPT);
    let saved = gateway.unsaved_floors().unwrap();
    assert_eq!(saved, UnixMillis(millis(START).0 + READY.0 + 500).into());
    gateway.floors_saved(saved);
    assert_eq!(gateway.unsaved_floors(), None);

    let mut tables = SmallTables::new();
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, saved);
    let booted = UnixMillis(millis(START).0 + READY.0);
    gateway.set_time(Instant(0), booted).unwrap();
    let table = [
        ("the accepted knock", accepted, REPLAY),
        ("a millisecond earlier", Knock2::open("SSHK", CLIENT).seal(at(499)), REPLAY),
        ("a millisecond later", Knock2::open("SSHK", CLIENT).seal(at(501)), ACCEPT),
    ];
    for (name, payload, expected) in table {
        assert_eq!(send_knock(&mut gateway, Instant(0), CLIENT, &payload), expected, "{name}");
    }
    let earliest = saved.format2.unwrap().0 + 1 - 10_000;
    assert!(gateway.set_time(Instant(1), UnixMillis(earliest - 1)).is_err(), "more than a window before");
    assert!(gateway.set_time(Instant(1), UnixMillis(earliest)).is_ok());
}

#[test]
fn no_knock_of_format_2_is_accepted_before_the_time_is_known() {
    let (mut tables, config) = (SmallTables::new(), format2(one_arm()));
    let floors = UnixMillis(millis(START).0 - 1).into();
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, floors);
    let mut out = [0; 64];
    while gateway.on_tick(Instant(1), &mut out).is_some() {}
    let payload = Knock2::open("SSHK", CLIENT).seal(Instant(5));
    assert_eq!(send_knock(&mut gateway, Instant(1), CLIENT, &payload), Err(DropReason::NoTime));
    gateway.set_time(Instant(2), millis(START)).unwrap();
    assert_eq!(send_knock(&mut gateway, Instant(3), CLIENT, &payload), ACCEPT);
}

#[test]
fn without_a_clock_the_milliseconds_of_knocks_must_increase() {
    let (mut tables, mut config) = (SmallTables::new(), format2(one_arm()));
    config.time = TimeSource::None;
    // Without a clock, another rule cannot tell at once that a knock is not its own, so it would give the reason.
    config.rules.truncate(1);
    config.rules[0].knock = knocks("SSHK", Window::Monotonic);
    let created = millis(config.created).0;
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    let table = [
        ("not later than the configuration", created, REPLAY),
        ("later", created + 1, ACCEPT),
        ("the same again", created + 1, REPLAY),
        ("later still", created + 1_000, ACCEPT),
        ("earlier than the last", created + 999, REPLAY),
    ];
    for (name, time, verdict) in table {
        let payload = Knock2::open("SSHK", CLIENT).seal_at(UnixMillis(time));
        assert_eq!(send_knock(&mut gateway, Instant(0), CLIENT, &payload), verdict, "{name}");
    }
}

#[test]
fn a_knock_on_a_trunk_is_checked_with_its_addresses() {
    let mut config = format2(inline());
    let vlans = Some(Vlans { outside: 10, inside: 20 });
    config.mode = Mode::Inline(Inline { vlans, ..INLINE });
    let mut tables = SmallTables::new();
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, millis(START).into());
    gateway.set_time(Instant(0), millis(START)).unwrap();
    let payload = Knock2::open("SSHK", CLIENT).bound(Bindings::SOURCE | Bindings::DESTINATION).seal(READY);
    for (from, expected) in [(STRANGER, DIGEST), (CLIENT, ACCEPT)] {
        let mut tagged =
            frame::udp(Path { from, from_port: 5_000, to: GATEWAY, to_port: KNOCK_PORT }, &payload);
        tagged.splice(12..12, [0x81, 0, 0, 10]);
        let Action::Knock(outcome) = gateway.on_frame(READY, Port::Outside, &mut tagged) else { panic!() };
        assert_eq!(Ok(outcome.verdict), expected);
    }
}

#[test]
fn every_verdict_has_its_counter_and_all_metrics_fit_their_buffers() {
    let (mut tables, config) = (SmallTables::new(), migration());
    let mut gateway = ready(&mut tables, &config);
    let good = Knock2::open("SSHK", CLIENT).seal(READY);
    let with = |at: usize| {
        let mut payload = Knock2::open("SSHK", CLIENT).seal(seconds(1));
        payload[at] ^= 1;
        payload
    };
    let mut old = Knock2::open("SSHK", CLIENT).seal_at(UnixMillis(millis(START).0 + READY.0 - 11_000));
    let hint = good.first_chunk::<4>().unwrap();
    old[..4].copy_from_slice(hint);
    let table: [(&[u8], &str); 8] = [
        (&good[..55], "length"),
        (&with(0), "tag"),
        (&old, "window"),
        (&with(24), "filter"),
        (&with(55), "digest"),
        (&good, "accept"),
        (&good, "replay"),
        (&Knock2::close("SSHK", CLIENT).seal(seconds(1)), "close"),
    ];
    for (payload, name) in table {
        let _verdict = send_knock(&mut gateway, READY, CLIENT, payload);
        let mut text = String::new();
        gateway.write_metrics(READY, &mut text).unwrap();
        let line = format!("pkd_knocks_total{{verdict=\"{name}\"}} 1");
        assert!(text.lines().any(|known| known == line), "{name}: {text}");
        assert!(gateway.counters().labelled().any(|counter| counter == (name, 1)), "{name}");
    }
    let mut text = String::new();
    gateway.write_metrics(READY, &mut text).unwrap();
    assert!(text.contains("pkd_knocks_total{verdict=\"request\"} 0\n"), "{text}");
    let names = Verdict::ALL.map(Verdict::as_str);
    let labelled: Vec<&str> = gateway.counters().labelled().map(|(label, _)| label).collect();
    assert_eq!(labelled[labelled.len() - names.len()..], names);
}

#[test]
fn debug_output_of_a_gateway_does_not_contain_keys() {
    let (mut tables, config) = (SmallTables::new(), migration());
    let text = format!("{:?}", ready(&mut tables, &config));
    let key = Key::parse("test").unwrap();
    assert!(!text.contains(&format!("{:?}", &key.as_bytes()[..4])), "{text}");
    assert!(text.contains("Keys(..)"), "derived keys are redacted");
}
