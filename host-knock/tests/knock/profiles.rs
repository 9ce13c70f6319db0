//! Profiles: list, show, import and groups.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::{SocketAddr, UdpSocket},
    os::unix::fs::PermissionsExt as _,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{Harness, KEY, LIMIT, verify};

const PROFILES: &str = "\
# mine
[host.office]   # the first
address = \"127.0.0.1\"
tag = \"SSHK\"
key_file = \"office.key\"
port = 40017
services = { ssh = 22, dns = \"53/udp\" }

[host.old]
address = \"::1\"
key_file = \"office.key\"
format = \"pre-1.0\"
time_offset = -3600

[group]
all = [\"office\", \"@more\"]
more = [\"old\", \"office\", \"::1\"]
";

fn harness(name: &str) -> Result<Harness> {
    let harness = Harness::new(name)?;
    fs::create_dir_all(harness.home().join(".config/knock"))?;
    harness.file(".config/knock/config.toml", PROFILES)?;
    harness.file(".config/knock/office.key", KEY)?;
    Ok(harness)
}

#[test]
fn a_profile_supplies_everything_for_a_knock() -> Result<()> {
    let harness = harness("a_profile_supplies_everything_for_a_knock")?;
    let knocks = harness.knock(&["-n", "office"])?.knocks()?;
    assert_eq!((knocks[0].host.as_str(), knocks[0].port), ("127.0.0.1", 40_017));
    knocks[0].verify(KEY, "SSHK")?;
    // The command line takes precedence, the ini file comes last.
    harness.file(".ipt_pkd.ini", format!("[office]\nkey = x\n[nas]\nkey = {KEY}\n"))?;
    let knocks = harness.knock(&["-n", "-p", "9", "-t", "ABCD", "office", "nas"])?.knocks()?;
    assert_eq!((knocks[0].port, knocks[1].host.as_str()), (9, "nas"));
    knocks[0].verify(KEY, "ABCD")?;
    knocks[1].verify(KEY, "ABCD")
}

#[test]
fn a_time_offset_is_added() -> Result<()> {
    let harness = harness("a_time_offset_is_added")?;
    let time = |args: &[&str]| -> Result<i64> {
        let knocks = harness.knock(&[&["-n"], args].concat())?.knocks()?;
        let bytes: [u8; 8] = knocks[0].payload[4..12].try_into()?;
        Ok(i64::from_le_bytes(bytes))
    };
    let now = time(&["office"])?;
    for (args, offset) in [
        (&["old"][..], -3600),
        (&["--time-offset", "7200", "old"], 7200),
        (&["--time-offset=-60", "office"], -60),
        (&["--time-offset", "-60", "office"], -60),
    ] {
        let off = time(args)? - now - offset;
        assert!((0..20).contains(&off), "{args:?}: {off}");
    }
    Ok(())
}

#[test]
fn a_group_means_each_member_once() -> Result<()> {
    let harness = harness("a_group_means_each_member_once")?;
    let outcome = harness.knock(&["-n", "--key-file", ".config/knock/office.key", "@all"])?;
    let hosts: Vec<_> = outcome.knocks()?.into_iter().map(|knock| knock.host).collect();
    assert_eq!(hosts, ["127.0.0.1", "::1", "::1"]);
    let outcome = harness.knock(&["-p", "40017", "--key-file", ".config/knock/office.key", "@all"])?;
    let table = "\
HOST    STATUS  PORT   ADDRESSES
office  sent    40017  127.0.0.1
old     sent    40017  ::1
::1     sent    40017  ::1
";
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(0), table, ""));
    let outcome = harness.knock(&["-q", "--key-file", ".config/knock/office.key", "@all"])?;
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""));
    Ok(())
}

#[test]
fn a_failing_host_is_reported_in_its_place() -> Result<()> {
    let harness = harness("a_failing_host_is_reported_in_its_place")?;
    let args =
        ["--json", "-p", "40017", "--key-file", ".config/knock/office.key", "office", "255.255.255.255"];
    let outcome = harness.knock(&args)?;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), ""));
    let told: Value = serde_json::from_str(&outcome.stdout)?;
    assert_eq!(told[0]["sent"], true);
    assert_eq!(told[0]["addresses"][0], "127.0.0.1");
    assert_eq!(told[1]["sent"], false);
    let error = "cannot send to 255.255.255.255:40017: Permission denied (os error 13)";
    assert_eq!(told[1]["error"], error);
    Ok(())
}

