//! The clock and the floor: what a time server can and cannot do.

use pkd_core::{Reason, UnixMillis, UnixSeconds, Verdict, Window};
use pkd_gateway::{DropReason, Floors, Gateway, Instant, KnockOutcome, KnockSender, TimeError, TimeSource};

use crate::harness::{
    CLIENT, GATEWAY, START, SmallTables, knock_at, knock_outcome, knocks, millis, one_arm, send_knock,
};

const ACCEPT: Result<Verdict, DropReason> = Ok(Verdict::Accept);
const REPLAY: Result<Verdict, DropReason> = Ok(Verdict::Ignore(Reason::Replay));
const WINDOW: Result<Verdict, DropReason> = Ok(Verdict::Ignore(Reason::Window));

fn at(seconds: u64) -> Instant {
    Instant(seconds * 1_000)
}

fn unix(seconds: u64) -> UnixSeconds {
    UnixSeconds(START.0 + seconds)
}

#[test]
fn no_knock_is_accepted_before_the_time_is_known() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, unix(0).into());
    let knock = knock_at("SSHK", unix(5), 1);
    assert_eq!(send_knock(&mut gateway, at(1), CLIENT, &knock), Err(DropReason::NoTime));
    gateway.set_time(at(2), millis(unix(4))).unwrap();
    assert_eq!(send_knock(&mut gateway, at(3), CLIENT, &knock), ACCEPT);
}

#[test]
fn without_a_saved_floor_the_gateway_waits_for_one_window() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    gateway.set_time(at(0), millis(unix(0))).unwrap();
    let table = [(5, 5, REPLAY), (10, 10, REPLAY), (10, 11, ACCEPT)];
    for (row, (now, time, verdict)) in table.into_iter().enumerate() {
        let given = send_knock(&mut gateway, at(now), CLIENT, &knock_at("SSHK", unix(time), 1));
        assert_eq!(given, verdict, "row {row}");
    }
    assert_eq!(gateway.unsaved_floors(), Some(unix(11).into()));
}

#[test]
fn the_saved_floor_keeps_old_knocks_rejected_after_a_reboot() {
    let config = one_arm();
    let accepted = knock_at("SSHK", unix(20), 1);
    let mut tables = SmallTables::new();
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, unix(0).into());
    gateway.set_time(at(0), millis(unix(20))).unwrap();
    assert_eq!(send_knock(&mut gateway, at(0), CLIENT, &accepted), ACCEPT);
    let saved = gateway.unsaved_floors();
    assert_eq!(saved, Some(unix(20).into()));
    gateway.floors_saved(unix(20).into());
    assert_eq!(gateway.unsaved_floors(), None);

    let mut tables = SmallTables::new();
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, saved.unwrap());
    gateway.set_time(at(0), millis(unix(21))).unwrap();
    assert_eq!(send_knock(&mut gateway, at(0), CLIENT, &accepted), REPLAY);
    assert_eq!(
        send_knock(&mut gateway, at(0), CLIENT, &knock_at("SSHK", unix(21), 2)),
        ACCEPT,
        "there is no wait"
    );
}

#[test]
fn a_floor_that_rises_during_a_save_is_saved_next() {
    // name, times of accepted knocks, the floor that was saved, the floor still to save
    let table: [(&str, &[u64], u64, Option<u64>); 4] = [
        ("the same", &[20], 20, None),
        ("a later knock was accepted", &[20, 21], 20, Some(21)),
        ("both are at or below the saved floor", &[20, 21], 21, None),
        ("an earlier floor was saved", &[20], 19, Some(20)),
    ];
    for (row, (name, knocks, saved, left)) in table.into_iter().enumerate() {
        let (mut tables, config) = (SmallTables::new(), one_arm());
        let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, unix(0).into());
        gateway.set_time(at(0), millis(unix(20))).unwrap();
        for time in knocks {
            let knock = knock_at("SSHK", unix(*time), 1);
            assert_eq!(send_knock(&mut gateway, at(0), CLIENT, &knock), ACCEPT, "row {row}: {name}");
        }
        gateway.floors_saved(unix(saved).into());
        assert_eq!(gateway.unsaved_floors(), left.map(|time| unix(time).into()), "row {row}: {name}");
    }
}

#[test]
fn every_knock_requests_saving_the_floor_until_it_is_saved() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, unix(0).into());
    gateway.set_time(at(0), millis(unix(20))).unwrap();
    let accepted = knock_at("SSHK", unix(20), 1);
    let sender = Some(KnockSender { address: CLIENT.address.into(), rule: 0 });
    let table = [
        ("a knock that is ignored", &accepted[..55], Verdict::Ignore(Reason::Length), None, None),
        ("the first accepted knock", &accepted[..], Verdict::Accept, sender, Some(unix(20).into())),
        (
            "ignored, while the floor is unsaved",
            &accepted[..],
            Verdict::Ignore(Reason::Replay),
            None,
            Some(unix(20).into()),
        ),
    ];
    for (row, (name, payload, verdict, sender, save_floors)) in table.into_iter().enumerate() {
        let outcome = knock_outcome(&mut gateway, at(0), CLIENT, payload);
        assert_eq!(outcome, Ok(KnockOutcome { verdict, sender, save_floors }), "row {row}: {name}");
        assert_eq!(gateway.unsaved_floors(), save_floors, "row {row}: {name}");
    }
    gateway.floors_saved(unix(20).into());
    let outcome = knock_outcome(&mut gateway, at(0), CLIENT, &accepted).unwrap();
    assert_eq!(outcome.save_floors, None, "it is saved");
}

