//! Keys from files, standard input and the command line, and their permissions.

use anyhow::Result;

use crate::harness::{Harness, KEY};

#[test]
fn a_key_file_is_one_line() -> Result<()> {
    let harness = Harness::new("a_key_file_is_one_line")?;
    let rows = [
        ("open sesame", KEY),
        ("open sesame\n", KEY),
        ("open sesame\r\n", KEY),
        ("\u{feff}open sesame\n", KEY),
        ("0x5e5a3e5e5a3e\n", "0x5e5a3e5e5a3e"),
        ("  sesame # = ; \"\\\n", "  sesame # = ; \"\\"),
    ];
    for (row, (text, key)) in rows.into_iter().enumerate() {
        let file = harness.file("key", text)?;
        harness.knock(&["-n", "--key-file", &file, "gw"])?.knocks()?[0].verify(key, "PKD0")?;
        harness.knock_with_input(&["-n", "--key-file", "-", "gw"], text.as_bytes())?.knocks()?[0]
            .verify(key, "PKD0")?;
        assert_eq!(text.trim_end_matches(['\r', '\n']).trim_start_matches('\u{feff}'), key, "row {row}");
    }
    Ok(())
}

#[test]
fn a_key_argument_may_look_like_an_option() -> Result<()> {
    let harness = Harness::new("a_key_argument_may_look_like_an_option")?;
    for (row, args) in [vec!["--key", "--sesame"], vec!["--key=--sesame"]].into_iter().enumerate() {
        let outcome = harness.knock(&[&["-q", "-n"], args.as_slice(), &["gw"]].concat())?;
        assert!(outcome.knocks()?[0].verify("--sesame", "PKD0").is_ok(), "row {row}");
    }
    Ok(())
}

#[test]
fn keys_visible_to_others_cause_a_warning_unless_quiet() -> Result<()> {
    let harness = Harness::new("keys_visible_to_others_cause_a_warning_unless_quiet")?;
    let loose = |name: &str| {
        format!(
            "knock: warning: {}/{name}: other users can access it; chmod 600 it\n",
            harness.home().display()
        )
    };
    let ini = format!("[gw]\nkey = {KEY}\n");
    let argv = "knock: warning: a key on the command line is visible to all users of this computer; use --key-file\n";
    let tight = harness.file_with_mode("tight", KEY, 0o600)?;
    let owner_reads = harness.file_with_mode("owner_reads", KEY, 0o400)?;
    let group_reads = harness.file_with_mode("group_reads", KEY, 0o640)?;
    let all_write = harness.file_with_mode("all_write", KEY, 0o602)?;
    let tight_ini = harness.file_with_mode("tight_ini", &ini, 0o600)?;
    let loose_ini = harness.file_with_mode("loose_ini", &ini, 0o644)?;
    let rows: [(&[&str], String); 8] = [
        (&["--key-file", &tight], String::new()),
        (&["--key-file", &owner_reads], String::new()),
        (&["--insecure-key-mode", "--key-file", &group_reads], loose("group_reads")),
        (&["--key-file", &all_write], loose("all_write")),
        (&["--key-file", &tight, "-c", "/dev/null"], String::new()),
        (&["-c", &tight_ini], String::new()),
        (&["-c", &loose_ini], loose("loose_ini")),
        (&["--key", KEY], argv.to_owned()),
    ];
    for (row, (args, warning)) in rows.iter().enumerate() {
        let outcome = harness.knock(&[&["-n"], *args, &["gw"]].concat())?;
        assert_eq!((outcome.code, &outcome.stderr), (Some(0), warning), "row {row}");
        for quiet in ["-q", "--quiet"] {
            let outcome = harness.knock(&[&["-n", quiet], *args, &["gw"]].concat())?;
            assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "row {row}");
        }
    }
    let outcome = harness.knock(&["-q", "-p", "0", "gw"])?;
    assert_eq!(outcome.stderr, "knock: invalid port \"0\": expected 1–65535\n", "errors are never quiet");
    Ok(())
}

#[test]
fn a_key_file_readable_by_others_is_rejected() -> Result<()> {
    let harness = Harness::new("a_key_file_readable_by_others_is_rejected")?;
    for mode in [0o640, 0o604, 0o660, 0o644, 0o666] {
        let file = harness.file_with_mode("key", KEY, mode)?;
        let outcome = harness.knock(&["-q", "-n", "--key-file", &file, "gw"])?;
        let said =
            format!("knock: {file}: other users can read it; chmod 600 it, or use --insecure-key-mode\n");
        assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr), (Some(2), "", said), "{mode:o}");
    }
    // Only regular files have a meaningful mode: a pipe has one, too.
    let outcome = harness.knock_with_input(&["-n", "--key-file", "/dev/stdin", "gw"], KEY.as_bytes())?;
    outcome.knocks()?[0].verify(KEY, "PKD0")
}