#[test]
fn a_thousand_hosts_are_all_knocked_at() -> Result<()> {
    let harness = Harness::new("a_thousand_hosts_are_all_knocked_at")?;
    harness.file("key", KEY)?;
    // No socket buffers a thousand datagrams, so there are a hundred sockets.
    let first = UdpSocket::bind("127.1.0.1:0")?;
    let port = first.local_addr()?.port();
    let others = (2..=100).map(|last| UdpSocket::bind(SocketAddr::from(([127, 1, 0, last], port))));
    let gateways = std::iter::once(Ok(first)).chain(others).collect::<Result<Vec<_>, _>>()?;
    let mut profiles = String::new();
    for number in 0..1000 {
        let last = number % 100 + 1;
        writeln!(profiles, "[host.h{number}]\naddress = '127.1.0.{last}'\nport = {port}\nkey_file = 'key'")?;
    }
    let names: Vec<_> = (0..1000).map(|number| format!("h{number}")).collect();
    harness.file("p.toml", format!("{profiles}[group]\nall = {names:?}\n"))?;
    let outcome = harness.knock(&["-c", "p.toml", "--json", "@all"])?;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let told: Value = serde_json::from_str(&outcome.stdout)?;
    let told = told.as_array().context("no array")?;
    assert!(told.iter().map(|host| &host["name"]).eq(names.iter()), "the order is another");
    let mut nonces = BTreeSet::new();
    for gateway in gateways {
        gateway.set_read_timeout(Some(LIMIT))?;
        for number in 0..10 {
            let mut buffer = [0; 64];
            let length = gateway.recv(&mut buffer).with_context(|| format!("{number} arrived"))?;
            verify(&buffer[..length], KEY, "PKD0", port)?;
            nonces.insert(buffer[12..24].to_vec());
        }
    }
    ensure!(nonces.len() == 1000, "some are the same");
    Ok(())
}

#[test]
fn list_and_show_print_everything_but_the_key() -> Result<()> {
    let harness = harness("list_and_show_print_everything_but_the_key")?;
    let key = harness.home().join(".config/knock/office.key");
    let outcome = harness.knock(&["list"])?;
    assert_eq!(outcome.code, Some(0));
    let lines: Vec<Vec<&str>> =
        outcome.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let key = key.to_str().context("path")?;
    assert_eq!(lines[1], ["office", "127.0.0.1", "SSHK", key, "ssh", "22/tcp,", "dns", "53/udp"]);
    assert_eq!(lines[2], ["old", "::1", "PKD0", key]);
    // A terminal shows the same.
    let seen = harness.knock_attached(&["list"])?;
    assert_eq!(seen.terminal.replace("\r\n", "\n"), outcome.stdout);
    let list: Value = serde_json::from_str(&harness.knock(&["list", "--json"])?.stdout)?;
    let show: Value = serde_json::from_str(&harness.knock(&["show", "--json", "old"])?.stdout)?;
    assert_eq!(list[1], show);
    assert_eq!((&show["format"], &show["time_offset"]), (&Value::from("pre-1.0"), &Value::from(-3600)));
    let lines = harness.knock(&["show", "office"])?.stdout;
    assert!(lines.contains("port: 40017\n") && lines.contains("tag: SSHK\n"), "{lines}");
    Ok(())
}

#[test]
fn list_shows_the_error_of_an_invalid_profile() -> Result<()> {
    let harness = Harness::new("list_shows_the_error_of_an_invalid_profile")?;
    harness.file("p.toml", "[host.a]\nport = 0\n[host.b]\n")?;
    let outcome = harness.knock(&["list", "-c", "p.toml"])?;
    assert_eq!(outcome.code, Some(0));
    assert!(outcome.stdout.contains("invalid port \"0\": expected 1–65535"), "{outcome:?}");
    assert!(outcome.stdout.lines().any(|line| line.starts_with("b ")), "{outcome:?}");
    Ok(())
}

