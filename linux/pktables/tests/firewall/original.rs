//! Bugs of the original, one test each, and what it did right.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use pktables::Change;

use crate::netns::{Kind, Netns, Outcome, feed, on_each_firewall, run};

on_each_firewall! {
    /// In the original, failures exited with 0.
    fn failures_have_an_exit_code_and_one_line(netns) {
        let rows = [
            ("add 192.0.2.7 --service ssh", 1, "unknown service \"ssh\"; create it with pktables init"),
            ("delete 192.0.2.7 --service ssh", 1, "unknown service \"ssh\"; create it with pktables init"),
            ("flush ssh", 1, "unknown service \"ssh\"; create it with pktables init"),
            ("list ssh", 1, "unknown service \"ssh\"; create it with pktables init"),
            ("init ssh --port 70000", 2, "invalid port \"70000\": expected 1–65535"),
            ("open ssh", 2, "unknown command \"open\"; see pktables --help"),
        ];
        for (words, code, message) in rows {
            netns.fails(words, code, message)?;
        }
        Ok(())
    }
}

on_each_firewall! {
    /// What scripts for the original may say: options of the log without a log, which had no effect, `--debug` and `help`.
    fn command_lines_of_the_original_are_understood(netns) {
        let Outcome { code, stdout, stderr } =
            netns.pktables("--debug init ssh --port 22 --log-prefix knock --log-level info")?;
        let note = "pktables: --log-prefix has no effect without --log\n";
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "changed\n", note));
        let listed: serde_json::Value = serde_json::from_str(&netns.pktables("list ssh --json")?.stdout)?;
        ensure!(listed.pointer("/0/log") == Some(&serde_json::Value::Null), "{listed}");
        let help = netns.pktables("help")?;
        ensure!(help.code == Some(0) && help.stdout.contains("Usage: pktables"), "{help:?}");
        Ok(())
    }
}

on_each_firewall! {
    /// In the original, list printed nothing.
    fn list_shows_services_and_grants(netns) {
        netns.quietly(&[
            "init ssh --port 22 --syn",
            "init ipsec --port 500 --udp --accept",
            "add 192.0.2.7 --service ssh",
            "add 2001:db8::/32 --service ssh --timeout 2d",
        ])?;
        let Outcome { code, stdout, stderr } = netns.pktables("list")?;
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        let table = [
            ["SERVICE", "PORT", "ADDRESS", "LEFT", "PACKETS"],
            ["ipsec", "udp/500", "default", "accept", "0"],
            ["ssh", "tcp/22", "192.0.2.7", "-", "0"],
            ["ssh", "tcp/22", "2001:db8::/32", "2d", "0"],
            ["ssh", "tcp/22", "default", "drop", "0"],
        ];
        let rows: Vec<Vec<&str>> = stdout.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, table, "{stdout}");

        let listed: serde_json::Value = serde_json::from_str(&netns.pktables("list ssh --json")?.stdout)?;
        let left = listed.pointer("/0/grants/1/seconds_left").and_then(serde_json::Value::as_f64);
        ensure!(left.is_some_and(|left| (172_700.0..=172_801.0).contains(&left)), "{left:?}");
        let rows = [
            ("/0/service", "\"ssh\""),
            ("/0/protocol", "\"tcp\""),
            ("/0/port", "22"),
            ("/0/only_new", "true"),
            ("/0/default_policy", "\"drop\""),
            ("/0/default_packets", "0"),
            ("/0/log", "null"),
            ("/0/forward", "[]"),
            ("/0/grants/0/address", "\"192.0.2.7\""),
            ("/0/grants/0/seconds_left", "null"),
            ("/0/grants/0/packets", "0"),
            ("/0/grants/1/address", "\"2001:db8::/32\""),
        ];
        for (pointer, expected) in rows {
            let found = listed.pointer(pointer).map(ToString::to_string);
            assert_eq!(found.as_deref(), Some(expected), "{pointer}");
        }
        assert_eq!(listed.as_array().map(Vec::len), Some(1));
        Ok(())
    }
}

