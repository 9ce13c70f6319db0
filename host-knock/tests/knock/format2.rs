//! Knocks of format 2, as a gateway at the other end of loopback judges them.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use pkd_core::{
    Key, Packet, Port, Reason, ReplayCache, Tag, UnixMillis, Verdict, Window,
    format2::{Addresses, Bindings, Rule},
};

use crate::harness::{Harness, KEY, LIMIT};

/// The clock, in milliseconds.
fn now() -> Result<UnixMillis> {
    Ok(UnixMillis(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?))
}

/// A gateway that has seen nothing yet.
struct Gateway {
    rule: Rule,
    cache: ReplayCache<16, UnixMillis>,
}

impl Gateway {
    fn new(tag: &str, require: Bindings) -> Result<Self> {
        let window = Window::from_secs(u32::try_from(LIMIT.as_secs())?);
        let rule = Rule::new(&Key::parse(KEY)?, Tag::parse(tag)?, window, require);
        Ok(Self { rule, cache: ReplayCache::new(UnixMillis(0)) })
    }

    fn verdict(&mut self, payload: &[u8], port: u16, source: &str, destination: &str) -> Result<Verdict> {
        let (source, destination): (IpAddr, IpAddr) = (source.parse()?, destination.parse()?);
        let now = now()?;
        let hints = self.rule.hints(now);
        let packet = Packet { destination_port: Port(port), payload };
        let verdict = Addresses::with(source, destination, |addresses| {
            self.rule.verify(&hints, &mut self.cache, now, &packet, addresses, &[])
        });
        verdict.context("two families")
    }
}

fn socket(address: &str) -> Result<(UdpSocket, u16)> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(LIMIT))?;
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

fn receive(socket: &UdpSocket) -> Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 2048];
    let (length, source) = socket.recv_from(&mut buffer).context("no datagram")?;
    Ok((buffer[..length].to_vec(), source))
}

#[test]
fn a_knock_is_good_for_what_it_is_bound_to() -> Result<()> {
    let harness = Harness::new("a_knock_is_good_for_what_it_is_bound_to")?;
    harness.file("key", KEY)?;
    let digest = Verdict::Ignore(Reason::Digest);
    // bind, address of the gateway, what it requires, verdicts: elsewhere seen from, elsewhere seen at, as sent, again
    let rows = [
        (None, "127.0.0.1", Bindings::NONE, [Verdict::Accept; 2], Verdict::Accept),
        (Some("none"), "127.0.0.1", Bindings::NONE, [Verdict::Accept; 2], Verdict::Accept),
        (Some("source"), "127.0.0.1", Bindings::SOURCE, [digest, Verdict::Accept], Verdict::Accept),
        (Some("destination"), "127.0.0.1", Bindings::NONE, [Verdict::Accept, digest], Verdict::Accept),
        (Some("source,destination"), "127.0.0.1", Bindings::NONE, [digest; 2], Verdict::Accept),
        (Some("source,destination"), "::1", Bindings::NONE, [digest; 2], Verdict::Accept),
        (
            Some("destination"),
            "::1",
            Bindings::SOURCE,
            [Verdict::Ignore(Reason::Request), digest],
            Verdict::Ignore(Reason::Request),
        ),
    ];
    for (row, (bind, address, require, elsewhere, expected)) in rows.into_iter().enumerate() {
        let bracketed = if address.contains(':') { format!("[{address}]:0") } else { format!("{address}:0") };
        let (gateway, port) = socket(&bracketed)?;
        let port_text = port.to_string();
        let mut args = vec!["--format", "2", "--key-file", "key", "-t", "SSHK", "-p", &port_text, address];
        if let Some(bind) = bind {
            args.extend(["--bind", bind]);
        }
        let outcome = harness.knock(&args)?;
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "row {row}");
        let (payload, source) = receive(&gateway)?;
        let source = source.ip().to_string();
        let other = if address.contains(':') { "2620:fe::9" } else { "9.9.9.9" };
        let seen = |source: &str, destination: &str| {
            Gateway::new("SSHK", require)?.verdict(&payload, port, source, destination)
        };
        assert_eq!(seen(other, address)?, elsewhere[0], "row {row}, from elsewhere");
        assert_eq!(seen(&source, other)?, elsewhere[1], "row {row}, at another gateway");
        let mut gateway = Gateway::new("SSHK", require)?;
        assert_eq!(gateway.verdict(&payload, port, &source, address)?, expected, "row {row}");
        if expected == Verdict::Accept {
            let again = gateway.verdict(&payload, port, &source, address)?;
            assert_eq!(again, Verdict::Ignore(Reason::Replay), "row {row}, again");
        }
        let mut stranger = Gateway::new("OTHR", require)?;
        let verdict = stranger.verdict(&payload, port, &source, address)?;
        assert_eq!(verdict, Verdict::Ignore(Reason::Tag), "row {row}, another tag");
    }
    Ok(())
}

