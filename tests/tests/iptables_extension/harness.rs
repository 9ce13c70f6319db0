//! Compiles the extension, and passes options to it through libxtables.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, bail, ensure};

pub(crate) const KEY_BYTES: usize = 40;
pub(crate) const TAG_BYTES: usize = 4;
const PATH_BYTES: usize = 256;

/// The compiled extension and what drives it.
pub(crate) struct Built {
    pub(crate) folder: PathBuf,
}

impl Built {
    pub(crate) fn extension(&self) -> PathBuf {
        self.folder.join("libxt_pkd.so")
    }

    pub(crate) fn options_test(&self) -> PathBuf {
        self.folder.join("options_test")
    }

    pub(crate) fn text_harness(&self) -> PathBuf {
        self.folder.join("text_harness")
    }
}

/// Compiles once; every test of this file uses the same.
pub(crate) fn built() -> Result<&'static Built> {
    static BUILT: OnceLock<Result<Built, String>> = OnceLock::new();
    BUILT
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

pub(crate) fn build() -> Result<Built> {
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

pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What the extension made of options that it accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// What iptables-save prints.
    pub(crate) save: Vec<u8>,
    /// What `iptables -L` prints.
    pub(crate) print: Vec<u8>,
    /// What iptables compares rules by and the kernel gets.
    pub(crate) info: Vec<u8>,
}

impl Rule {
    pub(crate) fn key(&self) -> &[u8] {
        &self.info[..KEY_BYTES]
    }

    pub(crate) fn tag(&self) -> &[u8] {
        &self.info[KEY_BYTES..KEY_BYTES + TAG_BYTES]
    }

    pub(crate) fn window(&self) -> &[u8] {
        &self.info[KEY_BYTES + TAG_BYTES..KEY_BYTES + TAG_BYTES + 4]
    }

    pub(crate) fn key_file(&self) -> &[u8] {
        &self.info[KEY_BYTES + TAG_BYTES + 4..KEY_BYTES + TAG_BYTES + 4 + PATH_BYTES]
    }
}

/// Exit code, standard output and standard error of the options' harness.
pub(crate) fn drive<A: AsRef<OsStr>>(revision: u8, options: &[A]) -> Result<(Option<i32>, Vec<u8>, String)> {
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
pub(crate) fn accepted<A: AsRef<OsStr>>(revision: u8, options: &[A]) -> Result<(Rule, String)> {
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
pub(crate) fn refused<A: AsRef<OsStr>>(revision: u8, options: &[A]) -> Result<String> {
    let (code, output, errors) = drive(revision, options)?;
    ensure!(code == Some(2), "exit code {code:?}, {}", String::from_utf8_lossy(&output));
    ensure!(output.is_empty(), "{}", String::from_utf8_lossy(&output));
    // libxtables ends its own messages with a line end, and iptables adds another.
    let errors = errors.trim_end_matches('\n');
    ensure!(errors.lines().count() == 1, "more than a line: {errors}");
    Ok(errors.to_owned())
}

pub(crate) fn bytes(hexadecimal: &str) -> Result<Vec<u8>> {
    hexadecimal
        .as_bytes()
        .chunks(2)
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
        .collect()
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn filled(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut filled = bytes.to_vec();
    filled.resize(size, 0);
    filled
}

/// Takes a line apart as iptables-restore does: double quotes hold a word together, a backslash
/// works only between them, a word has at most 1023 bytes.
pub(crate) fn split_as_iptables_restore(line: &[u8]) -> Result<Vec<OsString>> {
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
