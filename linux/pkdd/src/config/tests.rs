//! Tests of the configuration.

use pktables::{Policy, Protocol};

use super::*;

pub(crate) const GOOD: &str = "\
[service.ssh]
port = 22

[service.web]
protocol = 'tcp'
port = 8443
seconds = 600
forward = '192.168.1.10:443'
tags = ['WEBK']

[user.me]
format = 'classic'
tag = 'PKD0'
key = 'a good key'
services = ['ssh', 'web']

[user.anna]
format = 'classic'
tag = 'WEBK'
key = '0x00112233'
window = 0
services = ['web']
expires = '2027-12-31'
enabled = false
";

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(text, Path::new("/nowhere"))
}

#[test]
fn omitted_options_have_their_defaults() {
    let config = parse(GOOD).unwrap();
    let Config { gate, services, users, .. } = &config;
    assert_eq!((gate.port, gate.group, gate.rate), (None, 5_644, 20));
    #[cfg(feature = "rules")]
    assert_eq!(gate.firewall, Firewall::Pktables(pktables::Backend::Auto));
    let ssh = &services[&"ssh".parse().unwrap()];
    assert_eq!((ssh.ttl, ssh.service.protocol), (Duration::from_secs(30), Protocol::Tcp));
    let web = &services[&"web".parse().unwrap()];
    assert_eq!((web.ttl, web.tags.len()), (Duration::from_mins(10), 1));
    assert_eq!(users["me"].rule.window(), Window::from_secs(10));
    assert_eq!((users["me"].enabled, users["anna"].enabled), (true, false));
    assert_eq!(config.widest(), Window::from_secs(10));
}

#[test]
fn a_service_guards_new_connections_and_drops_those_without_a_grant() {
    let config = parse(GOOD).unwrap();
    let service = |name: &str, port: u16, forward: &[&str]| Service {
        name: name.parse().unwrap(),
        protocol: Protocol::Tcp,
        ports: port.to_string().parse().unwrap(),
        only_new: true,
        policy: Policy::Drop,
        log: None,
        forward: forward.iter().map(|text| text.parse().unwrap()).collect(),
        scope: {
            let mut scope = pktables::Scope::default();
            (scope.before_nat, scope.leases) = (true, true);
            scope.exempt = vec![pktables::Exempt::loopback()];
            scope
        },
    };
    let services: Vec<&Service> = config.services.values().map(|service| &service.service).collect();
    assert_eq!(services, [&service("ssh", 22, &[]), &service("web", 8443, &["192.168.1.10:443"])]);
}

#[test]
fn what_is_not_guarded_is_an_address_a_prefix_or_an_interface() {
    // options of the gate, part of the message; None: accepted
    let table = [
        ("exempt = ['192.168.0.0/16', 'fd00::7', 'br-lan']\ninterfaces = ['eth0', 'ppp0']", None),
        ("exempt = ['192.168.0.1/16']", Some("gate: invalid exempt \"192.168.0.1/16\": host bits are set")),
        ("exempt = ['0.0.0.0/0']", Some("gate: invalid exempt \"0.0.0.0/0\": matches every address")),
        ("exempt = ['']", Some("gate: invalid exempt \"\": empty")),
        ("interfaces = ['eth+']", Some("gate: invalid interfaces \"eth+\": expected letters")),
        ("firewall = 'fw4'\nexempt = ['lan']", Some("gate: exempt does not work with firewall 'fw4'")),
        (
            "firewall = 'fw4'\ninterfaces = ['wan']",
            Some("gate: interfaces does not work with firewall 'fw4'"),
        ),
    ];
    for (options, said) in table {
        let read = parse(&format!("[gate]\n{options}\n{GOOD}")).map(drop).map_err(|error| error.to_string());
        match said {
            None => assert_eq!(read, Ok(()), "{options}"),
            Some(said) => {
                assert!(read.as_ref().is_err_and(|error| error.contains(said)), "{options}: {read:?}");
            }
        }
    }
}

