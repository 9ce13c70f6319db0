//! What a time server can and cannot do.

use anyhow::{Result, ensure};
use pkd_core::UnixSeconds;
use pkd_tests::Report;

use crate::{
    machine::Tools,
    scenario::{CLIENT, START, Scenario, config, knock},
};

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check("time: no knock is accepted before the time is known", || {
        let mut scenario = Scenario::start(tools, |flash| {
            flash.configure(&config())?;
            flash.save_floors(UnixSeconds(START - 1_000).into())
        })?;
        let verdict = scenario.knock(CLIENT, START)?;
        ensure!(verdict == "no_time", "before the time is known: {verdict}");
        scenario.serve_time(START)?;
        let verdict = scenario.knock(CLIENT, START)?;
        ensure!(verdict == "accept", "after the time is known: {verdict}");
        Ok(verdict)
    });
    report.check("time: a server that lies cannot make an accepted knock work again", || lying_server(tools));
    report.check("time: invalid replies are ignored", || invalid_replies(tools));
}

fn lying_server(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    let accepted = knock(START, 99);
    ensure!(
        scenario.verdict(CLIENT, crate::scenario::KNOCK_PORT, &accepted)? == "accept",
        "the first knock was not accepted"
    );
    let mut verdicts = Vec::new();
    for (time, honest) in
        [(START + 1_000_000, false), (START - 5, true), (START - 5_000, true), (START + 3, true)]
    {
        scenario.serve_time(time)?;
        let again = scenario.verdict(CLIENT, crate::scenario::KNOCK_PORT, &accepted)?;
        ensure!(again == "window" || again == "replay", "time {time}: the old knock's verdict is {again}");
        let new = scenario.knock(CLIENT, START + 2)?;
        ensure!((new == "accept") == honest, "time {time}: an honest knock's verdict is {new}");
        verdicts.push(new);
    }
    let refused = scenario.counters()?.of("time_rejected");
    ensure!(refused > 0, "a time in the past was accepted");
    Ok(verdicts.join(", "))
}

fn invalid_replies(tools: &Tools) -> Result<String> {
    type Tamper = fn(&mut [u8; 48]);
    let table: [(&str, Tamper); 5] = [
        ("another cookie", |answer| answer[24] ^= 1),
        ("clock not synchronised", |answer| answer[0] |= 0xc0),
        ("kiss-o'-death", |answer| answer[1] = 0),
        ("a request", |answer| answer[0] = 0x23),
        ("no time", |answer| answer[40..44].fill(0)),
    ];
    let mut scenario = Scenario::start(tools, |flash| {
        flash.configure(&config())?;
        flash.save_floors(UnixSeconds(START - 1_000).into())
    })?;
    for (row, (name, tamper)) in table.into_iter().enumerate() {
        scenario.link.time.tamper = tamper;
        scenario.serve_time(START)?;
        let clock = scenario.counters()?.of("pkd_clock_seconds");
        ensure!(clock == 0, "row {row}: {name}: the clock shows {clock}");
    }
    scenario.link.time.tamper = |_| {};
    scenario.serve_time(START)?;
    let clock = scenario.counters()?.of("pkd_clock_seconds");
    ensure!((START..START + 10).contains(&clock), "the clock shows {clock}");
    Ok(format!("{} kinds", table.len()))
}
