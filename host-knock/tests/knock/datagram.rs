//! The datagrams that arrive at a gateway.

use std::{
    net::{SocketAddr, ToSocketAddrs as _, UdpSocket},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use pkd_core::{Key, Knock, KnockParams, Tag, UnixSeconds};

use crate::harness::{Harness, KEY, LIMIT, verify};

/// The socket of a gateway, and its port as text.
fn gateway(address: &str) -> Result<(UdpSocket, String)> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(LIMIT))?;
    let port = socket.local_addr()?.port().to_string();
    Ok((socket, port))
}

fn receive(socket: &UdpSocket) -> Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 2048];
    let (length, source) = socket.recv_from(&mut buffer).context("no datagram")?;
    Ok((buffer[..length].to_vec(), source))
}

/// Fails if a datagram has arrived. Over loopback, everything that an ended command sent is there already.
fn nothing_more(socket: &UdpSocket) -> Result<()> {
    socket.set_nonblocking(true)?;
    ensure!(socket.recv(&mut [0; 2048]).is_err(), "one datagram too many");
    Ok(())
}

#[test]
fn a_knock_arrives_and_verifies() -> Result<()> {
    let harness = Harness::new("a_knock_arrives_and_verifies")?;
    let key = harness.file("key", format!("{KEY}\n"))?;
    // gateway, host argument, reported address
    let rows = [
        ("127.0.0.1:0", "127.0.0.1", "127.0.0.1"),
        ("[::1]:0", "::1", "::1"),
        ("[::1]:0", "[::1]", "::1"),
        ("[::1]:0", "::1%1", "::1"),
    ];
    for (row, (address, host, reported)) in rows.into_iter().enumerate() {
        let (socket, port) = gateway(address)?;
        let base = ["--key-file", key.as_str(), "--tag", "SSHK", "--port", port.as_str(), host];
        for verbose in [false, true] {
            let args = if verbose { [&["-v"], base.as_slice()].concat() } else { base.to_vec() };
            let outcome = harness.knock(&args)?;
            let printed = host.trim_matches(['[', ']']);
            let report =
                if verbose { format!("knocked {printed} ({reported} port {port})\n") } else { String::new() };
            assert_eq!(
                (outcome.code, outcome.stdout, outcome.stderr),
                (Some(0), report, String::new()),
                "row {row}"
            );
            let (payload, source) = receive(&socket)?;
            verify(&payload, KEY, "SSHK", port.parse()?).with_context(|| format!("row {row}"))?;
            assert_ne!(source.port(), port.parse::<u16>()?, "row {row}");
        }
        nothing_more(&socket)?;
    }
    Ok(())
}

#[test]
fn the_original_form_sends() -> Result<()> {
    let harness = Harness::new("the_original_form_sends")?;
    let (socket, port) = gateway("127.0.0.1:0")?;
    let outcome = harness.knock_on_terminal(&["127.0.0.1", "SSHK", &port], &format!("{KEY}\n"))?;
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(0), "", ""));
    verify(&receive(&socket)?.0, KEY, "SSHK", port.parse()?)
}

#[test]
fn an_ini_section_sends() -> Result<()> {
    let harness = Harness::new("an_ini_section_sends")?;
    let (socket, port) = gateway("127.0.0.1:0")?;
    harness.file(
        ".ipt_pkd.ini",
        format!("[office]\nhost = 127.0.0.1\nkey = {KEY}\ntag = SSHK\nport = {port}\n"),
    )?;
    let outcome = harness.knock(&["office"])?;
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(0), "", ""));
    verify(&receive(&socket)?.0, KEY, "SSHK", port.parse()?)
}

#[test]
fn knocks_before_1_0_do_not_cover_the_port() -> Result<()> {
    let harness = Harness::new("knocks_before_1_0_do_not_cover_the_port")?;
    let key = harness.file("key", KEY)?;
    harness.file(".ipt_pkd.ini", format!("[old]\nhost = 127.0.0.1\nkey = {KEY}\nold = 1\n"))?;
    let rows: [&[&str]; 3] =
        [&["--pre-1.0", "--key-file", &key, "127.0.0.1"], &["-o", "--key-file", &key, "127.0.0.1"], &["old"]];
    for (row, args) in rows.into_iter().enumerate() {
        let (socket, port) = gateway("127.0.0.1:0")?;
        let outcome = harness.knock(&[args, &["--port", &port]].concat())?;
        assert_eq!(outcome.code, Some(0), "row {row}");
        let (payload, _) = receive(&socket)?;
        let knock = Knock::parse(&payload).context("length")?;
        let UnixSeconds(time) = knock.time();
        assert!(
            SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().abs_diff(time) <= LIMIT.as_secs(),
            "row {row}"
        );
        let seal = KnockParams {
            key: &Key::parse(KEY)?,
            tag: Tag::default(),
            time: knock.time(),
            nonce: *knock.nonce(),
        };
        assert_eq!(payload, Knock::seal_before_1_0(&seal), "row {row}");
    }
    Ok(())
}

