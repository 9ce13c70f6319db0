//! A guarded port stays closed to strangers, whatever rules the host has besides: without connection tracking, published
//! with DNAT, redirected. A granted address gets in all the same.

use anyhow::{Context as _, Result, ensure};

use crate::{
    netns::{Kind, Netns, on_each_firewall, run, wait},
    topology,
};

/// Addresses of a client with a grant, and of a stranger.
const CLIENTS: [(&str, &str); 2] = [("192.0.2.7", "192.0.2.8"), ("2001:db8::7", "2001:db8::8")];

/// Guards a port, also if it is published.
fn guard(netns: &Netns, words: &str) -> Result<()> {
    netns.quietly(&[&format!("init {words} --before-nat")])
}

/// Adds a rule of the host for both families, in the form of iptables. `IP` stands for the family's own text.
fn host_rule(kind: Kind, rule: &str, v4: &str, v6: &str) -> Result<()> {
    let programs = match kind {
        Kind::IptablesLegacy => ["iptables-legacy", "ip6tables-legacy"],
        Kind::Nft | Kind::IptablesNft => ["iptables-nft", "ip6tables-nft"],
    };
    for (program, own) in programs.into_iter().zip([v4, v6]) {
        let rule = rule.replace("IP", own);
        run(program, rule.split(' '))?;
    }
    Ok(())
}

/// Checks that strangers do not reach a port, that a grant does, and that it ends.
fn check(netns: &Netns, what: &str, service: &str, port: u16, name: &str) -> Result<()> {
    for (client, stranger) in CLIENTS {
        for from in [client, stranger] {
            ensure!(topology::who(from, port)?.is_none(), "{what}: {from} gets in");
        }
        netns.quietly(&[&format!("add {client} --service {service}")])?;
        let found = || topology::who(client, port);
        wait(&format!("{what}: {client}"), found, |found| found.as_deref() == Some(name))?;
        ensure!(topology::who(stranger, port)?.is_none(), "{what}: {stranger} gets in");
        netns.quietly(&[&format!("delete {client} --service {service}")])?;
        ensure!(topology::who(client, port)?.is_none(), "{what}: {client} gets in after its grant");
    }
    Ok(())
}

on_each_firewall! {
    fn a_port_without_connection_tracking_is_guarded(netns) {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        host_rule(netns.kind, "-t raw -A PREROUTING -p tcp --dport 22 -j CT --notrack", "", "")?;
        host_rule(netns.kind, "-t raw -A OUTPUT -p tcp --sport 22 -j CT --notrack", "", "")?;
        for words in ["ssh --port 22 --syn", "ssh --port 22"] {
            topology::expect("192.0.2.7", 22, Some("gateway"))?;
            guard(netns, words)?;
            check(netns, words, "ssh", 22, "gateway")?;
            netns.quietly(&["remove ssh"])?;
        }
        // The usual form of the original, too.
        netns.quietly(&["init ssh --port 22 --syn"])?;
        check(netns, "without options", "ssh", 22, "gateway")
    }
}

on_each_firewall! {
    /// A connection that has begun outlives its grant, tracked or not.
    fn connections_outlive_their_grant_without_connection_tracking(netns) {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        host_rule(netns.kind, "-t raw -A PREROUTING -p tcp --dport 22 -j CT --notrack", "", "")?;
        guard(netns, "ssh --port 22 --syn")?;
        for (client, _) in CLIENTS {
            netns.quietly(&[&format!("add {client} --service ssh")])?;
            let mut stream = topology::dial(client, 22)?.context("closed")?;
            netns.quietly(&[&format!("delete {client} --service ssh")])?;
            assert_eq!(topology::ask(&mut stream)?.as_deref(), Some("gateway"), "{client}");
            ensure!(topology::who(client, 22)?.is_none(), "{client} after its grant");
        }
        Ok(())
    }
}

on_each_firewall! {
    fn a_published_port_is_guarded(netns) {
        topology::connect()?;
        topology::serve(Some("inner"), 80, "inner")?;
        let publish = "-t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination IP";
        host_rule(netns.kind, publish, "192.168.1.10:80", "[fd00::10]:80")?;
        topology::expect("192.0.2.7", 8080, Some("inner"))?;
        guard(netns, "web --port 8080 --syn")?;
        check(netns, "published after", "web", 8080, "inner")?;
        // A rule that comes first now.
        let first = publish.replace("-A", "-I");
        host_rule(netns.kind, &first, "192.168.1.10:80", "[fd00::10]:80")?;
        check(netns, "published first", "web", 8080, "inner")?;
        // Another port, which nobody guards, is still published.
        let other = "-t nat -A PREROUTING -p tcp --dport 8081 -j DNAT --to-destination IP";
        host_rule(netns.kind, other, "192.168.1.10:80", "[fd00::10]:80")?;
        topology::expect("192.0.2.8", 8081, Some("inner"))
    }
}

