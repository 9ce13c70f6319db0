//! The rules in the firewall.

use anyhow::{Result, ensure};

use crate::netns::{Kind, Netns, on_each_firewall};

/// The lines that are rules or chains of services.
fn own(rules: &str) -> Vec<&str> {
    let is_one = |line: &&str| line.starts_with("-A ") || line.starts_with(":pk-");
    rules.lines().filter(is_one).collect()
}

#[test]
fn iptables_has_the_chains_of_the_original() -> Result<()> {
    Netns::enter(
        concat!(module_path!(), "::iptables_has_the_chains_of_the_original"),
        Kind::IptablesNft,
        |netns| {
            netns.quietly(&[
            "init ssh --port 22 --syn --log --log-prefix knock: --log-level info --log-limit 3/minute --log-burst 7",
            "init ipsec --port 500 --udp --accept",
            "add 192.0.2.7 --service ssh",
        ])?;
            let expected = [
                ":pk-ipsec -",
                ":pk-ssh -",
                "-A INPUT -p tcp -m tcp --dport 22 --tcp-flags FIN,SYN,RST,ACK SYN -j pk-ssh",
                "-A INPUT -p udp -m udp --dport 500 -j pk-ipsec",
                "-A pk-ipsec -j ACCEPT",
                "-A pk-ssh -s 192.0.2.7/32 -j ACCEPT",
                "-A pk-ssh -m limit --limit 3/min --limit-burst 7 -j LOG --log-prefix \"knock:\" --log-level 6",
                "-A pk-ssh -j DROP",
            ];
            let rules = netns.rules()?.replace("--log-prefix knock:", "--log-prefix \"knock:\"");
            let both: Vec<&str> = expected
                .into_iter()
                .chain(expected.into_iter().filter(|line| !line.contains("192.0.2.7")))
                .collect();
            assert_eq!(own(&rules), both);
            Ok(())
        },
    )
}

#[test]
fn nft_has_one_table_with_a_chain_for_each_service() -> Result<()> {
    Netns::enter(
        concat!(module_path!(), "::nft_has_one_table_with_a_chain_for_each_service"),
        Kind::Nft,
        |netns| {
            netns.quietly(&[
            "init ssh --port 22 --syn --log --log-prefix knock: --log-level info --log-limit 3/minute --log-burst 7",
            "init nas --port 2222 --forward 192.168.1.10:22 --forward [fd00::10]:22",
            "add 192.0.2.7 --service ssh",
            "add 192.0.2.0/24 --service ssh",
        ])?;
            assert_eq!(netns.rules()?, include_str!("ruleset.nft"));
            Ok(())
        },
    )
}

#[test]
fn iptables_forwards_granted_packets() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::iptables_forwards_granted_packets"), Kind::IptablesNft, |netns| {
        netns.quietly(&["init nas --port 2222 --forward 192.168.1.10:22", "add 192.0.2.7 --service nas"])?;
        let expected = [
            ":pk-nas -",
            "-A INPUT -p tcp -m tcp --dport 2222 -j pk-nas",
            "-A FORWARD -d 192.168.1.10/32 -p tcp -m tcp --dport 22 -m conntrack --ctstate DNAT --ctorigdstport 2222 -m comment --comment pk-nas -j ACCEPT",
            "-A FORWARD -s 192.168.1.10/32 -p tcp -m tcp --sport 22 -m conntrack --ctstate DNAT --ctorigdstport 2222 -m comment --comment pk-nas -j ACCEPT",
            "-A pk-nas -j DROP",
            ":pk-nas -",
            "-A PREROUTING -p tcp -m tcp --dport 2222 -m addrtype --dst-type LOCAL -j pk-nas",
            "-A pk-nas -s 192.0.2.7/32 -p tcp -j DNAT --to-destination 192.168.1.10:22",
            ":pk-nas -",
            "-A INPUT -p tcp -m tcp --dport 2222 -m comment --comment elsewhere -j pk-nas",
            "-A pk-nas -j DROP",
        ];
        let rules = netns.rules()?;
        assert_eq!(own(&rules), expected);
        Ok(())
    })
}

on_each_firewall! {
    fn new_options_keep_the_grants(netns) {
        let rows = [
            ("init ssh --port 22 --syn", "tcp/22"),
            ("init ssh --port 22", "tcp/22"),
            ("init ssh --port 2222 --log --log-level debug", "tcp/2222"),
            ("init ssh --port 2222 --udp", "udp/2222"),
            ("init ssh --port 22 --forward 192.168.1.10:22 --forward [fd00::10]:2222", "tcp/22"),
            ("init ssh --port 22 --forward 192.168.1.11:22 --forward [fd00::10]:2222", "tcp/22"),
            ("init ssh --port 22 --accept", "tcp/22"),
        ];
        let grants = ["192.0.2.0/24", "192.0.2.7", "2001:db8::7"];
        for (row, (words, port)) in rows.into_iter().enumerate() {
            let outcome = netns.pktables(&format!("-v {words}"))?;
            assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("changed\n", ""), "row {row}");
            if row == 0 {
                for address in grants {
                    netns.quietly(&[&format!("add {address} --service ssh --timeout 1d")])?;
                }
            }
            let listed = netns.pktables("list")?;
            ensure!(listed.stdout.contains(port), "row {row}: {listed:?}");
            assert_eq!(netns.granted("ssh")?, grants, "row {row}");
            let again = netns.pktables(&format!("-v {words}"))?;
            assert_eq!(again.stdout, "unchanged\n", "row {row}");
        }
        Ok(())
    }
}

