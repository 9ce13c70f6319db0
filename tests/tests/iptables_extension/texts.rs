//! Keys and tags in their written form.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use pkd_core::{Key, SecretError, Tag};
use tempfile::TempDir;

use crate::{
    harness::{KEY_BYTES, TAG_BYTES, built, hexadecimal},
    random::Random,
};

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
