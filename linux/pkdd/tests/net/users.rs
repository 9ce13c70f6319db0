//! Who may knock, changed by `pkdd user` and `pkdd service` while the daemon runs: what is printed works at a client, and what is
//! revoked does not.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pkd_netns::{
    network::{Family, net_test},
    process::{knock_program, wait},
};

use crate::{gateway::Gateway, scenarios::each_back_end};

/// A configuration as somebody has written it.
const BEFORE: &str = "
# Where we log in.
[service.ssh]
port = 22 # the usual one
seconds = 600
";

const FAMILY: Family = Family::V4;

/// Takes a URI over as a profile of a client.
fn import(gateway: &Gateway<'_>, profile: &str, uri: &str) -> Result<()> {
    fs::create_dir_all(gateway.path("client"))?;
    let mut import = Command::new(knock_program()?);
    import.args(["import", "-", "--name", profile, "--config"]).arg(gateway.path("client/config.toml"));
    let mut child = import.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    std::io::Write::write_all(child.stdin.as_mut().context("no standard input")?, uri.as_bytes())?;
    ensure!(child.wait()?.success(), "knock import refused {uri}");
    Ok(())
}

/// Knocks with a profile, and waits until the gateway has counted that.
fn knock(gateway: &Gateway<'_>, profile: &str, verdict: &str) -> Result<()> {
    let before = gateway.counter(verdict)?;
    let config = gateway.path("client/config.toml");
    gateway.network.knock(&["--config", &config.to_string_lossy(), profile])?;
    wait(verdict, || gateway.counter(verdict), |count| *count == before + 1).map(drop)
}

fn add(gateway: &Gateway<'_>, words: &[&str]) -> Result<String> {
    let address = FAMILY.gateway().to_string();
    gateway.run(&[words, &["--address", &address]].concat())
}

/// What a command that fails says.
fn refused(gateway: &Gateway<'_>, words: &[&str]) -> Result<String> {
    let output = gateway.command(words).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && output.stdout.is_empty(), "{words:?} succeeded: {said}");
    Ok(said)
}

/// The configuration and the files beside it.
fn state(gateway: &Gateway<'_>) -> Result<(String, Vec<String>)> {
    let text = fs::read_to_string(gateway.path("pkdd.toml"))?;
    let keys = fs::read_dir(gateway.path("keys")).into_iter().flatten();
    let mut names = keys
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok((text, names))
}

net_test!(a_user_is_let_in_gets_a_new_key_and_is_shut_out, |network| {
    each_back_end(network, |gateway| {
        gateway.configure(BEFORE)?;
        ensure!(gateway.reload()?);
        let before = state(gateway)?.0;
        let bob = add(gateway, &["user", "add", "bob"])?;
        ensure!(bob.lines().count() == 1 && bob.starts_with("knock://BOB@192.0.2.1/"), "{bob}");
        let text = state(gateway)?.0;
        ensure!(text.starts_with(&before), "the rest of the file has changed: {text}");
        for (name, mode) in [("keys", 0o700), ("keys/bob.key", 0o600)] {
            let found = fs::metadata(gateway.path(name))?.permissions().mode() & 0o777;
            ensure!(found == mode, "{name} has mode {found:o}");
        }
        import(gateway, "bob", &bob)?;
        gateway.is_closed(FAMILY)?;
        knock(gateway, "bob", "accept")?;
        gateway.is_open(FAMILY)?;

        // Who reaches the gateway at another address as well knocks there, too, and the knock says so.
        let both = gateway.run(&[
            "user",
            "add",
            "both",
            "--address",
            "192.0.2.1",
            "--address",
            &Family::V6.gateway().to_string(),
        ])?;
        import(gateway, "both", &both)?;
        let (count, config) = (gateway.counter("accept")?, gateway.path("client/config.toml"));
        gateway.network.knock(&["--config", &config.to_string_lossy(), "both"])?;
        wait("both knocks", || gateway.counter("accept"), |now| *now == count + 2)?;
        gateway.is_open(Family::V6)?;
        gateway.run(&["user", "revoke", "both"])?;

        // A second user has a key and a tag of their own.
        let robert = add(gateway, &["user", "add", "Bob", "--qr"])?;
        ensure!(robert.lines().count() > 20 && robert.contains("\nknock://BOB1@"), "{robert}");
        ensure!(gateway.run(&["user", "list"])?.lines().count() == 3);

        // The old key works until the new one was used.
        let new = add(gateway, &["user", "rotate", "bob"])?;
        import(gateway, "bob-new", &new)?;
        knock(gateway, "bob", "accept")?;
        let said = refused(gateway, &["user", "rotate", "bob"])?;
        ensure!(said.contains("was replaced already"), "{said}");
        knock(gateway, "bob-new", "accept")?;
        knock(gateway, "bob", "tag")?;
        // It stays so after a restart and a reboot, which leaves the floors only.
        gateway.stop(Signal::SIGTERM)?;
        fs::remove_dir_all(gateway.path("run"))?;
        gateway.start()?;
        knock(gateway, "bob", "tag")?;
        knock(gateway, "bob-new", "accept")?;
        gateway.is_open(FAMILY)?;

        let said = gateway.run(&["user", "revoke", "bob"])?;
        ensure!(said.contains("closed"), "{said}");
        gateway.is_closed(FAMILY)?;
        // The kernel takes it for noise now, so there is nothing to count. Somebody else's knock comes after it.
        let config = gateway.path("client/config.toml");
        gateway.network.knock(&["--config", &config.to_string_lossy(), "bob-new"])?;
        import(gateway, "robert", robert.lines().last().context("no URI")?)?;
        gateway.run(&["user", "rotate", "Bob"])?;
        knock(gateway, "robert", "accept")?;
        gateway.run(&["user", "revoke", "Bob"])?;
        gateway.is_closed(FAMILY)?;
        let (text, keys) = state(gateway)?;
        ensure!(keys.is_empty() && text == before, "{keys:?}, {text}");
        Ok(())
    })
});

