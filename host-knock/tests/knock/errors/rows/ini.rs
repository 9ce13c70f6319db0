//! The ini file.

use super::Row;

pub(super) const ROWS: &[Row] = &[
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
    (
        Some(b"[gw]\nkey =\n"),
        &["-c", "FILE", "gw"],
        "FILE: [gw]: invalid key: empty: expected 1 to 40 bytes",
        2,
    ),
    (
        Some(b"[gw]\nkey = sesame sesame sesame sesame sesame sesame\n"),
        &["-c", "FILE", "gw"],
        "FILE: [gw]: invalid key: too long: 41 bytes, maximum 40",
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
        "FILE: [gw]: invalid tag \"SSHKEY\": too long: 6 bytes, maximum 4",
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
];
