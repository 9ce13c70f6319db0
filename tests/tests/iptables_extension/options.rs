//! Options that are refused.

use anyhow::{Context, Result};

use crate::harness::refused;

#[test]
fn bad_options_are_refused_in_one_line_that_names_the_bad_part() -> Result<()> {
    let long = "k".repeat(41);
    let long_hexadecimal = format!("0x{}", "5".repeat(81));
    let long_path = format!("/{}", "p".repeat(255));
    let window = |text: &str| format!("pkd: --window: invalid value '{text}': expected 0 to 4294967295");
    let table: &[(u8, &[&str], &str)] = &[
        (1, &[], "pkd: missing key: give --key-file or --key"),
        (0, &[], "pkd: missing key: give --key"),
        (1, &["--tag", "SSHK"], "pkd: missing key: give --key-file or --key"),
        (1, &["--key", ""], "pkd: --key: empty: expected 1 to 40 bytes"),
        (1, &["--key", "0x"], "pkd: --key: no digits after 0x"),
        (1, &["--key", &long], "pkd: --key: too long: 41 bytes, maximum 40"),
        (1, &["--key", &long_hexadecimal], "pkd: --key: too long: 41 bytes, maximum 40"),
        (1, &["--key", "0x12g4"], "pkd: --key: invalid character at offset 4: expected a hexadecimal digit"),
        (
            0,
            &["--key", "0x1\u{b2}"],
            "pkd: --key: invalid character at offset 3: expected a hexadecimal digit",
        ),
        (1, &["--key", "0x12\n"], "pkd: --key: invalid character at offset 4: expected a hexadecimal digit"),
        (1, &["--tag", "", "--key", "k"], "pkd: --tag: empty: expected 1 to 4 bytes"),
        (1, &["--tag", "0x", "--key", "k"], "pkd: --tag: no digits after 0x"),
        (1, &["--tag", "SSHKE", "--key", "k"], "pkd: --tag: too long: 5 bytes, maximum 4"),
        (
            1,
            &["--tag", "0xzz", "--key", "k"],
            "pkd: --tag: invalid character at offset 2: expected a hexadecimal digit",
        ),
        (1, &["--key", "k", "--window", "-1"], &window("-1")),
        (1, &["--key", "k", "--window", "+1"], &window("+1")),
        (1, &["--key", "k", "--window", "1s"], &window("1s")),
        (1, &["--key", "k", "--window", "0x10"], &window("0x10")),
        (1, &["--key", "k", "--window", ""], &window("")),
        (1, &["--key", "k", "--window", " 1"], &window(" 1")),
        (1, &["--key", "k", "--window", "-\n1"], &window("-")),
        (1, &["--key", "k", "--window", "4294967296"], &window("4294967296")),
        (1, &["--key", "k", "--window", "18446744073709551617"], &window("18446744073709551617")),
        (1, &["--key", "k", "--key", "k"], "pkd: option \"--key\" can only be used once."),
        (1, &["!", "--key", "k"], "pkd: option \"--key\" cannot be inverted."),
        (1, &["!", "--window", "1"], "pkd: option \"--window\" cannot be inverted."),
        (
            0,
            &["--key-file", "/etc/pkd/key"],
            "pkd: --key-file needs revision 1 of the match: load the kernel module xt_pkd first",
        ),
        (1, &["--key-file", ""], "pkd: --key-file: empty path"),
        (1, &["--key-file", "pkd/key"], "pkd: --key-file: expected an absolute path"),
        (1, &["--key-file", &long_path], "pkd: --key-file: path too long: 256 bytes, maximum 255"),
        (1, &["--key-file", "/a\nb"], "pkd: --key-file: control character in the path at offset 2"),
        (
            1,
            &["--key-file", "/no/such/file"],
            "pkd: cannot read key file /no/such/file: No such file or directory",
        ),
        (1, &["--key-file", "/"], "pkd: key file /: not a regular file"),
    ];
    for (row, (revision, options, expected)) in table.iter().enumerate() {
        let line = refused(*revision, options).with_context(|| format!("row {row}: {options:?}"))?;
        assert_eq!(line, *expected, "row {row}: {options:?}");
    }
    Ok(())
}
