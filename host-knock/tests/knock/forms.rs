//! What `knock keygen --for` prints, pasted into the real thing. That for pkdd and iptables is pasted in pkdd's tests and in
//! `net/rules.rs`.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use pkd_netns::process::{built, text};

use crate::harness::Harness;

/// The rest of a board's file.
const EXAMPLE: &str = include_str!("../../../firmware/config/example.toml");

/// The example with the printed lines in place of its own port, services and rules.
fn board(printed: &str) -> Result<String> {
    let (_, form) = printed.split_once("At its start:\n").context("no start")?;
    let (start, end) = form.split_once("and at its end, ").context("no end")?;
    let (_, end) = end.split_once('\n').context("no services")?;
    let (head, _) = EXAMPLE.split_once("[[service]]").context("no service")?;
    let head: Vec<_> = head.lines().filter(|line| !line.starts_with("knock_port")).collect();
    Ok(format!("{start}{}\n{end}", head.join("\n")))
}

#[test]
fn the_lines_for_the_firmware_are_a_configuration_of_the_gateway() -> Result<()> {
    let program = built("pkd-gateway-config", "gateway-config")?;
    let harness = Harness::new("the lines for the firmware's \"gateway\"")?;
    let convert = |name: &str, text: &str| -> Result<(bool, String, Vec<u8>)> {
        let (from, to) = (harness.file(&format!("{name}.toml"), text)?, harness.home().join(name));
        let output = Command::new(&program).arg(from).arg(&to).output()?;
        let bytes = if to.exists() { fs::read(&to)? } else { Vec::new() };
        Ok((output.status.success(), self::text(&output.stderr), bytes))
    };
    let rows: [(&str, &[&str], &str); 4] = [
        ("plant", &["--service", "plc=502"], "40000"),
        ("nas", &[], "40000"),
        (
            "my-office.1",
            &["--service", "a-b=1194/udp", "--service", "c=443", "--tag", "a'\\\"", "-p", "41000"],
            "41000",
        ),
        ("old", &["--format", "classic", "--tag", "0x00ff"], "40000"),
    ];
    for (name, words, port) in rows {
        let keygen = [&["keygen", name, "--address", "192.168.1.9", "--for", "firmware"], words].concat();
        let made = harness.knock(&keygen)?;
        ensure!(made.code == Some(0), "{name}: {made:?}");
        let text = board(&made.stdout)?;
        ensure!(text.starts_with(&format!("knock_port = {port}\n")), "{text}");
        let (is_good, said, bytes) = convert(name, &text)?;
        ensure!(is_good && said.is_empty(), "{name}: {said}\n{text}");
        let key = fs::read_to_string(harness.home().join(format!(".config/knock/keys/{name}.key")))?;
        let key: Vec<u8> = (2..key.trim_end().len())
            .step_by(2)
            .map(|place| u8::from_str_radix(&key[place..place + 2], 16))
            .collect::<Result<_, _>>()?;
        ensure!(bytes.windows(32).any(|window| window == key), "{name}: another key is in the configuration");
    }
    // Without a profile, too; and a file that is not there is noticed.
    let made = harness.knock(&["keygen", "--for", "firmware", "-o", "alone.key"])?;
    let text = board(&made.stdout)?;
    let (is_good, said, _) = convert("alone", &text)?;
    ensure!(is_good && Path::new(harness.home()).join("alone.key").exists(), "{said}\n{text}");
    let (is_good, said, _) = convert("none", &text.replace("alone.key", "none.key"))?;
    ensure!(!is_good && said.contains("none.key"), "{said}");
    Ok(())
}