#[test]
fn same_source_port_uses_the_destination_port() -> Result<()> {
    let harness = Harness::new("same_source_port_uses_the_destination_port")?;
    let key = harness.file("key", KEY)?;
    // The knock to 127.0.0.2 comes from 127.0.0.1, where the port is free.
    let (socket, port) = gateway("127.0.0.2:0")?;
    let outcome = harness.knock(&["--same-source-port", "--key-file", &key, "-p", &port, "127.0.0.2"])?;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let (payload, source) = receive(&socket)?;
    verify(&payload, KEY, "PKD0", port.parse()?)?;
    assert_eq!(source.port(), port.parse::<u16>()?);
    Ok(())
}

#[test]
fn every_family_of_a_name_gets_its_own_knock() -> Result<()> {
    let harness = Harness::new("every_family_of_a_name_gets_its_own_knock")?;
    let key = harness.file("key", KEY)?;
    let found: Vec<_> = ("localhost", 0).to_socket_addrs()?.collect();
    for (option, families) in [(None, [true, true]), (Some("-4"), [true, false]), (Some("-6"), [false, true])]
    {
        let (v4, port) = gateway("127.0.0.1:0")?;
        let (v6, _) = gateway(&format!("[::1]:{port}"))?;
        let expected = [found.iter().any(SocketAddr::is_ipv4), found.iter().any(SocketAddr::is_ipv6)];
        let expected = [expected[0] && families[0], expected[1] && families[1]];
        let args = ["--key-file", &key, "-p", &port, "localhost"];
        let outcome = harness.knock(&option.into_iter().chain(args).collect::<Vec<_>>())?;
        assert_eq!(outcome.code, Some(i32::from(expected == [false, false])), "{option:?}: {outcome:?}");
        let mut payloads = Vec::new();
        for (socket, expected) in [v4, v6].iter().zip(expected) {
            if expected {
                let (payload, _) = receive(socket)?;
                verify(&payload, KEY, "PKD0", port.parse()?)?;
                payloads.push(payload);
            }
            nothing_more(socket)?;
        }
        assert!(
            payloads.len() < 2 || payloads[0] != payloads[1],
            "{option:?}: the second is a replay of the first"
        );
    }
    Ok(())
}

#[test]
fn a_failing_host_does_not_affect_others() -> Result<()> {
    let harness = Harness::new("a_failing_host_does_not_affect_others")?;
    let key = harness.file("key", KEY)?;
    let (v4, port) = gateway("127.0.0.1:0")?;
    let (v6, _) = gateway(&format!("[::1]:{port}"))?;
    let outcome =
        harness.knock(&["-v", "--key-file", &key, "-p", &port, "127.0.0.1", "255.255.255.255", "::1"])?;
    assert_eq!(outcome.code, Some(1));
    assert_eq!(
        outcome.stdout,
        format!("knocked 127.0.0.1 (127.0.0.1 port {port})\nknocked ::1 (::1 port {port})\n")
    );
    let reason = format!("cannot send to 255.255.255.255:{port}: Permission denied (os error 13)");
    assert_eq!(outcome.stderr, format!("knock: 255.255.255.255: {reason}\n"));
    verify(&receive(&v4)?.0, KEY, "PKD0", port.parse()?)?;
    verify(&receive(&v6)?.0, KEY, "PKD0", port.parse()?)
}

#[test]
fn an_invalid_host_or_a_dry_run_sends_nothing() -> Result<()> {
    let harness = Harness::new("an_invalid_host_or_a_dry_run_sends_nothing")?;
    let key = harness.file("key", KEY)?;
    let (socket, port) = gateway("127.0.0.1:0")?;
    let rows: [(&[&str], i32); 3] = [
        (&["127.0.0.1", "10.1"], 2),
        (&["-n", "127.0.0.1"], 0),
        (&["--dry-run", "127.0.0.1", "no.such.name.invalid"], 0),
    ];
    for (row, (args, code)) in rows.into_iter().enumerate() {
        let outcome = harness.knock(&[&["--key-file", &key, "-p", &port], args].concat())?;
        assert_eq!(outcome.code, Some(code), "row {row}: {outcome:?}");
    }
    nothing_more(&socket)
}