net_test!(what_cannot_be_changed_changes_nothing, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.configure(BEFORE)?;
    gateway.start()?;
    gateway.run(&["user", "add", "ann"])?;
    let before = state(&gateway)?;
    for (words, expected) in [
        (
            &["user", "add", "ann"][..],
            "there is a user \"ann\" already; pkdd user rotate ann makes a new key",
        ),
        (&["user", "add", "../x"], "invalid name \"../x\": expected 1–32 letters, digits and _-.@"),
        (&["user", "add", "bob", "--service", "vpn"], "unknown service \"vpn\""),
        (&["user", "add", "bob", "--expires", "soon"], "expected a date such as 2027-12-31"),
        (&["user", "add", "bob", "--format", "3"], "expected 2 or classic"),
        (&["user", "add", "bob", "--tag", "TOOLONG"], "invalid tag \"TOOLONG\""),
        (&["user", "add", "x.old"], ".old is for a key that was replaced"),
        (&["user", "rotate", "bob"], "there is no user \"bob\""),
        (&["user", "rotate", "ann", "--until", "x"], "invalid --until x"),
        (&["user", "revoke", "bob"], "there is no user \"bob\""),
        (&["service", "add", "ssh", "2222"], "there is a service \"ssh\" already"),
        (&["service", "add", "other", "22"], "tcp port 22 is also that of service"),
        (&["service", "add", "other", "70000"], "invalid port 70000: expected 1–65535, with /udp for UDP"),
    ] {
        let said = refused(&gateway, words)?;
        ensure!(said.contains(expected) && said.lines().count() == 1, "{words:?}: {said}");
        ensure!(state(&gateway)? == before, "{words:?} has changed something");
    }
    // A file that is there already is nobody's to replace.
    fs::write(gateway.path("keys/bob.key"), "0x0102\n")?;
    let said = refused(&gateway, &["user", "add", "bob"])?;
    ensure!(
        said.contains("cannot create") && fs::read_to_string(gateway.path("keys/bob.key"))? == "0x0102\n",
        "{said}"
    );
    fs::remove_file(gateway.path("keys/bob.key"))?;
    // The daemon refuses what it cannot take over at runtime.
    let text = fs::read_to_string(gateway.path("pkdd.toml"))?.replace("[gate]", "[gate]\ngroup = 7");
    fs::write(gateway.path("pkdd.toml"), &text)?;
    let said = refused(&gateway, &["user", "add", "bob"])?;
    ensure!(said.contains("nothing was changed") && said.contains("restart pkdd"), "{said}");
    ensure!(state(&gateway)? == (text, before.1), "the new user is still there");
    Ok(())
});

