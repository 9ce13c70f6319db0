//! `gateway-config FILE`: converts a TOML file to what is flashed as the gateway's configuration. `keygen` and `sign` are for
//! updates of the firmware.

mod file;
mod hex;
mod image;
mod inline;
mod key_file;
mod output;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow};
use lexopt::{
    Arg::{Long, Short, Value},
    Parser, ValueExt as _,
};
use pkd_board::{BOARDS, Board};
use pkd_core::UnixSeconds;
use pkd_gateway::{CONFIG_LIMIT, Config, RULES};

use crate::output::Form;

const HELP: &str = "\
usage: gateway-config [--board BOARD] FILE [OUT]
       gateway-config keygen KEY
       gateway-config sign KEY IMAGE OUT

Checks the configuration in FILE (TOML) and writes what the board has to get: OUT, or beside FILE a .uf2 for boards
with a USB drive, and a .bin for others. An OUT that ends in .txt is for the serial line of boards that have one. The
file contains keys.

keygen writes a new key for updates to KEY, and prints the [update] of gateways that trust it. sign puts a header
in front of IMAGE, signed with KEY, for a board that takes updates over the network. IMAGE is BOARD-update.bin.

  --board BOARD   the board, instead of the file's `board = \"…\"`
  --boards        print the boards
  --version       print the version
";

