//! Resets, flash, configurations, cables.

use anyhow::{Context, Result, ensure};
use pkd_core::UnixSeconds;
use pkd_gateway::CONFIG_LIMIT;
use smoltcp::wire::{ArpOperation, EthernetAddress};

use crate::{
    frame::{self, Host},
    machine::{FLOOR_BYTES, FLOOR_START, TIMEOUT, Tools},
    report::Report,
    scenario::{CLIENT, GATEWAY, KNOCK_PORT, NAS, QUIET_TIME, START, Scenario, config, knock},
};

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check("flash: the floor outlives a reset, and an old knock stays refused", || reset(tools));
    report.check("flash: a record that a power cut tore counts for nothing", || torn(tools));
    report.check("flash: without a floor the gateway waits for a window", || {
        let mut scenario = Scenario::start(tools, |flash| flash.configure(&config()))?;
        scenario.tell_time(START)?;
        let early = scenario.knock(CLIENT, START + 5)?;
        ensure!(early == "replay", "early it is {early}");
        scenario.tell_time(START + 11)?;
        let late = scenario.knock(CLIENT, START + 11)?;
        ensure!(late == "accept", "late it is {late}");
        Ok("replay, accept".to_owned())
    });
    report.check("configuration: a missing, torn, altered or newer one passes nothing and says why", || {
        refuse(tools)
    });
    report.check("cable: a flow outlives its being pulled", || cable(tools));
}

fn reset(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    let accepted = knock(START, 99);
    ensure!(scenario.verdict(CLIENT, KNOCK_PORT, &accepted)? == "accept", "it is not accepted");
    let floor = scenario.machine.flash.floor()?.context("no floor in flash")?;
    ensure!(floor == UnixSeconds(START), "the floor in flash is {floor:?}");
    for boot in 0..3 {
        scenario.machine.reset()?;
        scenario.machine.wait_for_log("the floor in flash is")?;
        scenario.tell_time(START + 1)?;
        let again = scenario.verdict(CLIENT, KNOCK_PORT, &accepted)?;
        ensure!(again == "replay", "boot {boot}: it gets {again}");
    }
    let new = scenario.knock(CLIENT, START + 1)?;
    ensure!(new == "accept", "a new one gets {new}");
    Ok("3 resets".to_owned())
}

fn torn(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    let (first, second) = (knock(START, 99), knock(START + 2, 98));
    for (payload, expected) in [(&first, START), (&second, START + 2)] {
        ensure!(scenario.verdict(CLIENT, KNOCK_PORT, payload)? == "accept", "it is not accepted");
        let floor = scenario.machine.flash.floor()?;
        ensure!(floor == Some(UnixSeconds(expected)), "the floor in flash is {floor:?}");
    }
    // The last record, as a cut leaves it: its last bytes were not written.
    let bytes = scenario.machine.flash.read(FLOOR_START, FLOOR_BYTES)?;
    let record =
        bytes.chunks(32).rposition(|record| record.iter().any(|byte| *byte != 0xff)).context("no record")?;
    let cut = FLOOR_START + u32::try_from(record)? * 32 + 6;
    scenario.machine.flash.write(cut, &[0xff; 26])?;
    scenario.machine.reset()?;
    let line = scenario.machine.wait_for_log(&format!("the floor in flash is {START}"))?;
    scenario.tell_time(START + 3)?;
    let again = scenario.verdict(CLIENT, KNOCK_PORT, &first)?;
    ensure!(again == "replay", "the first knock gets {again}");
    ensure!(scenario.knock(CLIENT, START + 3)? == "accept", "nothing is accepted any more");
    let floor = scenario.machine.flash.floor()?;
    ensure!(floor == Some(UnixSeconds(START + 3)), "the floor in flash is {floor:?}");
    Ok(line)
}

fn refuse(tools: &Tools) -> Result<String> {
    let mut good = vec![0xff; CONFIG_LIMIT];
    let length = config().emit(&mut good).map_err(|error| anyhow::anyhow!("{error}"))?;
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let table = [
        ("missing", vec![0xff; CONFIG_LIMIT], "no configuration"),
        ("torn", [&good[..length - 8], &[0xff; CONFIG_LIMIT][length - 8..]].concat(), "CRC"),
        ("altered", with(30, good[30] ^ 1), "CRC"),
        ("newer", with(4, 9), "version 9"),
        ("another file", with(0, b'Q'), "no configuration"),
    ];
    let mut scenario = Scenario::start(tools, |flash| flash.configure(&config()))?;
    for (row, (name, bytes, says)) in table.iter().enumerate() {
        scenario.machine.flash.write(0, bytes)?;
        scenario.machine.reset()?;
        let line = scenario.machine.wait_for_log("nothing passes")?;
        ensure!(line.contains(says), "row {row}: {name}: {line}");
        let everybody = Host { hardware: EthernetAddress([0xff; 6]), ..GATEWAY };
        scenario.link.send(&frame::arp(ArpOperation::Request, NAS, everybody))?;
        // What an earlier life had sent may still lie in the socket; those who ask are answered by nobody now.
        while let Some(frame) = scenario.link.receive(QUIET_TIME)? {
            ensure!(frame[12..14] != [8, 6] || frame[20..22] != [0, 2], "row {row}: {name}: it answers");
        }
    }
    scenario.machine.flash.configure(&config())?;
    scenario.machine.reset()?;
    scenario.tell_time(START)?;
    Ok(format!("{} kinds", table.len()))
}

fn cable(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    ensure!(scenario.knock(CLIENT, START)? == "accept", "no knock is accepted");
    scenario.connect(CLIENT, 5_001)?;
    for flap in 0..3 {
        scenario.machine.set_link(false)?;
        scenario.machine.wait_for_log("link down")?;
        let lost = scenario.segment(CLIENT, 5_001, frame::ACK, QUIET_TIME)?;
        ensure!(lost.is_none(), "flap {flap}: it came through without a cable");
        scenario.machine.set_link(true)?;
        scenario.machine.wait_for_log("link up")?;
        let through = scenario.segment(CLIENT, 5_001, frame::ACK, TIMEOUT)?;
        ensure!(through.is_some(), "flap {flap}: it does not come through");
    }
    Ok("3 flaps".to_owned())
}
