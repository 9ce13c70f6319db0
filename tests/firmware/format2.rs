//! Format 2 on a board: opening, closing, bound addresses, and its floor in flash.

use anyhow::{Result, ensure};
use pkd_core::{
    LENGTH, Port, Tag, UnixMillis, UnixSeconds,
    format2::{Addresses, Bindings, Keys, Knock, KnockParams, Request},
};
use pkd_gateway::{Config, Floors, Format, RULES};
use pkd_tests::Report;

use crate::{
    frame::{self, Host},
    machine::{TIMEOUT, Tools},
    scenario::{CLIENT, GATEWAY, KNOCK_PORT, START, STRANGER, Scenario, config, key, knock},
};

/// The time at boot.
pub(crate) const START_MILLIS: UnixMillis = UnixMillis(START * 1_000);

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check(
        "format 2: a knock opens, a request to close ends new flows, established ones continue",
        || opens_and_closes(tools),
    );
    report.check("format 2: a captured knock is refused from another address", || bound(tools));
    report.check("format 2: after a reset, old knocks and requests to close are still refused", || {
        reset(tools)
    });
    report.check(
        "format 2: the saved floor of classic knocks is not its own, so it waits for one window",
        || waits(tools),
    );
    report.check("format 2: knocks are accepted at once after the clock was set", || clock_steps(tools));
    report.check("format 2: each reason to ignore a knock has its counter", || reasons(tools));
    report.check("format 2: a user with a rule of each format can knock with both", || migration(tools));
}

/// The rules of a configuration in format 2.
pub(crate) fn upgraded(mut config: Config<RULES>, require: Bindings) -> Config<RULES> {
    config.rules.iter_mut().for_each(|rule| rule.format = Format::Format2 { require });
    config
}

/// What a knock asks for, and what it is bound to.
#[derive(Clone, Copy)]
pub(crate) struct Sealed {
    pub(crate) request: Request,
    pub(crate) bindings: Bindings,
    pub(crate) from: Host,
    pub(crate) to: Host,
}

impl Sealed {
    pub(crate) const OPEN: Self =
        Self { request: Request::Open, bindings: Bindings::SOURCE, from: CLIENT, to: GATEWAY };
    pub(crate) const CLOSE: Self = Self { request: Request::Close, ..Self::OPEN };

    /// The payload of a knock that is sent so many milliseconds after the boot.
    pub(crate) fn at(self, millis: u64) -> [u8; LENGTH] {
        let time = UnixMillis(START_MILLIS.0 + millis);
        let params = KnockParams { time, nonce: [7; 12], bindings: self.bindings, request: self.request };
        let (source, destination) = (self.from.address.octets(), self.to.address.octets());
        let addresses = Addresses::V4 { source: &source, destination: &destination };
        Knock::seal(&Keys::new(&key(), Tag(*b"SSHK")), &params, Port(KNOCK_PORT), &addresses)
    }
}

/// A board whose rules have this configuration, and that accepts knocks of format 2 without a wait.
pub(crate) fn ready(tools: &Tools, config: &Config<RULES>, floors: Floors) -> Result<Scenario> {
    let mut scenario = Scenario::start(tools, |flash| {
        flash.configure(config)?;
        flash.save_floors(floors)
    })?;
    scenario.serve_time(START)?;
    scenario.wait_for_host()?;
    Ok(scenario)
}

/// Earlier boots accepted nothing that could be sent now.
pub(crate) fn no_wait() -> Floors {
    UnixMillis(START_MILLIS.0 - 1_000_000).into()
}

/// Sends payloads, and compares their verdicts.
fn expect(scenario: &mut Scenario, table: &[(&str, Host, &[u8], &str)]) -> Result<()> {
    for (name, from, payload, expected) in table {
        let verdict = scenario.verdict(*from, KNOCK_PORT, payload)?;
        ensure!(verdict == *expected, "{name}: {verdict}, expected {expected}");
    }
    Ok(())
}

