//! Options that are refused.

use anyhow::{Context, Result};

use crate::harness::refused;

#[test]
fn bad_options_are_refused_in_one_line_that_names_the_bad_part() -> Result<()> {
    let long = "k".repeat(41);
    let long_hexadecimal = format!("0x{}", "5".repeat(81));
    let long_path = format!("/{}", "p".repeat(255));
    let window = |text: &str| format!("pkd: --window: invalid value '{text}': expected 0 to 4294967295");
    let format = |text: &str| format!("pkd: --format: invalid value '{text}': expected classic or 2");
    let require = |text: &str| {
        format!("pkd: --require: invalid value '{text}': expected source, destination or source,destination")
    };
    let request = |text: &str| format!("pkd: --request: invalid value '{text}': expected open or close");
    let without_revision_2 =
        "pkd: --format 2 needs revision 2 of the match: load a kernel module xt_pkd that has it first";
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
        (2, &[], "pkd: missing key: give --key-file or --key"),
        (2, &["--format", "2"], "pkd: missing key: give --key-file or --key"),
        (2, &["--key", "k", "--format", "3"], &format("3")),
        (2, &["--key", "k", "--format", ""], &format("")),
        (2, &["--key", "k", "--format", "2\n"], &format("2")),
        (1, &["--key", "k", "--format", "1"], &format("1")),
        (
            2,
            &["--key", "k", "--format", "2", "--format", "2"],
            "pkd: option \"--format\" can only be used once.",
        ),
        (2, &["--key", "k", "!", "--format", "2"], "pkd: option \"--format\" cannot be inverted."),
        (2, &["--key", "k", "!", "--request", "open"], "pkd: option \"--request\" cannot be inverted."),
        (2, &["--key", "k", "--format", "2", "--require", ""], &require("")),
        (2, &["--key", "k", "--format", "2", "--require", "sauce"], &require("sauce")),
        (2, &["--key", "k", "--format", "2", "--require", "source,"], &require("source,")),
        (2, &["--key", "k", "--format", "2", "--require", "source,source"], &require("source,source")),
        (2, &["--key", "k", "--format", "2", "--request", "opn"], &request("opn")),
        (2, &["--key", "k", "--format", "2", "--request", "CLOSE"], &request("CLOSE")),
        (2, &["--key", "k", "--require", "source"], "pkd: --require needs --format 2"),
        (2, &["--key", "k", "--format", "classic", "--require", "source"], "pkd: --require needs --format 2"),
        (2, &["--key", "k", "--request", "close"], "pkd: --request needs --format 2"),
        (2, &["--key", "k", "--request", "open"], "pkd: --request needs --format 2"),
        (1, &["--key", "k", "--format", "2"], without_revision_2),
        (0, &["--key", "k", "--format", "2"], without_revision_2),
        (1, &["--key", "k", "--require", "source"], "pkd: --require needs --format 2"),
        (0, &["--key", "k", "--request", "close"], "pkd: --request needs --format 2"),
    ];
    for (row, (revision, options, expected)) in table.iter().enumerate() {
        let line = refused(*revision, options).with_context(|| format!("row {row}: {options:?}"))?;
        assert_eq!(line, *expected, "row {row}: {options:?}");
    }
    Ok(())
}
