use std::fs;

use super::*;

pub(in crate::openwrt) const GOOD: &str = "\
package pkd

config gate 'gate'
\toption enabled '1'
\toption mode 'match'
\toption port 'any'
\toption zone 'wan'
\toption clock 'ntp'

config service 'ssh'
\toption protocol 'tcp'
\toption port '22'
\toption seconds '30'

config user 'me'
\toption tag 'PKD0'
\toption format 'classic'
\tlist service 'ssh'
\toption window '10'
\toption enabled '1'

package firewall

config defaults
\toption input 'REJECT'

config zone
\toption name 'wan'
";

pub(in crate::openwrt) fn read(text: &str) -> Result<Router, Error> {
    let folder = tempfile::tempdir().unwrap();
    check(text, &Paths::below(folder.path()), KeyFiles::Read)
}

#[test]
fn the_default_configuration_is_read() {
    let router = read(GOOD).unwrap();
    assert!(router.enabled);
    assert_eq!((router.mode, router.clock, router.zone.as_deref()), (Mode::Match, Clock::Ntp, Some("wan")));
    assert_eq!(router.mask.text(), "0x00ff0000");
    assert_eq!((router.mask.mark(1), router.mask.mark(255)), ("0x10000".to_owned(), "0xff0000".to_owned()));
    let gate = &router.config.gate;
    assert_eq!((gate.port, gate.group, gate.rate), (None, 5_644, 20));
    assert!(gate.state.ends_with("etc/pkdd") && gate.run.ends_with("var/run/pkdd"));
    assert_eq!((gate.save.as_secs(), gate.user.as_deref()), (3_600, Some("nobody")));
    assert!(
        matches!(&router.keys[..], [(user, KeyPlace::File(file))] if user == "me" && file.ends_with("me.key"))
    );
    // The file that the package installs has neither a window nor a key.
    let short = GOOD
        .replace("\toption window '10'\n\toption enabled '1'\n", "")
        .replace("\toption mode 'match'\n", "");
    let short = read(&short).unwrap();
    assert_eq!((short.mode, short.config.users["me"].rule.window().as_secs()), (Mode::Nft, 10));
}

