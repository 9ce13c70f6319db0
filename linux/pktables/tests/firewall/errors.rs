//! What is typed wrong, and what is said of it.

use anyhow::{Result, ensure};

use crate::netns::{Kind, Netns};

#[test]
fn what_is_wrong_is_named_in_one_line() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::what_is_wrong_is_named_in_one_line"), Kind::Nft, |netns| {
        let rows = [
            (
                "init ssh",
                "the following required arguments were not provided: --port <PORT>; see pktables --help",
            ),
            (
                "init ssh --port 22 --udp --syn",
                "the argument '--udp' cannot be used with '--syn'; see pktables --help",
            ),
            (
                "init ssh --port 22 --log-prefix x",
                "the following required arguments were not provided: --log; see pktables --help",
            ),
            (
                "add 192.0.2.7",
                "the following required arguments were not provided: --service <SERVICE>; see pktables --help",
            ),
            ("init ssh --port +22", "port \"+22\" is no number of 1 to 65535"),
            ("init ssh --port 0", "port \"0\" is no number of 1 to 65535"),
            ("init s/h --port 22", "service \"s/h\" has a character that is no letter, digit, - _ or ."),
            ("init .ssh --port 22", "service \".ssh\" does not begin with a letter or digit"),
            (
                "init abcdefghijklmnopqrstuvwxyz --port 22",
                "service \"abcdefghijklmnopqrstuvwxyz\" is longer than 25 bytes",
            ),
            ("remove ", "service \"\" is empty"),
            (
                "init ssh --port 22 --log --log-level loud",
                "log level \"loud\" is none of emerg, alert, crit, error, warning, notice, info, debug",
            ),
            ("init ssh --port 22 --log --log-limit 0/minute", "log limit \"0\" is no number of 1 to 10000"),
            (
                "init ssh --port 22 --log --log-limit 3/year",
                "log limit \"year\" is none of second, minute, hour, day",
            ),
            (
                "init ssh --port 22 --log --log-limit 3 --log-burst x",
                "log burst \"x\" is no number of 1 to 10000",
            ),
            (
                "init ssh --port 22 --log --log-prefix abcdefghijklmnopqrstuvwxyz1234",
                "log prefix \"abcdefghijklmnopqrstuvwxyz1234\" is longer than 29 bytes",
            ),
            (
                "init ssh --port 22 --forward 192.168.1.10",
                "forward \"192.168.1.10\" is not of the form ADDRESS:PORT",
            ),
            ("init ssh --port 22 --forward 192.168.1.10:0", "forward \"192.168.1.10:0\" has port 0"),
            (
                "init ssh --port 22 --forward 127.0.0.1:22",
                "forward \"127.0.0.1:22\" is no address that packets can be sent on to",
            ),
            (
                "init ssh --port 22 --forward [fe80::1]:22",
                "forward \"[fe80::1]:22\" is no address that packets can be sent on to",
            ),
            (
                "init ssh --port 22 --forward [::ffff:1.2.3.4]:22",
                "forward \"[::ffff:1.2.3.4]:22\" is an IPv4 address written as IPv6",
            ),
            ("add 192.0.2.7 --service ssh --timeout 0", "time \"0\" is no time at all"),
            ("add 192.0.2.7 --service ssh --timeout 5w", "time \"5w\" does not end with s, m, h or d"),
            ("add 192.0.2.7 --service ssh --timeout 4000d", "time \"4000d\" is more than ten years"),
        ];
        for (words, message) in rows {
            netns.fails(words, 2, message)?;
        }
        let outcome = Netns::bare(&["--backend", "pf", "list"])?;
        assert_eq!(
            (outcome.code, outcome.stderr.as_str()),
            (Some(2), "pktables: back end \"pf\" is none of iptables, nft, auto\n")
        );
        let outcome = Netns::bare(&[])?;
        assert_eq!(
            (outcome.code, outcome.stderr.as_str()),
            (Some(2), "pktables: what shall be done? see pktables --help\n")
        );
        Ok(())
    })
}

#[test]
fn help_names_every_verb() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::help_names_every_verb"), Kind::Nft, |_| {
        let outcome = Netns::bare(&["--help"])?;
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
        for command in ["init", "remove", "add", "delete", "list", "flush", "expire"] {
            ensure!(outcome.stdout.contains(&format!("\n  {command} ")), "{command}: {}", outcome.stdout);
        }
        Ok(())
    })
}

/// Without privileges, and without the programs.
#[test]
fn what_is_missing_is_named() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::what_is_missing_is_named"), Kind::Nft, |_| {
        let pktables = env!("CARGO_BIN_EXE_pktables");
        let rows = [
            (
                "nft",
                "add",
                vec!["--inh-caps=-net_admin", "--bounding-set=-net_admin"],
                "the firewall can be changed by root only (CAP_NET_ADMIN)",
            ),
            (
                "iptables",
                "add",
                vec!["--inh-caps=-net_admin", "--bounding-set=-net_admin"],
                "the firewall can be changed by root only (CAP_NET_ADMIN)",
            ),
            ("nft", "list", vec![], "cannot run nft: No such file or directory (os error 2)"),
            ("iptables", "list", vec![], "cannot run iptables-save: No such file or directory (os error 2)"),
        ];
        for (backend, command, capabilities, message) in rows {
            let mut setpriv = crate::netns::command("setpriv");
            setpriv.args(&capabilities).arg(pktables).args(["--backend", backend, command]);
            if command == "add" {
                setpriv.args(["192.0.2.7", "--service", "ssh"]);
            }
            if capabilities.is_empty() {
                setpriv = std::process::Command::new(pktables);
                setpriv.args(["--backend", backend, command]).env("PATH", "/nowhere");
            }
            let output = setpriv.output()?;
            let told = String::from_utf8(output.stderr)?;
            assert_eq!(
                (output.status.code(), told.as_str()),
                (Some(1), format!("pktables: {message}\n").as_str()),
                "{backend} {command}"
            );
        }
        Ok(())
    })
}
