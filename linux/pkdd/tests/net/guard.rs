//! The guard without the daemon: before it starts, when it cannot start, and after it has stopped. A stranger tries to
//! connect all the time.

use std::fs;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use pkd_netns::{
    network::{Family, net_test, ssh_server},
    process::shell,
    stranger::Stranger,
};

use crate::gateway::{Gateway, USERS};

/// Tries of the stranger after each event.
const TRIES: u64 = 40;

/// What a reboot does to rules and to the folder `run`.
fn reboot(gateway: &Gateway<'_>) -> Result<()> {
    shell("nft flush ruleset")?;
    if gateway.path("run").exists() {
        fs::remove_dir_all(gateway.path("run"))?;
    }
    Ok(())
}

/// Runs a command with the test's folder as that of the unit's state.
fn run(gateway: &Gateway<'_>, words: &[&str]) -> Result<(bool, String)> {
    let output = gateway.command(words).env("STATE_DIRECTORY", gateway.path("state")).output()?;
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    ))
}

net_test!(the_port_is_closed_before_the_daemon_and_after_it_and_only_clear_opens_it, |network| {
    for firewall in ["nft", "iptables"] {
        let mut gateway = Gateway::new(network, firewall)?;
        let _server = ssh_server(22, gateway.folder.path())?;
        let (done, said) = run(&gateway, &["guard"])?;
        ensure!(done && said == "pkdd: the guard is installed\n", "{said}");
        let stranger = Stranger::start(&[22])?;
        stranger.more(TRIES)?;
        gateway.start()?;
        let (done, said) = run(&gateway, &["guard"])?;
        ensure!(done && said == "pkdd: a running pkdd guards\n", "{said}");
        for family in Family::BOTH {
            gateway.knock(family)?;
            gateway.is_open(family)?;
        }
        gateway.stop(Signal::SIGKILL)?;
        stranger.more(TRIES)?;
        gateway.start()?;
        ensure!(gateway.stop(Signal::SIGTERM)?);
        stranger.more(TRIES)?;
        ensure!(run(&gateway, &["guard"])?.0);
        stranger.more(TRIES)?;
        stranger.finish()?;
        gateway.run(&["clear"])?;
        ensure!(network.banner(Family::V4.other(), Family::V4.ssh())?.is_some(), "clear opens the port");
    }
    Ok(())
});

net_test!(a_start_that_fails_leaves_the_port_closed, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    let mut stranger = Stranger::start(&[22])?;
    ensure!(gateway.stop(Signal::SIGTERM)?);
    let good = fs::read_to_string(gateway.path("pkdd.toml"))?;
    // what is wrong, and whether pkdd says that it falls back to the last good configuration
    let table = [
        (good.replace("[user.me]", "[user.me"), true),
        (good.replace("port = 22", "port = 0"), true),
        (good.replace("key_file = 'me.key'", "key_file = 'none.key'"), false),
        (good.replace("tag = 'SSHK'", "tag = 'TOOLONG'"), false),
        (String::new(), true),
    ];
    for (text, falls_back) in table {
        fs::write(gateway.path("pkdd.toml"), &text)?;
        // Nobody tries while the rules go: that the port is open without any is not what is tested.
        stranger.finish()?;
        reboot(&gateway)?;
        let (done, said) = run(&gateway, &["guard"])?;
        ensure!(done && said.contains("last good") == falls_back, "{text}: {said}");
        stranger = Stranger::start(&[22])?;
        stranger.more(TRIES)?;
        stranger.finish()?;
        reboot(&gateway)?;
        let (done, said) = run(&gateway, &["run"])?;
        ensure!(!done && said.contains("guard of the last good") == falls_back, "{text}: {said}");
        stranger = Stranger::start(&[22])?;
        stranger.more(TRIES)?;
    }
    fs::write(gateway.path("pkdd.toml"), good)?;
    gateway.start()?;
    gateway.knock(Family::V4)?;
    gateway.is_open(Family::V4)?;
    stranger.finish()?;
    Ok(())
});

net_test!(a_damaged_floor_closes_the_port_and_waits_one_window, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    for damaged in ["", "17", "no number\nclean\n"] {
        fs::write(gateway.path("state/floor"), damaged)?;
        reboot(&gateway)?;
        gateway.start()?;
        gateway.wait_for_line("knocks wait for one window")?;
        let wait = gateway.status()?["users"][0]["wait"].as_u64();
        ensure!(wait.is_some_and(|wait| wait > 0), "{damaged:?}: {wait:?}");
        gateway.is_closed(Family::V4)?;
        ensure!(gateway.stop(Signal::SIGTERM)?);
    }
    Ok(())
});

net_test!(without_any_configuration_the_guard_says_that_it_has_none, |network| {
    let gateway = Gateway::new(network, "nft")?;
    gateway.configure(&USERS.replace("port = 22", "port = 0"))?;
    let (done, said) = run(&gateway, &["guard"])?;
    ensure!(
        !done && said.contains("invalid port 0") && said.contains("no last good configuration"),
        "{said}"
    );
    ensure!(said.lines().count() == 1, "{said}");
    Ok(())
});

net_test!(status_metrics_reload_and_clear_work_whatever_the_configuration_looks_like, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.start()?;
    let good = fs::read_to_string(gateway.path("pkdd.toml"))?;
    let (done, said) = run(&gateway, &["reload"])?;
    ensure!(done && said == "pkdd: configuration reloaded\n", "{said}");
    fs::write(gateway.path("pkdd.toml"), good.replace("port = 22", "port = 0"))?;
    for words in [&["status"][..], &["status", "--json"], &["metrics"]] {
        let (done, said) = run(&gateway, words)?;
        ensure!(done, "{words:?}: {said}");
    }
    let (done, said) = run(&gateway, &["reload"])?;
    ensure!(
        !done && said.contains("invalid port 0") && said.contains("previous configuration stays"),
        "{said}"
    );
    fs::write(gateway.path("pkdd.toml"), "[")?;
    let (done, said) = run(&gateway, &["clear"])?;
    ensure!(!done && said.contains("another pkdd is running"), "{said}");
    ensure!(gateway.stop(Signal::SIGTERM)?);
    let (done, said) = run(&gateway, &["clear"])?;
    ensure!(done, "{said}");
    let rules = shell("nft list ruleset")?;
    ensure!(rules.trim().is_empty(), "{rules}");
    Ok(())
});
