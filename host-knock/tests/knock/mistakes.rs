//! Every row of the README's table of exit codes, made to happen.

use std::{collections::BTreeSet, ffi::OsString, net::UdpSocket, os::unix::ffi::OsStringExt as _};

use anyhow::{Context as _, Result, ensure};

use crate::desk::{Desk, KEY, Outcome};

/// What stands in the file that the row's arguments call FILE, if it is there.
type Content = Option<&'static [u8]>;

/// Content of FILE, arguments, message, exit code.
const ROWS: &[(Content, &[&str], &str, i32)] = &[
    // Arguments.
    (None, &[], "the following required arguments were not provided: <HOST>...; see knock --help", 2),
    (None, &["--kye", "gw"], "unexpected argument '--kye' found; see knock --help", 2),
    (
        None,
        &["gw", "--tag"],
        "a value is required for '--tag <TAG>' but none was supplied; see knock --help",
        2,
    ),
    (
        None,
        &["--key", KEY, "--key-file", "FILE", "gw"],
        "the argument '--key <KEY>' cannot be used with '--key-file <FILE>'; see knock --help",
        2,
    ),
    (None, &["-4", "-6", "gw"], "the argument '-4' cannot be used with '-6'; see knock --help", 2),
    (
        None,
        &["seq", "gw"],
        "the following required arguments were not provided: <PORT[:PROTOCOL]>...; see knock seq --help",
        2,
    ),
    (None, &["seq", "gw", "7000:sctp"], "port \"7000:sctp\": \"sctp\" is neither tcp nor udp", 2),
    // Tag and port.
    (None, &["-t", "SSHKEY", "gw"], "tag \"SSHKEY\" has 6 bytes, at most 4 fit", 2),
    (None, &["gw", "SSHKEY", "40000"], "tag \"SSHKEY\" has 6 bytes, at most 4 fit", 2),
    (None, &["-t", "", "gw"], "tag \"\" is empty", 2),
    (None, &["-t", "0x", "gw"], "tag \"0x\" is empty", 2),
    (
        None,
        &["-t", "0xfg", "gw"],
        "tag \"0xfg\" has a character that is no hexadecimal digit at position 3",
        2,
    ),
    (None, &["gw", "0xfg"], "tag \"0xfg\" has a character that is no hexadecimal digit at position 3", 2),
    (None, &["-p", "0", "gw"], "port \"0\" is no number of 1 to 65535", 2),
    (None, &["-p", "65536", "gw"], "port \"65536\" is no number of 1 to 65535", 2),
    (None, &["-p", "+22", "gw"], "port \"+22\" is no number of 1 to 65535", 2),
    (None, &["-p", "ssh", "gw"], "port \"ssh\" is no number of 1 to 65535", 2),
    (None, &["gw", "SSHK", "70000"], "port \"70000\" is no number of 1 to 65535", 2),
    // Hosts.
    (None, &[""], "host is empty", 2),
    (None, &["gw", ""], "host is empty", 2),
    (None, &["40000"], "host \"40000\" is a number; a port is given with --port", 2),
    (None, &["gw", "4000"], "host \"4000\" is a number; a port is given with --port", 2),
    (None, &["-t", "SSHK", "gw", "40000"], "host \"40000\" is a number; a port is given with --port", 2),
    (None, &["gw", "10.0.0.1", "40000"], "host \"40000\" is a number; a port is given with --port", 2),
    (None, &["10.1"], "host \"10.1\" is no complete address and no host name", 2),
    (None, &["10.0.0.256"], "host \"10.0.0.256\" is no complete address and no host name", 2),
    (None, &["0x7f000001"], "host \"0x7f000001\" is no complete address and no host name", 2),
    (None, &["gw:22"], "host \"gw:22\" is no address and no host name", 2),
    (None, &["user@gw"], "host \"user@gw\" is no address and no host name", 2),
    (None, &["gw\n"], "host \"gw\\n\" is no address and no host name", 2),
    (None, &["a..b"], "host \"a..b\" is no address and no host name", 2),
    (None, &["[10.0.0.1]"], "host \"[10.0.0.1]\" is no address and no host name", 2),
    (None, &["[::1"], "host \"[::1\" is no address and no host name", 2),
    (None, &["fe80::1%"], "host \"fe80::1%\" is no address and no host name", 2),
    (None, &["10.0.0.1%eth0"], "host \"10.0.0.1%eth0\" is no address and no host name", 2),
    (None, &["-4", "::1"], "host \"::1\": -4 allows no IPv6 address", 2),
    (None, &["-6", "127.0.0.1"], "host \"127.0.0.1\": -6 allows no IPv4 address", 2),
    // The key on the command line.
    (None, &["-q", "--key", "", "gw"], "key of --key is empty", 2),
    (
        None,
        &["-q", "--key", "sesame sesame sesame sesame sesame sesame", "gw"],
        "key of --key has 41 bytes, at most 40 fit",
        2,
    ),
    (
        None,
        &["-q", "--key", "0x5e5a3e5e5a3eg", "gw"],
        "key of --key has a character that is no hexadecimal digit at position 14",
        2,
    ),
    // The key in a file.
    (None, &["--key-file", "FILE", "gw"], "cannot read FILE: No such file or directory (os error 2)", 2),
    (Some(b""), &["--key-file", "FILE", "gw"], "key in FILE is empty", 2),
    (Some(b"\n"), &["--key-file", "FILE", "gw"], "key in FILE is empty", 2),
    (Some(b"sesame\nsesame\n"), &["--key-file", "FILE", "gw"], "key in FILE has more than one line", 2),
    (Some(b"sesame\n\n"), &["--key-file", "FILE", "gw"], "key in FILE has more than one line", 2),
    (
        Some(b"sesame\0\n"),
        &["--key-file", "FILE", "gw"],
        "key in FILE has a NUL byte; such keys are written in hexadecimal after 0x",
        2,
    ),
    (
        Some(b"sesame sesame sesame sesame sesame sesame"),
        &["--key-file", "FILE", "gw"],
        "key in FILE has 41 bytes, at most 40 fit",
        2,
    ),
    (
        Some(b"sesame\xff\n"),
        &["--key-file", "FILE", "gw"],
        "FILE is not UTF-8 text; other bytes of a key are written in hexadecimal after 0x",
        2,
    ),
    (Some(&[b'k'; 65 * 1024]), &["--key-file", "FILE", "gw"], "FILE is larger than 64 KiB", 2),
    (None, &["--key-file", "-", "gw"], "key in standard input is empty", 2),
    // No key.
    (
        None,
        &["gw"],
        "no key for gw, use --key-file; cannot ask on the terminal: No such device or address (os error 6)",
        2,
    ),
    // The ini file.
    (None, &["-c", "FILE", "gw"], "cannot read FILE: No such file or directory (os error 2)", 2),
    (
        Some(b"key = sesame\n"),
        &["-c", "FILE", "gw"],
        "FILE, line 1: an option stands before the first [section]",
        2,
    ),
    (Some(b"# x\n[gw\n"), &["-c", "FILE", "gw"], "FILE, line 2: the section's ] is missing", 2),
    (
        Some(b"[]\n"),
        &["-c", "FILE", "gw"],
        "FILE, line 1: a section is a name in brackets, alone on its line",
        2,
    ),
    (
        Some(b"[gw] key = sesame\n"),
        &["-c", "FILE", "gw"],
        "FILE, line 1: a section is a name in brackets, alone on its line",
        2,
    ),
    (Some(b"[gw]\nkey = a\n[gw]\n"), &["-c", "FILE", "gw"], "FILE, line 3: section [gw] comes twice", 2),
    (
        Some(b"[gw]\nkey = open\n sesame\n"),
        &["-c", "FILE", "gw"],
        "FILE, line 3: neither a [section] nor option = value",
        2,
    ),
    (
        Some(b"[gw]\nkey = sesame\nKey = sesame\n"),
        &["-c", "FILE", "gw"],
        "FILE, line 3: section [gw] gives this option twice",
        2,
    ),
    (
        Some(b"[gw]\nkey = sesame ;mine\n"),
        &["-c", "FILE", "gw"],
        "FILE, line 2: a ; behind white space began a comment for some programs; put comments on lines of their own and write such a key in hexadecimal",
        2,
    ),
    (
        Some(b"[gw]\nkey = sesame\nprot = 22\n"),
        &["-c", "FILE", "gw"],
        "FILE, [gw]: line 3: the option is none of host, key, tag, port, old",
        2,
    ),
    (Some(b"[gw]\nport = 22\n"), &["-c", "FILE", "gw"], "FILE, [gw]: key is missing", 2),
    (Some(b"[gw]\nkey =\n"), &["-c", "FILE", "gw"], "FILE, [gw]: key is empty", 2),
    (
        Some(b"[gw]\nkey = sesame sesame sesame sesame sesame sesame\n"),
        &["-c", "FILE", "gw"],
        "FILE, [gw]: key has 41 bytes, at most 40 fit",
        2,
    ),
    (
        Some(b"[gw]\nkey = sesame\nport = 0\n"),
        &["-c", "FILE", "gw"],
        "FILE, [gw]: port \"0\" is no number of 1 to 65535",
        2,
    ),
    (
        Some(b"[gw]\nkey = sesame\ntag = SSHKEY\n"),
        &["-c", "FILE", "gw"],
        "FILE, [gw]: tag \"SSHKEY\" has 6 bytes, at most 4 fit",
        2,
    ),
    (
        Some(b"[gw]\nkey = sesame\nold = maybe\n"),
        &["-c", "FILE", "gw"],
        "FILE, [gw]: old is \"maybe\", neither 1 nor 0",
        2,
    ),
    (
        Some(b"[gw]\nhost = 10.1\nkey = sesame\n"),
        &["-c", "FILE", "gw"],
        "FILE, [gw]: host \"10.1\" is no complete address and no host name",
        2,
    ),
    (
        Some(b"[gw]\nhost = ::1\nkey = sesame\n"),
        &["-4", "-c", "FILE", "gw"],
        "host \"gw\": -4 allows no IPv6 address",
        2,
    ),
    // The network.
    (
        None,
        &["-q", "--key", KEY, "-p", "40000", "255.255.255.255"],
        "255.255.255.255: cannot send to 255.255.255.255:40000: Permission denied (os error 13)",
        1,
    ),
];

