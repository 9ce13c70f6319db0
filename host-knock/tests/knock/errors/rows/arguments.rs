//! Arguments, tags, hosts and keys.

use super::Row;
use crate::harness::KEY;

pub(super) const ROWS: &[Row] = &[
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
    // Where knocks leave.
    (None, &["--source", "eth0", "gw"], "invalid source \"eth0\": expected an IPv4 or IPv6 address", 2),
    (
        None,
        &["--interface", "a/b", "gw"],
        "invalid interface \"a/b\": expected a name of up to 15 bytes, such as eth0",
        2,
    ),
    (
        None,
        &["-4", "--source", "::1", "gw"],
        "source ::1: IPv6 address, but only the other family is allowed",
        2,
    ),
    (
        None,
        &["-q", "--key", KEY, "-p", "40000", "--source", "192.0.2.99", "127.0.0.1"],
        "127.0.0.1: cannot send to 127.0.0.1:40000 from 192.0.2.99: Cannot assign requested address (os error 99)",
        1,
    ),
    (
        None,
        &["-q", "--key", KEY, "-p", "40000", "--interface", "nowhere", "127.0.0.1"],
        "127.0.0.1: cannot send to 127.0.0.1:40000 through nowhere: No such device (os error 19)",
        1,
    ),
    // Tag and port.
    (None, &["-t", "SSHKEY", "gw"], "invalid tag \"SSHKEY\": too long: 6 bytes, maximum 4", 2),
    (None, &["gw", "SSHKEY", "40000"], "invalid tag \"SSHKEY\": too long: 6 bytes, maximum 4", 2),
    (None, &["-t", "", "gw"], "invalid tag \"\": empty: expected 1 to 4 bytes", 2),
    (None, &["-t", "0x", "gw"], "invalid tag \"0x\": no digits after 0x", 2),
    (
        None,
        &["-t", "0xfg", "gw"],
        "invalid tag \"0xfg\": invalid character at offset 3: expected a hexadecimal digit",
        2,
    ),
    (
        None,
        &["gw", "0xfg"],
        "invalid tag \"0xfg\": invalid character at offset 3: expected a hexadecimal digit",
        2,
    ),
    (None, &["-p", "0", "gw"], "invalid port \"0\": expected 1–65535", 2),
    (None, &["-p", "65536", "gw"], "invalid port \"65536\": expected 1–65535", 2),
    (None, &["-p", "+22", "gw"], "invalid port \"+22\": expected 1–65535", 2),
    (None, &["-p", "ssh", "gw"], "invalid port \"ssh\": expected 1–65535", 2),
    (None, &["gw", "SSHK", "70000"], "invalid port \"70000\": expected 1–65535", 2),
    // Format and binding.
    (None, &["--format", "3", "gw"], "invalid format \"3\": expected classic, 2 or pre-1.0", 2),
    (
        None,
        &["--format", "2", "-o", "gw"],
        "the argument '--format <FORMAT>' cannot be used with '--pre-1.0'; see knock --help",
        2,
    ),
    (
        None,
        &["--format", "2", "--bind", "both", "gw"],
        "invalid bind \"both\": expected auto, none, or source and destination",
        2,
    ),
    (
        None,
        &["--bind", "none", "gw"],
        "host \"gw\": --bind needs format 2, this is format classic; see --format",
        2,
    ),
    (
        None,
        &["close", "gw"],
        "host \"gw\": knock close needs format 2, this is format classic; see --format",
        2,
    ),
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
    (None, &["-q", "--key", "", "gw"], "--key: invalid key: empty: expected 1 to 40 bytes", 2),
    (
        None,
        &["-q", "--key", "sesame sesame sesame sesame sesame sesame", "gw"],
        "--key: invalid key: too long: 41 bytes, maximum 40",
        2,
    ),
    (
        None,
        &["-q", "--key", "0x5e5a3e5e5a3eg", "gw"],
        "--key: invalid key: invalid character at offset 14: expected a hexadecimal digit",
        2,
    ),
    // The key in a file.
    (None, &["--key-file", "FILE", "gw"], "cannot read FILE: No such file or directory (os error 2)", 2),
    (Some(b""), &["--key-file", "FILE", "gw"], "FILE: invalid key: empty: expected 1 to 40 bytes", 2),
    (Some(b"\n"), &["--key-file", "FILE", "gw"], "FILE: invalid key: empty: expected 1 to 40 bytes", 2),
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
        "FILE: invalid key: too long: 41 bytes, maximum 40",
        2,
    ),
    (
        Some(b"sesame\xff\n"),
        &["--key-file", "FILE", "gw"],
        "FILE: not UTF-8 text; write other key bytes as 0x and hexadecimal digits",
        2,
    ),
    (Some(&[b'k'; 65 * 1024]), &["--key-file", "FILE", "gw"], "FILE: larger than 64 KiB", 2),
    (None, &["--key-file", "-", "gw"], "standard input: invalid key: empty: expected 1 to 40 bytes", 2),
    // No key.
    (
        None,
        &["gw"],
        "no key for gw; use a profile or --key-file; cannot prompt for it: No such device or address (os error 6)",
        2,
    ),
];