/// Text, replacement, message.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "enabled '1'\n\toption mode",
        "enabled 'yes'\n\toption mode",
        "gate: invalid enabled \"yes\": expected 0 or 1",
    ),
    ("'match'", "'ebpf'", "gate: invalid mode \"ebpf\": expected nft or match"),
    ("port 'any'", "port '70000'", "gate: invalid port 70000: expected 1–65535"),
    ("port 'any'", "port '010'", "gate: invalid port \"010\": expected 1–65535"),
    ("port 'any'", "rate '0'", "gate: invalid rate 0: expected 1–1000000"),
    ("zone 'wan'", "zone 'a b'", "gate: invalid zone \"a b\": expected the name of a firewall zone, or any"),
    ("zone 'wan'", "zone 'wann'", "gate: no zone \"wann\" in /etc/config/firewall"),
    ("'ntp'", "'maybe'", "gate: invalid clock \"maybe\": expected ntp or trust"),
    ("port 'any'", "mark '0x5'", "gate: invalid mark \"0x5\": expected 2 to 8 adjacent bits"),
    ("port 'any'", "mark '0x1'", "gate: invalid mark \"0x1\": expected 2 to 8 adjacent bits"),
    ("port 'any'", "mark '0x1ff'", "gate: invalid mark \"0x1ff\": expected 2 to 8 adjacent bits"),
    ("port 'any'", "mark '0x0'", "gate: invalid mark \"0x0\": expected 2 to 8 adjacent bits"),
    (
        "port 'any'",
        "mark '255'",
        "gate: invalid mark \"255\": expected a hexadecimal mask such as 0x00ff0000",
    ),
    (
        "port 'any'",
        "mark '0x+5'",
        "gate: invalid mark \"0x+5\": expected a hexadecimal mask such as 0x00ff0000",
    ),
    ("port 'any'", "speed '1'", "gate: unknown option \"speed\""),
    ("port 'any'\n", "port '1'\n\tlist port '2'\n", "gate: port is given 2 times: expected once"),
    (
        "gate 'gate'",
        "gate 'other'",
        "section \"other\": unknown type \"gate\": expected gate 'gate', service or user",
    ),
    ("config service 'ssh'", "config thing 'other'", "section \"other\": unknown type \"thing\": expected"),
    ("config gate 'gate'\n", "config user 'gate'\n", "user \"gate\": unknown option \"mode\""),
    ("'tcp'", "'sctp'", "service \"ssh\": invalid protocol \"sctp\": expected tcp or udp"),
    ("port '22'", "port '0'", "service \"ssh\": invalid port 0: expected 1–65535"),
    ("\toption port '22'\n", "", "service \"ssh\": missing port"),
    (
        "seconds '30'",
        "dest_port '22'",
        "service \"ssh\": missing dest_ip: dest_port is the port on another host",
    ),
    (
        "seconds '30'",
        "dest_ip '192.168.1.300'",
        "service \"ssh\": invalid dest_ip \"192.168.1.300\": expected an IPv4 or IPv6 address",
    ),
    (
        "seconds '30'",
        "dest_ip '192.168.1.0/24'",
        "service \"ssh\": invalid dest_ip \"192.168.1.0/24\": expected an IPv4 or IPv6 address",
    ),
    (
        "seconds '30'",
        "dest_ip '127.0.0.1'",
        "service \"ssh\": invalid dest_ip \"127.0.0.1\": expected the address of a host behind the router",
    ),
    (
        "seconds '30'",
        "dest_ip 'fe80::1'",
        "service \"ssh\": invalid dest_ip \"fe80::1\": expected the address of a host behind the router",
    ),
    (
        "seconds '30'",
        "dest_ip 'fd00::10/-64'",
        "service \"ssh\": invalid dest_ip \"fd00::10/-64\": expected an IPv4 or IPv6 address, or the end of one such as ::10/-64",
    ),
    (
        "seconds '30'",
        "dest_ip '192.168.1.2 192.168.1.3'",
        "service \"ssh\": two addresses of one family in dest_ip",
    ),
    (
        "seconds '30'",
        "dest_ip '192.168.1.2'\n\toption end_connections '1'",
        "service \"ssh\": end_connections does not work with dest_ip: remove one",
    ),
    (
        "seconds '30'",
        "dest_ip '192.168.1.2'\n\toption dest_port '0'",
        "service \"ssh\": invalid dest_port \"0\": expected 1–65535",
    ),
    (
        "port '22'",
        "port '22 23'\n\toption dest_ip '192.168.1.2'\n\toption dest_port '24'",
        "service \"ssh\": several ports keep their numbers: remove dest_port",
    ),
    (
        "seconds '30'",
        "seconds '99999999999999999999'",
        "service \"ssh\": invalid seconds \"99999999999999999999\": expected 1–86400",
    ),
    ("seconds '30'", "tag 'TOOLONG'", "service \"ssh\": invalid tag \"TOOLONG\": "),
    ("config service 'ssh'", "config service 's-h'", "user \"me\": unknown service \"ssh\""),
    (
        "window '10'\n\toption enabled '1'",
        "enabled '2'",
        "user \"me\": invalid enabled \"2\": expected 0 or 1",
    ),
    ("\toption tag 'PKD0'\n", "", "user \"me\": missing tag"),
    ("'PKD0'", "'0x5g'", "user \"me\": invalid tag \"0x5g\": "),
    ("format 'classic'", "format '3'", "user \"me\": invalid format \"3\": expected 2 or classic"),
    (
        "format 'classic'",
        "require 'port'",
        "user \"me\": invalid require \"port\": expected source or destination",
    ),
    ("tag 'PKD0'", "require 'source'\n\toption tag 'PKD0'", "user \"me\": require needs format \"2\""),
    (
        "option format 'classic'\n\tlist service 'ssh'\n\toption window '10'",
        "list service 'ssh'\n\toption window '301'",
        "user \"me\": invalid window 301: expected 1–300",
    ),
    ("window '10'", "window '-1'", "user \"me\": invalid window \"-1\": expected 0–86400"),
    (
        "service 'ssh'\n\toption window",
        "service 'vpn'\n\toption window",
        "user \"me\": unknown service \"vpn\"",
    ),
    (
        "service 'ssh'\n\toption window",
        "service 's.*'\n\toption window",
        "user \"me\": unknown service \"s.*\"",
    ),
    ("\tlist service 'ssh'\n", "", "user \"me\": missing service: a knock would open nothing"),
    (
        "window '10'",
        "expires '2026-02-30'",
        "user \"me\": invalid expires \"2026-02-30\": expected a date such as 2027-12-31",
    ),
    ("window '10'", "key_file 'key'", "user \"me\": invalid key_file \"key\": expected an absolute path"),
    (
        "window '10'",
        "key_file '/a\"b'",
        "user \"me\": invalid key_file \"/a\"b\": expected only letters, digits and _ . / -",
    ),
    ("window '10'", "key_file '/none'", "user \"me\": cannot read key_file /none: No such file"),
    ("window '10'", "key '0x'", "user \"me\": invalid key: "),
    (
        "window '10'\n",
        "key 'k'\n\toption key_file '/k'\n",
        "user \"me\": key and key_file are both set: remove one",
    ),
    (
        "option input 'REJECT'",
        "option auto_includes '0'",
        "option auto_includes is 0 in /etc/config/firewall",
    ),
    (
        "package firewall",
        "config user 'two'\n\toption format 'classic'\n\toption tag '0x504b4430'\n\tlist service 'ssh'\n\npackage firewall",
        "user \"two\": same tag as user \"me\": with mode match, each user needs a different one",
    ),
    (
        "package firewall",
        "config service 'sshd'\n\toption port '22'\n\npackage firewall",
        "service \"sshd\": tcp port 22 is also that of service \"ssh\"",
    ),
    (
        "package firewall",
        "config service 'sshd'\n\tlist port '80'\n\tlist port '20-25'\n\npackage firewall",
        "service \"sshd\": tcp port 22 is also that of service \"ssh\"",
    ),
    (
        "option port '22'",
        "option port '22'\n\toption end_connections '1'",
        "service \"ssh\": end_connections needs mode nft",
    ),
    (
        "option port '22'",
        "option port '22'\n\toption end_connections 'yes'",
        "service \"ssh\": invalid end_connections \"yes\": expected 0 or 1",
    ),
    ("port '22'", "port '22 x'", "service \"ssh\": invalid port \"x\": expected 1–65535"),
    (
        "port '22'",
        "port '22 100-90'",
        "service \"ssh\": invalid port \"100-90\": expected the lower port first",
    ),
    ("port '22'", "port '22-022'", "service \"ssh\": invalid port \"22-022\": expected 1–65535"),
];