/// Rows whose cause needs more than a file and arguments. The last has a unit test in `send.rs`.
const NOT_UTF_8: &str = "invalid UTF-8 was detected in one or more arguments; see knock --help";
const STDIN_TERMINAL: &str =
    "standard input is a terminal and would show the key; leave out --key-file to be asked for it";
const TYPED_NOTHING: &str = "key is empty";
const UNKNOWN_NAME: &str = "gw.invalid: cannot resolve: ";
const PORT_IN_USE: &str = "127.0.0.1: cannot send from 127.0.0.1:40000: Address already in use (os error 98)";
const FULL: &str = "cannot write to standard output: No space left on device (os error 28)";
const CLOCK: &str = "gw: the clock of this computer stands before 1970; set it";

fn check(outcome: &Outcome, desk: &Desk, message: &str, code: i32) -> Result<()> {
    let stderr = outcome.stderr.replace(&format!("{}/FILE", desk.home().display()), "FILE");
    ensure!(outcome.code == Some(code) && outcome.stdout.is_empty(), "{outcome:?}");
    ensure!(stderr == format!("knock: {message}\n"), "{stderr}");
    Ok(())
}

#[test]
fn a_mistake_is_one_line_and_an_exit_code() -> Result<()> {
    for (row, (content, args, message, code)) in ROWS.iter().enumerate() {
        let desk = Desk::new("a_mistake_is_one_line_and_an_exit_code")?;
        if let Some(content) = content {
            desk.file("FILE", content)?;
        }
        let path = desk.home().join("FILE");
        let path = path.to_str().context("path")?;
        let args: Vec<_> = args.iter().map(|&arg| if arg == "FILE" { path } else { arg }).collect();
        check(&desk.knock(&args)?, &desk, message, *code).with_context(|| format!("row {row}: {args:?}"))?;
    }
    Ok(())
}