#[test]
fn a_floor_that_could_not_be_saved_is_counted_and_requested_again() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, unix(0).into());
    gateway.set_time(at(0), millis(unix(20))).unwrap();
    assert_eq!(send_knock(&mut gateway, at(0), CLIENT, &knock_at("SSHK", unix(20), 1)), ACCEPT);
    for failures in 1..=2 {
        gateway.floors_failed();
        assert_eq!(gateway.counters().floor_failed, failures);
        assert_eq!(gateway.unsaved_floors(), Some(unix(20).into()));
    }
}

#[test]
fn the_error_names_the_rejected_and_the_earliest_time() {
    let text =
        TimeError::TooEarly { reported: UnixMillis(12_000), earliest: UnixMillis(345_999) }.to_string();
    assert!(text.contains("12") && text.contains("345"), "{text}");
}

#[test]
fn a_time_in_the_past_is_rejected() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, unix(100).into());
    // The latest accepted knock, less the window that its sender's clock may have been ahead.
    let earliest = unix(90);
    let table = [(0, false), (89, false), (90, true), (200, true), (89, false)];
    for (row, (reported, accepted)) in table.into_iter().enumerate() {
        let reported = unix(reported);
        let expected = if accepted {
            Ok(())
        } else {
            Err(TimeError::TooEarly { reported: millis(reported), earliest: millis(earliest) })
        };
        assert_eq!(gateway.set_time(at(0), millis(reported)), expected, "row {row}");
    }
    assert_eq!(gateway.time(at(3)), Some(unix(203)), "the clock continues from the last accepted time");
    assert_eq!(gateway.counters().time_rejected, 3);
}

#[test]
fn a_time_before_the_configuration_is_rejected() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    let reported = UnixSeconds(config.created.0 - 1);
    assert_eq!(
        gateway.set_time(at(0), millis(reported)),
        Err(TimeError::TooEarly { reported: millis(reported), earliest: millis(config.created) })
    );
    assert!(gateway.set_time(at(0), millis(config.created)).is_ok());
}

#[test]
fn changing_the_clock_never_revives_a_knock_nor_locks_out_senders_for_good() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, unix(0).into());
    gateway.set_time(at(0), millis(unix(50))).unwrap();
    let knock = knock_at("SSHK", unix(50), 1);
    assert_eq!(send_knock(&mut gateway, at(0), CLIENT, &knock), ACCEPT);
    gateway.set_time(at(1), millis(unix(1_000_000))).unwrap();
    assert_eq!(send_knock(&mut gateway, at(1), CLIENT, &knock_at("SSHK", unix(52), 2)), WINDOW);
    gateway.set_time(at(2), millis(unix(52))).unwrap();
    assert_eq!(send_knock(&mut gateway, at(2), CLIENT, &knock), REPLAY);
    assert_eq!(send_knock(&mut gateway, at(2), CLIENT, &knock_at("SSHK", unix(52), 3)), ACCEPT);
}

#[test]
fn a_first_time_that_was_too_late_is_corrected_by_the_next() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    gateway.set_time(at(0), millis(unix(1_000_000))).unwrap();
    gateway.set_time(at(1), millis(unix(1))).unwrap();
    assert_eq!(
        send_knock(&mut gateway, at(2), CLIENT, &knock_at("SSHK", unix(2), 1)),
        REPLAY,
        "the wait is one window"
    );
    assert_eq!(send_knock(&mut gateway, at(12), CLIENT, &knock_at("SSHK", unix(12), 2)), ACCEPT);
    // From now on there is an accepted knock, so an earlier time does not restart the wait.
    assert_eq!(send_knock(&mut gateway, at(12), CLIENT, &knock_at("SSHK", unix(12), 2)), REPLAY);
    gateway.set_time(at(13), millis(unix(3))).unwrap();
    assert_eq!(send_knock(&mut gateway, at(13), CLIENT, &knock_at("SSHK", unix(12), 2)), REPLAY);
}

#[test]
fn setting_the_clock_back_slightly_does_not_restart_the_wait() {
    let (mut tables, config) = (SmallTables::new(), one_arm());
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    for now in [0, 5, 10, 15] {
        // Our clock runs faster than the server's.
        gateway.set_time(at(now), millis(unix(now - now / 5))).unwrap();
    }
    assert_eq!(send_knock(&mut gateway, at(15), CLIENT, &knock_at("SSHK", unix(12), 1)), ACCEPT);
}

#[test]
fn without_a_clock_the_times_of_knocks_must_increase() {
    let (mut tables, mut config) = (SmallTables::new(), one_arm());
    config.time = TimeSource::None;
    for rule in &mut config.rules {
        rule.knock = knocks(&rule.knock.tag().to_string(), Window::Monotonic);
    }
    let mut gateway = Gateway::new(&mut tables, &config, GATEWAY.hardware, Floors::default());
    let created = config.created.0;
    let table = [
        ("not later than the configuration", created, REPLAY),
        ("later", created + 1, ACCEPT),
        ("the same again", created + 1, REPLAY),
        ("much later", created + 1_000, ACCEPT),
        ("earlier than the last", created + 999, REPLAY),
    ];
    for (row, (name, time, verdict)) in table.into_iter().enumerate() {
        let given = send_knock(&mut gateway, at(0), CLIENT, &knock_at("SSHK", UnixSeconds(time), 1));
        assert_eq!(given, verdict, "row {row}: {name}");
    }
    assert_eq!(gateway.unsaved_floors(), Some(UnixSeconds(created + 1_000).into()));
}
