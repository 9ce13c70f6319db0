//! The floor on disk: only accepted knocks raise it, and one from a wrong clock can be reset.

use std::{fs, process::Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pkd_core::{CacheId, Key, Tag, UnixSeconds};
use pkd_netns::{
    network::{Family, net_test, ssh_server},
    process::{shell, wait},
};
use pkdd::journal::{Entry, Journal};

use crate::gateway::{Gateway, KEY, TAG, now, payload};

/// In the year 2038.
const FAR: u64 = 2_147_483_647;

/// What a reboot does to rules and to the folder `run`.
fn reboot(gateway: &Gateway<'_>) -> Result<()> {
    shell("nft flush ruleset")?;
    if gateway.path("run").exists() {
        fs::remove_dir_all(gateway.path("run"))?;
    }
    Ok(())
}

/// The file after an orderly end, when only the key of the tests has accepted something.
fn after(time: u64, other: &str) -> Result<String> {
    let key = CacheId::classic(Tag::parse(TAG)?, &Key::parse(KEY)?);
    Ok(format!("{time}\nclean\nother 0 {other}\nkey {key} {time} exact\nend\n"))
}

net_test!(a_start_and_a_stop_without_a_knock_change_no_floor, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let floor = gateway.path("state/floor");
    let number = now()? - 1_000;
    // before, while pkdd runs, after an orderly end
    let table = [
        (Some(format!("{number}\nclean\n")), format!("{number}\n"), format!("{number}\nclean\n")),
        (Some(format!("{number}\n")), format!("{number}\n"), format!("{number}\n")),
        (Some(format!("{FAR}\nclean\n")), format!("{FAR}\n"), format!("{FAR}\nclean\n")),
        (None, "0\n".to_owned(), "0\n".to_owned()),
    ];
    for (before, during, after) in table {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            reboot(&gateway)?;
            match &before {
                Some(text) => fs::write(&floor, text)?,
                None => fs::remove_file(&floor)?,
            }
            gateway.start()?;
            // What is not accepted raises nothing either.
            gateway.expect("window", Family::V4, &payload(KEY, TAG, now()? + 100, 1)?)?;
            let found = fs::read_to_string(&floor)?;
            ensure!(found == during, "{before:?}: {found:?} while pkdd runs, expected {during:?}");
            ensure!(gateway.stop(signal)? == (signal == Signal::SIGTERM));
            let found = fs::read_to_string(&floor)?;
            let expected = if signal == Signal::SIGTERM { &after } else { &during };
            ensure!(found == *expected, "{before:?} {signal}: {found:?}, expected {expected:?}");
        }
    }
    Ok(())
});

net_test!(an_accepted_knock_is_the_floor_after_an_orderly_end, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let floor = gateway.path("state/floor");
    gateway.start()?;
    let time = now()? + 5;
    let knock = payload(KEY, TAG, time, 1)?;
    gateway.expect("accept", Family::V4, &knock)?;
    ensure!(gateway.stop(Signal::SIGTERM)?);
    let found = fs::read_to_string(&floor)?;
    ensure!(found == after(time, "exact")?, "{found:?}");
    // Restarts and reboots without a knock keep it. No start waits for more than it takes to pass the knock's time.
    for round in 0..3 {
        if round > 0 {
            reboot(&gateway)?;
        }
        gateway.start()?;
        gateway.expect("replay", Family::V4, &knock)?;
        ensure!(gateway.stop(Signal::SIGTERM)?);
        let found = fs::read_to_string(&floor)?;
        ensure!(found == after(time, "exact")?, "round {round}: {found:?}");
    }
    reboot(&gateway)?;
    gateway.start()?;
    let next = time.max(now()?) + 1;
    gateway.expect("accept", Family::V4, &payload(KEY, TAG, next, 2)?)
});

