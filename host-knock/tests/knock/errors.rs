//! Every row of the README's table of exit codes, made to happen.

use std::{collections::BTreeSet, ffi::OsString, net::UdpSocket, os::unix::ffi::OsStringExt as _};

use anyhow::{Context as _, Result, ensure};

use crate::harness::{Harness, KEY, Outcome};

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
    (None, &["seq", "gw", "7000:sctp"], "invalid protocol \"sctp\" in \"7000:sctp\": expected tcp or udp", 2),
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
    (None, &["-p", "0", "gw"], "invalid port \"0\": expected 1–65535", 2),
    (None, &["-p", "65536", "gw"], "invalid port \"65536\": expected 1–65535", 2),
    (None, &["-p", "+22", "gw"], "invalid port \"+22\": expected 1–65535", 2),
    (None, &["-p", "ssh", "gw"], "invalid port \"ssh\": expected 1–65535", 2),
    (None, &["gw", "SSHK", "70000"], "invalid port \"70000\": expected 1–65535", 2),
    // Hosts.
    (None, &[""], "empty host name", 2),
    (None, &["gw", ""], "empty host name", 2),
    (None, &["40000"], "invalid host \"40000\": a plain number; use --port for a port", 2),
    (None, &["gw", "4000"], "invalid host \"4000\": a plain number; use --port for a port", 2),
    (
        None,
        &["-t", "SSHK", "gw", "40000"],
        "invalid host \"40000\": a plain number; use --port for a port",
        2,
    ),
    (None, &["gw", "10.0.0.1", "40000"], "invalid host \"40000\": a plain number; use --port for a port", 2),
    (None, &["10.1"], "invalid host \"10.1\": incomplete address", 2),
    (None, &["10.0.0.256"], "invalid host \"10.0.0.256\": incomplete address", 2),
    (None, &["0x7f000001"], "invalid host \"0x7f000001\": incomplete address", 2),
    (None, &["gw:22"], "invalid host \"gw:22\": expected an address or a host name", 2),
    (None, &["user@gw"], "invalid host \"user@gw\": expected an address or a host name", 2),
    (None, &["gw\n"], "invalid host \"gw\\n\": expected an address or a host name", 2),
    (None, &["a..b"], "invalid host \"a..b\": expected an address or a host name", 2),
    (None, &["[10.0.0.1]"], "invalid host \"[10.0.0.1]\": expected an address or a host name", 2),
    (None, &["[::1"], "invalid host \"[::1\": expected an address or a host name", 2),
    (None, &["fe80::1%"], "invalid host \"fe80::1%\": expected an address or a host name", 2),
    (None, &["10.0.0.1%eth0"], "invalid host \"10.0.0.1%eth0\": expected an address or a host name", 2),
    (None, &["-4", "::1"], "host \"::1\": IPv6 address, but only IPv4 is allowed", 2),
    (None, &["-6", "127.0.0.1"], "host \"127.0.0.1\": IPv4 address, but only IPv6 is allowed", 2),
    // The key on the command line.
    (None, &["-q", "--key", "", "gw"], "--key: key is empty", 2),
    (
        None,
        &["-q", "--key", "sesame sesame sesame sesame sesame sesame", "gw"],
        "--key: key has 41 bytes, at most 40 fit",
        2,
    ),
    (
        None,
        &["-q", "--key", "0x5e5a3e5e5a3eg", "gw"],
        "--key: key has a character that is no hexadecimal digit at position 14",
        2,
    ),
    // The key in a file.
    (None, &["--key-file", "FILE", "gw"], "cannot read FILE: No such file or directory (os error 2)", 2),
    (Some(b""), &["--key-file", "FILE", "gw"], "FILE: key is empty", 2),
    (Some(b"\n"), &["--key-file", "FILE", "gw"], "FILE: key is empty", 2),
    (Some(b"sesame\nsesame\n"), &["--key-file", "FILE", "gw"], "FILE: key has more than one line", 2),
    (Some(b"sesame\n\n"), &["--key-file", "FILE", "gw"], "FILE: key has more than one line", 2),
    (
        Some(b"sesame\0\n"),
        &["--key-file", "FILE", "gw"],
        "FILE: key has a NUL byte; write such keys as 0x and hexadecimal digits",
        2,
    ),
    (
        Some(b"sesame sesame sesame sesame sesame sesame"),
        &["--key-file", "FILE", "gw"],
        "FILE: key has 41 bytes, at most 40 fit",
        2,
    ),
    (
        Some(b"sesame\xff\n"),
        &["--key-file", "FILE", "gw"],
        "FILE: not UTF-8 text; write other key bytes as 0x and hexadecimal digits",
        2,
    ),
    (Some(&[b'k'; 65 * 1024]), &["--key-file", "FILE", "gw"], "FILE: larger than 64 KiB", 2),
    (None, &["--key-file", "-", "gw"], "standard input: key is empty", 2),
    // No key.
    (
        None,
        &["gw"],
        "no key for gw; use --key-file; cannot prompt for it: No such device or address (os error 6)",
        2,
    ),
    // The ini file.
    (None, &["-c", "FILE", "gw"], "cannot read FILE: No such file or directory (os error 2)", 2),
    (Some(b"key = sesame\n"), &["-c", "FILE", "gw"], "FILE:1: option before the first [section]", 2),
    (Some(b"# x\n[gw\n"), &["-c", "FILE", "gw"], "FILE:2: missing ] after the section name", 2),
    (
        Some(b"[]\n"),
        &["-c", "FILE", "gw"],
        "FILE:1: expected a section name in brackets, alone on its line",
        2,
    ),
    (
        Some(b"[gw] key = sesame\n"),
        &["-c", "FILE", "gw"],
        "FILE:1: expected a section name in brackets, alone on its line",
        2,
    ),
    (Some(b"[gw]\nkey = a\n[gw]\n"), &["-c", "FILE", "gw"], "FILE:3: duplicate section [gw]", 2),
    (
        Some(b"[gw]\nkey = open\n sesame\n"),
        &["-c", "FILE", "gw"],
        "FILE:3: expected [section] or option = value",
        2,
    ),
    (
        Some(b"[gw]\nkey = sesame\nKey = sesame\n"),
        &["-c", "FILE", "gw"],
        "FILE:3: duplicate option in section [gw]",
        2,
    ),
    (
        Some(b"[gw]\nkey = sesame ;mine\n"),
        &["-c", "FILE", "gw"],
        "FILE:2: some programs read ; after white space as a comment; put comments on their own lines, and write such a key as 0x and hexadecimal digits",
        2,
    ),
    (
        Some(b"[gw]\nkey = sesame\nprot = 22\n"),
        &["-c", "FILE", "gw"],
        "FILE: [gw]: line 3: unknown option; expected one of host, key, tag, port, old",
        2,
    ),
    (Some(b"[gw]\nport = 22\n"), &["-c", "FILE", "gw"], "FILE: [gw]: missing key", 2),
    (Some(b"[gw]\nkey =\n"), &["-c", "FILE", "gw"], "FILE: [gw]: key is empty", 2),
    (
        Some(b"[gw]\nkey = sesame sesame sesame sesame sesame sesame\n"),
        &["-c", "FILE", "gw"],
        "FILE: [gw]: key has 41 bytes, at most 40 fit",
        2,
    ),
    (
        Some(b"[gw]\nkey = sesame\nport = 0\n"),
        &["-c", "FILE", "gw"],
        "FILE: [gw]: invalid port \"0\": expected 1–65535",
        2,
    ),
    (
        Some(b"[gw]\nkey = sesame\ntag = SSHKEY\n"),
        &["-c", "FILE", "gw"],
        "FILE: [gw]: tag \"SSHKEY\" has 6 bytes, at most 4 fit",
        2,
    ),
    (
        Some(b"[gw]\nkey = sesame\nold = maybe\n"),
        &["-c", "FILE", "gw"],
        "FILE: [gw]: invalid old \"maybe\": expected 1 or 0",
        2,
    ),
    (
        Some(b"[gw]\nhost = 10.1\nkey = sesame\n"),
        &["-c", "FILE", "gw"],
        "FILE: [gw]: invalid host \"10.1\": incomplete address",
        2,
    ),
    (
        Some(b"[gw]\nhost = ::1\nkey = sesame\n"),
        &["-4", "-c", "FILE", "gw"],
        "host \"gw\": IPv6 address, but only IPv4 is allowed",
        2,
    ),
    // Profiles, and what is done with them.
    (
        None,
        &["-n", "--time-offset", "soon", "gw"],
        "invalid time offset \"soon\": expected seconds, at most a hundred years",
        2,
    ),
    (None, &["--parallel", "0", "gw"], "invalid number of parallel hosts \"0\": expected 1–256", 2),
    (None, &["--timeout", "0", "gw"], "invalid timeout \"0\": expected 1–86400 seconds", 2),
    (Some(b"host = 1\nhost = 2\n"), &["-c", "FILE.toml", "gw"], "FILE.toml:2: duplicate key", 2),
    (
        Some(b"[hots.gw]\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: unknown table [hots]; expected [host.NAME] or [group]",
        2,
    ),
    (Some(b"host = 1\n"), &["-c", "FILE.toml", "gw"], "FILE.toml: host: expected a table", 2),
    (Some(b"[host]\ngw = 1\n"), &["-c", "FILE.toml", "gw"], "FILE.toml: [host.gw]: expected a table", 2),
    (
        Some(b"[host.gw]\nadress = 'a'\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: [host.gw]: unknown option \"adress\"; expected one of address, family, format, key_file, keyring, passphrase_salt, port, same_source_port, services, tag, time_offset, window, note",
        2,
    ),
    (
        Some(b"[host.gw]\nport = '22'\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: [host.gw]: port: expected a whole number",
        2,
    ),
    (
        Some(b"[host.gw]\naddress = 1\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: [host.gw]: address: expected a string",
        2,
    ),
    (
        Some(b"[host.gw]\nkeyring = 1\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: [host.gw]: keyring: expected true or false",
        2,
    ),
    (
        Some(b"[host.gw]\nservices = ['ssh']\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: [host.gw]: services: expected a table such as { ssh = 22 }",
        2,
    ),
    (
        Some(b"[host.gw]\nservices = { ssh = true }\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: [host.gw]: service ssh: expected 22 or \"22/tcp\"",
        2,
    ),
    (
        Some(b"[host.gw]\nservices = { ssh = 0 }\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: [host.gw]: service ssh: invalid port \"0\": expected 1–65535",
        2,
    ),
    (
        Some(b"[host.gw]\nservices = { ssh = '22/sctp' }\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: [host.gw]: service ssh: invalid protocol \"sctp\" in \"22/sctp\": expected tcp or udp",
        2,
    ),
    (
        Some(b"[host.gw]\nformat = '2'\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: [host.gw]: invalid format \"2\": expected classic or pre-1.0",
        2,
    ),
    (
        Some(b"[host.gw]\nfamily = 'ipx'\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: [host.gw]: invalid family \"ipx\": expected both, ipv4 or ipv6",
        2,
    ),
    (
        Some(b"[host.gw]\nwindow = -1\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: [host.gw]: invalid window -1: expected seconds",
        2,
    ),
    (
        Some(b"[host.gw]\npassphrase_salt = 'ab'\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: [host.gw]: invalid passphrase_salt \"ab\": expected 32 hexadecimal digits",
        2,
    ),
    (
        Some(b"[host.gw]\nkeyring = true\nkey_file = 'a'\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: [host.gw]: use only one of key_file, keyring and passphrase_salt",
        2,
    ),
    (
        Some(b"[host.'a b']\n"),
        &["-c", "FILE.toml", "a b"],
        "FILE.toml: [host.a b]: invalid name \"a b\": use up to 64 letters, digits, - _ or ., and start with a letter, digit or _",
        2,
    ),
    (
        Some(b"[host.gw]\nkey_file = 'FILE.key'\n"),
        &["-c", "FILE.toml", "gw"],
        "cannot read FILE.key: No such file or directory (os error 2)",
        2,
    ),
    (
        Some(b"[host.gw]\nkeyring = true\n"),
        &["-c", "FILE.toml", "gw"],
        "no keyring available; it needs a desktop session with D-Bus",
        2,
    ),
    (
        Some(b"[host.gw]\npassphrase_salt = '00112233445566778899aabbccddeeff'\n"),
        &["-c", "FILE.toml", "gw"],
        "no key for gw; cannot prompt for its passphrase: No such device or address (os error 6)",
        2,
    ),
    (
        Some(b"[host.a]\naddress = 'gw.example.net'\n[host.b]\naddress = 'gw.example.net'\n"),
        &["wait", "-c", "FILE.toml", "gw.example.net", "22"],
        "FILE.toml: profiles a and b both have address \"gw.example.net\"; use a profile name",
        2,
    ),
    (Some(b""), &["-c", "FILE.toml", "@all"], "FILE.toml: unknown group \"all\"", 2),
    (None, &["-c", "/dev/null", "@all"], "unknown group \"all\"", 2),
    (
        Some(b"[group]\nall = 'a'\n"),
        &["-c", "FILE.toml", "@all"],
        "FILE.toml: group all: expected a list of hosts",
        2,
    ),
    (
        Some(b"[group]\nall = [1]\n"),
        &["-c", "FILE.toml", "@all"],
        "FILE.toml: group all: members must be strings",
        2,
    ),
    (
        Some(b"[group]\nall = ['@all']\n"),
        &["-c", "FILE.toml", "@all"],
        "FILE.toml: group all: nested too deep, or contains itself",
        2,
    ),
    (Some(b"[group]\nall = []\n"), &["-c", "FILE.toml", "@all"], "FILE.toml: group all: no members", 2),
    (
        None,
        &["wait", "-q", "--key", KEY, "gw", "ssh"],
        "invalid port \"ssh\": expected 1–65535; no profile defines services for this host",
        2,
    ),
    (
        Some(b"[host.gw]\nservices = { ssh = 22 }\n"),
        &["wait", "-c", "FILE.toml", "-q", "--key", KEY, "gw", "web"],
        "invalid port \"web\": expected 1–65535 or one of ssh",
        2,
    ),
    (
        Some(b"[host.gw]\nservices = { dns = '53/udp' }\n"),
        &["wait", "-c", "FILE.toml", "-q", "--key", KEY, "gw", "dns"],
        "service \"dns\" uses UDP; knock cannot tell whether a UDP port is open",
        2,
    ),
    (
        None,
        &["wait", "-q", "--key", KEY, "gw"],
        "no port given, and no profile defines a TCP service for gw",
        2,
    ),
    (
        None,
        &["wait", "-q", "--key", KEY, "--timeout", "1", "127.0.0.1", "1"],
        "127.0.0.1: port 1 did not open within 1 s: 127.0.0.1: connection refused",
        1,
    ),
    (
        None,
        &["ssh", "-q", "--key", KEY, "--", "-x"],
        "invalid host \"-x\": expected an address or a host name",
        2,
    ),
    (
        None,
        &["ssh", "-q", "--key", KEY, "127.0.0.1", "-o", "Nonsense=1"],
        "ssh -G: command-line: line 0: Bad configuration option: nonsense",
        2,
    ),
    (Some(b""), &["show", "-c", "FILE.toml", "gw"], "FILE.toml: unknown profile \"gw\"", 2),
    (
        Some(b"[host.gw]\n"),
        &["share", "-c", "FILE.toml", "--uri", "gw"],
        "profile gw has no key; create one with knock keygen gw",
        2,
    ),
    (
        Some(b"[host.gw]\n"),
        &["share", "-c", "FILE.toml", "gw"],
        "standard output is not a terminal; use --png FILE, or --uri if others may see the key",
        2,
    ),
    (
        Some(b"[a]\nkey = sesame\n[b]\nkey = sesame\n"),
        &["import", "--name", "c", "FILE"],
        "--name needs a source with one profile; this one has 2",
        2,
    ),
    (Some(b"# nothing\n"), &["import", "FILE"], "FILE: no section with a host", 2),
    (
        Some(b"[a b]\nhost = gw\nkey = sesame\n"),
        &["import", "FILE"],
        "invalid name \"a b\": use up to 64 letters, digits, - _ or ., and start with a letter, digit or _",
        2,
    ),
    (Some(b"[gw]\nport = 22\n"), &["import", "FILE"], "FILE: [gw]: missing key", 2),
    (Some(b"SPA_SERVER gw\n"), &["import", "FILE"], "FILE:1: option before the first [section]", 2),
    (
        Some(b"[gw]\nSPA_SERVER gw\nUSE_HMAC\n"),
        &["import", "FILE"],
        "FILE:3: expected [section] or an option and its value",
        2,
    ),
    (
        Some(b"[gw]\nSPA_SERVER gw\nACCESS 22\n"),
        &["import", "FILE"],
        "FILE:3: invalid ACCESS: expected a list such as tcp/22,udp/53",
        2,
    ),
    (None, &["import", "-q", "knock://gw?services=ssh:22"], "URI: missing ?key=", 2),
    (
        Some(b"[host.gw]\n"),
        &["keygen", "-c", "FILE.toml", "--address", "a", "gw"],
        "--address is only for new profiles; FILE.toml has a profile gw",
        2,
    ),
    (
        Some(b"sesame"),
        &["keygen", "-o", "FILE", "gw"],
        "FILE already exists; a new key would lock out its users",
        2,
    ),
    (Some(b"sesame"), &["keygen", "-o", "FILE"], "cannot create FILE: File exists (os error 17)", 2),
    (
        None,
        &["keygen", "--passphrase", "gw"],
        "cannot prompt for a passphrase: No such device or address (os error 6)",
        2,
    ),
    (None, &["keygen", "--keyring", "gw"], "no keyring available; it needs a desktop session with D-Bus", 2),
    (Some(b"sesame"), &["verify", "--key-file", "FILE", "abc"], "HEX: odd number of hexadecimal digits", 2),
    (
        Some(b"sesame"),
        &["verify", "--key-file", "FILE", "FILE"],
        "FILE: expected a capture (pcap or pcapng) or hexadecimal digits",
        2,
    ),
    (
        Some(b"sesame"),
        &["verify", "--key-file", "FILE", "--window", "x", "00"],
        "invalid window \"x\": expected seconds",
        2,
    ),
    (
        Some(b"sesame"),
        &["verify", "--key-file", "FILE", "--at", "now", "00"],
        "invalid time \"now\": expected Unix seconds",
        2,
    ),
    (
        None,
        &["verify", "--key-file", "-", "-"],
        "the key and the knock cannot both come from standard input",
        2,
    ),
    (Some(b"[gw]\nSPA_SERVER a\n[gw]\nSPA_SERVER b\n"), &["import", "FILE"], "duplicate section [gw]", 2),
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
    "standard input is a terminal, which would show the key; omit --key-file to be prompted";
const TYPED_NOTHING: &str = "key is empty";
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
const CLOCK: &str = "gw: this computer's clock is before 1970; set it";

fn check(outcome: &Outcome, harness: &Harness, message: &str, code: i32) -> Result<()> {
    let stderr = outcome.stderr.replace(&format!("{}/FILE", harness.home().display()), "FILE");
    ensure!(outcome.code == Some(code) && outcome.stdout.is_empty(), "{outcome:?}");
    ensure!(stderr == format!("knock: {message}\n"), "{stderr}");
    Ok(())
}

#[test]
fn a_mistake_is_one_line_and_an_exit_code() -> Result<()> {
    for (row, (content, args, message, code)) in ROWS.iter().enumerate() {
        let harness = Harness::new("a_mistake_is_one_line_and_an_exit_code")?;
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
fn arguments_are_text() -> Result<()> {
    let harness = Harness::new("arguments_are_text")?;
    let args = [OsString::from_vec(b"--key=sesame\xff".to_vec()), "gw".into()];
    check(&harness.knock_with_input(&args, b"")?, &harness, NOT_UTF_8, 2)
}

#[test]
fn a_terminal_is_no_key_file() -> Result<()> {
    let harness = Harness::new("a_terminal_is_no_key_file")?;
    check(&harness.knock_on_terminal(&["--key-file", "-", "gw"], "never typed")?, &harness, STDIN_TERMINAL, 2)
}

#[test]
fn an_empty_answer_is_no_key() -> Result<()> {
    let harness = Harness::new("an_empty_answer_is_no_key")?;
    check(&harness.knock_on_terminal(&["gw"], "\n")?, &harness, TYPED_NOTHING, 2)
}

#[test]
fn a_name_that_nobody_knows_is_an_error() -> Result<()> {
    let harness = Harness::new("a_name_that_nobody_knows_is_an_error")?;
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
fn a_key_file_that_others_can_read_is_an_error() -> Result<()> {
    let harness = Harness::new("a_key_file_that_others_can_read_is_an_error")?;
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
fn passphrases_that_are_no_good_are_errors() -> Result<()> {
    let harness = Harness::new("passphrases_that_are_no_good_are_errors")?;
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
fn who_has_no_home_has_to_name_a_file() -> Result<()> {
    let harness = Harness::new("who_has_no_home_has_to_name_a_file")?;
    check(&harness.knock_with_home(".", &["list"])?, &harness, NO_HOME, 2)
}

#[test]
fn without_ssh_nothing_is_sent() -> Result<()> {
    let harness = Harness::new("without_ssh_nothing_is_sent")?;
    let outcome = harness.knock_with_path("/nowhere", &["ssh", "-q", "--key", KEY, "127.0.0.1"])?;
    check(&outcome, &harness, NO_SSH, 2)
}

#[test]
fn output_that_cannot_be_written_is_an_error() -> Result<()> {
    let harness = Harness::new("output_that_cannot_be_written_is_an_error")?;
    for args in [["-qn", "--key=sesame", "gw"], ["-q", "--help", "gw"]] {
        check(&harness.knock_into(&args, "/dev/full")?, &harness, FULL, 1)?;
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
        (READABLE.to_owned(), 2),
        (NO_PASSPHRASE.to_owned(), 2),
        (SHORT.to_owned(), 2),
        (TYPED_DIFFERENTLY.to_owned(), 2),
        (NO_HOME.to_owned(), 2),
        (NO_SSH.to_owned(), 2),
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
