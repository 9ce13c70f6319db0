//! Resets, flash, configurations, cables.

use anyhow::{Context, Result, ensure};
use pkd_core::UnixSeconds;
use pkd_gateway::CONFIG_LIMIT;
use smoltcp::wire::{ArpOperation, EthernetAddress};

use crate::{
    frame::{self, Host},
    machine::{FLOOR_BYTES, FLOOR_START, LIMIT, Tools},
    report::Report,
    scene::{CLIENT, GATEWAY, KNOCK_PORT, NAS, SILENCE, START, Scene, config, knock},
};

pub(crate) fn claims(report: &mut Report, tools: &Tools) {
    report.claim("flash: the floor outlives a reset, and an old knock stays refused", || reset(tools));
    report.claim("flash: a record that a power cut tore counts for nothing", || torn(tools));
    report.claim("flash: without a floor the gateway waits for a window", || {
        let mut scene = Scene::start(tools, |flash| flash.configure(&config()))?;
        scene.tell_time(START)?;
        let early = scene.knock(CLIENT, START + 5)?;
        ensure!(early == "replay", "early it is {early}");
        scene.tell_time(START + 11)?;
        let late = scene.knock(CLIENT, START + 11)?;
        ensure!(late == "accept", "late it is {late}");
        Ok("replay, accept".to_owned())
    });
    report.claim("configuration: a missing, torn, altered or newer one passes nothing and says why", || {
        refuse(tools)
    });
    report.claim("cable: a flow outlives its being pulled", || cable(tools));
}

fn reset(tools: &Tools) -> Result<String> {
    let mut scene = Scene::ready(tools)?;
    let accepted = knock(START, 99);
    ensure!(scene.verdict(CLIENT, KNOCK_PORT, &accepted)? == "accept", "it is not accepted");
    let floor = scene.machine.flash.floor()?.context("no floor in flash")?;
    ensure!(floor == UnixSeconds(START), "the floor in flash is {floor:?}");
    for life in 0..3 {
        scene.machine.reset()?;
        scene.machine.said("the floor in flash is")?;
        scene.tell_time(START + 1)?;
        let again = scene.verdict(CLIENT, KNOCK_PORT, &accepted)?;
        ensure!(again == "replay", "life {life}: it gets {again}");
    }
    let new = scene.knock(CLIENT, START + 1)?;
    ensure!(new == "accept", "a new one gets {new}");
    Ok("3 resets".to_owned())
}

fn torn(tools: &Tools) -> Result<String> {
    let mut scene = Scene::ready(tools)?;
    let (first, second) = (knock(START, 99), knock(START + 2, 98));
    for (payload, expected) in [(&first, START), (&second, START + 2)] {
        ensure!(scene.verdict(CLIENT, KNOCK_PORT, payload)? == "accept", "it is not accepted");
        let floor = scene.machine.flash.floor()?;
        ensure!(floor == Some(UnixSeconds(expected)), "the floor in flash is {floor:?}");
    }
    // The last record, as a cut leaves it: its last bytes were not written.
    let bytes = scene.machine.flash.bytes(FLOOR_START, FLOOR_BYTES)?;
    let record =
        bytes.chunks(32).rposition(|record| record.iter().any(|byte| *byte != 0xff)).context("no record")?;
    let cut = FLOOR_START + u32::try_from(record)? * 32 + 6;
    scene.machine.flash.put(cut, &[0xff; 26])?;
    scene.machine.reset()?;
    let line = scene.machine.said(&format!("the floor in flash is {START}"))?;
    scene.tell_time(START + 3)?;
    let again = scene.verdict(CLIENT, KNOCK_PORT, &first)?;
    ensure!(again == "replay", "the first knock gets {again}");
    ensure!(scene.knock(CLIENT, START + 3)? == "accept", "nothing is accepted any more");
    let floor = scene.machine.flash.floor()?;
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
    let mut scene = Scene::start(tools, |flash| flash.configure(&config()))?;
    for (row, (name, bytes, says)) in table.iter().enumerate() {
        scene.machine.flash.put(0, bytes)?;
        scene.machine.reset()?;
        let line = scene.machine.said("nothing passes")?;
        ensure!(line.contains(says), "row {row}: {name}: {line}");
        let everybody = Host { hardware: EthernetAddress([0xff; 6]), ..GATEWAY };
        scene.wire.send(&frame::arp(ArpOperation::Request, NAS, everybody))?;
        // What an earlier life had sent may still lie in the socket; those who ask are answered by nobody now.
        while let Some(frame) = scene.wire.receive(SILENCE)? {
            ensure!(frame[12..14] != [8, 6] || frame[20..22] != [0, 2], "row {row}: {name}: it answers");
        }
    }
    scene.machine.flash.configure(&config())?;
    scene.machine.reset()?;
    scene.tell_time(START)?;
    Ok(format!("{} kinds", table.len()))
}

fn cable(tools: &Tools) -> Result<String> {
    let mut scene = Scene::ready(tools)?;
    ensure!(scene.knock(CLIENT, START)? == "accept", "no knock is accepted");
    scene.connect(CLIENT, 5_001)?;
    for flap in 0..3 {
        scene.machine.set_link(false)?;
        scene.machine.said("link down")?;
        let lost = scene.segment(CLIENT, 5_001, frame::ACK, SILENCE)?;
        ensure!(lost.is_none(), "flap {flap}: it came through without a cable");
        scene.machine.set_link(true)?;
        scene.machine.said("link up")?;
        let through = scene.segment(CLIENT, 5_001, frame::ACK, LIMIT)?;
        ensure!(through.is_some(), "flap {flap}: it does not come through");
    }
    Ok("3 flaps".to_owned())
}