#[test]
fn ports_are_a_list_or_words() {
    let rows = [
        ("option port '22'", "22"),
        ("option port '80 443 8000-8100'", "80,443,8000-8100"),
        ("option port '80,443'", "80,443"),
        ("option port '80, 443'", "80,443"),
        ("list port '443'\n\tlist port '80'\n\tlist port '81 8000-8100'", "80-81,443,8000-8100"),
    ];
    for (text, expected) in rows {
        let router = read(&GOOD.replacen("option port '22'", text, 1)).unwrap();
        let ports: Vec<String> =
            router.config.services.values().map(|one| one.service.ports.to_string()).collect();
        assert_eq!(ports, [expected], "{text}");
    }
}

#[test]
fn every_mistake_is_named_in_one_line() {
    for (from, to, expected) in MISTAKES {
        assert!(GOOD.contains(from), "{from}");
        let error = read(&GOOD.replacen(from, to, 1)).map(drop).expect_err(to).to_string();
        assert!(error.starts_with(expected) && !error.contains('\n'), "{to:?}: {error}");
    }
    let error = read("package pkd\n").map(drop).unwrap_err();
    assert_eq!(error.to_string(), "missing section gate 'gate'");
}

#[test]
fn an_error_knows_the_field_that_it_is_about() {
    for (from, to, section, option) in [
        ("port '22'", "port '0'", "ssh", "port"),
        ("'PKD0'", "'TOOLONG'", "me", "tag"),
        ("\tlist service 'ssh'\n", "", "me", "service"),
        ("'match'", "'ebpf'", "gate", "mode"),
    ] {
        let error = read(&GOOD.replacen(from, to, 1)).map(drop).unwrap_err();
        let located = error.located();
        assert_eq!((located.section, located.option), (Some(section), Some(option)), "{error}");
        assert!(!located.message.contains(&format!("\"{section}\"")), "{}", located.message);
    }
}