fn opens_and_closes(tools: &Tools) -> Result<String> {
    let mut scenario = ready(tools, &upgraded(config(), Bindings::SOURCE), no_wait())?;
    ensure!(!scenario.is_open(CLIENT, 5_001)?, "open before the knock");
    let (open, close) = (Sealed::OPEN.at(0), Sealed::CLOSE.at(1));
    expect(&mut scenario, &[("the knock", CLIENT, &open, "accept")])?;
    scenario.connect(CLIENT, 5_002)?;
    ensure!(!scenario.is_open(STRANGER, 5_003)?, "open for a stranger");
    scenario.machine.wait_for_log("203.0.113.7 may connect")?;
    expect(&mut scenario, &[("the request to close", CLIENT, &close, "close")])?;
    scenario.machine.wait_for_log("203.0.113.7 may no longer connect")?;
    ensure!(!scenario.is_open(CLIENT, 5_004)?, "open after the request to close");
    let seen = scenario.segment(CLIENT, 5_002, frame::ACK, TIMEOUT)?;
    ensure!(seen.is_some(), "the established flow ended too");
    expect(&mut scenario, &[("the knock again", CLIENT, &open, "replay")])?;
    ensure!(!scenario.is_open(CLIENT, 5_005)?, "a replay opened");
    Ok("accept, close, replay".to_owned())
}

fn bound(tools: &Tools) -> Result<String> {
    let mut scenario = ready(tools, &upgraded(config(), Bindings::SOURCE), no_wait())?;
    let captured = Sealed::OPEN.at(0);
    let elsewhere = Host::new(1, [198, 51, 100, 9]);
    let both = Bindings::SOURCE | Bindings::DESTINATION;
    let other_gateway = Sealed { bindings: both, to: elsewhere, ..Sealed::OPEN }.at(1);
    let here = Sealed { bindings: both, ..Sealed::OPEN }.at(2);
    let unbound = Sealed { bindings: Bindings::NONE, ..Sealed::OPEN }.at(3);
    let table = [
        ("captured", STRANGER, &captured[..], "digest"),
        ("for another gateway", CLIENT, &other_gateway, "digest"),
        ("not bound, though the rule requires it", CLIENT, &unbound, "request"),
    ];
    expect(&mut scenario, &table)?;
    ensure!(!scenario.is_open(STRANGER, 5_001)? && !scenario.is_open(CLIENT, 5_002)?, "open");
    expect(
        &mut scenario,
        &[("its sender", CLIENT, &captured, "accept"), ("both bound", CLIENT, &here, "accept")],
    )?;
    ensure!(
        scenario.is_open(CLIENT, 5_003)? && !scenario.is_open(STRANGER, 5_004)?,
        "open for the wrong one"
    );
    Ok(format!("{} refused", table.len()))
}

fn reset(tools: &Tools) -> Result<String> {
    let mut scenario = ready(tools, &upgraded(config(), Bindings::NONE), no_wait())?;
    let (open, close) = (Sealed::OPEN.at(500), Sealed::CLOSE.at(501));
    expect(
        &mut scenario,
        &[("the knock", CLIENT, &open, "accept"), ("the request", CLIENT, &close, "close")],
    )?;
    let expected = Floors::from(UnixMillis(START_MILLIS.0 + 501));
    let floors = scenario.machine.flash.floors()?;
    ensure!(floors == expected, "floors in flash: {floors:?}");
    for boot in 0..2 {
        scenario.machine.reset()?;
        scenario.machine.wait_for_log(&format!("floor in flash: {} ms", START_MILLIS.0 + 501))?;
        scenario.serve_time(START)?;
        let replays =
            [("the old knock", CLIENT, &open[..], "replay"), ("the old request", CLIENT, &close, "replay")];
        expect(&mut scenario, &replays)?;
        ensure!(!scenario.is_open(CLIENT, 5_001)?, "boot {boot}: open");
    }
    expect(&mut scenario, &[("a new knock", CLIENT, &Sealed::OPEN.at(502), "accept")])?;
    Ok("2 resets".to_owned())
}