net_test!(a_service_is_closed_when_it_is_added, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.configure("[service.web]\nport = 80\n")?;
    let _server = pkd_netns::network::ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    ensure!(network.banner(FAMILY.client(), FAMILY.ssh())?.is_some(), "port 22 is not a service yet");
    gateway.run(&["service", "add", "ssh", "22", "--seconds", "600"])?;
    gateway.is_closed(FAMILY)?;
    let uri = add(&gateway, &["user", "add", "ann", "--service", "ssh"])?;
    ensure!(uri.contains("&services=ssh:22&"), "{uri}");
    import(&gateway, "ann", &uri)?;
    knock(&gateway, "ann", "accept")?;
    gateway.is_open(FAMILY)
});

net_test!(what_knock_keygen_prints_works_when_it_is_pasted, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = pkd_netns::network::ssh_server(22, gateway.folder.path())?;
    let home = gateway.path("client");
    fs::create_dir_all(&home)?;
    let mut keygen = Command::new(knock_program()?);
    keygen.args([
        "keygen",
        "it's",
        "--for",
        "pkdd",
        "--address",
        &FAMILY.gateway().to_string(),
        "--tag",
        "a'\\",
    ]);
    keygen.arg("--config").arg(gateway.path("client/config.toml"));
    let refused = keygen.output()?;
    ensure!(!refused.status.success(), "a name with a quote was taken");
    let mut keygen = Command::new(knock_program()?);
    keygen.args([
        "keygen",
        "ann-1",
        "--for",
        "pkdd",
        "--address",
        &FAMILY.gateway().to_string(),
        "--tag",
        "a'\\",
    ]);
    let told = keygen.arg("--config").arg(gateway.path("client/config.toml")).output()?;
    let told = String::from_utf8(told.stdout)?;
    let copy = told.lines().find(|line| line.starts_with("ssh root@")).context("no line to copy the key")?;
    // The gateway's side of the line, with its folder for /etc/pkdd.
    let folder = gateway.folder.path().to_string_lossy();
    let here = copy.replace("/etc/pkdd", &folder).replace(&format!("ssh root@{}", FAMILY.gateway()), "sh -c");
    pkd_netns::process::shell(&here)?;
    let key = fs::metadata(gateway.path("keys/ann_1.key"))?;
    ensure!([0o600, 0o640].contains(&(key.permissions().mode() & 0o777)) && key.len() == 67, "{key:?}");
    let form =
        told.lines().skip_while(|line| !line.starts_with('[')).take_while(|line| !line.starts_with("then"));
    gateway.configure(&(form.collect::<Vec<_>>().join("\n") + "\n"))?;
    gateway.start()?;
    gateway.is_closed(FAMILY)?;
    knock(&gateway, "ann-1", "accept")?;
    gateway.is_open(FAMILY)
});

net_test!(an_address_is_let_in_by_hand, |network| {
    each_back_end(network, |gateway| {
        gateway.is_closed(FAMILY)?;
        let address = FAMILY.client().to_string();
        let said = gateway.run(&["grant", &address])?;
        ensure!(said == format!("all services are open to {address} for 600 s\n"), "{said}");
        gateway.is_open(FAMILY)?;
        gateway.run(&["revoke", &address])?;
        gateway.is_closed(FAMILY)?;
        // What a knock has opened stays closed, too, until there is another.
        gateway.knock(FAMILY)?;
        gateway.is_open(FAMILY)?;
        gateway.run(&["revoke", &address])?;
        gateway.is_closed(FAMILY)?;
        ensure!(gateway.reload()?, "not reloaded");
        gateway.is_closed(FAMILY)?;
        gateway.knock(FAMILY)?;
        gateway.is_open(FAMILY)?;
        gateway.run(&["revoke", &address])?;
        for (words, expected) in [
            (&["revoke", ""][..], "invalid address"),
            (&["grant", "nobody"][..], "invalid address nobody"),
            (&["grant", "192.0.2.9", "--seconds", "0"], "invalid --seconds 0: expected 1–86400"),
        ] {
            let said = refused(gateway, words)?;
            ensure!(said.contains(expected), "{said}");
        }
        Ok(())
    })
});
