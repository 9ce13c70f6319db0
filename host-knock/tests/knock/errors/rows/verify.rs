//! `knock verify`.

use super::Row;

pub(super) const ROWS: &[Row] = &[
    (Some(b"sesame"), &["verify", "--key-file", "FILE", "abc"], "HEX: odd number of hexadecimal digits", 2),
    (
        Some(b"sesame"),
        &["verify", "--key-file", "FILE", "FILE"],
        "FILE: expected a capture (pcap or pcapng), hexadecimal digits, or lines of knock -n",
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
        &["verify", "--key-file", "FILE", "--format", "pre-1.0", "00"],
        "no gateway accepts format pre-1.0; without --format such knocks are explained",
        2,
    ),
    (
        Some(b"sesame"),
        &["verify", "--key-file", "FILE", "--source", "gw", "00"],
        "invalid source \"gw\": expected an IPv4 or IPv6 address",
        2,
    ),
    (
        Some(b"sesame"),
        &["verify", "--key-file", "FILE", "--source", "::1", "--destination", "1.2.3.4", "00"],
        "--source and --destination are of different families",
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
    (
        Some(b"sesame"),
        &["verify", "--key-file", "FILE", "gw", "40000"],
        "expected HOST PORT HEX, as knock -n prints it",
        2,
    ),
    (
        Some(b"sesame"),
        &["verify", "--key-file", "FILE", "gw 0 00"],
        "invalid port \"0\": expected 1–65535",
        2,
    ),
    (
        Some(b""),
        &["verify", "-c", "FILE.toml", "--profile", "gw", "00"],
        "unknown profile \"gw\"; see knock list",
        2,
    ),
    (None, &["verify", "00"], "no key; use --key-file or --profile", 2),
];
