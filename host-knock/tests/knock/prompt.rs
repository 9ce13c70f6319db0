//! Prompting for a key.

use anyhow::Result;

use crate::harness::{Harness, KEY};

#[test]
fn a_typed_key_is_used_and_not_shown() -> Result<()> {
    let harness = Harness::new("a_typed_key_is_used_and_not_shown")?;
    let hexadecimal = "0x5e5a3e5e5a3e";
    // input, resulting key
    let rows = [
        (format!("{KEY}\n"), KEY),
        (format!("{hexadecimal}\n"), hexadecimal),
        (format!("{KEY}\r"), KEY),
        (format!("sesamx\x7f\x7f\x15{KEY}\n"), KEY),
    ];
    for (row, (typed, key)) in rows.iter().enumerate() {
        let outcome = harness.knock_on_terminal(&["--dry-run", "gw"], typed)?;
        assert_eq!(outcome.terminal.trim_end(), "Key for gw:", "row {row}");
        let knocks = outcome.knocks()?;
        assert_eq!(knocks.len(), 1, "row {row}");
        knocks[0].verify(key, "PKD0")?;
    }
    Ok(())
}

#[test]
fn an_invalid_key_at_the_prompt_is_an_error() -> Result<()> {
    let harness = Harness::new("an_invalid_key_at_the_prompt_is_an_error")?;
    let rows = [
        ("\n".to_owned(), "knock: invalid key: empty: expected 1 to 40 bytes\n"),
        (format!("{}\n", "sesame7".repeat(6)), "knock: invalid key: too long: 42 bytes, maximum 40\n"),
        (
            "0x5e5a3e5e5a3eg\n".to_owned(),
            "knock: invalid key: invalid character at offset 14: expected a hexadecimal digit\n",
        ),
        (
            "\x04".to_owned(),
            "knock: no key for gw; use a profile or --key-file; cannot prompt for it: unexpected end of file\n",
        ),
    ];
    for (row, (typed, message)) in rows.iter().enumerate() {
        let outcome = harness.knock_on_terminal(&["gw"], typed)?;
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(2), *message), "row {row}");
    }
    Ok(())
}

#[test]
fn an_interrupted_prompt_restores_the_terminal() -> Result<()> {
    let harness = Harness::new("an_interrupted_prompt_restores_the_terminal")?;
    // The harness checks the terminal; a signal leaves no exit code.
    let outcome = harness.knock_on_terminal(&["gw"], "sesa\x03")?;
    assert_eq!((outcome.code, outcome.stdout.as_str()), (None, ""));
    Ok(())
}

#[test]
fn everything_else_is_validated_before_the_prompt() -> Result<()> {
    let harness = Harness::new("everything_else_is_validated_before_the_prompt")?;
    let ini = harness.file("ini", "[office]\nkey = open sesame\nport = 0\n")?;
    let rows: [&[&str]; 4] =
        [&["-t", "SSHKEY", "gw"], &["-p", "0", "gw"], &["gw", "10.1"], &["-c", &ini, "gw", "office"]];
    for (row, args) in rows.into_iter().enumerate() {
        let outcome = harness.knock_on_terminal(args, "never typed\n")?;
        assert_eq!((outcome.code, outcome.terminal.as_str()), (Some(2), ""), "row {row}");
    }
    Ok(())
}
