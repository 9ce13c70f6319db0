//! Key files.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::harness::{KEY_BYTES, accepted, built, filled, refused, split_as_iptables_restore, succeed};

/// A key file that only its owner can read.
fn key_file(folder: &TempDir, content: &[u8]) -> Result<PathBuf> {
    let path = folder.path().join("key");
    fs::write(&path, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

#[test]
fn a_bad_key_file_is_refused_with_its_name_and_without_its_content() -> Result<()> {
    let folder = TempDir::new()?;
    let table: &[(&[u8], &str)] = &[
        (b"", "empty: expected 1 to 40 bytes"),
        (b"\xef\xbb\xbf", "empty: expected 1 to 40 bytes"),
        (b"\xef\xbb\xbf\r\n", "empty: expected 1 to 40 bytes"),
        (b"\n", "empty: expected 1 to 40 bytes"),
        (b"\r\n", "empty: expected 1 to 40 bytes"),
        (b"0x\n", "no digits after 0x"),
        (b"0xq\n", "invalid character at offset 2: expected a hexadecimal digit"),
        (b"0x41 \n", "invalid character at offset 4: expected a hexadecimal digit"),
        (b"\xef\xbb\xbf0x4z\n", "invalid character at offset 3: expected a hexadecimal digit"),
        (b"0x\xef\xbb\xbf41", "invalid character at offset 2: expected a hexadecimal digit"),
        (b"0x41\r", "invalid character at offset 4: expected a hexadecimal digit"),
        (b"secret\n\n", "more than one line"),
        (b"secret\nsecond\n", "more than one line"),
        (b"\nsecret", "more than one line"),
        (b"sec\0ret\n", "zero byte at offset 3"),
        (b"\xef\xbb\xbfsec\0ret\n", "zero byte at offset 3"),
        (b"secret\0", "zero byte at offset 6"),
        (&[b'k'; 41], "too long: 41 bytes, maximum 40"),
        (&[b'k'; 127], "too long: 127 bytes, maximum 40"),
        (&[b'k'; 128], "too long: more than 127 bytes"),
        (&[b'k'; 1 << 13], "too long: more than 127 bytes"),
    ];
    for (row, (content, expected)) in table.iter().enumerate() {
        let path = key_file(&folder, content)?;
        let path = path.to_str().context("path")?;
        let line = refused(1, &["--key-file", path]).with_context(|| format!("row {row}"))?;
        let expected = format!("pkd: key file {path}: {expected}");
        assert_eq!(line, expected, "row {row}");
    }
    Ok(())
}

#[test]
fn a_key_file_holds_one_line_in_the_syntax_of_a_key() -> Result<()> {
    let folder = TempDir::new()?;
    let longest = [b"0x".as_slice(), &[b'5'; 80], b"\r\n"].concat();
    let marked = [b"\xef\xbb\xbf".as_slice(), &[b'k'; 40], b"\n"].concat();
    let table: &[(&[u8], &[u8])] = &[
        (b"secret", b"secret"),
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        (b"secret\r", b"secret\r"),
        (b" a b \n", b" a b "),
        (b"0xa1b\n", b"\xa1\xb0"),
        (b"\xff\xfe\n", b"\xff\xfe"),
        // The mark that editors on Windows begin a file with; once, at its start, and whole.
        (b"\xef\xbb\xbfsecret\r\n", b"secret"),
        (b"\xef\xbb\xbf0xa1b", b"\xa1\xb0"),
        (b"\xef\xbb\xbf\xef\xbb\xbfsecret", b"\xef\xbb\xbfsecret"),
        (b"secret\xef\xbb\xbf", b"secret\xef\xbb\xbf"),
        (b"\xef\xbbsecret", b"\xef\xbbsecret"),
        (b"\xef\xbb", b"\xef\xbb"),
        (&marked, &[b'k'; 40]),
        (&[b'k'; 40], &[b'k'; 40]),
        (&longest, &[0x55; 40]),
    ];
    for (row, (content, key)) in table.iter().enumerate() {
        let path = key_file(&folder, content)?;
        let path = path.to_str().context("path")?;
        let (rule, errors) = accepted(1, &["--key-file", path]).with_context(|| format!("row {row}"))?;
        assert_eq!(errors, "", "row {row}");
        assert_eq!(rule.key(), filled(key, KEY_BYTES), "row {row}");
        assert_eq!(rule.key_file(), filled(path.as_bytes(), 256), "row {row}");
    }
    Ok(())
}

#[test]
fn a_rule_with_a_key_file_is_saved_and_listed_by_the_path() -> Result<()> {
    let folder = TempDir::new()?;
    let original = key_file(&folder, b"Xyzzy-secret\n")?;
    // 255 bytes in all, the longest that fits.
    let room = 254 - folder.path().as_os_str().len();
    let longest = format!("{}/{}", "d".repeat(100), "f".repeat(room - 101));
    fs::create_dir(folder.path().join("d".repeat(100)))?;
    for name in [
        "plain",
        "with blank",
        "qu\"ote's",
        "back\\slash",
        "dollar$`!#",
        "-t",
        "\u{fc}n\u{ef}code",
        longest.as_str(),
    ] {
        let path = folder.path().join(name);
        symlink(&original, &path)?;
        let (rule, _) =
            accepted(1, &[OsStr::new("--key-file"), path.as_os_str()]).context(name.to_owned())?;
        let words = split_as_iptables_restore(&rule.save)?;
        let expected = ["--key-file", "", "--tag", "PKD0", "--window", "10"];
        let mut expected: Vec<OsString> = expected.iter().map(OsString::from).collect();
        expected[1] = path.clone().into_os_string();
        assert_eq!(words, expected, "{name}");
        assert_eq!(accepted(1, &words)?.0, rule, "{name}");
        let listed = [b" pkd tag:PKD0 window:10 key-file:".as_slice(), path.as_os_str().as_bytes()];
        assert_eq!(rule.print, listed.concat(), "{name}");
    }
    Ok(())
}

#[test]
fn a_key_and_a_key_file_exclude_each_other() -> Result<()> {
    let folder = TempDir::new()?;
    let path = key_file(&folder, b"secret\n")?;
    let path = path.to_str().context("path")?;
    for options in [["--key", "k", "--key-file", path], ["--key-file", path, "--key", "k"]] {
        let line = refused(1, &options)?;
        assert_eq!(line, "pkd: --key and --key-file cannot be used together");
    }
    Ok(())
}

#[test]
fn a_key_file_that_others_can_reach_is_accepted_with_a_warning() -> Result<()> {
    let folder = TempDir::new()?;
    let path = key_file(&folder, b"secret\n")?;
    let name = path.to_str().context("path")?;
    for (mode, warns) in [
        (0o600, false),
        (0o400, false),
        (0o700, false),
        (0o640, true),
        (0o604, true),
        (0o644, true),
        (0o620, true),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        let (rule, errors) = accepted(1, &["--key-file", name])?;
        assert_eq!(rule.key(), filled(b"secret", KEY_BYTES), "mode {mode:o}");
        let warning = format!(
            "Warning: pkd: key file {name}: mode {mode:04o} gives access to other users: use chmod 600\n"
        );
        assert_eq!(errors, if warns { &warning } else { "" }, "mode {mode:o}");
    }
    Ok(())
}

#[test]
fn a_key_file_that_is_a_pipe_does_not_hold_iptables() -> Result<()> {
    let folder = TempDir::new()?;
    let pipe = folder.path().join("pipe");
    succeed(Command::new("mkfifo").arg(&pipe))?;
    let built = built()?;
    // Nobody will ever write, so without the limit a failure would not end.
    let output = Command::new("timeout")
        .arg("20")
        .arg(built.options_test())
        .env("XTABLES_LIBDIR", &built.folder)
        .args(["1", "--key-file"])
        .arg(&pipe)
        .output()?;
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!("pkd: key file {}: not a regular file\n", pipe.display())
    );
    assert_eq!(output.status.code(), Some(2));
    Ok(())
}
