//! The iptables extension, driven through libxtables as iptables drives it, without a kernel.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use pkd_core::{Key, SecretError, Tag};
use tempfile::TempDir;

const KEY_BYTES: usize = 40;
const TAG_BYTES: usize = 4;

/// The compiled extension and what drives it.
struct Built {
    folder: PathBuf,
}

impl Built {
    fn extension(&self) -> PathBuf {
        self.folder.join("libxt_pkd.so")
    }

    fn options_test(&self) -> PathBuf {
        self.folder.join("options_test")
    }

    fn text_harness(&self) -> PathBuf {
        self.folder.join("text_harness")
    }
}

/// Compiles once; every test of this file uses the same.
fn built() -> Result<&'static Built> {
    static BUILT: OnceLock<Result<Built, String>> = OnceLock::new();
    BUILT
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

fn build() -> Result<Built> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../linux/iptables");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("iptables_extension");
    fs::create_dir_all(&folder)?;
    let built = Built { folder };

    let header = Command::new("cc")
        .args(["-fsyntax-only", "-include", "xtables.h", "-x", "c", "/dev/null"])
        .output()
        .context("cannot run cc: install a C compiler")?;
    if !header.status.success() {
        bail!("xtables.h not found: install libxtables-dev");
    }

    let mut out = OsString::from("OUT=");
    out.push(&built.folder);
    succeed(
        Command::new("make").args(["--always-make", "--silent", "-C"]).arg(&source).arg(out).arg("CC=cc"),
    )?;
    for (program, library) in [(built.text_harness(), None), (built.options_test(), Some("-lxtables"))] {
        let name = program.file_name().context("a program has a name")?;
        succeed(
            Command::new("cc")
                .args(["-Wall", "-Wextra", "-Werror", "-O2", "-o"])
                .arg(&program)
                .arg(source.join("test").join(name).with_extension("c"))
                .args(library),
        )?;
    }
    Ok(built)
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What the extension made of options that it accepted.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    /// What iptables-save prints.
    save: Vec<u8>,
    /// What `iptables -L` prints.
    print: Vec<u8>,
    /// What iptables compares rules by and the kernel gets.
    info: Vec<u8>,
}

impl Rule {
    fn key(&self) -> &[u8] {
        &self.info[..KEY_BYTES]
    }

    fn tag(&self) -> &[u8] {
        &self.info[KEY_BYTES..KEY_BYTES + TAG_BYTES]
    }

    fn window(&self) -> &[u8] {
        &self.info[KEY_BYTES + TAG_BYTES..KEY_BYTES + TAG_BYTES + 4]
    }

    fn key_file(&self) -> &[u8] {
        &self.info[KEY_BYTES + TAG_BYTES + 4..]
    }
}

/// Exit code, standard output and standard error of the options' harness.
fn drive<A: AsRef<OsStr>>(revision: u8, options: &[A]) -> Result<(Option<i32>, Vec<u8>, String)> {
    let built = built()?;
    let output = Command::new(built.options_test())
        .env("XTABLES_LIBDIR", &built.folder)
        .env("LC_ALL", "C")
        .arg(revision.to_string())
        .args(options)
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code(), output.stdout, errors))
}

/// The rule, and what was said on standard error.
fn accepted<A: AsRef<OsStr>>(revision: u8, options: &[A]) -> Result<(Rule, String)> {
    let (code, output, errors) = drive(revision, options)?;
    ensure!(code == Some(0), "exit code {code:?}: {errors}");
    let mut lines = output.split(|&byte| byte == b'\n');
    let mut take = |name: &str| {
        lines
            .next()
            .and_then(|line| line.strip_prefix(name.as_bytes()))
            .map(<[u8]>::to_vec)
            .with_context(|| format!("no line {name} in {}", String::from_utf8_lossy(&output)))
    };
    let (save, print, info) = (take("save:")?, take("print:")?, take("info:")?);
    let info = bytes(std::str::from_utf8(&info)?)?;
    Ok((Rule { save, print, info }, errors))
}

/// The one line that options are refused with; nothing else is printed.
fn refused<A: AsRef<OsStr>>(revision: u8, options: &[A]) -> Result<String> {
    let (code, output, errors) = drive(revision, options)?;
    ensure!(code == Some(2), "exit code {code:?}, {}", String::from_utf8_lossy(&output));
    ensure!(output.is_empty(), "{}", String::from_utf8_lossy(&output));
    // libxtables ends its own messages with a line end, and iptables adds another.
    let errors = errors.trim_end_matches('\n');
    ensure!(errors.lines().count() == 1, "more than a line: {errors}");
    Ok(errors.to_owned())
}