net_test!(a_floor_of_a_wrong_clock_is_reported_and_reset_floor_lets_knocks_in_after_one_window, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.configure(&format!(
        "metrics = '{}'\n{}",
        gateway.path("metrics.prom").display(),
        crate::gateway::USERS
    ))?;
    let floor = gateway.path("state/floor");
    // Saved before; or the clock was ahead when this boot began, which only the journal remembers.
    for in_journal in [false, true] {
        reboot(&gateway)?;
        if in_journal {
            fs::write(&floor, "0\nclean\n")?;
            fs::create_dir(gateway.path("run"))?;
            let opened = <Journal>::open(&gateway.path("run/journal"))?;
            let mut journal = opened.journal;
            journal.replace([Entry::Remembered(UnixSeconds(FAR))])?;
        } else {
            fs::write(&floor, format!("{FAR}\nclean\n"))?;
        }
        gateway.start()?;
        // Once, not at each look.
        gateway.status()?;
        let reports =
            |lines: &[String]| lines.iter().filter(|line| line.contains("pkdd reset-floor")).count();
        ensure!(reports(&gateway.lines()) == 1, "{:?}", gateway.lines());
        let trouble = gateway.status()?["trouble"].as_str().context("no trouble")?.to_owned();
        ensure!(trouble.contains(&FAR.to_string()) && trouble.contains("pkdd reset-floor"), "{trouble}");
        let text = gateway.run(&["status"])?;
        ensure!(text.starts_with("Problem: the floor "), "{text}");
        ensure!(gateway.run(&["metrics"])?.contains("\npkdd_trouble 1\n"));
        let metrics = || Ok(fs::read_to_string(gateway.path("metrics.prom")).unwrap_or_default());
        wait("the metrics", metrics, |text| text.contains("\npkdd_trouble 1\n"))?;
        gateway.refuses(&payload(KEY, TAG, now()?, 1)?)?;
        // Not while a daemon runs: it would go on with what it knows.
        let output = gateway.command(&["reset-floor"]).stderr(Stdio::piped()).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(1)
                && error.contains("another pkdd is running")
                && error.contains("stop it"),
            "{error}"
        );
        ensure!(gateway.stop(Signal::SIGTERM)?);
        let said = gateway.run(&["reset-floor"])?;
        ensure!(said.starts_with("pkdd: reset ") && said.lines().count() == 1, "{said}");
        ensure!(fs::read_to_string(&floor)? == "0\n" && !gateway.path("run/journal").exists());
        gateway.start()?;
        let status = gateway.status()?;
        ensure!(status["trouble"] == "", "{status}");
        // One window, not less: what was accepted before the reset may be replayed meanwhile.
        let until = status["users"][0]["floor"].as_u64().context("no floor")?;
        ensure!((now()?..=now()? + 10).contains(&until), "{status}");
        gateway.expect("waiting", Family::V4, &payload(KEY, TAG, until, 2)?)?;
        gateway.is_closed(Family::V4)?;
        wait("the window's end", now, |now| *now >= until)?;
        gateway.expect("accept", Family::V4, &payload(KEY, TAG, until + 1, 3)?)?;
        gateway.is_open(Family::V4)?;
        ensure!(gateway.stop(Signal::SIGTERM)?);
        let found = fs::read_to_string(&floor)?;
        ensure!(found == after(until + 1, "inexact")?, "{found:?}");
        gateway.run(&["clear"])?;
    }
    Ok(())
});

net_test!(a_key_whose_holder_sends_the_greatest_time_locks_out_no_other_key, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    let users = format!(
        "{}[user.far]\nformat = 'classic'\ntag = 'FARA'\nkey = 'any time'\nwindow = 0\nservices = ['ssh']\n",
        crate::gateway::USERS
    );
    gateway.configure(&users)?;
    gateway.start()?;
    gateway.expect("accept", Family::V4, &payload(KEY, TAG, now()?, 1)?)?;
    gateway.expect("accept", Family::V4, &payload("any time", "FARA", u64::MAX, 1)?)?;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        gateway.stop(signal)?;
        reboot(&gateway)?;
        gateway.start()?;
        let status = gateway.status()?;
        let trouble = status["trouble"].as_str().context("no trouble")?;
        ensure!(trouble.contains("(of far)") && trouble.contains("pkdd reset-floor"), "{trouble}");
        // After the kill, what was accepted in the last second may be unknown.
        let until = status["users"].as_array().context("no users")?;
        let until = until.iter().find(|user| user["name"] == "me").context("no user")?;
        let until = until["floor"].as_u64().context("no floor")?;
        ensure!(until <= now()? + 10, "{status}");
        wait("the window's end", now, |now| *now > until)?;
        gateway.expect("accept", Family::V4, &payload(KEY, TAG, now()?.max(until + 1), 2)?)?;
        gateway.is_open(Family::V4)?;
        gateway.refuses(&payload("any time", "FARA", u64::MAX, 2)?)?;
    }
    Ok(())
});