#[test]
fn with_mode_nft_two_users_may_have_one_tag_but_not_one_key() {
    let two = |key: &str| {
        let user = format!(
            "config user 'two'\n\toption format 'classic'\n\toption tag 'PKD0'\n\toption key '{key}'\n\tlist service 'ssh'\n\n"
        );
        let text = GOOD.replace("'match'", "'nft'").replace("package firewall", &(user + "package firewall"));
        text.replace("option window '10'", "option key 'the key of the first'")
    };
    assert!(read(&two("the key of the second")).is_ok());
    let error = read(&two("the key of the first")).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "user \"two\": same tag and key as user \"me\"");
}

#[test]
fn a_mask_has_room_for_so_many_active_users() {
    let users = |count: usize, state: &str| -> String {
        let one = |number: usize| {
            format!(
                "config user 'u{number}'\n\toption format 'classic'\n\toption tag 'U{number}'\n\tlist service 'ssh'\n{state}\n"
            )
        };
        let all: String = (1..count).map(one).collect();
        GOOD.replace("port 'any'", "mark '0x30'").replace("package firewall", &(all + "package firewall"))
    };
    assert!(read(&users(3, "")).is_ok());
    let error = read(&users(4, "")).map(drop).unwrap_err().to_string();
    assert_eq!(error, "gate: mark: \"0x00000030\" has room for only 3 users: use more bits");
    assert!(read(&users(9, "\toption enabled '0'\n")).is_ok());
    // A user of format 2 has a mark for closing, too.
    let text = users(2, "").replacen("\toption format 'classic'\n", "", 1);
    assert!(read(&text).is_ok());
    let error = read(&text.replace("\toption format 'classic'\n", "")).map(drop).unwrap_err().to_string();
    let expected = "has room for only 3 users, and those of format 2 count twice: use more bits";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn a_missing_key_in_its_default_place_is_one_that_a_start_makes() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::below(folder.path());
    check(GOOD, &paths, KeyFiles::Read).unwrap();
    assert!(!paths.key_file("me").exists(), "a check makes no key");
    fs::create_dir_all(paths.key_file("me").parent().unwrap()).unwrap();
    fs::write(paths.key_file("me"), "0x\n").unwrap();
    let error = check(GOOD, &paths, KeyFiles::Read).map(drop).unwrap_err().to_string();
    assert!(error.starts_with("user \"me\": invalid key in ") && error.contains("me.key: "), "{error}");
}

#[test]
fn a_broken_configuration_still_says_whether_the_gate_is_enabled() {
    assert!(is_enabled(GOOD));
    assert!(is_enabled(&GOOD.replace("port '22'", "port '0'")));
    assert!(!is_enabled(&GOOD.replacen("enabled '1'", "enabled '0'", 1)));
    assert!(!is_enabled("nonsense"));
}
