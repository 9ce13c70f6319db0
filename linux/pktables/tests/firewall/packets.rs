//! Real connections between hosts: what passes, and what does not.

use anyhow::{Context as _, Result, ensure};

use crate::{
    netns::{Kind, Netns, on_each_firewall, run, wait},
    topology,
};

on_each_firewall! {
    fn a_grant_admits_one_address_until_it_expires(netns) {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        topology::expect("192.0.2.7", 22, Some("gateway"))?;
        netns.quietly(&["init ssh --port 22"])?;
        for (from, neighbour) in [("192.0.2.7", "192.0.2.8"), ("2001:db8::7", "2001:db8::8")] {
            assert_eq!(topology::who(from, 22)?, None, "{from} before");
            netns.quietly(&[&format!("add {from} --service ssh --timeout 1h")])?;
            topology::expect(from, 22, Some("gateway"))?;
            assert_eq!(topology::who(neighbour, 22)?, None, "{neighbour}");
            let listings = netns.firewall()?.list()?.services;
            let grant = listings[0].grants.first().context("no grant")?;
            ensure!(grant.packets.is_some_and(|packets| packets > 0), "{grant:?}");
            ensure!(listings[0].default_packets.is_some_and(|packets| packets > 0), "{listings:?}");
            netns.quietly(&[
                &format!("delete {from} --service ssh"),
                &format!("add {from} --service ssh --timeout 1s"),
            ])?;
            // nftables expires it without the command.
            let over = || -> Result<Vec<String>> {
                netns.quietly(&["expire"])?;
                netns.granted("ssh")
            };
            wait("the grants", over, Vec::is_empty)?;
            assert_eq!(topology::who(from, 22)?, None, "{from} after");
        }
        Ok(())
    }
}

on_each_firewall! {
    fn a_prefix_admits_its_addresses_until_it_is_revoked(netns) {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        netns.quietly(&["init ssh --port 22"])?;
        // prefix, address inside, address outside
        let rows = [
            ("192.0.2.4/30", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.8/31", "192.0.2.8", "192.0.2.7"),
            ("2001:db8::8/125", "2001:db8::8", "2001:db8::7"),
            ("2001:db8::/125", "2001:db8::7", "2001:db8::8"),
        ];
        for (prefix, inside, outside) in rows {
            netns.quietly(&[&format!("add {prefix} --service ssh")])?;
            topology::expect(inside, 22, Some("gateway"))?;
            assert_eq!(topology::who(outside, 22)?, None, "{prefix}: {outside}");
            netns.quietly(&[&format!("delete {prefix} --service ssh")])?;
            assert_eq!(topology::who(inside, 22)?, None, "{prefix}: {inside}");
        }
        netns.quietly(&["add 192.0.2.0/24 --service ssh", "add 192.0.2.7 --service ssh", "delete 192.0.2.7 --service ssh"])?;
        topology::expect("192.0.2.7", 22, Some("gateway"))?;
        netns.quietly(&["flush ssh"])?;
        assert_eq!(topology::who("192.0.2.7", 22)?, None);
        Ok(())
    }
}

on_each_firewall! {
    fn syn_lets_connections_outlive_their_grant(netns) {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        for (words, outlives) in [("init ssh --port 22 --syn", true), ("init ssh --port 22", false)] {
            netns.quietly(&[words, "add 192.0.2.7 --service ssh"])?;
            let mut stream = topology::dial("192.0.2.7", 22)?.context("closed")?;
            assert_eq!(topology::ask(&mut stream)?.as_deref(), Some("gateway"), "{words}");
            netns.quietly(&["delete 192.0.2.7 --service ssh"])?;
            assert_eq!(topology::ask(&mut stream)?.is_some(), outlives, "{words}");
            assert_eq!(topology::who("192.0.2.7", 22)?, None, "{words}");
        }
        Ok(())
    }
}

on_each_firewall! {
    fn accept_admits_everyone(netns) {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        netns.quietly(&["init ssh --port 22"])?;
        assert_eq!(topology::who("192.0.2.7", 22)?, None);
        netns.quietly(&["init ssh --port 22 --accept"])?;
        topology::expect("192.0.2.7", 22, Some("gateway"))?;
        netns.quietly(&["init ssh --port 22", "remove ssh"])?;
        topology::expect("192.0.2.7", 22, Some("gateway"))
    }
}

on_each_firewall! {
    /// The gateway's own service at the port stays closed, the host behind it answers, and packets to other hosts are not
    /// affected.
    fn a_forwarded_service_answers_granted_addresses(netns) {
        topology::connect()?;
        topology::serve(None, 2222, "gateway")?;
        topology::serve(Some("inner"), 22, "inner")?;
        if !netns.kind.is_nft() {
            // As on most routers, forwarding must be allowed explicitly.
            for program in ["iptables", "ip6tables"] {
                run(program, ["-P", "FORWARD", "DROP"])?;
            }
        }
        netns.quietly(&["init nas --port 2222 --forward 192.168.1.10:22 --forward [fd00::10]:22"])?;
        for (from, neighbour) in [("192.0.2.7", "192.0.2.8"), ("2001:db8::7", "2001:db8::8")] {
            assert_eq!(topology::who(from, 2222)?, None, "{from} before");
            netns.quietly(&[&format!("add {from} --service nas --timeout 1h")])?;
            topology::expect(from, 2222, Some("inner"))?;
            assert_eq!(topology::who(neighbour, 2222)?, None, "{neighbour}");
            let mut stream = topology::dial(from, 2222)?.context("closed")?;
            netns.quietly(&[&format!("delete {from} --service nas")])?;
            assert_eq!(topology::who(from, 2222)?, None, "{from} after");
            // Forwarded connections stay open until they end.
            assert_eq!(topology::ask(&mut stream)?.as_deref(), Some("inner"), "{from}");
        }
        netns.quietly(&["add 192.0.2.0/24 --service nas"])?;
        topology::expect("192.0.2.8", 2222, Some("inner"))?;
        netns.quietly(&["remove nas"])?;
        topology::expect("192.0.2.7", 2222, Some("gateway"))
    }
}

on_each_firewall! {
    fn packets_to_other_hosts_are_not_redirected(netns) {
        topology::connect()?;
        topology::serve(Some("inner"), 22, "wrong")?;
        topology::serve(Some("inner"), 2222, "right")?;
        netns.quietly(&[
            "init nas --port 2222 --forward 192.168.1.10:22 --forward [fd00::10]:22",
            "add 192.0.2.7 --service nas",
            "add 2001:db8::7 --service nas",
        ])?;
        for (from, to) in [("192.0.2.7", "192.168.1.10"), ("2001:db8::7", "fd00::10")] {
            let mut stream = topology::dial_past(from, to, 2222)?.context("closed")?;
            assert_eq!(topology::ask(&mut stream)?.as_deref(), Some("right"), "{from}");
        }
        Ok(())
    }
}

/// nftables only: an accept in one table does not prevent a drop in another.
#[test]
fn another_table_may_still_drop() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::another_table_may_still_drop"), Kind::Nft, |netns| {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        netns.quietly(&["init ssh --port 22", "add 192.0.2.7 --service ssh"])?;
        topology::expect("192.0.2.7", 22, Some("gateway"))?;
        run("nft", ["add table inet theirs"])?;
        run("nft", ["add chain inet theirs input { type filter hook input priority 0; policy drop; }"])?;
        assert_eq!(topology::who("192.0.2.7", 22)?, None);
        Ok(())
    })
}