fn main() -> ExitCode {
    match run(Parser::from_env()) {
        Ok(said) => {
            print!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("gateway-config: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns what is to be printed.
fn run(mut arguments: Parser) -> Result<String> {
    let (mut board, mut words) = (None, Vec::new());
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("board") => board = Some(find(&arguments.value()?.string()?)?),
            Long("boards") => return Ok(BOARDS.iter().map(|board| board.name.to_owned() + "\n").collect()),
            Long("version") => return Ok(format!("gateway-config {}\n", env!("CARGO_PKG_VERSION"))),
            Long("help") | Short('h') => return Ok(HELP.to_owned()),
            Value(word) => words.push(PathBuf::from(word)),
            other => return Err(usage(&other.unexpected().to_string())),
        }
    }
    match (&words.iter().map(PathBuf::as_path).collect::<Vec<_>>()[..], board) {
        ([], _) => Err(usage("missing FILE")),
        ([command, key], None) if *command == Path::new("keygen") => image::keygen(key),
        ([command, key, image, out], None) if *command == Path::new("sign") => {
            let (identity, bytes) = image::sign(key, image)?;
            fs::write(out, bytes).with_context(|| out.display().to_string())?;
            let (out, board, version) = (out.display(), identity.board(), identity.version());
            Ok(format!("{out}: version {version} for {board}; send it with POST /update\n"))
        }
        ([command, ..], _) if *command == Path::new("keygen") => {
            Err(anyhow!("usage: gateway-config keygen KEY"))
        }
        ([command, ..], _) if *command == Path::new("sign") => {
            Err(anyhow!("usage: gateway-config sign KEY IMAGE OUT"))
        }
        ([file], board) => configure(file, board, None),
        ([file, out], board) => configure(file, board, Some(out)),
        ([_, _, word, ..], _) => Err(usage(&format!("unexpected {}", word.display()))),
    }
}

fn configure(from: &Path, board: Option<&'static Board>, to: Option<&Path>) -> Result<String> {
    let created = UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    let (board, bytes) = convert(from, board, created).with_context(|| from.display().to_string())?;
    let to = to.map_or_else(|| from.with_extension(Form::of(board).ending()), Path::to_owned);
    let form = Form::named(&to, board)?;
    output::write(&to, &form.file(board, &bytes))?;
    Ok(format!("{}: {}\n", to.display(), form.advice(board)))
}

fn usage(problem: &str) -> anyhow::Error {
    anyhow!("{problem}; usage: gateway-config [--board BOARD] FILE [OUT]")
}

fn find(name: &str) -> Result<&'static Board> {
    pkd_board::find(name).with_context(|| format!("unknown board \"{name}\": expected one of {}", names()))
}

fn names() -> String {
    BOARDS.iter().map(|board| board.name).collect::<Vec<_>>().join(", ")
}

/// Converts a TOML file to a binary configuration with this time of creation, for this board or the one that it names.
fn convert(
    path: &Path,
    board: Option<&'static Board>,
    created: UnixSeconds,
) -> Result<(&'static Board, Vec<u8>)> {
    let text = fs::read_to_string(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let file = file::parse(&text)?;
    let board = match (board, file.board()) {
        (Some(board), _) => board,
        (None, Some(name)) => find(name)?,
        (None, None) => {
            return Err(anyhow!("no board: add board = \"…\" or use --board, with one of {}", names()));
        }
    };
    let config: Config<RULES> = file.resolve(folder, created)?;
    board.check(config.mode, config.update.is_some()).map_err(|why| anyhow!("{why}"))?;
    let mut bytes = vec![0; CONFIG_LIMIT];
    let length = config.emit(&mut bytes).map_err(|error| anyhow!("{error}"))?;
    bytes.truncate(length);
    Ok((board, bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use pkd_core::format2::Bindings;
    use pkd_gateway::Format;

    use super::*;

    const GOOD: &str = include_str!("../example.toml");

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pkd-config-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let key = folder.join("pkd.key");
        fs::write(&key, "0x00112233\n").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        folder
    }

    fn converted(text: &str, name: &str) -> Result<Config<RULES>> {
        let folder = folder(name);
        fs::write(folder.join("gateway.toml"), text)?;
        let converted = convert(&folder.join("gateway.toml"), None, UnixSeconds(1_800_000_000));
        fs::remove_dir_all(&folder)?;
        Config::parse(&converted?.1).map_err(|error| anyhow::anyhow!("{error}"))
    }

    #[test]
    fn the_example_survives_a_round_trip() {
        let config = converted(GOOD, "example").unwrap();
        assert_eq!(config.created, UnixSeconds(1_800_000_000));
        assert_eq!(config.services.len(), 2);
        assert_eq!(config.rules.len(), 1);
        assert!(config.rules[0].services.contains(0) && !config.rules[0].services.contains(1));
        assert_eq!(config.rules[0].format, Format::Format2 { require: Bindings::NONE }, "the default");
        assert_eq!(config.rules[0].knock.key().as_bytes()[..5], [0, 0x11, 0x22, 0x33, 0]);
    }

    /// The example's rule, in front of it.
    const TWICE: &str = "[[rule]]\ntag = \"SSHK\"\nkey_file = \"pkd.key\"\nservices = [\"ssh\"]\n[[rule]]";

    #[test]
    fn a_classic_rule_that_requires_a_binding_is_rejected_and_both_settings_are_named() {
        for binding in ["source", "destination"] {
            let text = GOOD.replacen("format = \"2\"", "format = \"classic\"", 1).replacen(
                "require = []",
                &format!("require = [\"{binding}\"]"),
                1,
            );
            let error = format!("{:#}", converted(&text, "classic-bound").unwrap_err());
            for named in ["SSHK", "format = \"classic\"", "require"] {
                assert!(error.contains(named), "{named}: {error}");
            }
        }
    }

    #[test]
    fn a_user_may_have_a_rule_of_each_format() {
        let text =
            GOOD.replacen("[[rule]]", &TWICE.replacen("key_file", "format = \"classic\"\nkey_file", 1), 1);
        let config = converted(&text, "migration").unwrap();
        let formats = config.rules.iter().map(|rule| rule.format).collect::<Vec<_>>();
        assert_eq!(formats, [Format::Classic, Format::Format2 { require: Bindings::NONE }]);
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "it is a table")]
    fn errors_name_the_problem() {
        let table = [
            (
                "an unknown board",
                "w5500-evb-pico2",
                "w5500",
                "unknown board \"w5500\": expected one of mps2-an386, ",
            ),
            ("no board", "board = \"w5500-evb-pico2\"", "", "no board: add board = "),
            (
                "a board that cannot run it",
                "mode = \"one-arm\"",
                "mode = \"inline\"",
                "w5500-evb-pico2 has one NIC: mode = \"inline\" needs two",
            ),
            ("an unknown key", "echo = true", "eccho = true", "eccho"),
            ("an unknown service", "services = [\"ssh\"]", "services = [\"sssh\"]", "sssh"),
            ("a missing key file", "pkd.key", "other.key", "other.key"),
            ("a tag that is too long", "tag = \"SSHK\"", "tag = \"SSHKEY\"", "tag"),
            ("a port twice", "port = 8443", "port = 2222", "share a port"),
            ("a host in another network", "192.168.1.20:443", "10.0.0.20:443", "inside host"),
            ("a port above 65535", "port = 8443", "port = 80443", "80443"),
            ("a window without a clock", "server = \"192.168.1.1\"", "", "window"),
            ("a time server's port without a server", "server = \"192.168.1.1\"", "port = 123", "[time]"),
            (
                "a DNS server without a time server",
                "server = \"192.168.1.1\"",
                "dns = \"192.168.1.1\"",
                "[time]",
            ),
            ("a time server by DHCP, but no DHCP", "server = \"192.168.1.1\"", "server = \"dhcp\"", "[time]"),
            (
                "a time server that no host can have",
                "server = \"192.168.1.1\"",
                "server = \"a/b\"",
                "host name",
            ),
            (
                "a DNS server that is not needed",
                "server = \"192.168.1.1\"",
                "server = \"192.168.1.1\"\ndns = \"192.168.1.1\"",
                "dns",
            ),
            ("an interval without a time server", "server = \"192.168.1.1\"", "every = 64", "[time]"),
            ("a router beside DHCP", "address = \"192.168.1.9/24\"", "address = \"dhcp\"", "router"),
            ("[inline] in one-arm mode", "[counters]", "[inline]\n[counters]", "[inline]"),
            (
                "only one VLAN",
                "mode = \"one-arm\"",
                "inline.inside_vlan = 2\nmode = \"inline\"",
                "outside_vlan",
            ),
            ("an address without a prefix", "192.168.1.9/24", "192.168.1.9", "192.168.1.9"),
            ("a network of 33 bits", "192.168.1.0/24", "192.168.1.0/33", "192.168.1.0/33"),
            ("a prefix that is not a number", "192.168.1.0/24", "192.168.1.0/x", "x"),
            ("an address of three numbers", "192.168.1.0/24", "192.168.1/24", "192.168.1"),
            ("an unknown format", "format = \"2\"", "format = \"3\"", "`3`"),
            ("a format without quotes", "format = \"2\"", "format = 2", "format"),
            ("a misspelt binding", "require = []", "require = [\"sourc\"]", "sourc"),
            ("the same rule twice", "[[rule]]", TWICE, "same format, tag and key"),
            (
                "an own address of three numbers",
                "# own_addresses = [\"198.51.100.1\"]",
                "own_addresses = [\"198.51.100\"]",
                "own_addresses",
            ),
            (
                "an own address that many hosts have",
                "# own_addresses = [\"198.51.100.1\"]",
                "own_addresses = [\"224.0.0.1\"]",
                "own address",
            ),
            (
                "five own addresses",
                "# own_addresses = [\"198.51.100.1\"]",
                "own_addresses = [\"192.0.2.1\", \"192.0.2.2\", \"192.0.2.3\", \"192.0.2.4\", \"192.0.2.5\"]",
                "too many own_addresses: at most 4",
            ),
            ("IPv6 without a prefix length", "knock_port", "address6 = \"2001:db8::9\"\nknock_port", "/64"),
            (
                "IPv6 of 129 bits",
                "knock_port",
                "address6 = \"2001:db8::9/129\"\nknock_port",
                "2001:db8::9/129",
            ),
            (
                "a prefix of half a network",
                "knock_port",
                "grant_prefix6 = 96\nknock_port",
                "grant_prefix6 96",
            ),
            (
                "a host with IPv6 and no address of IPv6",
                "192.168.1.20:443",
                "[2001:db8::20]:443",
                "inside host",
            ),
            (
                "a MAC address of five bytes",
                "[[rule]]",
                "[[host]]\naddress = \"192.168.1.20\"\nmac = \"02:00:00:00:01\"\n[[rule]]",
                "host 192.168.1.20: invalid mac \"02:00:00:00:01\"",
            ),
            (
                "a group's MAC address",
                "[[rule]]",
                "[[host]]\naddress = \"192.168.1.20\"\nmac = \"01:00:00:00:00:01\"\n[[rule]]",
                "invalid mac",
            ),
            (
                "the MAC address of a host without a service",
                "[[rule]]",
                "[[host]]\naddress = \"192.168.1.21\"\nmac = \"02:00:00:00:00:01\"\n[[rule]]",
                "host 192.168.1.21: no service",
            ),
            (
                "a setting of earlier releases",
                "mode = \"one-arm\"",
                "inline.pass_ipv6 = true\nmode = \"inline\"",
                "IPv6 is checked like IPv4",
            ),
            (
                "another one",
                "mode = \"one-arm\"",
                "inline.pass_other = true\nmode = \"inline\"",
                "pass_ethertypes",
            ),
            (
                "PPPoE, which contains IP",
                "mode = \"one-arm\"",
                "inline.pass_ethertypes = [0x8864]\nmode = \"inline\"",
                "0x8864",
            ),
            (
                "TCP",
                "mode = \"one-arm\"",
                "inline.pass_protocols = [6]\nmode = \"inline\"",
                "pass_protocols: 6",
            ),
            (
                "nine protocols",
                "mode = \"one-arm\"",
                "inline.pass_protocols = [47, 50, 51, 2, 4, 41, 132, 136, 137]\nmode = \"inline\"",
                "too many pass_protocols",
            ),
            ("a name of 17 bytes", "name = \"web\"", "name = \"seventeen letters\"", "seventeen letters"),
        ];
        for (row, (name, from, to, expected_text)) in table.into_iter().enumerate() {
            assert!(GOOD.contains(from), "row {row}: {name}");
            let error = converted(&GOOD.replacen(from, to, 1), &format!("row-{row}")).unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains(expected_text), "row {row}: {name}: {text}");
            assert!(!text.contains("00112233"), "row {row}: the key leaks");
        }
    }

    #[test]
    fn a_name_that_nothing_resolves_is_an_error_that_says_what_to_add() {
        let text = GOOD.replacen("router = \"192.168.1.1\"", "", 1).replacen(
            "server = \"192.168.1.1\"",
            "server = \"ntp.example\"",
            1,
        );
        let error = format!("{:#}", converted(&text, "unresolved").unwrap_err());
        assert!(error.contains("ntp.example") && error.contains("dns"), "{error}");
    }

    /// A test case: its name, changes to the example, and their effect on the configuration.
    type Row = (&'static str, &'static [(&'static str, &'static str)], fn(&mut Config<RULES>));

    #[test]
    fn every_way_to_find_a_time_server_reaches_the_configuration() {
        use pkd_gateway::{Address, NamedServer, TimeSource};
        fn named(dns: [u8; 4]) -> TimeSource {
            let name = heapless::String::try_from("pool.ntp.example").unwrap();
            TimeSource::Name(NamedServer { name, port: 123, interval: 64, dns: Some(dns.into()) })
        }
        let table: [Row; 3] = [
            (
                "time servers by DHCP",
                &[
                    ("\"192.168.1.9/24\"", "\"dhcp\""),
                    ("router = \"192.168.1.1\"", ""),
                    ("server = \"192.168.1.1\"", "server = \"dhcp\"\nevery = 17"),
                ],
                |config| {
                    config.address = Address::Dhcp;
                    config.time = TimeSource::Dhcp { interval: 17 };
                },
            ),
            (
                "a time server that has a name, resolved by the router",
                &[("server = \"192.168.1.1\"", "server = \"pool.ntp.example\"")],
                |config| config.time = named([192, 168, 1, 1]),
            ),
            (
                "a time server that has a name, resolved elsewhere",
                &[("server = \"192.168.1.1\"", "server = \"pool.ntp.example\"\ndns = \"192.168.1.2\"")],
                |config| config.time = named([192, 168, 1, 2]),
            ),
        ];
        check_settings("time", &table);
    }

    /// Applies each row's changes to the example and to its configuration: both have to be the same.
    fn check_settings(folder: &str, table: &[Row]) {
        let example = converted(GOOD, folder).unwrap();
        for (row, (name, changes, changed)) in table.iter().enumerate() {
            let mut text = GOOD.to_owned();
            for (from, to) in *changes {
                assert!(text.contains(from), "row {row}: {name}: {from}");
                text = text.replacen(from, to, 1);
            }
            let mut expected = example.clone();
            changed(&mut expected);
            assert_ne!(expected, example, "row {row}: {name}");
            assert_eq!(converted(&text, &format!("{folder}-{row}")).unwrap(), expected, "row {row}: {name}");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "it is a table")]
    fn every_setting_reaches_the_configuration() {
        use pkd_gateway::{
            Address, EthernetAddress, Host, Inline, Mode, Pass, Protect, Protocol, TimeSource, Vlans,
        };
        const PORTS: [(&str, &str); 2] = [("port = 2222", ""), ("port = 8443", "")];
        const TWO_NICS: (&str, &str) = ("w5500-evb-pico2", "riscv32-virt");
        const TRUNK: (&str, &str) = ("w5500-evb-pico2", "mps2-an386");
        const INLINE: Inline = Inline {
            vlans: None,
            protect: Protect::Host,
            ipv6: true,
            pass: Pass { ethertypes: [0; 8], protocols: [0; 8] },
        };
        fn inline(config: &mut Config<RULES>, inline: Inline) {
            config.mode = Mode::Inline(inline);
            config.services[0].port = 22;
            config.services[1].port = 443;
        }
        let table: [Row; 15] = [
            (
                "the knock port, and no ping",
                &[("40000", "40001"), ("echo = true", "echo = false")],
                |config| {
                    (config.knock_port, config.answer_ping) = (40_001, false);
                },
            ),
            ("the counters' port", &[("9100", "9101")], |config| config.counters_port = 9_101),
            (
                "inline, with the ports of the hosts",
                &[TWO_NICS, ("\"one-arm\"", "\"inline\""), PORTS[0], PORTS[1]],
                |config| inline(config, INLINE),
            ),
            (
                "a trunk",
                &[
                    TRUNK,
                    (
                        "mode = \"one-arm\"",
                        "inline = { outside_vlan = 2, inside_vlan = 3 }\nmode = \"inline\"",
                    ),
                    PORTS[0],
                    PORTS[1],
                ],
                |config| inline(config, Inline { vlans: Some(Vlans { outside: 2, inside: 3 }), ..INLINE }),
            ),
            (
                "only the listed ports, no IPv6, and what is passed through",
                &[
                    TWO_NICS,
                    (
                        "mode = \"one-arm\"",
                        "inline = { protect = \"services\", ipv6 = false, pass_ethertypes = [0x8892], pass_protocols = [47, 50] }\nmode = \"inline\"",
                    ),
                    PORTS[0],
                    PORTS[1],
                ],
                |config| {
                    let mut pass = Pass::default();
                    pass.ethertypes[0] = 0x8892;
                    pass.protocols[..2].copy_from_slice(&[47, 50]);
                    inline(config, Inline { protect: Protect::Services, ipv6: false, pass, ..INLINE });
                },
            ),
            (
                "IPv6, for whole networks",
                &[("knock_port", "address6 = \"2001:db8::9/64\"\ngrant_prefix6 = 64\nknock_port")],
                |config| {
                    config.address6 = Some(("2001:db8::9".parse().unwrap(), 64));
                    config.grant_prefix = 64;
                },
            ),
            (
                "a MAC address",
                &[(
                    "[[rule]]",
                    "[[host]]\naddress = \"192.168.1.20\"\nmac = \"02:00:5e:00:00:0A\"\n\n[[rule]]",
                )],
                |config| {
                    let hardware = EthernetAddress([2, 0, 0x5e, 0, 0, 10]);
                    config.hosts.push(Host { address: [192, 168, 1, 20].into(), hardware }).unwrap();
                },
            ),
            ("DHCP", &[("\"192.168.1.9/24\"", "\"dhcp\""), ("router = \"192.168.1.1\"", "")], |config| {
                config.address = Address::Dhcp;
            }),
            (
                "the time server's port and interval",
                &[("server = \"192.168.1.1\"", "server = \"192.168.1.1\"\nport = 1123\nevery = 17")],
                |config| {
                    if let TimeSource::Sntp(server) = &mut config.time {
                        server.at.set_port(1_123);
                        server.interval = 17;
                    }
                },
            ),
            (
                "no counters",
                &[("[counters]", ""), ("port = 9100", ""), ("from = \"192.168.1.0/24\"", "")],
                |config| (config.counters_port, config.counters_network) = (0, None),
            ),
            ("a classic rule", &[("format = \"2\"", "format = \"classic\"")], |config| {
                config.rules[0].format = Format::Classic;
            }),
            ("a bound source", &[("require = []", "require = [\"source\"]")], |config| {
                config.rules[0].format = Format::Format2 { require: Bindings::SOURCE };
            }),
            (
                "both addresses bound",
                &[("require = []", "require = [\"source\", \"destination\"]")],
                |config| {
                    let require = Bindings::SOURCE | Bindings::DESTINATION;
                    config.rules[0].format = Format::Format2 { require };
                },
            ),
            ("own addresses", &[("# own_addresses = [", "own_addresses = [\"192.0.2.1\", ")], |config| {
                config.own_addresses =
                    [[192, 0, 2, 1].into(), [198, 51, 100, 1].into()].into_iter().collect();
            }),
            ("a UDP service", &[("protocol = \"tcp\"", "protocol = \"udp\"")], |config| {
                config.services[0].protocol = Protocol::Udp;
            }),
        ];
        check_settings("setting", &table);
    }

    #[test]
    fn one_service_or_rule_more_than_the_maximum_is_rejected() {
        use std::fmt::Write as _;
        // services and rules in addition to the example's two and one
        let table = [
            (pkd_gateway::SERVICES - 2, RULES - 1, None),
            (pkd_gateway::SERVICES - 1, 0, Some("services")),
            (0, RULES, Some("rules")),
        ];
        for (row, (services, rules, expected_text)) in table.into_iter().enumerate() {
            let mut text = GOOD.to_owned();
            for (number, port) in (0..services).zip(10_000..) {
                let inside = "192.168.1.20:80";
                write!(text, "\n[[service]]\nname = \"s{number}\"\nprotocol = \"tcp\"\nport = {port}")
                    .unwrap();
                write!(text, "\ninside = \"{inside}\"\n").unwrap();
            }
            for number in 0..rules {
                write!(text, "\n[[rule]]\ntag = \"{number}\"\nkey_file = \"pkd.key\"\n").unwrap();
                text.push_str("services = [\"ssh\"]\n");
            }
            let given = converted(&text, &format!("many-{row}"));
            match (given, expected_text) {
                (Ok(config), None) => {
                    assert_eq!((config.services.len(), config.rules.len()), (services + 2, rules + 1));
                    assert_eq!(
                        (
                            config.rules[1].ttl,
                            config.rules[1].knock.window().as_secs(),
                            config.rules[1].format
                        ),
                        (60, 10, Format::Format2 { require: Bindings::NONE }),
                        "defaults"
                    );
                }
                (Err(error), Some(expected_text)) => {
                    assert!(format!("{error:#}").contains(expected_text), "row {row}: {error:#}");
                }
                (given, _) => panic!("row {row}: {given:?}"),
            }
        }
    }

    #[test]
    fn a_key_file_that_others_can_read_is_rejected() {
        let folder = folder("loose");
        fs::set_permissions(folder.join("pkd.key"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(folder.join("gateway.toml"), GOOD).unwrap();
        let error = convert(&folder.join("gateway.toml"), None, UnixSeconds(0)).unwrap_err();
        fs::remove_dir_all(&folder).unwrap();
        assert!(format!("{error:#}").contains("chmod 600"), "{error:#}");
    }
}