#[test]
fn ini_sections_become_profiles() -> Result<()> {
    let harness = harness("ini_sections_become_profiles")?;
    let ini =
        format!("[DEFAULT]\nkey = {KEY}\n[gw]\nhost = 10.0.0.1\ntag = OFFC\nport = 7\nold = 1\n[nas]\n");
    let ini = harness.file("ini", ini)?;
    let outcome = harness.knock(&["import", &ini])?;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    assert_eq!(outcome.stdout, "imported gw\nimported nas\n");
    // The existing text stays, with comments.
    let file = harness.home().join(".config/knock/config.toml");
    let text = fs::read_to_string(&file)?;
    assert!(text.starts_with("# mine\n[host.office]   # the first\n"), "{text}");
    assert!(text.contains("format = \"pre-1.0\"") && !text.contains("sesame"), "{text}");
    assert_eq!(file.metadata()?.permissions().mode() & 0o777, 0o600);
    let key = harness.home().join(".config/knock/keys/gw.key");
    assert_eq!(key.metadata()?.permissions().mode() & 0o777, 0o600);
    let knocks = harness.knock(&["-n", "nas"])?.knocks()?;
    knocks[0].verify(KEY, "PKD0")?;
    let gw: Value = serde_json::from_str(&harness.knock(&["show", "--json", "gw"])?.stdout)?;
    assert_eq!((&gw["address"], &gw["tag"], &gw["port"]), (&"10.0.0.1".into(), &"OFFC".into(), &7.into()));
    // A second import changes nothing.
    let outcome = harness.knock(&["import", &ini])?;
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.ends_with("config.toml: profile gw already exists\n"), "{outcome:?}");
    assert_eq!(fs::read_to_string(&file)?, text);
    Ok(())
}

#[test]
fn fwknoprc_is_imported_as_far_as_possible() -> Result<()> {
    let harness = Harness::new("fwknoprc_is_imported_as_far_as_possible")?;
    let text = "\
[default]
VERBOSE 1
[gw]
SPA_SERVER         10.0.0.1
SPA_SERVER_PORT    40017
ACCESS             tcp/22,tcp/8443,udp/53
ALLOW_IP           resolve
TIME_OFFSET        60
KEY_BASE64         c2VzYW1l
HMAC_KEY_BASE64    c2VzYW1l
USE_HMAC           Y
";
    let file = harness.file(".fwknoprc", text)?;
    let outcome = harness.knock(&["import", &file])?;
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "imported gw\n"));
    let warnings = "\
knock: warning: gw: ignored ALLOW_IP in line 7: profiles have no such option
knock: warning: gw: ignored fwknop's keys; create one with knock keygen gw
";
    assert_eq!(outcome.stderr, warnings);
    let gw: Value = serde_json::from_str(&harness.knock(&["show", "--json", "gw"])?.stdout)?;
    assert_eq!(
        (&gw["address"], &gw["port"], &gw["time_offset"]),
        (&"10.0.0.1".into(), &40017.into(), &60.into())
    );
    let services = ["ssh 22/tcp", "tcp-8443 8443/tcp", "udp-53 53/udp"].map(Value::from);
    assert_eq!(gw["services"].as_array().context("no services")?, &services);
    Ok(())
}

#[test]
fn the_configuration_may_be_a_symbolic_link() -> Result<()> {
    let harness = Harness::new("the_configuration_may_be_a_symbolic_link")?;
    fs::create_dir_all(harness.home().join(".config/knock"))?;
    harness.file("dotfile", "# mine\n")?;
    let link = harness.home().join(".config/knock/config.toml");
    std::os::unix::fs::symlink(harness.home().join("dotfile"), &link)?;
    let outcome = harness.knock(&["keygen", "gw"])?;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(link.symlink_metadata()?.is_symlink());
    let text = fs::read_to_string(harness.home().join("dotfile"))?;
    assert!(text.starts_with("# mine\n") && text.contains("[host.gw]"), "{text}");
    Ok(())
}
