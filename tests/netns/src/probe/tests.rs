use std::{net::TcpListener, thread};

use super::*;
use crate::{
    network::{Family, Network, net_test},
    process::shell,
};

/// Answers each byte with a word.
fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("::", port))?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || -> io::Result<()> {
                let mut byte = [0];
                while stream.read(&mut byte)? == 1 {
                    stream.write_all(b"here")?;
                }
                Ok(())
            });
        }
    });
    Ok(())
}

fn table(chain: &str, rule: &str) -> Result<()> {
    shell(&format!("nft 'add table inet t; add chain inet t c {{ {chain}; }}; add rule inet t c {rule}'"))
        .map(drop)
}

net_test!(a_connection_is_open_dropped_or_refused, |_: &Network| {
    serve(22)?;
    // the gateway's treatment of packets, its chain, its rule, port, expected result
    let (input, early) = ("type filter hook input priority 0", "type filter hook prerouting priority -300");
    let rows = [
        ("nothing", "", "", 22, Ok(true)),
        ("drops them", input, "tcp dport 22 drop", 22, Ok(false)),
        ("drops them as early as it can", early, "tcp dport 22 drop", 22, Ok(false)),
        ("drops those for another port", input, "tcp dport 24 drop", 22, Ok(true)),
        ("rejects them", input, "tcp dport 22 reject with tcp reset", 22, Err(())),
        ("has no server", input, "tcp dport 22 drop", 23, Err(())),
        ("drops everything, marks too", input, "drop", 22, Ok(false)),
    ];
    for (name, chain, rule, port, expected) in rows {
        if !chain.is_empty() {
            table(chain, rule)?;
        }
        for family in Family::BOTH {
            let found = connect("client", family.client(), SocketAddr::new(family.gateway(), port));
            let found = found.map(|stream| stream.is_some()).map_err(drop);
            ensure!(found == expected, "{name}, {family:?}: {found:?}");
        }
        if !chain.is_empty() {
            shell("nft delete table inet t")?;
        }
    }
    Ok(())
});

net_test!(a_late_answer_does_not_count_as_dropped, |_: &Network| {
    serve(22)?;
    for (family, network) in [(Family::V4, "ip saddr 192.0.2.1"), (Family::V6, "ip6 saddr 2001:db8::1")] {
        // The first answer is lost. The next one comes a second later.
        let lost = format!(
            "nft 'add table inet t; add chain inet t c {{ type filter hook input priority 0; }}; \
             add rule inet t c {network} tcp sport 22 limit rate 1/hour burst 1 packets counter drop'"
        );
        namespace::at("client", || shell(&lost))?;
        ensure!(connect("client", family.client(), family.ssh())?.is_some(), "{family:?}");
        let counted = namespace::at("client", || shell("nft list table inet t; nft delete table inet t"))?;
        ensure!(counted.contains("counter packets 1 "), "{counted}");
    }
    Ok(())
});

net_test!(packets_of_other_connections_do_not_displace_those_that_are_watched, |_: &Network| {
    serve(22)?;
    for family in Family::BOTH {
        let (from, to) = (family.client(), family.ssh());
        let socket = namespace::at("client", || bind(from, to))?;
        let own = address(&socket)?;
        let wires = Wires::watch(own.port())?;
        // Each is refused with another packet, more than the buffer of a capture of all of them holds.
        namespace::at("client", || {
            for _ in 0..1000 {
                begin(&bind(from, to)?, SocketAddr::new(to.ip(), 23))?;
            }
            Ok(())
        })?;
        begin(&socket, to)?;
        let fate = wires.fate(1, own, to, || namespace::at("client", || marks(from, to)))?;
        ensure!(fate == Fate::LetIn, "{family:?}: {fate:?}");
    }
    Ok(())
});

net_test!(data_on_a_connection_is_answered_or_dropped, |_: &Network| {
    serve(22)?;
    for family in Family::BOTH {
        let mut stream = connect("client", family.client(), family.ssh())?.context("it is closed")?;
        for _ in 0..2 {
            ensure!(ask("client", &mut stream, b"?")?.as_deref() == Some("here"), "{family:?}");
        }
        table("type filter hook input priority 0", "tcp dport 22 drop")?;
        ensure!(ask("client", &mut stream, b"?")?.is_none(), "{family:?}");
        shell("nft delete table inet t")?;
    }
    Ok(())
});