#[test]
fn the_first_and_the_last_of_a_range_are_accepted_and_their_neighbours_are_not() {
    let (longest, one_more) = ("n".repeat(32), "n".repeat(33));
    // text, replacement, whether it is accepted
    let table = [
        ("port = 22", "port = 1", true),
        ("port = 22", "port = 65535", true),
        ("port = 22", "port = 65536", false),
        ("seconds = 600", "seconds = 0", false),
        ("seconds = 600", "seconds = 1", true),
        ("seconds = 600", "seconds = 86400", true),
        ("seconds = 600", "seconds = 86401", false),
        ("window = 0", "window = 86400", true),
        ("window = 0", "window = 86401", false),
        ("[service.ssh]", "[gate]\nport = 65535\n[service.ssh]", true),
        ("[service.ssh]", "[gate]\ngroup = -1\n[service.ssh]", false),
        ("[service.ssh]", "[gate]\ngroup = 0\n[service.ssh]", true),
        ("[service.ssh]", "[gate]\ngroup = 65535\n[service.ssh]", true),
        ("[service.ssh]", "[gate]\nrate = 1\n[service.ssh]", true),
        ("[service.ssh]", "[gate]\nrate = 1000000\n[service.ssh]", true),
        ("[service.ssh]", "[gate]\nrate = 1000001\n[service.ssh]", false),
        ("[service.ssh]", "[gate]\nsave = 0\n[service.ssh]", false),
        ("[service.ssh]", "[gate]\nsave = 1\n[service.ssh]", true),
        ("[service.ssh]", "[gate]\nsave = 86400\n[service.ssh]", true),
        ("[service.ssh]", "[gate]\nsave = 86401\n[service.ssh]", false),
        ("user.me", &format!("user.{longest}"), true),
        ("user.me", &format!("user.{one_more}"), false),
        ("user.me", "user.''", false),
        ("user.me", "user.'a_-.@9'", true),
        ("user.me", "user.'a/b'", false),
    ];
    for (from, to, is_accepted) in table {
        let read = parse(&GOOD.replacen(from, to, 1)).map(drop);
        assert_eq!(read.is_ok(), is_accepted, "{to:?}: {read:?}");
    }
}