on_each_firewall! {
    /// In the original, a second init added a second jump.
    fn every_command_is_idempotent(netns) {
        let rows = [
            "init ssh --port 22 --syn --log --log-prefix knock --log-limit 7/minute --log-burst 9",
            "add 192.0.2.7 --service ssh",
            "add 192.0.2.0/24 --service ssh",
            "add 2001:db8::7 --service ssh",
            "delete 192.0.2.7 --service ssh",
            "flush ssh",
            "init ssh --port 2222",
            "remove ssh",
        ];
        for words in rows {
            let first = netns.pktables(&format!("-v {words}"))?;
            let once = netns.rules()?;
            let second = netns.pktables(&format!("-v {words}"))?;
            assert_eq!((first.code, first.stdout.as_str()), (Some(0), "changed\n"), "{words}: {}", first.stderr);
            assert_eq!((second.code, second.stdout.as_str()), (Some(0), "unchanged\n"), "{words}");
            assert_eq!(once, netns.rules()?, "{words}");
        }
        assert_eq!(netns.pktables("list")?.stdout.lines().count(), 1, "only the head is left");
        Ok(())
    }
}

on_each_firewall! {
    /// In the original, an invalid port left a chain without a jump.
    fn an_invalid_option_changes_nothing(netns) {
        let before = netns.rules()?;
        for words in ["init ssh --port 0", "init ssh --port x", "init ssh --port 22 --log --log-level loud"] {
            assert_eq!(netns.pktables(words)?.code, Some(2), "{words}");
            assert_eq!(before, netns.rules()?, "{words}");
        }
        Ok(())
    }
}

