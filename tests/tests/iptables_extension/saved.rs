//! Saved and listed rules.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use anyhow::{Context, Result};

use crate::{
    harness::{KEY_BYTES, TAG_BYTES, accepted, split_as_iptables_restore},
    random::Random,
};

#[test]
fn a_rule_is_saved_in_words_that_mean_the_same_to_iptables_restore_and_a_shell() -> Result<()> {
    let all_zero = format!("0x{}", "0".repeat(80));
    let table: &[(&[&str], &str)] = &[
        (&["--key", "secret"], " --key secret --tag PKD0 --window 10"),
        (&["--window", "0", "--tag", "a", "--key", "k"], " --key k --tag a --window 0"),
        (&["--key", "k", "--window", "4294967295"], " --key k --tag PKD0 --window 4294967295"),
        (&["--key", "k", "--window", "010"], " --key k --tag PKD0 --window 10"),
        (&["--key", "a.b/c=d"], " --key \"a.b/c=d\" --tag PKD0 --window 10"),
        (&["--key", "a b"], " --key 0x612062 --tag PKD0 --window 10"),
        (&["--key", "a\tb"], " --key 0x610962 --tag PKD0 --window 10"),
        (&["--key", "a\nb"], " --key 0x610a62 --tag PKD0 --window 10"),
        (&["--key", "a\"b"], " --key 0x612262 --tag PKD0 --window 10"),
        (&["--key", "a'b"], " --key 0x612762 --tag PKD0 --window 10"),
        (&["--key", "a\\b"], " --key 0x615c62 --tag PKD0 --window 10"),
        (&["--key", "a$b"], " --key 0x612462 --tag PKD0 --window 10"),
        (&["--key", "a`b"], " --key 0x616062 --tag PKD0 --window 10"),
        (&["--key", "!"], " --key 0x21 --tag PKD0 --window 10"),
        (&["--key", "-t"], " --key 0x2d74 --tag PKD0 --window 10"),
        (&["--key", "--tag"], " --key 0x2d2d746167 --tag PKD0 --window 10"),
        (&["--key", "\u{fc}"], " --key 0xc3bc --tag PKD0 --window 10"),
        (&["--key", "0X1"], " --key 0X1 --tag PKD0 --window 10"),
        (&["--key", "0x3078"], " --key 0x3078 --tag PKD0 --window 10"),
        (&["--key", "0x6b00"], " --key k --tag PKD0 --window 10"),
        (&["--key", "0x6b006b"], " --key 0x6b006b --tag PKD0 --window 10"),
        (&["--key", "0x00"], " --key 0x00 --tag PKD0 --window 10"),
        (&["--key", &all_zero], " --key 0x00 --tag PKD0 --window 10"),
        (&["--key", "k", "--tag", "0x0"], " --key k --tag 0x00 --window 10"),
        (&["--key", "k", "--tag", "0xff"], " --key k --tag 0xff --window 10"),
        (&["--key", "k", "--tag", "a b"], " --key k --tag 0x612062 --window 10"),
    ];
    for revision in [0, 1, 2] {
        for (row, (options, expected)) in table.iter().enumerate() {
            let (rule, errors) =
                accepted(revision, options).with_context(|| format!("revision {revision} row {row}"))?;
            assert_eq!(errors, "", "revision {revision} row {row}");
            assert_eq!(String::from_utf8_lossy(&rule.save), *expected, "revision {revision} row {row}");
            let words = split_as_iptables_restore(&rule.save)?;
            assert_eq!(accepted(revision, &words)?.0, rule, "revision {revision} row {row}");
        }
    }
    Ok(())
}