#[test]
fn a_knock_opens_the_services_of_its_user_that_accept_its_tag() {
    let config = parse(GOOD).unwrap();
    let opened = |user: &str| {
        config
            .services_of(&config.users[user])
            .map(|service| service.service.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!((opened("me"), opened("anna")), (vec!["ssh".to_owned()], vec!["web".to_owned()]));
}

#[test]
fn a_user_may_knock_until_the_end_of_the_last_day() {
    let mut user = parse(GOOD).unwrap().users["anna"].clone();
    let end = "2027-12-31".parse::<Date>().unwrap().end();
    assert!(!user.is_active(UnixSeconds(0)), "the user is disabled");
    user.enabled = true;
    assert!(user.is_active(end) && !user.is_active(UnixSeconds(end.0 + 1)));
}

/// Text of the good configuration, its replacement, and a part of the message.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("port = 22\n", "port = 70000\n", "service \"ssh\": invalid port 70000: expected 1–65535"),
    ("port = 22\n", "port = 0\n", "service \"ssh\": invalid port 0: expected 1–65535"),
    ("port = 22\n", "", "service \"ssh\": missing port"),
    ("port = 22\n", "port = 22\nprot = 'tcp'\n", ":3: unknown field `prot`"),
    (
        "port = 22\n",
        "port = true\n",
        ":2: invalid type: boolean `true`, expected a number, a text, or a list of them",
    ),
    ("port = 22\n", "port = []\n", "service \"ssh\": invalid port \"\": expected 1–65535"),
    ("port = 22\n", "port = ''\n", "service \"ssh\": invalid port \"\": expected 1–65535"),
    ("port = 22\n", "port = [22, 0]\n", "service \"ssh\": invalid port 0: expected 1–65535"),
    ("port = 22\n", "port = '022'\n", "service \"ssh\": invalid port \"022\": expected 1–65535"),
    ("port = 22\n", "port = '1-65536'\n", "service \"ssh\": invalid port \"1-65536\": expected 1–65535"),
    (
        "port = 22\n",
        "port = ['90-80']\n",
        "service \"ssh\": invalid port \"90-80\": expected the lower port first",
    ),
    (
        "port = 22\n",
        "port = '1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31'\n",
        "service \"ssh\": invalid port \"1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31\": more than 15 ports and ranges",
    ),
    (
        "port = 22\n",
        "port = '1000-9000'\n",
        "service \"web\": tcp port 8443 is also that of service \"ssh\": name each port once",
    ),
    (
        "port = 8443",
        "port = [8443, 8444]",
        "service \"web\": invalid forward \"192.168.1.10:443\": several ports keep their numbers: leave out the port",
    ),
    ("[service.ssh]", "[service.'s s']", "service \"s s\": expected letters"),
    ("[service.ssh]", "[service.ssh", ":1: "),
    ("'tcp'", "'sctp'", "service \"web\": invalid protocol \"sctp\": expected tcp or udp"),
    ("seconds = 600", "seconds = 86401", "service \"web\": invalid seconds 86401: expected 1–86400"),
    (
        "'192.168.1.10:443'",
        "7",
        "service \"web\": invalid forward \"7\": expected ADDRESS:PORT, or ADDRESS to keep the port; IPv6 in brackets",
    ),
    (
        "'192.168.1.10:443'",
        "'fd00::10'",
        "service \"web\": invalid forward \"fd00::10\": expected ADDRESS:PORT, or ADDRESS to keep the port; IPv6 in brackets",
    ),
    (
        "'192.168.1.10:443'",
        "'192.168.1.10:0'",
        "service \"web\": invalid forward \"192.168.1.10:0\": port must not be 0",
    ),
    ("tags = ['WEBK']", "tags = ['WEBKK']", "service \"web\": invalid tag \"WEBKK\": "),
    ("tag = 'PKD0'\n", "", "user \"me\": missing tag"),
    ("tag = 'PKD0'\n", "tag = '0xg'\n", "user \"me\": invalid tag \"0xg\": "),
    ("key = 'a good key'\n", "", "user \"me\": missing key_file"),
    ("key = 'a good key'\n", "key = ''\n", "user \"me\": invalid key: "),
    (
        "key = 'a good key'\n",
        "key = 'a'\nkey_file = 'b'\n",
        "user \"me\": key and key_file are both set: remove one",
    ),
    ("key = 'a good key'\n", "key_file = 'b'\n", "user \"me\": cannot read key_file /nowhere/b: "),
    ("services = ['ssh', 'web']\n", "", "user \"me\": missing services"),
    ("['ssh', 'web']", "['ssh', 'vpn']", "user \"me\": unknown service \"vpn\""),
    ("window = 0", "window = -1", "user \"anna\": invalid window -1: expected 0–86400"),
    ("format = 'classic'", "format = '1'", "user \"me\": invalid format \"1\": expected 2 or classic"),
    ("format = 'classic'", "format = 1", "user \"me\": invalid format \"1\": expected 2 or classic"),
    ("format = 'classic'", "format = [2]", "invalid type: sequence, expected \"2\" or \"classic\""),
    (
        "format = 'classic'",
        "require = ['port']",
        "user \"me\": invalid require \"port\": expected source or destination",
    ),
    ("window = 0", "window = 10\nrequire = ['source']", "user \"anna\": require needs format \"2\""),
    (
        "format = 'classic'\ntag = 'WEBK'",
        "format = 2\ntag = 'WEBK'",
        "user \"anna\": invalid window 0: expected 1–300",
    ),
    (
        "[service.ssh]",
        "[gate]\nown_addresses = ['gw']\n[service.ssh]",
        "gate: invalid own_addresses \"gw\": expected an IPv4 or IPv6 address",
    ),
    (
        "[service.ssh]",
        "[gate]\naddress = ['gw', '']\n[service.ssh]",
        "gate: invalid address \"\": expected a name",
    ),
    (
        "[service.ssh]",
        "[gate]\naddress = 1\n[service.ssh]",
        ":2: invalid type: integer `1`, expected a name or an",
    ),
    (
        "[service.ssh]",
        "[gate]\naddress = ['1', '2', '3', '4', '5', '6', '7', '8', '9']\n[service.ssh]",
        "gate: 9 addresses: expected at most 8",
    ),
    ("'2027-12-31'", "'soon'", "user \"anna\": invalid expires \"soon\": expected a date such as 2027-12-31"),
    ("[user.me]", "[user.'m e']", "user \"m e\": invalid name"),
    (
        "'WEBK'\nkey = '0x00112233'",
        "'PKD0'\nkey = 'a good key'",
        "user \"me\": same tag and key as user \"anna\"",
    ),
    ("[service.ssh]", "[gate]\nport = 0\n[service.ssh]", "gate: invalid port 0: expected 1–65535"),
    ("[service.ssh]", "[gate]\ngroup = 65536\n[service.ssh]", "gate: invalid group 65536: expected"),
    ("[service.ssh]", "[gate]\nrate = 0\n[service.ssh]", "gate: invalid rate 0: expected"),
    (
        "[service.ssh]",
        "[gate]\nfirewall = 'pf'\n[service.ssh]",
        "gate: invalid firewall \"pf\": expected auto",
    ),
    (
        "[service.ssh]",
        "[gate]\nfirewall = \"p\\nf\\u001b\"\n[service.ssh]",
        "gate: invalid firewall \"p\\nf\\u{1b}\": expected",
    ),
    (
        "[service.ssh]",
        "[gate]\nrun = 'run'\n[service.ssh]",
        "gate: invalid run \"run\": expected an absolute path",
    ),
    // The guard of the first would hide that of the second.
    (
        "port = 8443",
        "port = 22",
        "service \"web\": tcp port 22 is also that of service \"ssh\": name each port once",
    ),
    (
        "'192.168.1.10:443'",
        "['192.168.1.10:443', '192.168.1.11:443']",
        "service \"web\": forward 192.168.1.10:443 and forward 192.168.1.11:443 are of one address family: remove one",
    ),
    (
        "[service.ssh]",
        "[gate]\nfirewall = 'fw4'\n[service.ssh]",
        "service \"web\": forward does not work with firewall 'fw4'",
    ),
    (
        "'2027-12-31'",
        "2027-12-31T10:00:00",
        "user \"anna\": invalid expires \"2027-12-31T10:00:00\": expected",
    ),
    ("'2027-12-31'", "20271231", ":23: invalid type: integer `20271231`, expected a date"),
    (
        "[service.ssh]",
        "[gate]\nuser = 'no-such-account'\n[service.ssh]",
        "gate: unknown user \"no-such-account\": create the account, or set another user",
    ),
    ("[service.ssh]", "[gates]\n[service.ssh]", "unknown field `gates`"),
    (
        "[service.ssh]",
        "[service]\nkey = 'a good key'\n[service.ssh]",
        ":2: invalid type: string, expected struct",
    ),
    ("key = 'a good key'", "key = 17", "invalid type: integer, expected a string"),
];

#[test]
fn every_mistake_is_reported_in_one_line() {
    for (from, to, said) in MISTAKES {
        assert!(GOOD.contains(from), "{from}");
        let error = parse(&GOOD.replacen(from, to, 1)).map(drop).expect_err(to).to_string();
        assert!(error.contains(said) && !error.contains('\n'), "{to:?}: {error:?}, not {said:?}");
        assert!(!error.contains("a good key"), "{error}");
    }
}

#[test]
fn only_a_value_of_a_wrong_type_is_removed_from_a_message() {
    let rows = [
        ("invalid type: string \"k\", expected i64", "invalid type: string, expected i64"),
        ("invalid value: integer `7`, expected a day", "invalid value: integer, expected a day"),
        // The value looks like the end of the message.
        ("invalid type: string \"a, expected b\", expected i64", "invalid type: string, expected i64"),
        ("unknown field `keys`, expected `key`", "unknown field `keys`, expected `key`"),
        ("invalid type: null, expected `key`", "invalid type: null, expected `key`"),
        ("invalid type: string \"k\"", "invalid type: string \"k\""),
        ("missing field `key`", "missing field `key`"),
    ];
    for (message, expected) in rows {
        assert_eq!(toml::without_value(message), expected);
    }
}

#[test]
fn a_date_needs_no_quotes() {
    let quoted = parse(GOOD).unwrap();
    let native = parse(&GOOD.replace("'2027-12-31'", "2027-12-31")).unwrap();
    assert_eq!(native.users["anna"].expires, quoted.users["anna"].expires);
    assert!(native.users["anna"].expires.is_some());
}

#[test]
fn what_is_allowed_but_hardly_meant_causes_a_warning() {
    let warnings = |text: &str| parse(text).unwrap().warnings;
    let strong = GOOD.replace("'a good key'", "'0x0102030405060708090a0b0c0d0e0f10'");
    let strong = strong.replace("'0x00112233'", "'sixteen bytes of'");
    assert_eq!(warnings(&strong), [""; 0]);
    let weak = strong.replace("0x0102030405060708090a0b0c0d0e0f10", "0x0102030405060708090a0b0c0d0e0f");
    assert_eq!(warnings(&weak), ["user \"me\": the key has fewer than 16 bytes: make one with knock keygen"]);
    let expired = strong.replace("enabled = false", "").replace("2027-12-31", "2020-12-31");
    assert_eq!(warnings(&expired), ["user \"anna\": expires is in the past: knocks are ignored"]);
    assert_eq!(warnings("[service.ssh]\nport = 22\n"), ["there are no users: nobody can knock"]);
}

#[test]
fn a_service_of_another_protocol_may_have_the_same_port() {
    assert!(parse(&GOOD.replace("protocol = 'tcp'\nport = 8443", "protocol = 'udp'\nport = 22")).is_ok());
}

#[test]
fn an_empty_file_is_an_error_and_not_a_gate_without_guards() {
    for text in ["", "[gate]\nfirewall = 'nft'\n"] {
        let error = parse(text).map(drop).unwrap_err().to_string();
        assert!(error.starts_with("there are no services: add one"), "{error}");
    }
}

#[test]
fn what_a_guard_needs_is_kept_without_keys() {
    let kept = Config::guard_sections(GOOD).unwrap();
    assert!(!kept.contains("key") && !kept.contains("anna"), "{kept}");
    let (guard, whole) = (Config::for_guard(&kept).unwrap(), parse(GOOD).unwrap());
    let services = |config: &Config| config.services.values().map(|s| s.service.clone()).collect::<Vec<_>>();
    assert_eq!(services(&guard), services(&whole));
    assert!(guard.users.is_empty());
    assert!(Config::guard_sections("[user").is_none());
    assert!(Config::for_guard("{}").is_err());
}