fn waits(tools: &Tools) -> Result<String> {
    let floors = UnixSeconds(START - 1_000).into();
    let mut scenario = ready(tools, &upgraded(config(), Bindings::NONE), floors)?;
    expect(&mut scenario, &[("during the wait", CLIENT, &Sealed::OPEN.at(5_000), "replay")])?;
    scenario.serve_time(START + 11)?;
    expect(&mut scenario, &[("after the wait", CLIENT, &Sealed::OPEN.at(11_000), "accept")])?;
    let floors = scenario.machine.flash.floors()?;
    let expected = Floors {
        classic: Some(UnixSeconds(START - 1_000)),
        format2: Some(UnixMillis(START_MILLIS.0 + 11_000)),
    };
    ensure!(floors == expected, "floors in flash: {floors:?}");
    Ok("replay, accept".to_owned())
}

/// No tick comes in between, so the hints must be those of the new time already.
fn clock_steps(tools: &Tools) -> Result<String> {
    let mut scenario = ready(tools, &upgraded(config(), Bindings::NONE), no_wait())?;
    let steps = [600, 7_200, 86_400, 86_460];
    for step in steps {
        scenario.serve_time(START + step)?;
        expect(&mut scenario, &[("after a step", CLIENT, &Sealed::OPEN.at(step * 1_000), "accept")])?;
    }
    Ok(format!("{} steps", steps.len()))
}

fn reasons(tools: &Tools) -> Result<String> {
    let mut scenario = ready(tools, &upgraded(config(), Bindings::SOURCE), no_wait())?;
    let good = Sealed::OPEN.at(0);
    let with = |at: usize| {
        let mut payload = Sealed::OPEN.at(1);
        payload[at] ^= 1;
        payload
    };
    // With a hint that knocks may have now.
    let mut old = Sealed::OPEN.at(0);
    let made = Knock::seal(
        &Keys::new(&key(), Tag(*b"SSHK")),
        &KnockParams {
            time: UnixMillis(START_MILLIS.0 - 60_000),
            nonce: [7; 12],
            bindings: Bindings::NONE,
            request: Request::Open,
        },
        Port(KNOCK_PORT),
        &Addresses::V4 { source: &[0; 4], destination: &[0; 4] },
    );
    old[4..].copy_from_slice(&made[4..]);
    let unbound = Sealed { bindings: Bindings::NONE, ..Sealed::OPEN }.at(2);
    let table: [(&str, Host, &[u8], &str); 10] = [
        ("too short", CLIENT, &good[..55], "length"),
        ("another hint", CLIENT, &with(0), "tag"),
        ("a classic knock", CLIENT, &knock(START, 1), "tag"),
        ("old", CLIENT, &old, "window"),
        ("another filter", CLIENT, &with(24), "filter"),
        ("other auth bytes", CLIENT, &with(55), "digest"),
        ("not bound", CLIENT, &unbound, "request"),
        ("good", CLIENT, &good, "accept"),
        ("good again", CLIENT, &good, "replay"),
        ("a request to close", CLIENT, &Sealed::CLOSE.at(3), "close"),
    ];
    expect(&mut scenario, &table)?;
    scenario.machine.wait_for_log("counters: filter 1")?;
    Ok(format!("{} kinds", table.len()))
}

fn migration(tools: &Tools) -> Result<String> {
    let mut config = config();
    let new = upgraded(config.clone(), Bindings::NONE).rules.remove(0);
    ensure!(config.rules.push(new).is_ok(), "there is no room for a rule");
    let floors = Floors { classic: Some(UnixSeconds(START - 1_000)), ..no_wait() };
    let mut scenario = ready(tools, &config, floors)?;
    let (new, old) = (Sealed::OPEN.at(5_000), knock(START, 1));
    let table = [
        ("format 2", CLIENT, &new[..], "accept"),
        ("classic, with an earlier time", CLIENT, &old, "accept"),
        ("format 2 again", CLIENT, &new, "replay"),
        ("classic again", CLIENT, &old, "replay"),
        ("a request to close", CLIENT, &Sealed::CLOSE.at(5_001), "close"),
    ];
    expect(&mut scenario, &table)?;
    ensure!(!scenario.is_open(CLIENT, 5_001)?, "what the key opened with the classic format is open still");
    Ok("both".to_owned())
}
