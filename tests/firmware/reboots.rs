//! Resets, the floor in flash, the configuration, and the cable.

use anyhow::{Context, Result, ensure};
use pkd_core::UnixSeconds;
use pkd_gateway::{CONFIG_LIMIT, Inline, Mode, Pass, Protect};
use pkd_tests::Report;
use smoltcp::wire::{ArpOperation, EthernetAddress};

use crate::{
    frame::{self, Host, Path},
    machine::{Board, FLOOR_BYTES, FLOOR_START, Tools},
    scenario::{CLIENT, GATEWAY, KNOCK_PORT, NAS, QUIET_TIME, SSH, START, Scenario, config, knock},
};

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check("flash: after a reset, an old knock is still rejected", || reset(tools));
    report.check("flash: a record that a power cut interrupted is skipped", || interrupted_record(tools));
    report.check("flash: without a saved floor, the gateway waits for one window", || {
        let mut scenario = Scenario::start(tools, |flash| flash.configure(&config()))?;
        scenario.serve_time(START)?;
        let early = scenario.knock(CLIENT, START + 5)?;
        ensure!(early == "replay", "during the wait: {early}");
        scenario.serve_time(START + 11)?;
        let late = scenario.knock(CLIENT, START + 11)?;
        ensure!(late == "accept", "after the wait: {late}");
        Ok("replay, accept".to_owned())
    });
    report.check("configuration: with an invalid one, nothing is forwarded and the reason is logged", || {
        invalid_configuration(tools)
    });
    // The other board does not detect it.
    if tools.board() == Board::Mps2 {
        report.check("cable: a flow continues after the cable was unplugged", || cable(tools));
    }
}

fn reset(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    let accepted = knock(START, 99);
    ensure!(scenario.verdict(CLIENT, KNOCK_PORT, &accepted)? == "accept", "the knock was not accepted");
    let floors = scenario.machine.flash.floors()?;
    ensure!(floors == UnixSeconds(START).into(), "floors in flash: {floors:?}");
    for boot in 0..3 {
        scenario.machine.reset()?;
        scenario.machine.wait_for_log("floor in flash:")?;
        scenario.serve_time(START + 1)?;
        let again = scenario.verdict(CLIENT, KNOCK_PORT, &accepted)?;
        ensure!(again == "replay", "boot {boot}: the old knock's verdict is {again}");
    }
    let new = scenario.knock(CLIENT, START + 1)?;
    ensure!(new == "accept", "a new knock's verdict is {new}");
    Ok("3 resets".to_owned())
}

fn interrupted_record(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    let (first, second) = (knock(START, 99), knock(START + 2, 98));
    for (payload, expected) in [(&first, START), (&second, START + 2)] {
        ensure!(scenario.verdict(CLIENT, KNOCK_PORT, payload)? == "accept", "the knock was not accepted");
        let floors = scenario.machine.flash.floors()?;
        ensure!(floors == UnixSeconds(expected).into(), "floors in flash: {floors:?}");
    }
    // Leave the last record as a power cut would: its last bytes were not written.
    let bytes = scenario.machine.flash.read(FLOOR_START, FLOOR_BYTES)?;
    let record =
        bytes.chunks(32).rposition(|record| record.iter().any(|byte| *byte != 0xff)).context("no record")?;
    let cut = FLOOR_START + u32::try_from(record)? * 32 + 6;
    scenario.machine.flash.write(cut, &[0xff; 26])?;
    scenario.machine.reset()?;
    let line = scenario.machine.wait_for_log(&format!("floor in flash: {START} s"))?;
    scenario.serve_time(START + 3)?;
    let again = scenario.verdict(CLIENT, KNOCK_PORT, &first)?;
    ensure!(again == "replay", "the first knock's verdict is {again}");
    ensure!(scenario.knock(CLIENT, START + 3)? == "accept", "no knock is accepted any more");
    let floors = scenario.machine.flash.floors()?;
    ensure!(floors == UnixSeconds(START + 3).into(), "floors in flash: {floors:?}");
    Ok(line)
}

fn invalid_configuration(tools: &Tools) -> Result<String> {
    let mut good = vec![0xff; CONFIG_LIMIT];
    let length = config().emit(&mut good).map_err(|error| anyhow::anyhow!("{error}"))?;
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let one_nic = format!("{} has one NIC", tools.board().name());
    let table = [
        ("missing", vec![0xff; CONFIG_LIMIT], "no configuration"),
        ("truncated", [&good[..length - 8], &[0xff; CONFIG_LIMIT][length - 8..]].concat(), "CRC"),
        ("altered", with(30, good[30] ^ 1), "CRC"),
        ("newer", with(4, 9), "version 9"),
        ("another file", with(0, b'Q'), "not a gateway configuration"),
        ("a bridge, on one NIC", bridge()?, &one_nic),
    ];
    let mut scenario = Scenario::start(tools, |flash| flash.configure(&config()))?;
    for (row, (name, bytes, says)) in table.iter().enumerate() {
        scenario.machine.flash.write(0, bytes)?;
        scenario.machine.reset()?;
        let line = scenario.machine.wait_for_log("forwarding nothing")?;
        ensure!(line.contains(says), "row {row}: {name}: {line}");
        let broadcast = Host { hardware: EthernetAddress([0xff; 6]), ..GATEWAY };
        scenario.link.send(&frame::arp(ArpOperation::Request, NAS, broadcast))?;
        // The socket may still hold frames of the previous boot, but there must be no ARP reply now.
        while let Some(frame) = scenario.link.receive(QUIET_TIME)? {
            ensure!(frame[12..14] != [8, 6] || frame[20..22] != [0, 2], "row {row}: {name}: it replied");
        }
    }
    scenario.machine.flash.configure(&config())?;
    scenario.machine.reset()?;
    scenario.serve_time(START)?;
    Ok(format!("{} kinds", table.len()))
}

/// A configuration that needs two NICs.
fn bridge() -> Result<Vec<u8>> {
    let mut config = config();
    config.mode =
        Mode::Inline(Inline { vlans: None, protect: Protect::Host, ipv6: true, pass: Pass::default() });
    for service in &mut config.services {
        service.port = service.inside.port;
    }
    let mut bytes = vec![0xff; CONFIG_LIMIT];
    config.emit(&mut bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(bytes)
}

fn cable(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    ensure!(scenario.knock(CLIENT, START)? == "accept", "the knock was not accepted");
    scenario.connect(CLIENT, 5_001)?;
    for flap in 0..3 {
        scenario.machine.set_link(false)?;
        scenario.machine.wait_for_log("link down")?;
        let path = Path { from: CLIENT, from_port: 5_001, to: GATEWAY, to_port: SSH };
        scenario.link.send(&frame::tcp(frame::ACK, path, b"lost"))?;
        scenario.machine.set_link(true)?;
        scenario.machine.wait_for_log("link up")?;
        scenario.link.send(&frame::tcp(frame::ACK, path, b"sent"))?;
        let seen = scenario.until_handled()?;
        let forwarded: Vec<Vec<u8>> = seen
            .iter()
            .filter_map(|frame| frame::parse(frame))
            .filter(|seen| seen.to == (NAS.address, 22))
            .map(|seen| seen.payload)
            .collect();
        ensure!(forwarded == [b"sent"], "flap {flap}: forwarded: {forwarded:?}");
    }
    Ok("3 flaps".to_owned())
}
