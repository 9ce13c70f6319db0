//! Provokes every error in the README's table of exit codes.

mod rows;

use std::{collections::BTreeSet, ffi::OsString, net::UdpSocket, os::unix::ffi::OsStringExt as _};

use anyhow::{Context as _, Result, ensure};

use self::rows::rows;
use crate::harness::{Harness, KEY, Outcome};

/// Rows whose cause needs more than a file and arguments. TRUNCATED has a test in `captures.rs`, because
/// it comes after other output, and the last a unit test in `datagram.rs`.
const NOT_UTF_8: &str = "invalid UTF-8 was detected in one or more arguments; see knock --help";
const STDIN_TERMINAL: &str =
    "standard input is a terminal, which would show the key; omit --key-file to be prompted";
const TYPED_NOTHING: &str = "invalid key: empty: expected 1 to 40 bytes";
const UNKNOWN_NAME: &str = "gw.invalid: cannot resolve: ";
const PORT_IN_USE: &str = "127.0.0.1: cannot send from 127.0.0.1:40000: Address already in use (os error 98)";
const FULL: &str = "cannot write to standard output: No space left on device (os error 28)";
const READABLE: &str = "FILE: other users can read it; chmod 600 it, or use --insecure-key-mode";
const NO_PASSPHRASE: &str = "passphrase is empty";
const SHORT: &str =
    "passphrase has 5 characters; use at least 12, because anyone who captures a knock can guess offline";
const TYPED_DIFFERENTLY: &str = "the passphrases do not match";
const NO_HOME: &str = "no home directory; give a file with --config";
const NO_SSH: &str = "cannot run ssh: No such file or directory (os error 2)";
const NOT_A_LINE: &str = "FILE:2: expected HOST PORT HEX, as knock -n prints it";
const TRUNCATED: &str = "cannot read FILE after packet 1: truncated: the file ends within a packet or block";
const CLOCK: &str = "gw: this computer's clock is before 1970; set it";

fn check(outcome: &Outcome, harness: &Harness, message: &str, code: i32) -> Result<()> {
    let stderr = outcome.stderr.replace(&format!("{}/FILE", harness.home().display()), "FILE");
    ensure!(outcome.code == Some(code) && outcome.stdout.is_empty(), "{outcome:?}");
    ensure!(stderr == format!("knock: {message}\n"), "{stderr}");
    Ok(())
}

#[test]
fn errors_are_one_line_and_an_exit_code() -> Result<()> {
    for (row, (content, args, message, code)) in rows().enumerate() {
        let harness = Harness::new("errors_are_one_line_and_an_exit_code")?;
        let name = if args.contains(&"FILE.toml") { "FILE.toml" } else { "FILE" };
        if let Some(content) = content {
            harness.file(name, content)?;
        }
        let path = harness.home().join(name);
        let path = path.to_str().context("path")?;
        let args: Vec<_> = args.iter().map(|&arg| if arg == name { path } else { arg }).collect();
        check(&harness.knock(&args)?, &harness, message, *code)
            .with_context(|| format!("row {row}: {args:?}"))?;
    }
    Ok(())
}

#[test]
fn arguments_must_be_utf_8() -> Result<()> {
    let harness = Harness::new("arguments_must_be_utf_8")?;
    let args = [OsString::from_vec(b"--key=sesame\xff".to_vec()), "gw".into()];
    check(&harness.knock_with_input(&args, b"")?, &harness, NOT_UTF_8, 2)
}

#[test]
fn a_terminal_is_not_a_key_file() -> Result<()> {
    let harness = Harness::new("a_terminal_is_not_a_key_file")?;
    check(&harness.knock_on_terminal(&["--key-file", "-", "gw"], "never typed")?, &harness, STDIN_TERMINAL, 2)
}

#[test]
fn an_empty_answer_is_not_a_key() -> Result<()> {
    let harness = Harness::new("an_empty_answer_is_not_a_key")?;
    check(&harness.knock_on_terminal(&["gw"], "\n")?, &harness, TYPED_NOTHING, 2)
}