#[test]
fn the_options_of_format_2_are_saved_and_restored_where_they_are_not_the_default() -> Result<()> {
    // options, what is saved after the key, the tag and the window, and what is listed
    let table: &[(&[&str], &str, &str)] = &[
        (&["--format", "classic"], "", ""),
        (&["--format", "2"], " --format 2", " format:2 request:open"),
        (&["--request", "open", "--format", "2"], " --format 2", " format:2 request:open"),
        (&["--format", "2", "--request", "close"], " --format 2 --request close", " format:2 request:close"),
        (
            &["--format", "2", "--require", "source"],
            " --format 2 --require source",
            " format:2 require:source request:open",
        ),
        (
            &["--require", "destination", "--format", "2"],
            " --format 2 --require destination",
            " format:2 require:destination request:open",
        ),
        (
            &["--format", "2", "--require", "destination,source", "--request", "close"],
            " --format 2 --require source,destination --request close",
            " format:2 require:source,destination request:close",
        ),
    ];
    for (row, (options, saved, listed)) in table.iter().enumerate() {
        let options = [&["--key", "k"], *options].concat();
        let (rule, errors) = accepted(2, &options).with_context(|| format!("row {row}"))?;
        assert_eq!(errors, "", "row {row}");
        let (save, print) = (String::from_utf8_lossy(&rule.save), String::from_utf8_lossy(&rule.print));
        assert_eq!(save, format!(" --key k --tag PKD0 --window 10{saved}"), "row {row}");
        assert_eq!(print, format!(" pkd tag:PKD0 window:10{listed} key:hidden"), "row {row}");
        assert_eq!(accepted(2, &split_as_iptables_restore(&rule.save)?)?.0, rule, "row {row}");
    }
    Ok(())
}

#[test]
fn every_key_and_tag_survives_save_and_restore() -> Result<()> {
    let mut random = Random(2026);
    for row in 0..200 {
        let revision = u8::try_from(row % 3)?;
        let (key, key_bytes) = random.secret(KEY_BYTES);
        let (tag, tag_bytes) = random.secret(TAG_BYTES);
        let window = u32::try_from(random.below(1 << 31))?;
        let options =
            ["--key".into(), key, "--tag".into(), tag, "--window".into(), window.to_string().into()];
        let (rule, errors) =
            accepted(revision, &options).with_context(|| format!("row {row}: {options:?}"))?;
        assert_eq!(errors, "", "row {row}: {options:?}");
        assert_eq!(rule.key(), key_bytes, "row {row}: {options:?}");
        assert_eq!(rule.tag(), tag_bytes, "row {row}: {options:?}");
        assert_eq!(rule.window(), window.to_ne_bytes(), "row {row}: {options:?}");
        assert!(rule.save.iter().all(|byte| matches!(byte, b' '..=b'~')), "row {row}: {options:?}");

        let words = split_as_iptables_restore(&rule.save)?;
        assert_eq!(words.len(), 6, "row {row}: {words:?}");
        for word in words.iter().skip(1).step_by(2) {
            // Some iptables-restore take such a word for an option of their own or a negation.
            let first = word.as_bytes().first();
            assert!(!matches!(first, None | Some(b'-' | b'!')), "row {row}: {words:?}");
        }
        let (again, _) = accepted(revision, &words).with_context(|| format!("row {row}: {words:?}"))?;
        assert_eq!(again, rule, "row {row}: {words:?}");
    }
    Ok(())
}

#[test]
fn a_listing_is_the_same_for_every_key() -> Result<()> {
    let mut random = Random(7);
    for row in 0..20 {
        let (key, _) = random.secret(KEY_BYTES);
        let options = [OsStr::new("--key"), &key, OsStr::new("--tag"), OsStr::new("SSHK")];
        let (rule, _) = accepted(row % 3, &options)?;
        assert_eq!(String::from_utf8_lossy(&rule.print), " pkd tag:SSHK window:10 key:hidden", "row {row}");
    }
    let (rule, _) = accepted(1, &["--key", "k", "--tag", "a b", "--window", "0"])?;
    assert_eq!(String::from_utf8_lossy(&rule.print), " pkd tag:0x612062 window:0 key:hidden");
    Ok(())
}