#[test]
fn close_sends_a_request_to_close() -> Result<()> {
    let harness = Harness::new("close_sends_a_request_to_close")?;
    harness.file("key", KEY)?;
    let (gateway, port) = socket("127.0.0.1:0")?;
    harness.file(
        "p.toml",
        format!(
            "[host.gw]\naddress = '127.0.0.1'\nport = {port}\nformat = '2'\nbind = ['source']\nkey_file = 'key'\n"
        ),
    )?;
    let mut judge = Gateway::new("PKD0", Bindings::SOURCE)?;
    let printed = format!("sent close to 127.0.0.1 (127.0.0.1 port {port})\n");
    let opened = format!("knocked 127.0.0.1 (127.0.0.1 port {port})\n");
    let rows: [(&[&str], Verdict, &str); 3] = [
        (&["-c", "p.toml", "-v", "gw"], Verdict::Accept, &opened),
        (&["close", "-c", "p.toml", "-v", "gw"], Verdict::Close, &printed),
        (&["close", "-c", "p.toml", "gw"], Verdict::Close, ""),
    ];
    for (row, (args, expected, stdout)) in rows.into_iter().enumerate() {
        let outcome = harness.knock(args)?;
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), stdout), "row {row}: {outcome:?}");
        let (payload, _) = receive(&gateway)?;
        assert_eq!(judge.verdict(&payload, port, "127.0.0.1", "127.0.0.1")?, expected, "row {row}");
    }
    Ok(())
}

#[test]
fn a_dry_run_prints_a_payload_for_each_address() -> Result<()> {
    let harness = Harness::new("a_dry_run_prints_a_payload_for_each_address")?;
    harness.file("key", KEY)?;
    let base = ["-n", "--format", "2", "--key-file", "key", "-p", "40000"];
    // options, first word of the line
    let rows: [(&[&str], &str); 3] = [
        (&["--bind", "none", "gw.invalid"], "gw.invalid"),
        (&["localhost", "-4"], "127.0.0.1"),
        (&["--bind", "source", "localhost", "-4"], "127.0.0.1"),
    ];
    for (row, (args, first)) in rows.into_iter().enumerate() {
        let knocks = harness.knock(&[&base, args].concat())?.knocks()?;
        ensure!(knocks.len() == 1 && knocks[0].host == first, "row {row}: {knocks:?}");
        let verdict = Gateway::new("PKD0", Bindings::NONE)?.verdict(
            &knocks[0].payload,
            40_000,
            "127.0.0.1",
            "127.0.0.1",
        )?;
        assert_eq!(verdict, Verdict::Accept, "row {row}");
    }
    let outcome = harness.knock(&[&base[..], &["gw.invalid"]].concat())?;
    ensure!(
        outcome.code == Some(1) && outcome.stderr.starts_with("knock: gw.invalid: cannot resolve"),
        "{outcome:?}"
    );
    Ok(())
}

#[test]
fn a_shared_profile_keeps_format_and_binding() -> Result<()> {
    let harness = Harness::new("a_shared_profile_keeps_format_and_binding")?;
    harness.file("key", "0x9a3c51\n")?;
    let rows = ["", "bind = 'none'\n", "bind = ['source']\n", "bind = ['source', 'destination']\n"];
    for (row, bind) in rows.into_iter().enumerate() {
        let profile = format!(
            "[host.gw]\naddress = 'gw.invalid'\ntag = 'SSHK'\nformat = '2'\n{bind}key_file = 'key'\n"
        );
        harness.file("from.toml", &profile)?;
        let uri = harness.knock(&["share", "--uri", "-c", "from.toml", "gw"])?.stdout;
        ensure!(uri.contains("&format=2"), "row {row}");
        let into = harness.home().join(format!("{row}/to.toml"));
        let into = into.to_str().context("path")?;
        let outcome = harness.knock_with_input(&["import", "-q", "-c", into, "-"], uri.as_bytes())?;
        ensure!(outcome.code == Some(0), "row {row}: {outcome:?}");
        let shown = |file: &str| harness.knock(&["show", "-c", file, "gw"]).map(|outcome| outcome.stdout);
        let without_key = |text: String| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with("key: ")).map(str::to_owned).collect()
        };
        assert_eq!(without_key(shown(into)?), without_key(shown("from.toml")?), "row {row}");
    }
    Ok(())
}

