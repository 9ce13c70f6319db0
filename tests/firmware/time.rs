//! What a time server can do, and what it cannot.

use anyhow::{Result, ensure};
use pkd_core::UnixSeconds;

use crate::{
    machine::Tools,
    report::Report,
    scenario::{CLIENT, START, Scenario, config, knock},
};

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check("time: no knock is accepted before it is known", || {
        let mut scenario = Scenario::start(tools, |flash| {
            flash.configure(&config())?;
            flash.save_floor(UnixSeconds(START - 1_000))
        })?;
        let verdict = scenario.knock(CLIENT, START)?;
        ensure!(verdict == "no_time", "it is {verdict}");
        scenario.tell_time(START)?;
        let verdict = scenario.knock(CLIENT, START)?;
        ensure!(verdict == "accept", "and then {verdict}");
        Ok(verdict)
    });
    report.check("time: a server that lies brings no accepted knock back", || lies(tools));
    report.check("time: answers that are none are not believed", || none(tools));
}

fn lies(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    let accepted = knock(START, 99);
    ensure!(
        scenario.verdict(CLIENT, crate::scenario::KNOCK_PORT, &accepted)? == "accept",
        "the first is not accepted"
    );
    let mut story = Vec::new();
    for (told, honest) in
        [(START + 1_000_000, false), (START - 5, true), (START - 5_000, true), (START + 3, true)]
    {
        scenario.tell_time(told)?;
        let again = scenario.verdict(CLIENT, crate::scenario::KNOCK_PORT, &accepted)?;
        ensure!(again == "window" || again == "replay", "told {told}, the old knock gets {again}");
        let new = scenario.knock(CLIENT, START + 2)?;
        ensure!((new == "accept") == honest, "told {told}, an honest knock gets {new}");
        story.push(new);
    }
    let refused = scenario.counters()?.of("time_rejected");
    ensure!(refused > 0, "the past was believed");
    Ok(story.join(", "))
}

fn none(tools: &Tools) -> Result<String> {
    type Bend = fn(&mut [u8; 48]);
    let table: [(&str, Bend); 5] = [
        ("another cookie", |answer| answer[24] ^= 1),
        ("a clock not set", |answer| answer[0] |= 0xc0),
        ("a kiss of death", |answer| answer[1] = 0),
        ("a question", |answer| answer[0] = 0x23),
        ("no time", |answer| answer[40..44].fill(0)),
    ];
    let mut scenario = Scenario::start(tools, |flash| {
        flash.configure(&config())?;
        flash.save_floor(UnixSeconds(START - 1_000))
    })?;
    for (row, (name, bend)) in table.into_iter().enumerate() {
        scenario.link.time.tamper = bend;
        scenario.tell_time(START)?;
        let clock = scenario.counters()?.of("pkd_clock_seconds");
        ensure!(clock == 0, "row {row}: {name}: the clock shows {clock}");
    }
    scenario.link.time.tamper = |_| {};
    scenario.tell_time(START)?;
    let clock = scenario.counters()?.of("pkd_clock_seconds");
    ensure!((START..START + 10).contains(&clock), "the clock shows {clock}");
    Ok(format!("{} kinds", table.len()))
}