on_each_firewall! {
    /// In the original, two jumps made remove delete a foreign rule.
    fn remove_keeps_foreign_rules(netns) {
        let foreign = netns.kind.is_nft();
        if foreign {
            run("nft", ["add", "table", "inet", "pktables"])?;
            run("nft", ["add chain inet pktables input { type filter hook input priority -1; }"])?;
            run("nft", ["add rule inet pktables input tcp dport 80 accept"])?;
        } else {
            run("iptables", ["-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "ACCEPT"])?;
            run("iptables", ["-A", "INPUT", "-p", "tcp", "--dport", "81", "-j", "ACCEPT"])?;
            run("ip6tables", ["-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "ACCEPT"])?;
        }
        let before = netns.rules()?;
        netns.quietly(&["init ssh --port 22", "add 192.0.2.7 --service ssh", "add 2001:db8::/32 --service ssh"])?;
        if !foreign {
            // Duplicate jumps, as the original left them.
            run("iptables", ["-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "pk-ssh"])?;
            run("iptables", ["-I", "INPUT", "-p", "tcp", "--dport", "22", "-j", "pk-ssh"])?;
        }
        netns.quietly(&["remove ssh"])?;
        assert_eq!(before, netns.rules()?);
        Ok(())
    }
}

on_each_firewall! {
    fn a_chain_of_another_program_hides_no_service(netns) {
        netns.quietly(&["init ssh --port 22", "add 192.0.2.7 --service ssh"])?;
        if netns.kind.is_nft() {
            run("nft", ["add chain inet pktables pk-other"])?;
            run("nft", ["add rule inet pktables pk-other tcp dport 81 return"])?;
        } else {
            run("iptables", ["-N", "pk-other"])?;
            run("iptables", ["-A", "pk-other", "-p", "tcp", "-m", "tcp", "--dport", "81", "-j", "RETURN"])?;
        }
        let listings = netns.firewall()?.list()?;
        let names: Vec<String> = listings.services.iter().map(|one| one.service.name.to_string()).collect();
        assert_eq!(names, ["ssh"]);
        ensure!(listings.unknown.iter().any(|error| error.to_string().contains("pk-other")), "{listings:?}");
        let outcome = netns.pktables("list")?;
        assert_eq!(outcome.code, Some(0));
        ensure!(outcome.stdout.contains("192.0.2.7"), "{outcome:?}");
        ensure!(outcome.stderr.starts_with("pktables: not listed: "), "{outcome:?}");
        let outcome = netns.pktables("list other")?;
        ensure!(outcome.code == Some(1) && outcome.stderr.contains("pk-other"), "{outcome:?}");
        Ok(())
    }
}

on_each_firewall! {
    /// In the original, four concurrent deletes left 11 of 25 addresses and removed 9 wrong ones.
    fn four_concurrent_deletes_remove_the_right_grants(netns) {
        netns.quietly(&["init ssh --port 22"])?;
        let address = |number: usize| format!("192.0.2.{number}");
        let mut firewall = netns.firewall()?;
        let ssh = "ssh".parse()?;
        for number in 1..=25 {
            let change = firewall.grant(&ssh, pktables::address::parse(&address(number))?, None)?;
            assert_eq!(change, Change::Made);
        }
        let commands: Vec<_> = (1..=4)
            .map(|first| {
                let netns = Netns { kind: netns.kind };
                thread::spawn(move || -> Result<()> {
                    for number in (first..=20).step_by(4) {
                        netns.quietly(&[&format!("delete {} --service ssh", address(number))])?;
                    }
                    Ok(())
                })
            })
            .collect();
        for command in commands {
            command.join().expect("it does not panic")?;
        }
        assert_eq!(netns.granted("ssh")?, (21..=25).map(address).collect::<Vec<_>>());
        Ok(())
    }
}

on_each_firewall! {
    /// In the original, 10.5.0.1 came before 10.1.2.3.
    fn addresses_are_sorted_by_number(netns) {
        netns.quietly(&["init ssh --port 22 --log"])?;
        for address in ["10.5.0.1", "10.1.2.3", "9.255.0.1", "192.0.2.0/24", "100.0.0.1", "2001:db8::10", "2001:db8::9"] {
            netns.quietly(&[&format!("add {address} --service ssh")])?;
        }
        let sorted =
            ["9.255.0.1", "10.1.2.3", "10.5.0.1", "100.0.0.1", "192.0.2.0/24", "2001:db8::9", "2001:db8::10"];
        assert_eq!(netns.granted("ssh")?, sorted);
        if !netns.kind.is_nft() {
            let rules = netns.rules()?;
            let own: Vec<&str> = rules.lines().filter_map(|line| line.strip_prefix("-A pk-ssh ")).collect();
            let expected = [
                "-s 9.255.0.1/32 -j ACCEPT",
                "-s 10.1.2.3/32 -j ACCEPT",
                "-s 10.5.0.1/32 -j ACCEPT",
                "-s 100.0.0.1/32 -j ACCEPT",
                "-s 192.0.2.0/24 -j ACCEPT",
                "-j LOG",
                "-j DROP",
                "-s 2001:db8::9/128 -j ACCEPT",
                "-s 2001:db8::10/128 -j ACCEPT",
                "-j LOG",
                "-j DROP",
            ];
            assert_eq!(own, expected);
        }
        Ok(())
    }
}

on_each_firewall! {
    /// In the original, `1.2.3`, `1000.1.1.1` and `/24` silently became something else.
    fn an_invalid_address_is_named_and_changes_nothing(netns) {
        netns.quietly(&["init ssh --port 22"])?;
        let before = netns.rules()?;
        let rows = [
            ("1.2.3", "invalid address \"1.2.3\": expected a complete IPv4 or IPv6 address"),
            ("1000.1.1.1", "invalid address \"1000.1.1.1\": expected a complete IPv4 or IPv6 address"),
            ("/24", "invalid address \"/24\": missing address"),
            ("1.2.3.4/33", "invalid prefix length \"33\": expected 1–32"),
            ("1.2.3.4/", "invalid prefix length \"\": expected 1–32"),
            ("1.2.3.4/+8", "invalid prefix length \"+8\": expected 1–32"),
            ("2001:db8::/129", "invalid prefix length \"129\": expected 1–128"),
            ("1.2.3.4/24", "invalid address \"1.2.3.4/24\": host bits are set"),
            ("0.0.0.0/0", "invalid address \"0.0.0.0/0\": matches every address; use pktables init --accept to let everyone in"),
            ("fe80::1%eth0", "invalid address \"fe80::1%eth0\": rules cannot match a zone"),
            ("010.1.1.1", "invalid address \"010.1.1.1\": expected a complete IPv4 or IPv6 address"),
            ("gw.example.net", "invalid address \"gw.example.net\": expected a complete IPv4 or IPv6 address"),
        ];
        for (address, message) in rows {
            netns.fails(&format!("add {address} --service ssh"), 2, message)?;
            netns.fails(&format!("delete {address} --service ssh"), 2, message)?;
        }
        assert_eq!(before, netns.rules()?);
        Ok(())
    }
}

on_each_firewall! {
    /// The original crashed.
    fn ipv6_addresses_are_granted_and_revoked(netns) {
        netns.quietly(&[
            "init ssh --port 22",
            "add 2001:db8::7 --service ssh",
            "add 2001:DB8:0:0::8 --service ssh",
            // The form that such packets have in the firewall.
            "add ::ffff:192.0.2.7 --service ssh",
        ])?;
        assert_eq!(netns.granted("ssh")?, ["192.0.2.7", "2001:db8::7", "2001:db8::8"]);
        netns.quietly(&["delete 2001:db8:0::7 --service ssh", "delete 192.0.2.7 --service ssh"])?;
        assert_eq!(netns.granted("ssh")?, ["2001:db8::8"]);
        Ok(())
    }
}

on_each_firewall! {
    /// In the original, addresses went through a shell.
    fn arguments_never_reach_a_shell(netns) {
        netns.quietly(&["init ssh --port 22"])?;
        let backend = if netns.kind.is_nft() { "nft" } else { "iptables" };
        let mark = "/run/a-shell-was-here";
        let rows = [
            vec!["add", "192.0.2.7;touch${IFS}/run/a-shell-was-here", "--service", "ssh"],
            vec!["add", "$(touch /run/a-shell-was-here)", "--service", "ssh"],
            vec!["add", "192.0.2.7", "--service", "ssh\n-F INPUT"],
            vec!["add", "192.0.2.7\n-F INPUT", "--service", "ssh"],
            vec!["init", "x", "--port", "1", "--log", "--log-prefix", "a\nCOMMIT"],
            vec!["init", "x", "--port", "1", "--log", "--log-prefix", "a\" -j ACCEPT"],
            vec!["init", "-x", "--port", "1"],
        ];
        let before = netns.rules()?;
        for row in rows {
            let words: Vec<&str> = ["--backend", backend].into_iter().chain(row).collect();
            let outcome = Netns::bare(&words)?;
            assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(2), 1), "{words:?}: {outcome:?}");
        }
        assert_eq!(before, netns.rules()?);
        ensure!(!std::path::Path::new(mark).exists());
        Ok(())
    }
}

on_each_firewall! {
    /// In the original, the `stop_command` of the first knock cut a second one short.
    fn a_second_grant_is_not_cut_short_by_the_first(netns) {
        let mut firewall = netns.firewall()?;
        let ssh = "ssh".parse()?;
        netns.quietly(&["init ssh --port 22"])?;
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        // address, existing grant, new grant, least and most time left
        let rows = [
            ("192.0.2.1", None, None, None),
            ("192.0.2.2", None, seconds(30), None),
            ("192.0.2.3", seconds(30), None, None),
            ("192.0.2.4", seconds(30), seconds(60), Some((59, 61))),
            ("192.0.2.5", seconds(60), seconds(30), Some((59, 61))),
            ("192.0.2.6", seconds(30), seconds(30), Some((29, 31))),
            ("192.0.2.0/24", seconds(30), seconds(60), Some((59, 61))),
            ("192.0.2.128/25", seconds(30), None, None),
            ("2001:db8::1", seconds(60), seconds(30), Some((59, 61))),
            ("2001:db8::/32", seconds(60), seconds(30), Some((59, 61))),
        ];
        for (address, first, second, _) in &rows {
            let address = pktables::address::parse(address)?;
            firewall.grant(&ssh, address, *first)?;
            firewall.grant(&ssh, address, *second)?;
        }
        let listings = firewall.list()?.services;
        for (address, _, _, left) in &rows {
            let address = pktables::address::parse(address)?;
            let grant = listings[0].grants.iter().find(|grant| grant.address == address);
            let found = grant.map(|grant| grant.left);
            let fits = match (left, found) {
                (None, Some(None)) => true,
                (Some((least, most)), Some(Some(found))) => {
                    (Duration::from_secs(*least)..=Duration::from_secs(*most)).contains(&found)
                }
                _ => false,
            };
            ensure!(fits, "{address}: {found:?} is left, expected {left:?}");
        }
        assert_eq!(listings[0].grants.len(), rows.len());
        Ok(())
    }
}

/// In the original, addresses stayed open after a crash: the kernel does not expire iptables rules.
#[test]
fn grants_left_by_a_crash_are_removed() -> Result<()> {
    Netns::enter(
        concat!(module_path!(), "::grants_left_by_a_crash_are_removed"),
        Kind::IptablesNft,
        |netns| {
            let over = |address: &str| {
                format!(
                    "-A pk-ssh -s {address} -m comment --comment \"pktables until 1700000000\" -j ACCEPT\n"
                )
            };
            let left = format!(
                "*filter\n:pk-ssh - [0:0]\n{}{}-A pk-ssh -s 192.0.2.9 -j ACCEPT\n-A pk-ssh -j DROP\n\
                 -A INPUT -p tcp --dport 22 -j pk-ssh\nCOMMIT\n",
                over("192.0.2.7"),
                over("192.0.2.8")
            );
            for command in [
                "expire",
                "init ssh --port 22",
                "add 192.0.2.9 --service ssh",
                "delete 192.0.2.1 --service ssh",
            ] {
                feed("iptables-restore", &[], &left)?;
                assert_eq!(netns.granted("ssh")?, ["192.0.2.7", "192.0.2.8", "192.0.2.9"]);
                netns.quietly(&[command])?;
                assert_eq!(netns.granted("ssh")?, ["192.0.2.9"], "{command}");
            }
            Ok(())
        },
    )
}

/// Services of the original, which knew IPv4 only, are adopted with their addresses.
#[test]
fn chains_of_the_original_are_parsed() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::chains_of_the_original_are_parsed"), Kind::IptablesNft, |netns| {
        for line in [
            "-N pk-ssh",
            "-A pk-ssh -s 10.5.0.1 -j ACCEPT",
            "-A pk-ssh -s 10.1.2.3 -j ACCEPT",
            "-A pk-ssh -j LOG --log-prefix knock",
            "-A pk-ssh -s 0.0.0.0/0 -j DROP",
            "-A INPUT -p tcp --dport 22 --syn -j pk-ssh",
            // From its second init.
            "-A INPUT -p tcp --dport 22 --syn -j pk-ssh",
        ] {
            run("iptables", line.split(' '))?;
        }
        let listed = netns.pktables("list")?;
        let wrong = "pktables: not listed: cannot parse iptables rules: chain pk-ssh: several jumps from INPUT; \
                     repair it with pktables init ssh or pktables remove ssh\n";
        assert_eq!((listed.code, listed.stderr.as_str()), (Some(0), wrong));
        let init = "init ssh --port 22 --syn --log --log-prefix knock";
        netns.quietly(&[init, "add 10.1.2.3 --service ssh", "add 2001:db8::1 --service ssh"])?;
        assert_eq!(netns.granted("ssh")?, ["10.1.2.3", "10.5.0.1", "2001:db8::1"]);
        let rules = netns.rules()?;
        assert_eq!(rules.matches("-j pk-ssh\n").count(), 2, "one for each family:\n{rules}");
        Ok(())
    })
}