fn bytes(hexadecimal: &str) -> Result<Vec<u8>> {
    hexadecimal
        .as_bytes()
        .chunks(2)
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
        .collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn filled(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut filled = bytes.to_vec();
    filled.resize(size, 0);
    filled
}

/// Takes a line apart as iptables-restore does: double quotes hold a word together, a backslash
/// works only between them, a word has at most 1023 bytes.
fn split_as_iptables_restore(line: &[u8]) -> Result<Vec<OsString>> {
    let (mut words, mut word) = (Vec::new(), Vec::new());
    let (mut quoted, mut escaped) = (false, false);
    let mut end = |word: &mut Vec<u8>| -> Result<()> {
        ensure!(word.len() < 1024, "a word of {} bytes", word.len());
        if !word.is_empty() {
            words.push(OsString::from_vec(std::mem::take(word)));
        }
        Ok(())
    };
    for &byte in line {
        match byte {
            _ if escaped => {
                word.push(byte);
                escaped = false;
            }
            b'\\' if quoted => escaped = true,
            b'"' if quoted => {
                quoted = false;
                end(&mut word)?;
            }
            b'"' => quoted = true,
            b' ' | b'\t' | b'\n' if !quoted => end(&mut word)?,
            _ => word.push(byte),
        }
    }
    end(&mut word)?;
    ensure!(!quoted, "a quote stays open");
    Ok(words)
}

#[test]
fn texts_are_read_as_the_vectors_say() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/text.json");
    let vectors: serde_json::Value = serde_json::from_slice(&fs::read(path)?)?;
    let cases = vectors["cases"].as_array().context("cases")?;
    ensure!(cases.len() >= 40, "{} cases", cases.len());

    let mut input = String::new();
    let mut expected = Vec::new();
    for case in cases {
        let text = case["text"].as_str().context("text")?;
        writeln!(input, "{} {}", case["size"], hexadecimal(text.as_bytes()))?;
        expected.push(match case["error"].as_str() {
            None => format!("ok {}", case["bytes_hex"].as_str().context("bytes_hex")?),
            Some("Empty") => "Empty".to_owned(),
            Some("TooLong") => format!("TooLong {}", case["given"]),
            Some("NotHexadecimal") => format!("NotHexadecimal {}", case["position"]),
            Some(other) => bail!("unknown error {other}"),
        });
    }

    let mut harness =
        Command::new(built()?.text_harness()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    harness.stdin.take().context("standard input")?.write_all(input.as_bytes())?;
    let output = String::from_utf8(harness.wait_with_output()?.stdout)?;
    let answers: Vec<&str> = output.lines().collect();
    assert_eq!(answers.len(), expected.len());
    for (row, (answer, expected)) in answers.iter().zip(&expected).enumerate() {
        assert_eq!(answer, expected, "row {row}: {}", cases[row]);
    }
    Ok(())
}

#[test]
fn random_texts_are_read_as_pkd_core_reads_them() -> Result<()> {
    const TEXTS: usize = 100_000;
    let mut random = Random(2026);
    let (mut input, mut expected) = (String::new(), Vec::new());
    let mut kinds = std::collections::BTreeMap::new();
    for row in 0..TEXTS {
        let size = [TAG_BYTES, KEY_BYTES][row % 2];
        let text = random.text(size);
        writeln!(input, "{size} {}", hexadecimal(text.as_bytes()))?;
        let read = if size == TAG_BYTES {
            Tag::parse(&text).map(|tag| tag.0.to_vec())
        } else {
            Key::parse(&text).map(|key| key.as_bytes().to_vec())
        };
        let answer = match read {
            Ok(bytes) => format!("ok {}", hexadecimal(&bytes)),
            Err(SecretError::Empty { .. } | SecretError::NoDigits) => "Empty".to_owned(),
            Err(SecretError::TooLong { given, .. }) => format!("TooLong {given}"),
            Err(SecretError::NotHexadecimal { position }) => format!("NotHexadecimal {position}"),
            Err(other) => bail!("unknown error {other}"),
        };
        *kinds.entry(answer.split(' ').next().unwrap_or_default().to_owned()).or_insert(0_usize) += 1;
        expected.push((text, answer));
    }
    ensure!(
        kinds.len() == 4 && kinds.values().all(|count| *count > 100),
        "too little of some kind: {kinds:?}"
    );

    let folder = TempDir::new()?;
    let path = folder.path().join("texts");
    fs::write(&path, input)?;
    let output = Command::new(built()?.text_harness()).stdin(fs::File::open(path)?).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout)?;
    assert_eq!(output.lines().count(), TEXTS);
    for (row, (answer, (text, expected))) in output.lines().zip(&expected).enumerate() {
        assert_eq!(answer, expected, "row {row}: {text:?}");
    }
    Ok(())
}

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
    for revision in [0, 1] {
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

/// `SplitMix64`: the same rows in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed >> 33) % limit as u64).unwrap_or(0)
    }

    fn pick(&mut self, from: &[u8]) -> u8 {
        from[self.below(from.len())]
    }

    /// A tag or key as somebody might write it, often nearly right.
    fn text(&mut self, size: usize) -> String {
        const DIGITS: &[u8] = b"0123456789abcdefABCDEF";
        // No word has a NUL, and no file's line an end.
        let any = |random: &mut Self| match random.below(8) {
            0 => char::from_u32(u32::try_from(random.below(0x11_0000)).unwrap_or(0)).unwrap_or('\u{7f}'),
            _ => char::from(u8::try_from(1 + random.below(0x7f)).unwrap_or(1)),
        };
        let digits = |random: &mut Self, length| -> String {
            (0..length).map(|_| char::from(DIGITS[random.below(DIGITS.len())])).collect()
        };
        let near = [size - 1, size, size + 1][self.below(3)];
        let mut text = match self.below(4) {
            0 => (0..near).map(|_| any(self)).collect(),
            1 => format!("0x{}", digits(self, 2 * near)),
            2 => {
                let length = self.below(2 * size + 4);
                format!("0x{}", digits(self, length))
            }
            _ => {
                let length = self.below(size + 2);
                (0..length).map(|_| any(self)).collect::<String>()
            }
        };
        if self.below(4) == 0 {
            let places: Vec<usize> =
                text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
            let letter = any(self);
            text.insert(places[self.below(places.len())], letter);
        }
        text.replace('\0', "0")
    }

    /// A text to give as an option, and the bytes that it stands for.
    fn secret(&mut self, size: usize) -> (OsString, Vec<u8>) {
        let length = 1 + self.below(size);
        let kind = self.below(4);
        let secret: Vec<u8> = (0..length)
            .map(|_| match kind {
                0 => self.pick(b"abcXYZ0189_-.:,+/="),
                1 => self.pick(b" \t\n\r\"'\\`$!#-0xX\x01\x7f\x80\xc3\xbc\xff"),
                2 => self.pick(b"\0\0\x0041x\""),
                _ => self.pick(&(0..=255).collect::<Vec<u8>>()),
            })
            .collect();
        let given = if secret.contains(&0) || secret.starts_with(b"0x") || self.below(2) == 0 {
            format!("0x{}", hexadecimal(&secret)).into_bytes()
        } else {
            secret.clone()
        };
        (OsString::from_vec(given), filled(&secret, size))
    }
}