on_each_firewall! {
    fn a_forwarded_service_is_closed_in_the_other_family(netns) {
        netns.quietly(&["init nas --port 22 --forward 192.168.1.10:22", "add 192.0.2.7 --service nas"])?;
        let nowhere = "service nas has no IPv6 forward address";
        netns.fails("add 2001:db8::7 --service nas", 1, nowhere)?;
        netns.fails("add 2001:db8::/32 --service nas", 1, nowhere)?;
        netns.quietly(&["delete 2001:db8::7 --service nas", "flush nas"])?;
        assert_eq!(netns.granted("nas")?, [""; 0]);
        let twice = "invalid forward \"192.168.1.11:22\": only one address per family";
        netns.fails("init nas --port 22 --forward 192.168.1.10:22 --forward 192.168.1.11:22", 2, twice)
    }
}

on_each_firewall! {
    fn similar_names_do_not_collide(netns) {
        netns.quietly(&[
            "init a --port 1",
            "init a-4 --port 2",
            "init a-4-6 --port 3",
            "init a.b_c --port 4",
            "init abcdefghijklmnopqrstuvwxy --port 5",
            "add 192.0.2.0/24 --service a",
            "add 192.0.2.1 --service a-4",
            "add 2001:db8::1 --service a-4",
            "add 192.0.2.2 --service a-4-6",
            "add 192.0.2.3 --service abcdefghijklmnopqrstuvwxy",
            "flush a",
            "remove a.b_c",
        ])?;
        assert_eq!(netns.granted("a")?, [""; 0]);
        assert_eq!(netns.granted("a-4")?, ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(netns.granted("a-4-6")?, ["192.0.2.2"]);
        netns.quietly(&["remove a-4"])?;
        assert_eq!(netns.granted("a-4-6")?, ["192.0.2.2"]);
        assert_eq!(netns.granted("abcdefghijklmnopqrstuvwxy")?, ["192.0.2.3"]);
        Ok(())
    }
}

/// New services go to the backend that has services, else to nftables.
#[test]
fn auto_uses_the_backend_with_services() -> Result<()> {
    Netns::enter(
        concat!(module_path!(), "::auto_uses_the_backend_with_services"),
        Kind::IptablesNft,
        |netns| {
            let nft = Netns { kind: Kind::Nft };
            let quiet = |words: &[&str]| -> Result<()> {
                let outcome = Netns::bare(words)?;
                ensure!(outcome.code == Some(0), "{words:?}: {outcome:?}");
                Ok(())
            };
            quiet(&["init", "ssh", "--port", "22"])?;
            ensure!(
                nft.granted("ssh").is_ok() && netns.granted("ssh").is_err(),
                "nftables where there is nothing"
            );
            quiet(&["remove", "ssh"])?;
            netns.quietly(&["init ssh --port 22"])?;
            quiet(&["add", "192.0.2.7", "--service", "ssh"])?;
            assert_eq!(netns.granted("ssh")?, ["192.0.2.7"]);
            ensure!(nft.granted("ssh").is_err(), "iptables where it has services");
            nft.quietly(&["init ssh --port 22"])?;
            quiet(&["add", "192.0.2.8", "--service", "ssh"])?;
            assert_eq!(nft.granted("ssh")?, ["192.0.2.8"], "nftables where both have services");
            assert_eq!(netns.granted("ssh")?, ["192.0.2.7"]);
            Ok(())
        },
    )
}

/// If IPv6 refuses, the change of IPv4 is rolled back.
#[test]
fn both_families_change_or_neither() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::both_families_change_or_neither"), Kind::IptablesNft, |netns| {
        let refuse = || -> Result<()> {
            std::fs::remove_file("/run/bin/ip6tables-restore")?;
            Ok(std::os::unix::fs::symlink("/bin/false", "/run/bin/ip6tables-restore")?)
        };
        let allow = || -> Result<()> {
            std::fs::remove_file("/run/bin/ip6tables-restore")?;
            Ok(std::os::unix::fs::symlink("/usr/sbin/xtables-nft-multi", "/run/bin/ip6tables-restore")?)
        };
        let nas = "init nas --port 22 --forward 192.168.1.10:22 --forward [fd00::10]:22";
        // existing services, command
        let rows: [(&[&str], &str); 6] = [
            (&[], "init ssh --port 22"),
            (&[], nas),
            (&["init ssh --port 22", "add 192.0.2.7 --service ssh"], "init ssh --port 2222 --log"),
            (
                &["init ssh --port 22", "add 192.0.2.7 --service ssh", "add 2001:db8::7 --service ssh"],
                "flush ssh",
            ),
            (&["init ssh --port 22", "add 192.0.2.7 --service ssh"], "remove ssh"),
            (&[nas, "add 192.0.2.7 --service nas"], "remove nas"),
        ];
        for (row, (there, words)) in rows.into_iter().enumerate() {
            netns.quietly(there)?;
            let before = netns.rules()?;
            refuse()?;
            netns.fails(words, 1, "ip6tables-restore: exit status: 1")?;
            allow()?;
            assert_eq!(own(&before), own(&netns.rules()?), "row {row}");
            netns.quietly(&[words, "remove ssh", "remove nas"])?;
        }
        Ok(())
    })
}
