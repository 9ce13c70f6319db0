//! What people type without having read the manual, and what they get.

use std::{
    fs,
    net::UdpSocket,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::harness::{Harness, KEY};

#[test]
fn a_command_is_one_wherever_it_stands() -> Result<()> {
    let harness = Harness::new("a_command_is_one_wherever_it_stands")?;
    harness.knock(&["keygen", "office", "--address", "127.0.0.1"])?;
    let list = harness.knock(&["list", "--json"])?.stdout;
    ensure!(list.contains("office"), "{list}");
    ensure!(harness.knock(&["--json", "list"])?.stdout == list);
    let help = harness.knock(&["help"])?;
    ensure!(help.code == Some(0) && help.stdout == harness.knock(&["--help"])?.stdout, "{help:?}");
    ensure!(harness.knock(&["help", "ssh"])?.stdout == harness.knock(&["ssh", "--help"])?.stdout);
    // A typo is no host that needs a key.
    let outcome = harness.knock(&["keygne", "office"])?;
    let problem = "knock: unknown command \"keygne\": did you mean knock keygen? For a host of that name: knock -- keygne\n";
    ensure!((outcome.code, outcome.stderr.as_str()) == (Some(2), problem), "{outcome:?}");
    let host = harness.knock(&["-nq", "--key", KEY, "--", "keygne"])?;
    ensure!(host.stdout.starts_with("keygne "), "{host:?}");
    // A profile of such a name is what is meant.
    harness.knock(&["keygen", "lost", "--format", "classic", "--address", "127.0.0.1"])?;
    harness.knock(&["-n", "lost"])?.knocks()?;
    Ok(())
}

#[test]
fn verbose_says_where_each_knock_goes_while_waiting() -> Result<()> {
    let harness = Harness::new("verbose_says_where_each_knock_goes")?;
    let (gateway, server) = (UdpSocket::bind("127.0.0.1:0")?, std::net::TcpListener::bind("127.0.0.1:0")?);
    let (knock_port, port) =
        (gateway.local_addr()?.port().to_string(), server.local_addr()?.port().to_string());
    let words = ["-v", "--key", KEY, "-q", "-p", &knock_port, "127.0.0.1", &port];
    let outcome = harness.knock(&[&["wait"], &words[..]].concat())?;
    let line = format!("knock: knocked 127.0.0.1 (127.0.0.1 port {knock_port})\n");
    ensure!(outcome.code == Some(0) && outcome.stderr == line, "{outcome:?}");
    Ok(())
}

#[test]
fn every_address_of_a_name_is_knocked_at() -> Result<()> {
    let harness = Harness::new("every_address_of_a_name_is_knocked_at")?;
    let gateways = ["127.0.0.1", "127.0.0.2"].map(|address| UdpSocket::bind((address, 0)));
    let [first, second] = gateways;
    let first = first?;
    let second = UdpSocket::bind(("127.0.0.2", first.local_addr()?.port())).or(second)?;
    ensure!(first.local_addr()?.port() == second.local_addr()?.port(), "another program has the port");
    // The resolver of this test is a hosts file.
    let hosts = harness.file("hosts", "127.0.0.1 gw.test\n127.0.0.2 gw.test\n")?;
    let port = first.local_addr()?.port().to_string();
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg(format!("mount --bind {hosts} /etc/hosts && exec \"$0\" -q -4 --key-file - -p {port} gw.test"))
        .arg(env!("CARGO_BIN_EXE_knock"))
        .env("HOME", harness.home())
        .stdin(fs::File::open(harness.file("key", "open sesame\n")?)?)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for gateway in [first, second] {
        gateway.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut bytes = [0; 100];
        ensure!(gateway.recv(&mut bytes).context("no knock")? == 56, "{gateway:?}");
    }
    Ok(())
}

#[test]
fn a_dry_run_has_json_too() -> Result<()> {
    let harness = Harness::new("a_dry_run_has_json_too")?;
    let outcome = harness.knock(&["-n", "--json", "--key", KEY, "-q", "-p", "40000", "127.0.0.1"])?;
    let json: serde_json::Value = serde_json::from_str(&outcome.stdout)?;
    let payload = json[0]["payloads"][0]["payload"].as_str().context("no payload")?;
    ensure!(payload.len() == 112 && json[0]["port"] == 40_000 && json[0]["sent"] == false, "{json}");
    Ok(())
}

#[test]
fn a_reader_that_has_enough_is_no_error() -> Result<()> {
    let harness = Harness::new("a_reader_that_has_enough")?;
    for number in 0..3 {
        harness.knock(&["keygen", &format!("host{number}")])?;
    }
    // `true` reads nothing and is gone before the list is printed.
    let mut reader = Command::new("true").stdin(Stdio::piped()).spawn()?;
    let pipe = reader.stdin.take().context("no pipe")?;
    reader.wait()?;
    let output = Command::new(env!("CARGO_BIN_EXE_knock"))
        .args(["list", "--json"])
        .env("HOME", harness.home())
        .env_remove("XDG_CONFIG_HOME")
        .stdout(pipe)
        .stderr(Stdio::piped())
        .output()?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    Ok(())
}

#[test]
fn a_file_stays_as_its_editor_writes_it() -> Result<()> {
    let harness = Harness::new("a_file_stays_as_its_editor_writes_it")?;
    let before = "\u{feff}# mine\r\n[host.nas]\r\naddress = \"10.0.0.1\"\r\nnote = \"in the cellar\"\r\n";
    let file = harness.file("config.toml", before)?;
    harness.knock(&["keygen", "office", "--address", "10.0.0.2", "--config", &file])?;
    let after = fs::read_to_string(&file)?;
    ensure!(after.starts_with(before) && after.contains("[host.office]\r\n"), "{after:?}");
    ensure!(after.matches('\n').count() == after.matches("\r\n").count(), "{after:?}");
    ensure!(harness.knock(&["show", "nas", "--config", &file])?.stdout.contains("\nnote: in the cellar\n"));
    Ok(())
}

#[test]
fn a_key_file_may_be_below_the_home_directory() -> Result<()> {
    let harness = Harness::new("a_key_file_may_be_below_the_home_directory")?;
    harness.file("my.key", "open sesame\n")?;
    fs::create_dir_all(harness.home().join(".config/knock"))?;
    harness
        .file(".config/knock/config.toml", "[host.gw]\naddress = \"127.0.0.1\"\nkey_file = \"~/my.key\"\n")?;
    harness.knock(&["-n", "gw"])?.knocks()?[0].verify(KEY, "PKD0")
}

#[test]
fn what_cannot_be_reached_is_not_said_to_be_closed() -> Result<()> {
    let harness = Harness::new("what_cannot_be_reached")?;
    // A broadcast address, for which the system refuses a datagram at once.
    let outcome = harness.knock(&["wait", "-q", "--key", KEY, "255.255.255.255", "22"])?;
    let expected =
        "knock: 255.255.255.255: cannot reach port 22: 255.255.255.255: cannot send to 255.255.255.255:";
    ensure!(outcome.code == Some(1) && outcome.stderr.starts_with(expected), "{outcome:?}");
    let name = harness.knock(&["-q", "--key", KEY, "müller.example"])?;
    ensure!(name.code == Some(2) && name.stderr.contains("xn--"), "{name:?}");
    Ok(())
}