#[test]
fn arguments_are_text() -> Result<()> {
    let desk = Desk::new("arguments_are_text")?;
    let args = [OsString::from_vec(b"--key=sesame\xff".to_vec()), "gw".into()];
    check(&desk.knock_with_input(&args, b"")?, &desk, NOT_UTF_8, 2)
}

#[test]
fn a_terminal_is_no_key_file() -> Result<()> {
    let desk = Desk::new("a_terminal_is_no_key_file")?;
    check(&desk.knock_on_terminal(&["--key-file", "-", "gw"], "never typed")?, &desk, STDIN_TERMINAL, 2)
}

#[test]
fn an_empty_answer_is_no_key() -> Result<()> {
    let desk = Desk::new("an_empty_answer_is_no_key")?;
    check(&desk.knock_on_terminal(&["gw"], "\n")?, &desk, TYPED_NOTHING, 2)
}

#[test]
fn a_name_that_nobody_knows_is_an_error() -> Result<()> {
    let desk = Desk::new("a_name_that_nobody_knows_is_an_error")?;
    let outcome = desk.knock(&["-q", "--key", KEY, "gw.invalid"])?;
    ensure!(outcome.code == Some(1) && outcome.stdout.is_empty(), "{outcome:?}");
    ensure!(outcome.stderr.starts_with(&format!("knock: {UNKNOWN_NAME}")), "{outcome:?}");
    ensure!(outcome.stderr.lines().count() == 1, "{outcome:?}");
    Ok(())
}