/// A segment from 192.0.2.2 port 5 to 192.0.2.1 port 22 in IPv4, or the same in IPv6.
fn packet(v6: bool, number: u32, flags: u8, acknowledges: u32, data: usize) -> Vec<u8> {
    let mut segment = [5_u16.to_be_bytes(), 22_u16.to_be_bytes()].concat();
    segment.extend(number.to_be_bytes());
    segment.extend(acknowledges.to_be_bytes());
    // A header with an option of four bytes.
    segment.extend([6 << 4, flags, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
    segment.resize(segment.len() + data, 7);
    let length = u16::try_from(segment.len()).unwrap();
    let mut bytes = if v6 {
        let mut head = vec![0x60, 0, 0, 0];
        head.extend(length.to_be_bytes());
        head.extend([6, 64]);
        head.extend("2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
        head.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        head
    } else {
        let mut head = vec![0x46, 0];
        head.extend((length + 24).to_be_bytes());
        head.extend([0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1, 1, 1, 1, 1]);
        head
    };
    bytes.extend(segment);
    bytes
}

#[test]
fn a_segment_is_parsed_from_ipv4_and_ipv6_packets() {
    let (client, gateway) = ("192.0.2.2:5".parse().unwrap(), "192.0.2.1:22".parse().unwrap());
    // name, flags, sequence number, acknowledged number, data, length, acknowledgement
    let rows =
        [("SYN", 2, 7, 0, 0, 1, None), ("RST", 20, 0, 8, 0, 0, Some(8)), ("data", 24, 7, 9, 3, 3, Some(9))];
    for (name, flags, number, acknowledges, data, length, has) in rows {
        let bytes = packet(false, number, flags, acknowledges, data);
        let expected = Segment {
            goes_out: true,
            source: client,
            destination: gateway,
            number,
            length,
            acknowledges: has,
        };
        assert_eq!(Segment::read(&bytes, true), Some(expected), "{name}");
        let bytes = packet(true, number, flags, acknowledges, data);
        let source = "[2001:db8::2]:5".parse().unwrap();
        let destination = "[2001:db8::1]:22".parse().unwrap();
        assert_eq!(Segment::read(&bytes, true), Some(Segment { source, destination, ..expected }), "{name}");
        // Options and data are not needed.
        for cut in 0..bytes.len() - data - 10 {
            assert_eq!(Segment::read(&bytes[..cut], true), None, "{name}, cut at {cut}");
        }
    }
    assert_eq!(Segment::read(&[0x45; 60], false), None);
}

#[test]
fn only_outgoing_segments_that_cover_the_data_show_that_it_was_let_in() {
    let (client, gateway): (SocketAddr, SocketAddr) =
        ("192.0.2.2:5".parse().unwrap(), "192.0.2.1:22".parse().unwrap());
    let (other, inner) = ("192.0.2.2:6".parse().unwrap(), "10.0.0.1:22".parse().unwrap());
    // goes out, source, destination, bytes, acknowledged, whether the client's data up to 100 was let in
    let rows = [
        ("an answer", true, gateway, client, 0, Some(100), true),
        ("an answer to more", true, gateway, client, 0, Some(101), true),
        ("an answer to earlier data", true, gateway, client, 5, Some(99), false),
        ("no answer at all", true, gateway, client, 5, None, false),
        ("an answer to another", true, gateway, other, 0, Some(100), false),
        ("an answer that comes in", false, gateway, client, 0, Some(100), false),
        ("the data on its way to another host", true, client, inner, 5, Some(1), true),
        ("an acknowledgement on its way", true, client, inner, 0, Some(1), false),
        ("the data itself", false, client, gateway, 5, Some(1), false),
    ];
    for (name, goes_out, source, destination, length, acknowledges, expected) in rows {
        let segment = Segment { goes_out, source, destination, number: 1, length, acknowledges };
        assert_eq!(segment.lets_in(client, Some(100)), expected, "{name}");
        assert!(!segment.lets_in(client, None), "{name}, before anything came in");
    }
}
