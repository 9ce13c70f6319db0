//! Invalid arguments and other errors.

use anyhow::{Result, ensure};

use crate::netns::{Kind, Netns};

#[test]
fn invalid_arguments_are_one_line() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::invalid_arguments_are_one_line"), Kind::Nft, |netns| {
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
                "add 192.0.2.7",
                "the following required arguments were not provided: --service <SERVICE>; see pktables --help",
            ),
            ("init ssh --port +22", "invalid port \"+22\": expected 1–65535"),
            ("init ssh --port 0", "invalid port \"0\": expected 1–65535"),
            ("init s/h --port 22", "invalid service name \"s/h\": expected letters, digits, - _ or ."),
            ("init .ssh --port 22", "invalid service name \".ssh\": must start with a letter or digit"),
            (
                "init abcdefghijklmnopqrstuvwxyz --port 22",
                "invalid service name \"abcdefghijklmnopqrstuvwxyz\": longer than 25 bytes",
            ),
            ("remove ", "invalid service name \"\": empty"),
            (
                "init ssh --port 22 --log --log-level loud",
                "invalid log level \"loud\": expected emerg, alert, crit, error, warning, notice, info or debug",
            ),
            ("init ssh --port 22 --log --log-limit 0/minute", "invalid log limit \"0\": expected 1–10000"),
            (
                "init ssh --port 22 --log --log-limit 3/year",
                "invalid log limit \"year\": expected second, minute, hour or day",
            ),
            (
                "init ssh --port 22 --log --log-limit 3 --log-burst x",
                "invalid log burst \"x\": expected 1–10000",
            ),
            (
                "init ssh --port 22 --log --log-prefix abcdefghijklmnopqrstuvwxyz1234",
                "invalid log prefix \"abcdefghijklmnopqrstuvwxyz1234\": longer than 29 bytes",
            ),
            (
                "init ssh --port 22 --forward fd00::10:22",
                "invalid forward \"fd00::10:22\": expected ADDRESS:PORT, or ADDRESS to keep the port; IPv6 in brackets",
            ),
            (
                "init ssh --port 22 --forward 192.168.1.10:0",
                "invalid forward \"192.168.1.10:0\": port must not be 0",
            ),
            (
                "init ssh --port 22 --forward 127.0.0.1:22",
                "invalid forward \"127.0.0.1:22\": cannot forward to this address",
            ),
            (
                "init ssh --port 22 --forward [fe80::1]:22",
                "invalid forward \"[fe80::1]:22\": cannot forward to this address",
            ),
            (
                "init ssh --port 22 --forward [::ffff:1.2.3.4]:22",
                "invalid forward \"[::ffff:1.2.3.4]:22\": IPv4 address in IPv6 notation",
            ),
            ("add 192.0.2.7 --service ssh --timeout 0", "invalid time \"0\": must not be zero"),
            (
                "add 192.0.2.7 --service ssh --timeout 5w",
                "invalid time \"5w\": unknown unit; expected s, m, h or d",
            ),
            ("add 192.0.2.7 --service ssh --timeout 4000d", "invalid time \"4000d\": longer than ten years"),
        ];
        for (words, message) in rows {
            netns.fails(words, 2, message)?;
        }
        let outcome = Netns::bare(&["--backend", "pf", "list"])?;
        assert_eq!(
            (outcome.code, outcome.stderr.as_str()),
            (Some(2), "pktables: invalid backend \"pf\": expected iptables, nft or auto\n")
        );
        let outcome = Netns::bare(&[])?;
        assert_eq!(
            (outcome.code, outcome.stderr.as_str()),
            (Some(2), "pktables: missing command; see pktables --help\n")
        );
        Ok(())
    })
}

#[test]
fn help_lists_every_command() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::help_lists_every_command"), Kind::Nft, |_| {
        let outcome = Netns::bare(&["--help"])?;
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
        for command in ["init", "remove", "add", "delete", "list", "flush", "expire"] {
            ensure!(outcome.stdout.contains(&format!("\n  {command} ")), "{command}: {}", outcome.stdout);
        }
        Ok(())
    })
}

/// Without privileges, and without programs.
#[test]
fn missing_permissions_and_programs_are_named() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::missing_permissions_and_programs_are_named"), Kind::Nft, |_| {
        let pktables = env!("CARGO_BIN_EXE_pktables");
        let rows = [
            (
                "nft",
                "add",
                vec!["--inh-caps=-net_admin", "--bounding-set=-net_admin"],
                "permission denied; changing the firewall needs root (CAP_NET_ADMIN)",
            ),
            (
                "iptables",
                "add",
                vec!["--inh-caps=-net_admin", "--bounding-set=-net_admin"],
                "permission denied; changing the firewall needs root (CAP_NET_ADMIN)",
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
