//! `knock verify`.

use anyhow::Result;
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

#[test]
fn lines_of_a_dry_run_are_explained() -> Result<()> {
    let harness = Harness::new("lines_of_a_dry_run_are_explained")?;
    harness.file("key", KEY)?;
    harness.file("other", "another sesame")?;
    let line = |host: &str, key: &str| -> Result<String> {
        Ok(harness.knock(&["-n", "--key-file", key, "-t", "SSHK", "-p", "40000", host])?.stdout)
    };
    let (good, bad) = (line("gw", "key")?, line("nas", "other")?);
    let verify = ["verify", "--key-file", "key", "-t", "SSHK"];
    let explain = |words: &[&str], input: &str| {
        harness.knock_with_input(&[&verify[..], words].concat(), input.as_bytes())
    };
    // As one argument, as three, from standard input and from a file.
    let file = harness.file("lines", &good)?;
    let words: Vec<&str> = good.split_whitespace().collect();
    let ways =
        [explain(&[good.trim()], "")?, explain(&words, "")?, explain(&["-"], &good)?, explain(&[&file], "")?];
    for outcome in ways {
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
        assert!(outcome.stdout.starts_with("line 1, to gw port 40000\ntag      SSHK\n"), "{outcome:?}");
        assert!(outcome.stdout.contains("digest   valid for this key and port 40000\nverdict  accept\n"));
    }
    let both = explain(&["-"], &format!("{good}\n{bad}"))?;
    assert_eq!(both.code, Some(1));
    assert!(both.stdout.contains("\nline 3, to nas port 40000\n"), "{both:?}");
    assert!(
        both.stdout.ends_with("digest: wrong key, wrong port, or altered\n2 knocks, 1 accepted\n"),
        "{both:?}"
    );
    // A given port is the one that counts.
    assert_eq!(explain(&["-p", "40001", "-"], &good)?.code, Some(1));
    // Bound to the address that the line has; its own the gateway has to see.
    let knock = ["-n", "--format", "2", "--key-file", "key", "-p", "40000", "--bind"];
    for (bind, source, code) in
        [("destination", "192.0.2.9", 0), ("source,destination", "192.0.2.9", 1), ("source", "127.0.0.1", 0)]
    {
        let bound = harness.knock(&[&knock[..], &[bind, "127.0.0.1"]].concat())?.stdout;
        let args = ["verify", "--key-file", "key", "--source", source, "-"];
        let outcome = harness.knock_with_input(&args, bound.as_bytes())?;
        assert_eq!(outcome.code, Some(code), "{bind}: {outcome:?}");
    }
    Ok(())
}

#[test]
fn a_profile_is_the_gateway() -> Result<()> {
    let harness = Harness::new("a_profile_is_the_gateway")?;
    harness.file("key", KEY)?;
    let profiles = "[host.home]\naddress = 'gw'\nkey_file = 'key'\ntag = 'SSHK'\nwindow = 20\ntime_offset = 3600\n\
                    [host.two]\nkey_file = 'key'\nformat = '2'\n[host.old]\nkey_file = 'key'\nformat = 'pre-1.0'\n";
    let file = harness.file("p.toml", profiles)?;
    let verify = |profile: &str, options: &[&str], line: &str| {
        let args = [&["verify", "-c", &file, "--profile", profile][..], options, &["-"]].concat();
        harness.knock_with_input(&args, line.as_bytes())
    };
    // The clock of this gateway is an hour ahead, and so is the time in its knocks.
    for name in ["home", "two"] {
        let line = harness.knock(&["-n", "-c", &file, "--bind", "none", "--format", "2", name])?.stdout;
        let line = if name == "home" { harness.knock(&["-n", "-c", &file, name])?.stdout } else { line };
        assert_eq!(verify(name, &[], &line)?.code, Some(0), "{name}");
        assert_eq!(verify(name, &["-t", "OTHR"], &line)?.code, Some(1), "{name}");
    }
    let hex = seal(Some(40_000))?;
    let late = verify("home", &["--at", "1800000020"], &hex)?;
    assert!(late.code == Some(0) && late.stdout.contains("within the window of 20 s"), "{late:?}");
    let shorter = verify("home", &["--at", "1800000020", "--window", "19"], &hex)?;
    assert!(shorter.code == Some(1) && shorter.stdout.contains("outside the window of 19 s"), "{shorter:?}");
    // Its gateway decides, even if the knock is a good one in the other format.
    let other = verify("two", &["-t", "SSHK"], &hex)?;
    assert!(other.stdout.starts_with("format   classic; the gateway expects 2\n"), "{other:?}");
    let two = harness.knock(&["-n", "-c", &file, "--bind", "none", "two"])?.stdout;
    let other = verify("home", &["-t", "PKD0"], &two)?;
    assert_eq!(other.code, Some(1));
    assert!(other.stdout.contains("\nformat   2; the gateway expects classic\n"), "{other:?}");
    // No gateway of today accepts such knocks, so nothing is expected.
    let old = verify("old", &["-t", "SSHK", "-p", "40000"], &seal(None)?)?;
    assert!(old.stdout.contains("digest   valid for this key, in the format before 1.0"), "{old:?}");
    Ok(())
}