#[test]
fn an_unknown_name_is_an_error() -> Result<()> {
    let harness = Harness::new("an_unknown_name_is_an_error")?;
    let outcome = harness.knock(&["-q", "--key", KEY, "gw.invalid"])?;
    ensure!(outcome.code == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
    ensure!(outcome.stderr.starts_with(&format!("knock: {UNKNOWN_NAME}")), "{outcome:?}");
    ensure!(outcome.stderr.lines().count() == 1, "{outcome:?}");
    Ok(())
}

#[test]
fn a_source_port_in_use_is_an_error() -> Result<()> {
    let harness = Harness::new("a_source_port_in_use_is_an_error")?;
    let owner = UdpSocket::bind("127.0.0.1:0")?;
    let port = owner.local_addr()?.port().to_string();
    let outcome = harness.knock(&["-q", "--key", KEY, "--same-source-port", "-p", &port, "127.0.0.1"])?;
    check(&outcome, &harness, &PORT_IN_USE.replace("40000", &port), 1)
}

#[test]
fn a_key_file_readable_by_others_is_an_error() -> Result<()> {
    let harness = Harness::new("a_key_file_readable_by_others_is_an_error")?;
    let file = harness.file_with_mode("FILE", KEY, 0o644)?;
    check(&harness.knock(&["--key-file", &file, "gw"])?, &harness, READABLE, 2)?;
    harness.file("p.toml", "[host.gw]\nkey_file = 'FILE'\n")?;
    check(
        &harness.knock(&["-c", "p.toml", "gw"])?,
        &harness,
        "FILE: other users can read it; chmod 600 it, or use --insecure-key-mode",
        2,
    )
}

#[test]
fn invalid_passphrases_are_errors() -> Result<()> {
    let harness = Harness::new("invalid_passphrases_are_errors")?;
    let keygen = ["keygen", "--passphrase", "gw"];
    check(&harness.knock_on_terminal_with_answers(&keygen, &["short\n"])?, &harness, SHORT, 2)?;
    let differently = ["long open sesame\n", "long open sesama\n"];
    check(&harness.knock_on_terminal_with_answers(&keygen, &differently)?, &harness, TYPED_DIFFERENTLY, 2)?;
    ensure!(!harness.home().join(".config/knock/config.toml").exists(), "half a profile is left");
    ensure!(!harness.home().join("gw.key").exists(), "a key is left");
    let profile = "[host.gw]\npassphrase_salt = '00112233445566778899aabbccddeeff'\n";
    let file = harness.file("p.toml", profile)?;
    check(&harness.knock_on_terminal(&["-c", &file, "gw"], "\n")?, &harness, NO_PASSPHRASE, 2)
}

#[test]
fn without_a_home_a_file_must_be_given() -> Result<()> {
    let harness = Harness::new("without_a_home_a_file_must_be_given")?;
    check(&harness.knock_with_home(".", &["list"])?, &harness, NO_HOME, 2)
}

#[test]
fn without_ssh_nothing_is_sent() -> Result<()> {
    let harness = Harness::new("without_ssh_nothing_is_sent")?;
    let outcome = harness.knock_with_path("/nowhere", &["ssh", "-q", "--key", KEY, "127.0.0.1"])?;
    check(&outcome, &harness, NO_SSH, 2)
}

#[test]
fn a_file_of_lines_is_read_to_its_end() -> Result<()> {
    let harness = Harness::new("a_file_of_lines_is_read_to_its_end")?;
    let key = harness.file("key", KEY)?;
    let file = harness.file("FILE", "gw 40000 00\ngw 40000\n")?;
    check(&harness.knock(&["verify", "--key-file", &key, &file])?, &harness, NOT_A_LINE, 2)
}

#[test]
fn failing_output_is_an_error() -> Result<()> {
    let harness = Harness::new("failing_output_is_an_error")?;
    for args in [["-qn", "--key=sesame", "gw"], ["-q", "--help", "gw"]] {
        check(&harness.knock_into(&args, "/dev/full")?, &harness, FULL, 1)?;
    }
    Ok(())
}

#[test]
fn the_readme_lists_exactly_these_messages() -> Result<()> {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("\n## Exit codes\n").context("no section")?;
    let messages = section.lines().filter_map(|line| {
        let [_, message, code] =
            line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect::<Vec<_>>().try_into().ok()?;
        Some((message.strip_prefix('`')?.strip_suffix('`')?.to_owned(), code.parse().ok()?))
    });
    let listed: BTreeSet<(String, i32)> = messages.collect();
    let unlike = [
        (NOT_UTF_8.to_owned(), 2),
        (STDIN_TERMINAL.to_owned(), 2),
        (TYPED_NOTHING.to_owned(), 2),
        (format!("{UNKNOWN_NAME}…"), 1),
        (PORT_IN_USE.to_owned(), 1),
        (READABLE.to_owned(), 2),
        (NO_PASSPHRASE.to_owned(), 2),
        (SHORT.to_owned(), 2),
        (TYPED_DIFFERENTLY.to_owned(), 2),
        (NO_HOME.to_owned(), 2),
        (NO_SSH.to_owned(), 2),
        (FULL.to_owned(), 1),
        (NOT_A_LINE.to_owned(), 2),
        (TRUNCATED.to_owned(), 2),
        (CLOCK.to_owned(), 1),
    ];
    let tested: BTreeSet<_> =
        rows().map(|&(_, _, message, code)| (message.to_owned(), code)).chain(unlike).collect();
    let untested: Vec<_> = listed.difference(&tested).collect();
    assert!(untested.is_empty(), "in the README, but in no test: {untested:#?}");
    // Of messages that differ only in quoted text, the README has one.
    let kind = |message: &str| message.split('"').step_by(2).collect::<Vec<_>>().join("\"");
    let kinds: BTreeSet<_> = listed.iter().map(|(message, code)| (kind(message), *code)).collect();
    let missing: Vec<_> =
        tested.iter().filter(|(message, code)| !kinds.contains(&(kind(message), *code))).collect();
    assert!(missing.is_empty(), "tested, but not in the README: {missing:#?}");
    Ok(())
}