#[test]
fn every_key_and_tag_survives_save_and_restore() -> Result<()> {
    let mut random = Random(2026);
    for row in 0..200 {
        let revision = u8::try_from(row % 2)?;
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
        let (rule, _) = accepted(row % 2, &options)?;
        assert_eq!(String::from_utf8_lossy(&rule.print), " pkd tag:SSHK window:10 key:hidden", "row {row}");
    }
    let (rule, _) = accepted(1, &["--key", "k", "--tag", "a b", "--window", "0"])?;
    assert_eq!(String::from_utf8_lossy(&rule.print), " pkd tag:0x612062 window:0 key:hidden");
    Ok(())
}

#[test]
fn each_revision_gives_the_kernel_its_own_layout() -> Result<()> {
    let options = ["--key", "secret"];
    let rule = [filled(b"secret", KEY_BYTES), b"PKD0".to_vec(), 10_u32.to_ne_bytes().to_vec()].concat();
    assert_eq!(accepted(0, &options)?.0.info, rule);
    assert_eq!(accepted(1, &options)?.0.info, filled(&rule, 304));
    // A kernel that serves more than we know gets the highest that we know.
    assert_eq!(accepted(2, &options)?.0.info, filled(&rule, 304));
    Ok(())
}

#[test]
fn the_help_names_every_option_with_its_default_and_limit() -> Result<()> {
    for revision in [0, 1] {
        let (code, output, errors) = drive(revision, &["--help"])?;
        assert_eq!((code, errors.as_str()), (Some(0), ""));
        let help = String::from_utf8(output)?;
        for part in [
            "--key KEY",
            "at most 40 bytes",
            "--key-file PATH",
            "at most 255 bytes",
            "--tag TAG",
            "at most 4 bytes (default PKD0)",
            "--window SECONDS",
            "0 to 4294967295 (default 10)",
            "no clock",
            "0xa1b is a1 b0",
            "ps shows it",
        ] {
            assert!(help.contains(part), "{part} is not in:\n{help}");
        }
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    }
    Ok(())
}

#[test]
fn the_extension_is_smaller_than_16_kib() -> Result<()> {
    let size = fs::metadata(built()?.extension())?.len();
    assert!(size < 16 * 1024, "{size} bytes");
    Ok(())
}
