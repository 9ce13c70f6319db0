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
    // Profiles, and what is done with them.
    (
        None,
        &["-n", "--time-offset", "soon", "gw"],
        "time offset \"soon\" is no number of seconds, of at most a hundred years",
        2,
    ),
    (None, &["--parallel", "0", "gw"], "number \"0\" of hosts at the same time is none of 1 to 256", 2),
    (None, &["--timeout", "0", "gw"], "timeout \"0\" is no number of seconds, 1 to 86400", 2),
    (Some(b"host = 1\nhost = 2\n"), &["-c", "FILE.toml", "gw"], "FILE.toml, line 2: duplicate key", 2),
    (
        Some(b"[hots.gw]\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml: [hots] is none of [host.NAME], [group]",
        2,
    ),
    (Some(b"host = 1\n"), &["-c", "FILE.toml", "gw"], "FILE.toml: host is no table", 2),
    (Some(b"[host]\ngw = 1\n"), &["-c", "FILE.toml", "gw"], "FILE.toml, [host.gw]: is no table", 2),
    (
        Some(b"[host.gw]\nadress = 'a'\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml, [host.gw]: \"adress\" is none of address, family, format, key_file, keyring, passphrase_salt, port, same_source_port, services, tag, time_offset, window, note",
        2,
    ),
    (
        Some(b"[host.gw]\nport = '22'\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml, [host.gw]: port is not a whole number",
        2,
    ),
    (
        Some(b"[host.gw]\naddress = 1\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml, [host.gw]: address is not text in quotes",
        2,
    ),
    (
        Some(b"[host.gw]\nkeyring = 1\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml, [host.gw]: keyring is not true or false",
        2,
    ),
    (
        Some(b"[host.gw]\nservices = ['ssh']\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml, [host.gw]: services is not a table such as { ssh = 22 }",
        2,
    ),
    (
        Some(b"[host.gw]\nservices = { ssh = true }\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml, [host.gw]: service ssh is neither 22 nor \"22/tcp\"",
        2,
    ),
    (
        Some(b"[host.gw]\nservices = { ssh = 0 }\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml, [host.gw]: service ssh: port \"0\" is no number of 1 to 65535",
        2,
    ),
    (
        Some(b"[host.gw]\nservices = { ssh = '22/sctp' }\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml, [host.gw]: service ssh: port \"22/sctp\": \"sctp\" is neither tcp nor udp",
        2,
    ),
    (
        Some(b"[host.gw]\nformat = '2'\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml, [host.gw]: format \"2\" is neither classic nor pre-1.0",
        2,
    ),
    (
        Some(b"[host.gw]\nfamily = 'ipx'\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml, [host.gw]: family \"ipx\" is none of both, ipv4, ipv6",
        2,
    ),
    (
        Some(b"[host.gw]\nwindow = -1\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml, [host.gw]: window -1 is no number of seconds",
        2,
    ),
    (
        Some(b"[host.gw]\npassphrase_salt = 'ab'\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml, [host.gw]: passphrase_salt \"ab\" is no 32 hexadecimal digits",
        2,
    ),
    (
        Some(b"[host.gw]\nkeyring = true\nkey_file = 'a'\n"),
        &["-c", "FILE.toml", "gw"],
        "FILE.toml, [host.gw]: of key_file, keyring and passphrase_salt only one can be",
        2,
    ),
    (
        Some(b"[host.'a b']\n"),
        &["-c", "FILE.toml", "a b"],
        "FILE.toml, [host.a b]: name \"a b\" does not fit: letters, digits, and inside also - . _, at most 64 of them",
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
        "there is no keyring here; it is in a desktop session's D-Bus",
        2,
    ),
    (
        Some(b"[host.gw]\npassphrase_salt = '00112233445566778899aabbccddeeff'\n"),
        &["-c", "FILE.toml", "gw"],
        "no key for gw, cannot ask for its passphrase on the terminal: No such device or address (os error 6)",
        2,
    ),
    (
        Some(b"[host.a]\naddress = 'gw.example.net'\n[host.b]\naddress = 'gw.example.net'\n"),
        &["wait", "-c", "FILE.toml", "gw.example.net", "22"],
        "FILE.toml: a and b both have the address \"gw.example.net\"; give a profile's name",
        2,
    ),
    (Some(b""), &["-c", "FILE.toml", "@all"], "there is no group \"all\" in FILE.toml", 2),
    (None, &["-c", "/dev/null", "@all"], "there is no group \"all\"", 2),
    (
        Some(b"[group]\nall = 'a'\n"),
        &["-c", "FILE.toml", "@all"],
        "FILE.toml: group all is no list of hosts",
        2,
    ),
    (
        Some(b"[group]\nall = [1]\n"),
        &["-c", "FILE.toml", "@all"],
        "FILE.toml: group all has a member that is no text",
        2,
    ),
    (
        Some(b"[group]\nall = ['@all']\n"),
        &["-c", "FILE.toml", "@all"],
        "FILE.toml: group all lies too deep in others, or in itself",
        2,
    ),
    (Some(b"[group]\nall = []\n"), &["-c", "FILE.toml", "@all"], "FILE.toml: group all has no members", 2),
    (
        None,
        &["wait", "-q", "--key", KEY, "gw", "ssh"],
        "port \"ssh\" is no number of 1 to 65535, and no profile names services",
        2,
    ),
    (
        Some(b"[host.gw]\nservices = { ssh = 22 }\n"),
        &["wait", "-c", "FILE.toml", "-q", "--key", KEY, "gw", "web"],
        "port \"web\" is no number of 1 to 65535, and no service of ssh",
        2,
    ),
    (
        Some(b"[host.gw]\nservices = { dns = '53/udp' }\n"),
        &["wait", "-c", "FILE.toml", "-q", "--key", KEY, "gw", "dns"],
        "service \"dns\" is of UDP; nobody can tell whether it is open",
        2,
    ),
    (
        None,
        &["wait", "-q", "--key", KEY, "gw"],
        "no port is given, and no profile of gw names a TCP service",
        2,
    ),
    (
        None,
        &["wait", "-q", "--key", KEY, "--timeout", "1", "127.0.0.1", "1"],
        "127.0.0.1: port 1 did not open within 1 s: 127.0.0.1: the connection is refused",
        1,
    ),
    (None, &["ssh", "-q", "--key", KEY, "--", "-x"], "host \"-x\" is no address and no host name", 2),
    (
        None,
        &["ssh", "-q", "--key", KEY, "127.0.0.1", "-o", "Nonsense=1"],
        "ssh -G: command-line: line 0: Bad configuration option: nonsense",
        2,
    ),
    (Some(b""), &["show", "-c", "FILE.toml", "gw"], "FILE.toml has no profile gw", 2),
    (
        Some(b"[host.gw]\n"),
        &["share", "-c", "FILE.toml", "--uri", "gw"],
        "profile gw has no key; make one with knock keygen gw",
        2,
    ),
    (
        Some(b"[host.gw]\n"),
        &["share", "-c", "FILE.toml", "gw"],
        "standard output is no terminal; use --png FILE, or --uri where the key may be seen",
        2,
    ),
    (
        Some(b"[a]\nkey = sesame\n[b]\nkey = sesame\n"),
        &["import", "--name", "c", "FILE"],
        "--name is for a source with one profile, and this one has 2",
        2,
    ),
    (Some(b"# nothing\n"), &["import", "FILE"], "FILE has no section that names a host", 2),
    (
        Some(b"[a b]\nhost = gw\nkey = sesame\n"),
        &["import", "FILE"],
        "name \"a b\" does not fit: letters, digits, and inside also - . _, at most 64 of them",
        2,
    ),
    (Some(b"[gw]\nport = 22\n"), &["import", "FILE"], "FILE: FILE, [gw]: key is missing", 2),
    (
        Some(b"SPA_SERVER gw\n"),
        &["import", "FILE"],
        "FILE: line 1: an option stands before the first [section]",
        2,
    ),
    (
        Some(b"[gw]\nSPA_SERVER gw\nUSE_HMAC\n"),
        &["import", "FILE"],
        "FILE: line 3: neither a [section] nor an option and its value",
        2,
    ),
    (
        Some(b"[gw]\nSPA_SERVER gw\nACCESS 22\n"),
        &["import", "FILE"],
        "FILE: line 3: ACCESS is not like tcp/22,udp/53",
        2,
    ),
    (None, &["import", "-q", "knock://gw?services=ssh:22"], "URI has no ?key=", 2),
    (
        Some(b"[host.gw]\n"),
        &["keygen", "-c", "FILE.toml", "--address", "a", "gw"],
        "--address is for a new profile, and FILE.toml has a profile gw",
        2,
    ),
    (
        Some(b"sesame"),
        &["keygen", "-o", "FILE", "gw"],
        "FILE is there already; whoever uses it would be shut out",
        2,
    ),
    (Some(b"sesame"), &["keygen", "-o", "FILE"], "cannot make FILE: File exists (os error 17)", 2),
    (
        None,
        &["keygen", "--passphrase", "gw"],
        "cannot ask for a passphrase on the terminal: No such device or address (os error 6)",
        2,
    ),
    (None, &["keygen", "--keyring", "gw"], "there is no keyring here; it is in a desktop session's D-Bus", 2),
    (
        Some(b"sesame"),
        &["verify", "--key-file", "FILE", "abc"],
        "HEX has an odd number of hexadecimal digits",
        2,
    ),
    (
        Some(b"sesame"),
        &["verify", "--key-file", "FILE", "FILE"],
        "FILE is neither a capture (pcap or pcapng) nor hexadecimal",
        2,
    ),
    (
        Some(b"sesame"),
        &["verify", "--key-file", "FILE", "--window", "x", "00"],
        "window \"x\" is no number of seconds",
        2,
    ),
    (
        Some(b"sesame"),
        &["verify", "--key-file", "FILE", "--at", "now", "00"],
        "time \"now\" is no number of Unix seconds",
        2,
    ),
    (None, &["verify", "--key-file", "-", "-"], "key and knock cannot both come from standard input", 2),
    (Some(b"[gw]\nSPA_SERVER a\n[gw]\nSPA_SERVER b\n"), &["import", "FILE"], "section [gw] comes twice", 2),
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
const READABLE: &str = "FILE can be read by others; chmod 600 it, or use --insecure-key-mode";
const NO_PASSPHRASE: &str = "passphrase is empty";
const SHORT: &str = "passphrase has 5 characters, at least 12 are needed: whoever catches one knock can try passphrases as long as he likes";
const TYPED_DIFFERENTLY: &str = "the passphrases differ";
const NO_HOME: &str = "there is no home folder; give a file with --config";
const NO_SSH: &str = "cannot run ssh: No such file or directory (os error 2)";
const CLOCK: &str = "gw: the clock of this computer stands before 1970; set it";

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
        "FILE can be read by others; chmod 600 it, or use --insecure-key-mode",
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