#[test]
fn a_source_port_in_use_is_an_error() -> Result<()> {
    let desk = Desk::new("a_source_port_in_use_is_an_error")?;
    let owner = UdpSocket::bind("127.0.0.1:0")?;
    let port = owner.local_addr()?.port().to_string();
    let outcome = desk.knock(&["-q", "--key", KEY, "--same-source-port", "-p", &port, "127.0.0.1"])?;
    check(&outcome, &desk, &PORT_IN_USE.replace("40000", &port), 1)
}

#[test]
fn output_that_cannot_be_written_is_an_error() -> Result<()> {
    let desk = Desk::new("output_that_cannot_be_written_is_an_error")?;
    for args in [["-qn", "--key=sesame", "gw"], ["-q", "--help", "gw"]] {
        check(&desk.knock_into(&args, "/dev/full")?, &desk, FULL, 1)?;
    }
    Ok(())
}

#[test]
fn the_readme_lists_these_messages_and_no_others() -> Result<()> {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("\n## Exit codes\n").context("no section")?;
    let rows = section.lines().filter_map(|line| {
        let [_, message, code] =
            line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect::<Vec<_>>().try_into().ok()?;
        Some((message.strip_prefix('`')?.strip_suffix('`')?.to_owned(), code.parse().ok()?))
    });
    let listed: BTreeSet<(String, i32)> = rows.collect();
    let unlike = [
        (NOT_UTF_8.to_owned(), 2),
        (STDIN_TERMINAL.to_owned(), 2),
        (TYPED_NOTHING.to_owned(), 2),
        (format!("{UNKNOWN_NAME}…"), 1),
        (PORT_IN_USE.to_owned(), 1),
        (FULL.to_owned(), 1),
        (CLOCK.to_owned(), 1),
    ];
    let tested: BTreeSet<_> =
        ROWS.iter().map(|&(_, _, message, code)| (message.to_owned(), code)).chain(unlike).collect();
    let untested: Vec<_> = listed.difference(&tested).collect();
    assert!(untested.is_empty(), "in the README, but in no test: {untested:#?}");
    // Of messages that differ only in the text they quote, the README gives one.
    let kind = |message: &str| message.split('"').step_by(2).collect::<Vec<_>>().join("\"");
    let kinds: BTreeSet<_> = listed.iter().map(|(message, code)| (kind(message), *code)).collect();
    let missing: Vec<_> =
        tested.iter().filter(|(message, code)| !kinds.contains(&(kind(message), *code))).collect();
    assert!(missing.is_empty(), "tested, but not in the README: {missing:#?}");
    Ok(())
}
