//! What positional arguments mean: `HOST [TAG [PORT]]` or a list of hosts.

use anyhow::{Context as _, Result, ensure};

use crate::harness::{Harness, KEY};

/// Host, tag, and the port unless it is random.
type Knock = (&'static str, &'static str, Option<u16>);

/// Positional arguments, options, prompt, knocks.
type Row<'a> = (&'a [&'a str], &'a [&'a str], Option<&'a str>, &'a [Knock]);

const INI: &str = "\
[office]
host = gw.example.net
key = open sesame
tag = OFFC
port = 4711
[nas]
key = open sesame
tag = NASK
";

#[test]
fn positional_arguments_mean_what_help_says() -> Result<()> {
    let harness = Harness::new("positional_arguments_mean_what_help_says")?;
    harness.file(".ipt_pkd.ini", INI)?;
    let key = harness.file("key", KEY)?;
    let from_file = ["--key-file", key.as_str()];
    let rows: &[Row] = &[
        (&["gw"], &[], Some("Key for gw: "), &[("gw", "PKD0", None)]),
        // The form of the original.
        (&["gw", "SSHK"], &[], Some("Key for gw (tag SSHK): "), &[("gw", "SSHK", None)]),
        (&["gw", "a"], &[], Some("Key for gw (tag a): "), &[("gw", "a", None)]),
        (&["gw", "0x53534800"], &[], Some("Key for gw (tag 0x53534800): "), &[("gw", "SSH", None)]),
        (&["10.0.0.1", "SSHK"], &[], Some("Key for 10.0.0.1 (tag SSHK): "), &[("10.0.0.1", "SSHK", None)]),
        (&["gw", "SSHK", "500"], &[], Some("Key for gw (tag SSHK): "), &[("gw", "SSHK", Some(500))]),
        (&["gw", "2222", "500"], &[], Some("Key for gw (tag 2222): "), &[("gw", "2222", Some(500))]),
        (&["::1", "0x2e", "65535"], &[], Some("Key for ::1 (tag 0x2e): "), &[("::1", ".", Some(65535))]),
        (&["office", "SSHK", "500"], &[], None, &[("gw.example.net", "SSHK", Some(500))]),
        // Several hosts.
        (
            &["gw", "gate5"],
            &[],
            Some("Key for gw, gate5: "),
            &[("gw", "PKD0", None), ("gate5", "PKD0", None)],
        ),
        (&["gw", "a.b"], &[], Some("Key for gw, a.b: "), &[("gw", "PKD0", None), ("a.b", "PKD0", None)]),
        (&["gw", "::1"], &[], Some("Key for gw, ::1: "), &[("gw", "PKD0", None), ("::1", "PKD0", None)]),
        (&["gw", "nas"], &[], Some("Key for gw: "), &[("gw", "PKD0", None), ("nas", "NASK", None)]),
        (
            &["office", "gw"],
            &[],
            Some("Key for gw: "),
            &[("gw.example.net", "OFFC", Some(4711)), ("gw", "PKD0", None)],
        ),
        (&["office", "nas"], &[], None, &[("gw.example.net", "OFFC", Some(4711)), ("nas", "NASK", None)]),
        (
            &["a", "b", "c"],
            &[],
            Some("Key for a, b, c: "),
            &[("a", "PKD0", None), ("b", "PKD0", None), ("c", "PKD0", None)],
        ),
        // With such an option all words are hosts.
        (&["gw", "SSHK"], &from_file, None, &[("gw", "PKD0", None), ("SSHK", "PKD0", None)]),
        (
            &["gw", "b"],
            &["--tag", "SSHK"],
            Some("Key for gw, b: "),
            &[("gw", "SSHK", None), ("b", "SSHK", None)],
        ),
        (
            &["gw", "b"],
            &["-p", "9"],
            Some("Key for gw, b: "),
            &[("gw", "PKD0", Some(9)), ("b", "PKD0", Some(9))],
        ),
        (&["gw", "b"], &["-q", "--key", KEY], None, &[("gw", "PKD0", None), ("b", "PKD0", None)]),
    ];
    for (row, (words, options, question, expected)) in rows.iter().enumerate() {
        let args = [&["--dry-run"], *options, *words].concat();
        let outcome = match question {
            Some(_) => harness.knock_on_terminal(&args, &format!("{KEY}\n")),
            None => harness.knock(&args),
        };
        let check = || -> Result<()> {
            let outcome = outcome?;
            ensure!(outcome.terminal.trim_end() == question.unwrap_or_default().trim_end(), "{outcome:?}");
            let knocks = outcome.knocks()?;
            ensure!(knocks.len() == expected.len(), "{outcome:?}");
            for (knock, (host, tag, port)) in knocks.iter().zip(*expected) {
                ensure!(knock.host == *host && port.is_none_or(|port| port == knock.port), "{knock:?}");
                knock.verify(KEY, tag)?;
            }
            Ok(())
        };
        check().with_context(|| format!("row {row}: {words:?} {options:?}"))?;
    }
    Ok(())
}

#[test]
fn addresses_are_accepted_in_all_forms() -> Result<()> {
    let harness = Harness::new("addresses_are_accepted_in_all_forms")?;
    let key = harness.file("key", KEY)?;
    let rows = [
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("[fe80::1%eth0]", "fe80::1%eth0"),
        ("gw.example.net", "gw.example.net"),
        ("gw.example.net.", "gw.example.net."),
        ("under_score", "under_score"),
        ("3com.example", "3com.example"),
    ];
    for (row, (host, printed)) in rows.into_iter().enumerate() {
        let outcome = harness.knock(&["-n", "--key-file", &key, host])?;
        let knocks = outcome.knocks().with_context(|| format!("row {row}"))?;
        assert_eq!(
            knocks.iter().map(|knock| knock.host.as_str()).collect::<Vec<_>>(),
            [printed],
            "row {row}"
        );
    }
    Ok(())
}

#[test]
fn random_ports_and_nonces_differ() -> Result<()> {
    let harness = Harness::new("random_ports_and_nonces_differ")?;
    let key = harness.file("key", KEY)?;
    let hosts: Vec<_> = (0..500).map(|number| format!("host{number}.example")).collect();
    let mut args = vec!["-n", "--key-file", key.as_str()];
    args.extend(hosts.iter().map(String::as_str));
    let knocks = harness.knock(&args)?.knocks()?;
    assert_eq!(knocks.len(), hosts.len());
    let mut ports: Vec<_> = knocks.iter().map(|knock| knock.port).collect();
    let mut nonces: Vec<_> = knocks.iter().map(|knock| knock.payload[12..24].to_vec()).collect();
    assert!(ports.iter().all(|port| (1024..=50_000).contains(port)), "{ports:?}");
    ports.sort_unstable();
    ports.dedup();
    nonces.sort_unstable();
    nonces.dedup();
    assert!(ports.len() > hosts.len() / 2, "{ports:?}");
    assert_eq!(nonces.len(), hosts.len());
    Ok(())
}
