//! The counters: who reads them, and over what.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{
    frame::{self, Path, SYN},
    machine::Tools,
    report::Report,
    scene::{CLIENT, COUNTERS, GATEWAY, NAS, SILENCE, START, Scene},
    transfer::Client,
};

pub(crate) fn claims(report: &mut Report, tools: &Tools) {
    report.claim("counters: an inside host reads them over HTTP, nobody else does", || http(tools));
    report.claim("counters: the log has what changed", || {
        let mut scene = Scene::ready(tools)?;
        ensure!(scene.knock(CLIENT, START)? == "accept", "no knock is accepted");
        scene.machine.said("so far accept 1")
    });
    report.claim("idle: QEMU takes less than 5 % of a core", || {
        let mut scene = Scene::ready(tools)?;
        let before = scene.machine.processor_seconds()?;
        // Nothing happens for this long; that is what is measured.
        let seconds = 10;
        let end = std::time::Instant::now() + Duration::from_secs(seconds);
        while std::time::Instant::now() < end {
            scene.wire.next(end.saturating_duration_since(std::time::Instant::now()))?;
        }
        #[allow(clippy::cast_precision_loss)] // a few seconds
        let share = (scene.machine.processor_seconds()? - before) / seconds as f64 * 100.0;
        ensure!(share < 5.0, "it takes {share:.1} %");
        Ok(format!("{share:.1} %"))
    });
}

fn http(tools: &Tools) -> Result<String> {
    let mut scene = Scene::ready(tools)?;
    let mut client = Client::new(NAS);
    let text = client.ask(&mut scene, GATEWAY.address, COUNTERS, b"GET /metrics HTTP/1.1\r\n\r\n")?;
    let (head, body) = text.split_once("\r\n\r\n").context("no end of the header")?;
    ensure!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    ensure!(head.contains(&format!("Content-Length: {}", body.len())), "{head}, and {} bytes", body.len());
    for name in ["# TYPE pkd_knocks_total counter", "pkd_knocks_total{verdict=\"accept\"} 0", "pkd_flows 0"] {
        ensure!(body.lines().any(|line| line == name), "no line {name} in {body}");
    }
    let path = Path { from: CLIENT, from_port: 5_000, to: GATEWAY, to_port: COUNTERS };
    scene.wire.send(&frame::tcp(SYN, path, b""))?;
    let answer = scene.wire.find(SILENCE, |seen| seen.to.0 == CLIENT.address)?;
    ensure!(answer.is_none(), "somebody from outside gets {answer:?}");
    Ok(format!("{} bytes", body.len()))
}
