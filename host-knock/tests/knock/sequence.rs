//! Port sequences for knockd.

use std::{
    fmt::Write as _,
    io::ErrorKind,
    net::{TcpListener, UdpSocket},
};

use anyhow::Result;

use crate::harness::{Harness, LIMIT};

#[test]
fn each_port_gets_its_packet() -> Result<()> {
    let harness = Harness::new("each_port_gets_its_packet")?;
    for (address, host) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        let (tcp, udp, other) =
            (TcpListener::bind(address)?, UdpSocket::bind(address)?, UdpSocket::bind(address)?);
        udp.set_read_timeout(Some(LIMIT))?;
        other.set_read_timeout(Some(LIMIT))?;
        let ports = [tcp.local_addr()?.port(), udp.local_addr()?.port(), other.local_addr()?.port()];
        // ports as typed, options, protocols
        let rows = [
            (ports.map(|port| port.to_string()), ["-u"].as_slice(), ["udp"; 3]),
            (
                [format!("{}:tcp", ports[0]), format!("{}:udp", ports[1]), format!("{}:udp", ports[2])],
                &[],
                ["tcp", "udp", "udp"],
            ),
            (
                [ports[0].to_string(), format!("{}:udp", ports[1]), format!("{}:udp", ports[2])],
                &["-d", "0"],
                ["tcp", "udp", "udp"],
            ),
        ];
        for (row, (words, options, protocols)) in rows.iter().enumerate() {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let outcome = harness.knock(&[&["seq"], *options, &["-v", host], &words].concat())?;
            let mut lines = String::new();
            for (port, protocol) in ports.iter().zip(protocols) {
                writeln!(lines, "knocked {host} ({host} port {port}:{protocol})")?;
            }
            assert_eq!(
                (outcome.code, outcome.stdout, outcome.stderr),
                (Some(0), lines, String::new()),
                "row {row}"
            );
            for socket in [&udp, &other] {
                assert_eq!(socket.recv(&mut [0; 8])?, 0, "row {row}");
            }
            tcp.set_nonblocking(true)?;
            assert_eq!(tcp.accept().is_ok(), protocols[0] == "tcp", "row {row}");
        }
        // Without -v it is quiet, and a refused connection is not an error.
        drop(tcp);
        let outcome = harness.knock(&["seq", host, &ports[0].to_string()])?;
        assert_eq!((outcome.code, outcome.stdout, outcome.stderr), (Some(0), String::new(), String::new()));
        udp.set_nonblocking(true)?;
        assert_eq!(udp.recv(&mut [0; 8]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    }
    Ok(())
}

#[test]
fn a_sequence_leaves_from_the_source() -> Result<()> {
    let harness = Harness::new("a_sequence_leaves_from_the_source")?;
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    udp.set_read_timeout(Some(LIMIT))?;
    let ports = [tcp.local_addr()?.port().to_string(), format!("{}:udp", udp.local_addr()?.port())];
    let outcome = harness.knock(&["seq", "--source", "127.0.0.5", "localhost", &ports[0], &ports[1]])?;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let sources = [tcp.accept()?.1.ip(), udp.recv_from(&mut [0; 8])?.1.ip()];
    assert_eq!(sources.map(|source| source.to_string()), ["127.0.0.5", "127.0.0.5"]);
    Ok(())
}

#[test]
fn invalid_arguments_send_nothing() -> Result<()> {
    let harness = Harness::new("invalid_arguments_send_nothing")?;
    // arguments, exit code, message
    let rows: [(&[&str], i32, &str); 14] = [
        (
            &["seq"],
            2,
            "the following required arguments were not provided: <HOST> <PORT[:PROTOCOL]>...; see knock seq --help",
        ),
        (
            &["seq", "gw"],
            2,
            "the following required arguments were not provided: <PORT[:PROTOCOL]>...; see knock seq --help",
        ),
        (&["seq", "gw", "70000"], 2, "invalid port \"70000\": expected 1–65535"),
        (&["seq", "gw", "7000:sctp"], 2, "invalid protocol \"sctp\" in \"7000:sctp\": expected tcp or udp"),
        (&["seq", "10.1", "7000"], 2, "invalid host \"10.1\": incomplete address"),
        (&["seq", "gw", "7000", "--key", "a"], 2, "unexpected argument '--key' found; see knock seq --help"),
        (
            &["seq", "-4", "-6", "gw", "1"],
            2,
            "the argument '-4' cannot be used with '-6'; see knock seq --help",
        ),
        (&["seq", "--source", "lo", "gw", "1"], 2, "invalid source \"lo\": expected an IPv4 or IPv6 address"),
        (
            &["seq", "-6", "--source", "127.0.0.1", "gw", "1"],
            2,
            "source 127.0.0.1: IPv4 address, but only the other family is allowed",
        ),
        (
            &["seq", "--interface", "a/b", "gw", "1"],
            2,
            "invalid interface \"a/b\": expected a name of up to 15 bytes, such as eth0",
        ),
        (
            &["seq", "--interface", "nowhere", "127.0.0.1", "1"],
            1,
            "127.0.0.1: cannot send to 127.0.0.1:1 through nowhere: No such device (os error 19)",
        ),
        (
            &["seq", "--source", "192.0.2.99", "127.0.0.1", "1:udp"],
            1,
            "127.0.0.1: cannot send to 127.0.0.1:1 from 192.0.2.99: Cannot assign requested address (os error 99)",
        ),
        (&["seq", "-6", "127.0.0.1", "1"], 1, "127.0.0.1: cannot resolve: no IPv6 address"),
        (
            &["seq", "255.255.255.255", "7:udp"],
            1,
            "255.255.255.255: cannot send to 255.255.255.255:7: Permission denied (os error 13)",
        ),
    ];
    for (words, code, said) in rows {
        let outcome = harness.knock(words)?;
        assert_eq!((outcome.code, outcome.stderr), (Some(code), format!("knock: {said}\n")), "{words:?}");
    }
    Ok(())
}

#[test]
fn a_host_may_be_named_seq() -> Result<()> {
    let harness = Harness::new("a_host_may_be_named_seq")?;
    let key = harness.file("key", "open sesame\n")?;
    let knocks = harness.knock(&["--dry-run", "--key-file", &key, "--", "seq"])?.knocks()?;
    assert_eq!(knocks[0].host, "seq");
    Ok(())
}