on_each_firewall! {
    /// Also if only the port behind the redirection is guarded.
    fn a_redirected_port_is_guarded(netns) {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        host_rule(netns.kind, "-t nat -A PREROUTING -p tcp --dport 2222 -j REDIRECT --to-ports 22", "", "")?;
        topology::expect("192.0.2.7", 2222, Some("gateway"))?;
        guard(netns, "ssh --port 22 --syn")?;
        check(netns, "the port of the server", "ssh", 2222, "gateway")?;
        netns.quietly(&["remove ssh"])?;
        guard(netns, "ssh --port 2222 --syn")?;
        check(netns, "the port of the client", "ssh", 2222, "gateway")
    }
}

on_each_firewall! {
    fn a_forwarded_service_is_not_published_by_others(netns) {
        topology::connect()?;
        topology::serve(Some("inner"), 80, "inner")?;
        let publish = "-t nat -A PREROUTING -p tcp --dport 2222 -j DNAT --to-destination IP";
        host_rule(netns.kind, publish, "192.168.1.10:80", "[fd00::10]:80")?;
        guard(netns, "nas --port 2222 --syn --forward 192.168.1.10:80 --forward [fd00::10]:80")?;
        check(netns, "forwarded", "nas", 2222, "inner")?;
        netns.quietly(&["remove nas"])?;
        // In the family in which it is not forwarded, nobody gets in.
        guard(netns, "nas --port 2222 --syn --forward 192.168.1.10:80")?;
        ensure!(topology::who("2001:db8::7", 2222)?.is_none());
        netns.quietly(&["remove nas"])?;
        topology::expect("2001:db8::7", 2222, Some("inner"))
    }
}

on_each_firewall! {
    fn forwarded_packets_of_others_pass(netns) {
        topology::connect()?;
        topology::serve(Some("inner"), 22, "inner")?;
        guard(netns, "ssh --port 22 --syn")?;
        for (from, to) in [("192.0.2.8", "192.168.1.10"), ("2001:db8::8", "fd00::10")] {
            let mut stream = topology::dial_past(from, to, 22)?.context("closed")?;
            assert_eq!(topology::ask(&mut stream)?.as_deref(), Some("inner"), "{from}");
        }
        Ok(())
    }
}

on_each_firewall! {
    fn exempt_sources_and_interfaces_are_not_checked(netns) {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        // options, whether the host itself, 192.0.2.7 and 2001:db8::7, and 192.0.2.8 and 2001:db8::8 get in
        let rows = [
            ("", [false, false, false]),
            ("--exempt lo", [true, false, false]),
            ("--exempt 192.0.2.7 --exempt 2001:db8::7", [false, true, false]),
            ("--exempt 192.0.2.0/29 --exempt 2001:db8::/125", [false, true, false]),
            ("--exempt c0", [false, true, true]),
            ("--interface c0", [true, false, false]),
            ("--interface c0 --interface lo --exempt lo", [true, false, false]),
            ("--interface i0", [true, true, true]),
            ("--interface c0 --interface i0 --exempt 192.0.2.7 --exempt 2001:db8::7", [true, true, false]),
        ];
        for before_nat in [" --before-nat", ""] {
            for (options, [itself, first, second]) in rows {
                let words = format!("init ssh --port 22 --syn {options}{before_nat}").replace("  ", " ");
                netns.quietly(&[words.trim_end()])?;
                let again = netns.pktables(&format!("-v {}", words.trim_end()))?;
                assert_eq!(again.stdout, "unchanged\n", "{words}");
                for (client, stranger) in CLIENTS {
                    assert_eq!(topology::who(client, 22)?.is_some(), first, "{words}: {client}");
                    assert_eq!(topology::who(stranger, 22)?.is_some(), second, "{words}: {stranger}");
                }
                for (from, to) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1")] {
                    assert_eq!(topology::dial_itself(from, to, 22)?, itself, "{words}: {to}");
                }
                let listed = netns.firewall()?.list()?.services;
                ensure!(listed.len() == 1, "{words}: {listed:?}");
            }
        }
        Ok(())
    }
}

on_each_firewall! {
    fn new_options_move_the_guard_and_keep_the_grants(netns) {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        netns.quietly(&["init ssh --port 22 --syn", "add 192.0.2.7 --service ssh", "add 2001:db8::/125 --service ssh"])?;
        for words in ["init ssh --port 22 --syn --before-nat", "init ssh --port 22 --syn"] {
            netns.quietly(&[words])?;
            assert_eq!(netns.granted("ssh")?, ["192.0.2.7", "2001:db8::/125"], "{words}");
            topology::expect("192.0.2.7", 22, Some("gateway"))?;
            topology::expect("2001:db8::7", 22, Some("gateway"))?;
            ensure!(topology::who("192.0.2.8", 22)?.is_none(), "{words}");
        }
        netns.quietly(&["init ssh --port 22 --before-nat", "remove ssh"])?;
        let left = netns.rules()?;
        ensure!(!left.contains("pk-"), "{left}");
        Ok(())
    }
}