#[test]
fn verify_explains_each_check() -> Result<()> {
    let harness = Harness::new("verify_explains_each_check")?;
    harness.file("key", KEY)?;
    harness.file("other", "another sesame")?;
    let made = |bind: &str| -> Result<String> {
        let args = [
            "-n",
            "--format",
            "2",
            "--key-file",
            "key",
            "-t",
            "SSHK",
            "-p",
            "40000",
            "--bind",
            bind,
            "127.0.0.1",
        ];
        let printed = harness.knock(&args)?.stdout;
        Ok(printed.split_whitespace().nth(2).context("no payload")?.to_owned())
    };
    let (free, bound) = (made("none")?, made("source")?);
    let flipped = |at: usize| {
        let digit = if free.as_bytes()[at] == b'0' { "1" } else { "0" };
        format!("{}{digit}{}", &free[..at], &free[at + 1..])
    };
    let (filter, auth) = (flipped(48), flipped(64));
    let late = (now()?.0 / 1000 + 1000).to_string();
    // knock, options, expected lines, exit code
    let rows: &[(&str, &[&str], &[&str], i32)] = &[
        (
            &free,
            &[],
            &["format   2", "request  open", "bound    none", "auth     valid", "verdict  accept"],
            0,
        ),
        (&free, &["-p", "40000", "--format", "2"], &["filter   valid for this key and port 40000"], 0),
        (
            &free,
            &["-p", "40001"],
            &["filter   valid for this key and port 40000, not for port 40001", "verdict  ignore: filter: "],
            1,
        ),
        (&free, &["--format", "classic"], &["digest   invalid for every port", "verdict  ignore: tag: "], 1),
        (
            &free,
            &["--at", &late],
            &["outside the window of 10 s", "verdict  ignore: tag: the hint is of no time within the window"],
            1,
        ),
        (&free, &["--at", "1", "--window", "0"], &["not checked (window 0)", "verdict  accept"], 0),
        (&bound, &[], &["bound    source", "auth     unknown: it is bound to addresses; give --source"], 1),
        (&bound, &["--source", "127.0.0.1"], &["auth     valid", "verdict  accept"], 0),
        (
            &bound,
            &["--source", "198.51.100.9"],
            &[
                "auth     invalid from 198.51.100.9: a NAT changed an address that it is bound to, or it was altered",
                "verdict  ignore: digest: bound to other addresses, or altered",
            ],
            1,
        ),
        (&filter, &["--format", "2"], &["filter   invalid: another key, tag or format, or altered"], 1),
        (&auth, &[], &["auth     invalid: altered", "verdict  ignore: digest: "], 1),
        ("00ff", &["--format", "2"], &["length   2 bytes; a knock has 56", "verdict  ignore: length"], 1),
    ];
    for (row, (hex, options, lines, code)) in rows.iter().enumerate() {
        let outcome =
            harness.knock(&[&["verify", "--key-file", "key", "-t", "SSHK"], *options, &[*hex]].concat())?;
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(*code), ""), "row {row}: {outcome:?}");
        for line in *lines {
            assert!(outcome.stdout.contains(line), "row {row}: {line}: {}", outcome.stdout);
        }
    }
    let wrong = harness.knock(&["verify", "--format", "2", "--key-file", "other", "-t", "SSHK", &free])?;
    ensure!(wrong.code == Some(1) && wrong.stdout.contains("verdict  ignore: tag: "), "{wrong:?}");
    ensure!(!wrong.stdout.contains("\ntime "), "noise is shown as a time: {}", wrong.stdout);
    Ok(())
}
