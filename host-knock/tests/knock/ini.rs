//! The ini file.

use anyhow::{Context as _, Result, ensure};

use crate::harness::{Harness, KEY};

/// File, options, host, key, tag, and the port unless it is random.
type Row<'a> = (&'a str, &'a [&'a str], &'a str, &'a str, &'a str, Option<u16>);

#[test]
fn values_are_literal() -> Result<()> {
    let harness = Harness::new("values_are_literal")?;
    let rows: &[Row] = &[
        ("[gw]\nkey = open sesame\n", &[], "gw", KEY, "PKD0", None),
        (
            "[gw]\nhost=10.0.0.1\nkey=open sesame\ntag=SSHK\nport=500\nold=0\n",
            &[],
            "10.0.0.1",
            KEY,
            "SSHK",
            Some(500),
        ),
        ("[gw]\r\nHost: ::1\r\nKEY: open sesame\r\n", &[], "::1", KEY, "PKD0", None),
        (
            "\u{feff}# note\n; note\n\n  [gw]\n  key  =  open sesame  \n\ttag = 0x53534b\n",
            &[],
            "gw",
            KEY,
            "SSK",
            None,
        ),
        ("[gw]\nkey = open sesame", &[], "gw", KEY, "PKD0", None),
        ("[gw] # note\nkey = 0x5e5a3e5e5a3e\n", &[], "gw", "0x5e5a3e5e5a3e", "PKD0", None),
        ("[gw]\nkey = #sesame;#=:%(x)s%%\n", &[], "gw", "#sesame;#=:%(x)s%%", "PKD0", None),
        ("[gw]\nkey = =sesame\n", &[], "gw", "=sesame", "PKD0", None),
        ("[gw]\nkey = \"sesame'\\n$HOME\\\nport = 7\n", &[], "gw", "\"sesame'\\n$HOME\\", "PKD0", Some(7)),
        ("[gw]\nkey = [sesame]\n", &[], "gw", "[sesame]", "PKD0", None),
        // Defaults.
        ("[DEFAULT]\nkey = open sesame\ntag = DFLT\n[gw]\ntag = SSHK\n", &[], "gw", KEY, "SSHK", None),
        // Only the section in use is validated.
        ("[gw]\nkey = open sesame\n[other]\nport = none\nuser = me\n", &[], "gw", KEY, "PKD0", None),
        // The command line takes precedence.
        (
            "[gw]\nkey = sesame\ntag = SSHK\nport = 9\n",
            &["-t", "ABCD", "-p", "8"],
            "gw",
            "sesame",
            "ABCD",
            Some(8),
        ),
        ("[gw]\nkey = sesame\n", &["-q", "--key", KEY], "gw", KEY, "PKD0", None),
        ("[gw]\nkey = sesame\n", &["--key-file", "key"], "gw", KEY, "PKD0", None),
    ];
    harness.file("key", KEY)?;
    for (row, (text, options, host, key, tag, port)) in rows.iter().enumerate() {
        let check = || -> Result<()> {
            let file = harness.file("ini", text)?;
            let knocks = harness.knock(&[&["-n", "-c", &file], *options, &["gw"]].concat())?.knocks()?;
            ensure!(knocks.len() == 1 && knocks[0].host == *host, "{knocks:?}");
            ensure!(port.is_none_or(|port| port == knocks[0].port), "{knocks:?}");
            knocks[0].verify(key, tag)
        };
        check().with_context(|| format!("row {row}"))?;
    }
    Ok(())
}

#[test]
fn the_default_section_is_not_a_host() -> Result<()> {
    let harness = Harness::new("the_default_section_is_not_a_host")?;
    let file = harness.file("ini", format!("[DEFAULT]\nkey = {KEY}\n"))?;
    let outcome = harness.knock(&["-n", "-c", &file, "DEFAULT"])?;
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.starts_with("knock: no key for DEFAULT; "), "{outcome:?}");
    Ok(())
}

#[test]
fn old_is_a_boolean() -> Result<()> {
    let harness = Harness::new("old_is_a_boolean")?;
    let rows = [
        ("0", false),
        ("false", false),
        ("No", false),
        ("off", false),
        ("1", true),
        ("TRUE", true),
        ("yes", true),
        ("on", true),
    ];
    for (value, old) in rows {
        let file = harness.file("ini", format!("[gw]\nkey = {KEY}\nold = {value}\n"))?;
        let knocks = harness.knock(&["-n", "-c", &file, "gw"])?.knocks()?;
        assert_eq!(knocks[0].verify(KEY, "PKD0").is_err(), old, "{value}");
    }
    Ok(())
}

#[test]
fn the_default_file_may_be_missing_or_replaced() -> Result<()> {
    let harness = Harness::new("the_default_file_may_be_missing_or_replaced")?;
    let key = harness.file("key", KEY)?;
    let tag = |args: &[&str]| -> Result<String> {
        let knocks = harness.knock(&[&["-n"], args].concat())?.knocks()?;
        Ok(String::from_utf8(knocks[0].payload[..4].to_vec())?)
    };
    assert_eq!(tag(&["--key-file", &key, "gw"])?, "PKD0");
    harness.file(".ipt_pkd.ini", format!("[gw]\nkey = {KEY}\ntag = HOME\n"))?;
    assert_eq!(tag(&["gw"])?, "HOME");
    // A HOME that is not absolute is ignored.
    for home in ["", "."] {
        let outcome = harness.knock_with_home(home, &["-n", "--key-file", &key, "gw"])?;
        assert!(outcome.knocks()?[0].verify(KEY, "PKD0").is_ok(), "{home:?}");
    }
    let other = harness.file("other", format!("[gw]\nkey = {KEY}\ntag = OTHR\n"))?;
    assert_eq!(tag(&["-c", &other, "gw"])?, "OTHR");
    assert_eq!(tag(&["--config", &other, "gw"])?, "OTHR");
    Ok(())
}
