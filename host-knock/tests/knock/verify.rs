//! `knock verify`.

use anyhow::{Context as _, Result};
use pkd_core::{Key, Knock, KnockParams, Port, Tag, UnixSeconds};

use crate::harness::{Harness, KEY};

const TIME: u64 = 1_800_000_000;

fn seal(port: Option<u16>) -> Result<String> {
    let key = Key::parse(KEY)?;
    let seal = KnockParams { key: &key, tag: Tag::parse("SSHK")?, time: UnixSeconds(TIME), nonce: [7; 12] };
    let payload = port.map_or_else(|| Knock::seal_before_1_0(&seal), |port| Knock::seal(&seal, Port(port)));
    Ok(payload.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}")))
}

#[test]
fn each_field_and_the_verdict_are_printed() -> Result<()> {
    let harness = Harness::new("each_field_and_the_verdict_are_printed")?;
    harness.file("key", KEY)?;
    let good = seal(Some(40_000))?;
    let altered = format!("{}00", &good[..110]);
    let old = seal(None)?;
    let text = "\
tag      SSHK
time     1800000000, Fri, 15 Jan 2027 08:00:00 GMT, 3 s behind the gateway, within the window of 10 s
nonce    070707070707070707070707
digest   valid for this key and port 40000
verdict  accept
";
    // knock, options, expected output, exit code
    let rows: &[(&str, &[&str], &str, i32)] = &[
        (&good, &["-p", "40000"], text, 0),
        (&good, &[], text, 0),
        (
            &good,
            &["-p", "40001"],
            "digest   valid for this key and port 40000, not for port 40001\nverdict  ignore: digest: wrong key, wrong port, or altered\n",
            1,
        ),
        (&good, &["-t", "OTHR"], "tag      SSHK; the gateway expects OTHR\n", 1),
        (&good, &["--at", "1800000011"], "11 s behind the gateway, outside the window of 10 s\n", 1),
        (&good, &["--at", "1799999989"], "11 s ahead of the gateway, outside the window of 10 s\n", 1),
        (&good, &["--at", "1", "--window", "0"], "verdict  accept\n", 0),
        (&altered, &["-p", "40000"], "digest   invalid: another key, or altered\n", 1),
        (
            &old,
            &["-p", "40000"],
            "digest   valid for this key, in the format before 1.0 without a port; current gateways ignore it\n",
            1,
        ),
        ("00ff", &[], "length   2 bytes; a knock has 56\nverdict  ignore: length\n", 1),
    ];
    for (row, (hex, options, line, code)) in rows.iter().enumerate() {
        let mut args = vec!["verify", "--key-file", "key"];
        if !options.contains(&"-t") {
            args.extend(["-t", "SSHK"]);
        }
        if !options.contains(&"--at") {
            args.extend(["--at", "1800000003"]);
        }
        args.extend(*options);
        for input in [false, true] {
            let outcome = if input {
                harness.knock_with_input(&[args.as_slice(), &["-"]].concat(), format!("0x{hex}\n").as_bytes())
            } else {
                harness.knock(&[args.as_slice(), &[hex]].concat())
            };
            let outcome = outcome?;
            assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(*code), ""), "row {row}");
            assert!(outcome.stdout.contains(line), "row {row}: {}", outcome.stdout);
        }
    }
    Ok(())
}

/// A capture of raw IP, as `tcpdump -y RAW` writes it, with these UDP payloads to port 40000.
fn capture(payloads: &[&[u8]]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101] {
        file.extend(word.to_le_bytes());
    }
    for payload in payloads {
        let udp = u16::try_from(8 + payload.len()).unwrap_or(0);
        let mut packet = vec![0x45, 0];
        packet.extend((20 + udp).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 192, 0, 2, 1]);
        packet.extend([0x30, 0x39, 0x9c, 0x40]);
        packet.extend(udp.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(*payload);
        let length = u32::try_from(packet.len()).unwrap_or(0);
        for word in [1_800_000_002_u32, 0, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(packet);
    }
    file
}

#[test]
fn a_capture_is_checked_as_by_a_gateway() -> Result<()> {
    let harness = Harness::new("a_capture_is_checked_as_by_a_gateway")?;
    harness.file("key", KEY)?;
    let hex = seal(Some(40_000))?;
    let digits: Result<Vec<u8>, _> =
        (0..56).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16)).collect();
    let good = digits?;
    let file = capture(&[&good, b"no knock", &good]);
    let args = ["verify", "--key-file", "key", "-t", "SSHK"];
    let name = harness.file("x.pcap", &file)?;
    let from_file = harness.knock(&[args.as_slice(), &[&name]].concat())?;
    let from_input = harness.knock_with_input(&[args.as_slice(), &["-"]].concat(), &file)?;
    assert_eq!(from_file.stdout, from_input.stdout);
    assert_eq!((from_file.code, from_file.stderr.as_str()), (Some(1), ""));
    let lines: Vec<_> = from_file.stdout.lines().collect();
    assert_eq!(lines[0], "packet 1, from 192.0.2.7 to port 40000");
    assert_eq!((lines[5], lines[6]), ("verdict  accept", "packet 3, from 192.0.2.7 to port 40000"));
    assert!(lines[11].starts_with("verdict  ignore: replay: "), "{lines:?}");
    let last = lines.last().context("no lines")?;
    assert_eq!(*last, "3 UDP datagrams, 2 with the length of a knock, 1 accepted");
    let once = harness.knock_with_input(&[args.as_slice(), &["-"]].concat(), &capture(&[&good]))?;
    assert_eq!(once.code, Some(0));
    // Truncated anywhere, it is an error or a shorter capture, never a panic.
    for length in 24..file.len() {
        let outcome = harness.knock_with_input(&[args.as_slice(), &["-"]].concat(), &file[..length])?;
        assert!(matches!(outcome.code, Some(1 | 2)) || length >= 24 + 16 + 84, "{length}: {outcome:?}");
    }
    Ok(())
}
