//! `pkdd events` while knocks happen.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pkd_core::LENGTH;
use pkd_netns::{
    network::{Family, net_test},
    process::{Running, wait},
};
use serde_json::Value;

use crate::{
    flood::burst,
    gateway::{Gateway, KEY, PORT, TAG, USERS, now, payload},
    scenarios::each_back_end,
};

/// A reader of events.
struct Reader {
    process: Running,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Reader {
    fn start(gateway: &Gateway<'_>) -> Result<Self> {
        let mut child = gateway.command(&["events", "--follow"]).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut reader = Self { process: Running(child), lines };
        let first = reader.next()?;
        ensure!(first["event"] == "following" && first["version"].is_string(), "{first}");
        Ok(reader)
    }

    fn next(&mut self) -> Result<Value> {
        let line = self.lines.next().context("the events have ended")??;
        let value: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        let age = now()?.abs_diff(value["time_ms"].as_u64().context("no time")? / 1_000);
        ensure!(age < 60, "{line}");
        Ok(value)
    }

    /// The next event, without its time and offset.
    fn expect(&mut self, expected: &Value) -> Result<Option<i64>> {
        let mut event = self.next()?;
        let object = event.as_object_mut().context("no object")?;
        object.remove("time_ms");
        let offset = object.remove("offset_ms");
        ensure!(event == *expected, "{event} instead of {expected}");
        Ok(offset.and_then(|offset| offset.as_i64()))
    }
}

fn altered(payload: [u8; LENGTH]) -> [u8; LENGTH] {
    let mut altered = payload;
    altered[30] ^= 1;
    altered
}

net_test!(a_reader_is_told_of_everything_in_order, |network| {
    each_back_end(network, |gateway| {
        gateway.configure(&USERS.replace("600", "2"))?;
        ensure!(gateway.reload()?);
        let mut reader = Reader::start(gateway)?;
        let mut other = Reader::start(gateway)?;
        for (family, nonce) in Family::BOTH.into_iter().zip([1, 2]) {
            let from = family.client().to_string();
            let knock = payload(KEY, TAG, now()? + 3, nonce)?;
            gateway.expect("accept", family, &knock)?;
            for reader in [&mut reader, &mut other] {
                let offset = reader.expect(&serde_json::json!(
                    {"event": "accepted", "user": "me", "from": from, "services": ["ssh"]}
                ))?;
                // The knock has whole seconds, and this host may be slow.
                ensure!(offset.is_some_and(|offset| (-5_000..=3_000).contains(&offset)), "{offset:?}");
                reader.expect(&serde_json::json!(
                    {"event": "granted", "service": "ssh", "address": from, "seconds": 2}
                ))?;
            }
            gateway.expect("replay", family, &knock)?;
            reader.expect(&serde_json::json!({"event": "ignored", "reason": "replay", "from": from}))?;
            gateway.expect("window", family, &payload(KEY, TAG, now()? - 100, nonce)?)?;
            let offset =
                reader.expect(&serde_json::json!({"event": "ignored", "reason": "window", "from": from}))?;
            ensure!(offset.is_some_and(|offset| (-160_000..=-100_000).contains(&offset)), "{offset:?}");
            gateway.expect("digest", family, &altered(payload(KEY, TAG, now()?, 9)?))?;
            // The grant may have ended before, on a slow host.
            let mut seen = Vec::new();
            for _ in 0..2 {
                seen.push(reader.next()?);
            }
            let has = |name: &str| seen.iter().any(|event| event["event"] == name);
            ensure!(has("ignored") && has("ended"), "{seen:?}");
            let ended = seen.iter().find(|event| event["event"] == "ended").context("none")?;
            ensure!(ended["service"] == "ssh" && ended["address"] == from.as_str(), "{ended}");
            while other.next()?["event"] != "ended" {}
        }
        // By hand.
        gateway.run(&["grant", "192.0.2.77", "--seconds", "99"])?;
        reader.expect(
            &serde_json::json!({"event": "granted", "service": "ssh", "address": "192.0.2.77", "seconds": 99}),
        )?;
        gateway.run(&["revoke", "192.0.2.77"])?;
        reader.expect(&serde_json::json!({"event": "ended", "service": "ssh", "address": "192.0.2.77"}))?;
        // A problem, and its end.
        gateway.configure("nonsense")?;
        ensure!(!gateway.reload()?);
        let trouble = reader.next()?;
        ensure!(trouble["event"] == "trouble" && trouble["text"] != "", "{trouble}");
        gateway.configure(&USERS.replace("600", "2"))?;
        ensure!(gateway.reload()?);
        reader.expect(&serde_json::json!({"event": "trouble", "text": ""}))?;
        // Without --follow, what is remembered.
        let text = gateway.run(&["events"])?;
        let events: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let names: Vec<&str> = events.iter().filter_map(|event| event["from"].as_str()).collect();
        ensure!(names == ["192.0.2.2", "2001:db8::2"], "{text}");
        ensure!(events.iter().all(|event| event["event"] == "accepted" && event["user"] == "me"), "{text}");
        Ok(())
    })
});

net_test!(a_reader_that_does_not_read_delays_no_knock, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let rate = format!("rate = 1000000\n{USERS}");
    gateway.configure(&rate)?;
    gateway.start()?;
    let mut reader = Reader::start(&gateway)?;
    let family = Family::V4;
    // More than its pipe and its socket hold.
    let sent: u64 = 4_000;
    let to = (family.gateway(), PORT).into();
    let forged = || Ok::<_, anyhow::Error>(altered(payload(KEY, TAG, now()?, 1)?));
    for number in 1..=sent / 100 {
        burst(network, family.client(), to, &forged()?, 100)?;
        // So few at once that the buffer of the gateway never overruns.
        wait("the forgeries", || gateway.counter("digest"), |count| *count == number * 100)?;
    }
    gateway.expect("accept", family, &payload(KEY, TAG, now()?, 2)?)?;
    let (mut ignored, mut missed) = (0, 0);
    while ignored + missed < sent {
        let event = reader.next()?;
        match event["event"].as_str() {
            Some("ignored") => ignored += 1,
            // The knock, and what it has opened, may be among them.
            Some("missed") => missed += event["count"].as_u64().context("no count")?,
            _ => {}
        }
    }
    ensure!(missed > 0, "it has missed nothing of {ignored}");
    // It has caught up.
    gateway.expect("digest", family, &forged()?)?;
    while reader.next()?["event"] != "ignored" {}
    gateway.stop(Signal::SIGTERM)?;
    ensure!(reader.lines.next().is_none() && !reader.process.0.wait()?.success());
    Ok(())
});

net_test!(events_need_a_daemon, |network| {
    let gateway = Gateway::new(network, "nft")?;
    for words in [&["events"][..], &["events", "--follow"]] {
        let output = gateway.command(words).output()?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1) && error.contains("/run/socket"), "{error}");
        ensure!(error.lines().count() == 1, "{error}");
    }
    Ok(())
});
