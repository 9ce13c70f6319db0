//! `pkd-gateway-config FILE OUT`: converts a TOML file to the gateway's binary configuration. `keygen` and `sign` are for updates
//! of the firmware.

mod file;
mod hex;
mod image;
mod private_file;

use std::{
    fs,
    path::Path,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use pkd_core::UnixSeconds;
use pkd_gateway::{CONFIG_LIMIT, Config, RULES};

const USAGE: &str = "usage: pkd-gateway-config FILE OUT\n       \
                     pkd-gateway-config keygen KEY\n       pkd-gateway-config sign KEY BOARD VERSION IMAGE OUT";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pkd-gateway-config: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    let (from, to) = match arguments {
        ["keygen", key] => {
            print!("{}", image::keygen(Path::new(key))?);
            return Ok(());
        }
        ["sign", key, board, version, image, out] => {
            let bytes = image::sign(Path::new(key), board, version, Path::new(image))?;
            return fs::write(out, bytes).context((*out).to_owned());
        }
        [from, to] => (from, to),
        _ => bail!("{USAGE}"),
    };
    let created = UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    let bytes = convert(Path::new(from), created).with_context(|| (*from).to_owned())?;
    private_file::write(Path::new(to), &bytes)
}

/// Converts a TOML file to a binary configuration with this time of creation.
fn convert(path: &Path, created: UnixSeconds) -> Result<Vec<u8>> {
    let text = fs::read_to_string(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let config: Config<RULES> = file::parse(&text)?.resolve(folder, created)?;
    let mut bytes = vec![0; CONFIG_LIMIT];
    let length = config.emit(&mut bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, path::PathBuf};

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
        let bytes = convert(&folder.join("gateway.toml"), UnixSeconds(1_800_000_000));
        fs::remove_dir_all(&folder)?;
        Config::parse(&bytes?).map_err(|error| anyhow::anyhow!("{error}"))
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
    fn errors_name_the_problem() {
        let table = [
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
    fn every_setting_reaches_the_configuration() {
        use pkd_gateway::{Address, Inline, Mode, Pass, Protocol, TimeSource, Vlans};
        const PORTS: [(&str, &str); 2] = [("port = 2222", ""), ("port = 8443", "")];
        fn inline(config: &mut Config<RULES>, vlans: Option<Vlans>, pass: Pass) {
            config.mode = Mode::Inline(Inline { vlans, pass });
            config.services[0].port = 22;
            config.services[1].port = 443;
        }
        let table: [Row; 13] = [
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
                &[("\"one-arm\"", "\"inline\""), PORTS[0], PORTS[1]],
                |config| inline(config, None, Pass::default()),
            ),
            (
                "a trunk",
                &[
                    (
                        "mode = \"one-arm\"",
                        "inline = { outside_vlan = 2, inside_vlan = 3 }\nmode = \"inline\"",
                    ),
                    PORTS[0],
                    PORTS[1],
                ],
                |config| inline(config, Some(Vlans { outside: 2, inside: 3 }), Pass::default()),
            ),
            (
                "IPv6 passed through",
                &[
                    ("mode = \"one-arm\"", "inline = { pass_ipv6 = true }\nmode = \"inline\""),
                    PORTS[0],
                    PORTS[1],
                ],
                |config| inline(config, None, Pass { ipv6: true, other: false }),
            ),
            ("DHCP", &[("\"192.168.1.9/24\"", "\"dhcp\""), ("router = \"192.168.1.1\"", "")], |config| {
                config.address = Address::Dhcp;
            }),
            (
                "the time server's port and interval",
                &[("server = \"192.168.1.1\"", "server = \"192.168.1.1\"\nport = 1123\nevery = 17")],
                |config| {
                    if let TimeSource::Sntp(server) = &mut config.time {
                        (server.at.port, server.interval) = (1_123, 17);
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
        let error = convert(&folder.join("gateway.toml"), UnixSeconds(0)).unwrap_err();
        fs::remove_dir_all(&folder).unwrap();
        assert!(format!("{error:#}").contains("chmod 600"), "{error:#}");
    }
}
