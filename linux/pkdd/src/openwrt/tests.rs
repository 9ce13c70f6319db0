use std::os::unix::fs::PermissionsExt;

use super::{router::tests::GOOD, *};

const NOW: u64 = 60;

/// A router's files, below a folder of their own.
struct Files {
    folder: tempfile::TempDir,
    paths: Paths,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path());
        let files = Self { folder, paths };
        files.write("proc/uptime", "100.50 7.00\n");
        files
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn run(&self, words: &[&str], input: &str) -> Result<String> {
        Command::parse(words).unwrap().run_below(self.folder.path(), &|| Ok(input.to_owned()))
    }

    /// Renders to the folder of the configuration in force.
    fn apply(&self, input: &str) -> String {
        let active = self.paths.run("active");
        self.run(&["render", active.to_str().unwrap()], input).unwrap()
    }
}

fn clock() -> u64 {
    crate::date::now().0
}

#[test]
fn the_first_start_makes_a_key_and_says_what_the_client_types() {
    let files = Files::new();
    let text = files.apply(GOOD);
    let key = files.read("etc/pkd/keys/me.key");
    assert!(key.len() == 67 && key.starts_with("0x") && key.ends_with('\n'), "{key:?}");
    assert!(text.starts_with("pkd: made a key for user me. ") && !text.contains(&key[2..66]), "{text}");
    assert!(text.ends_with("  knock --key-file me.key --tag 'PKD0' ROUTER\n"), "{text}");
    for name in ["active/config", "active/iptables", "active/variables"] {
        let mode = fs::metadata(files.paths.run(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    assert_eq!(files.apply(GOOD), "", "the key is there now");
    assert_eq!(files.read("etc/pkd/keys/me.key"), key);
}

#[test]
fn a_configuration_with_an_error_makes_nothing() {
    let files = Files::new();
    let folder = files.paths.run("new");
    let text = GOOD.replace("port '22'", "port '0'");
    let error = files.run(&["render", folder.to_str().unwrap()], &text).unwrap_err().to_string();
    assert_eq!(error, "/etc/config/pkd: service \"ssh\": invalid port 0: expected 1–65535");
    assert!(!folder.exists() && !files.folder.path().join("etc").exists());
}

#[test]
fn a_disabled_gate_makes_no_key_and_no_rules() {
    let files = Files::new();
    assert_eq!(files.apply(&GOOD.replacen("enabled '1'", "enabled '0'", 1)), "");
    assert_eq!(files.read("var/run/pkd/active/variables"), "pkd_enabled=0\npkd_mode=match\npkd_zone=wan\n");
    assert!(!files.folder.path().join("etc").exists() && !files.paths.active("fw4").exists());
}

#[test]
fn answers_to_this_host_are_dropped_where_connections_are_ended() {
    let text = GOOD.replace("'match'", "'nft'");
    let ending = text.replace("option port '22'", "option port '22 80'\n\toption end_connections '1'");
    let files = Files::new();
    files.apply(&text);
    assert!(!files.read("var/run/pkd/active/fw4/table-pkd.nft").contains("pkd.begun"));
    files.apply(&ending);
    let chain = "chain pkd.begun {\n\
         \ttype filter hook input priority -1; policy accept;\n\
         \ttcp dport { 22, 80 } ct direction reply drop comment \"pkd: ssh\"\n\
         }\n";
    let table = files.read("var/run/pkd/active/fw4/table-pkd.nft");
    assert!(table.contains(chain), "{table}");
}

#[test]
fn several_ports_are_one_set_in_both_modes() {
    let text = GOOD.replace("option port '22'", "option port '80 443 8000-8100'");
    for text in [text.clone(), text.replace("'match'", "'nft'")] {
        let files = Files::new();
        files.apply(&text);
        let table = files.read("var/run/pkd/active/fw4/table-pkd.nft");
        let rules = table.lines().filter(|line| line.contains(" dport { 80, 443, 8000-8100 } ct state new "));
        assert_eq!(rules.count(), 3, "{table}");
        assert_eq!(table.matches("dport").count(), 3, "{table}");
    }
}

#[test]
fn the_rules_of_mode_match() {
    let files = Files::new();
    files.write("etc/pkd/keys/me.key", "0x0102030405060708090a0b0c0d0e0f10\n");
    files.apply(GOOD);
    assert_eq!(
        files.read("var/run/pkd/active/fw4/table-pkd.nft"),
        "set pkd_ssh_4 { type ipv4_addr; size 4096; flags dynamic,timeout; }\n\
         set pkd_ssh_6 { type ipv6_addr; size 4096; flags dynamic,timeout; }\n\
         set pkd_ssh_link { type ipv6_addr . iface_index; size 4096; flags dynamic,timeout; }\n\
         chain pkd.user_1 {\n\
         \tmeta nfproto ipv4 update @pkd_ssh_4 { ip saddr timeout 30s }\n\
         \tmeta nfproto ipv6 ip6 saddr != fe80::/10 update @pkd_ssh_6 { ip6 saddr timeout 30s }\n\
         \tmeta nfproto ipv6 ip6 saddr fe80::/10 update @pkd_ssh_link { ip6 saddr . iif timeout 30s }\n\
         \tdrop\n\
         }\n\
         chain pkd.knocks {\n\
         \tmeta l4proto udp meta mark & 0x00ff0000 == 0x10000 goto pkd.user_1 comment \"pkd: user me\"\n\
         }\n\
         chain pkd.input {\n\
         \tjump pkd.knocks\n\
         \tmeta nfproto ipv4 tcp dport 22 ct state new ip saddr @pkd_ssh_4 accept comment \"pkd: ssh\"\n\
         \tmeta nfproto ipv6 tcp dport 22 ct state new ip6 saddr @pkd_ssh_6 accept comment \"pkd: ssh\"\n\
         \tmeta nfproto ipv6 tcp dport 22 ct state new ip6 saddr . iif @pkd_ssh_link accept comment \"pkd: ssh\"\n\
         }\n"
    );
    assert_eq!(files.read("var/run/pkd/active/fw4/chain-pkd.nft"), "jump pkd.input\n");
    let file = files.paths.key_file("me");
    assert_eq!(
        files.read("var/run/pkd/active/iptables"),
        format!(
            "*mangle\n:pkd - [0:0]\n-A pkd -j MARK --set-xmark 0x0/0x00ff0000\n\
             -A pkd -p udp -m pkd --key-file \"{}\" --tag 0x504b4430 --window 10 -j MARK --set-xmark 0x10000/0x00ff0000\n\
             COMMIT\n",
            file.display()
        )
    );
}

#[test]
fn a_user_of_format_2_opens_and_closes_in_mode_match() {
    let files = Files::new();
    let text = GOOD
        .replace("\toption format 'classic'\n", "\tlist require 'source'\n\tlist require 'destination'\n");
    files.apply(&text);
    let file = files.paths.key_file("me");
    let rule = format!("-m pkd --key-file \"{}\" --tag 0x504b4430 --window 10", file.display());
    let bound = "--format 2 --require source,destination";
    assert_eq!(
        files.read("var/run/pkd/active/iptables"),
        format!(
            "*mangle\n:pkd - [0:0]\n-A pkd -j MARK --set-xmark 0x0/0x00ff0000\n\
             -A pkd -p udp {rule} {bound} -j MARK --set-xmark 0x10000/0x00ff0000\n\
             -A pkd -p udp -m mark --mark 0x0/0x00ff0000 {rule} {bound} --request close -j MARK --set-xmark 0x20000/0x00ff0000\n\
             COMMIT\n"
        )
    );
    let table = files.read("var/run/pkd/active/fw4/table-pkd.nft");
    let closing = "chain pkd.user_2 {\n\
                   \tmeta nfproto ipv4 delete @pkd_ssh_4 { ip saddr }\n\
                   \tmeta nfproto ipv6 ip6 saddr != fe80::/10 delete @pkd_ssh_6 { ip6 saddr }\n\
                   \tmeta nfproto ipv6 ip6 saddr fe80::/10 delete @pkd_ssh_link { ip6 saddr . iif }\n\
                   \tdrop\n}\n";
    assert!(table.contains(closing), "{table}");
    let goto = "meta mark & 0x00ff0000 == 0x20000 goto pkd.user_2 comment \"pkd: closes for user me\"\n";
    assert!(table.contains(goto), "{table}");
    // The floor of format 2 is in milliseconds, at the end of the second that is on flash.
    files.write("etc/pkd/floor", "4000000000\n");
    files.write("proc/net/xt_pkd", "Good packets: 0\n");
    files.run(&["restore-floor"], "").unwrap();
    assert_eq!(files.read("proc/net/xt_pkd"), "floor 4000000000\nfloor2-ms 4000000000999\n");
    files.write("proc/uptime", "10.0 1.0\n");
    files.write(
        "proc/net/xt_pkd",
        "Floor to save: 4000000000\nFloor of format 2 to save, in ms: 4000000001001\n",
    );
    files.run(&["save-floor"], "").unwrap();
    // Nothing later than the saved one was classic.
    assert_eq!(files.read("etc/pkd/floor"), "4000000000\n");
    assert_eq!(files.read("etc/pkd/floor2"), "milliseconds\n4000000001001\n");
}

#[test]
fn the_rules_of_mode_nft_and_a_changed_key_that_pkdd_must_see() {
    let files = Files::new();
    let nft = GOOD.replace("'match'", "'nft'").replace("port 'any'", "port '40000'");
    files.write("etc/pkd/keys/me.key", "the first key of me\n");
    files.apply(&nft);
    let table = files.read("var/run/pkd/active/fw4/table-pkd.nft");
    let knocks =
        "chain pkd.knocks {\n\tudp length 64 udp dport 40000 @th,64,32 { 0x504b4430 } goto pkd.nflog\n}\n";
    assert!(table.contains(knocks), "{table}");
    assert!(!table.contains("hints"), "{table}");
    files.apply(&nft.replace("\toption format 'classic'\n", ""));
    let format2 = files.read("var/run/pkd/active/fw4/table-pkd.nft");
    let knocks =
        "chain pkd.knocks {\n\tudp length 64 udp dport 40000 @th,64,32 @pkd.hints goto pkd.nflog\n}\n";
    assert!(format2.contains(knocks), "{format2}");
    assert!(
        format2.contains("set pkd.hints { typeof @th,64,32; size 65535; flags timeout; }\n"),
        "{format2}"
    );
    files.apply(&nft);
    assert!(table.contains("log group 5644 snaplen 192 queue-threshold 1"), "{table}");
    assert!(!files.paths.active("iptables").exists());

    let config = files.paths.active("config");
    let read = crate::source::read(&config).unwrap();
    let direct = files.run(&["check"], &nft).map(|_| check(&nft, &files.paths).unwrap().config).unwrap();
    assert_eq!(read.users["me"].cache, direct.users["me"].cache);
    assert_eq!(read.gate.port, Some(40_000));

    let before = files.read("var/run/pkd/active/config");
    files.write("etc/pkd/keys/me.key", "the second key of me\n");
    files.apply(&nft);
    assert_ne!(files.read("var/run/pkd/active/config"), before, "procd would not start pkdd again");
    assert_ne!(crate::source::read(&config).unwrap().users["me"].cache, direct.users["me"].cache);
}

#[test]
fn no_name_of_a_service_meets_a_name_of_ours() {
    let files = Files::new();
    for mode in ["match", "nft"] {
        let mut text = GOOD.replace("'match'", &format!("'{mode}'"));
        for (port, name) in (100..).zip([
            "sources",
            "sources_4",
            "input",
            "knocks",
            "nflog",
            "user_1",
            "check",
            "link",
            "ssh_link",
        ]) {
            let service = format!("config service '{name}'\n\toption port '{port}'\n\npackage firewall");
            text = text.replace("package firewall", &service);
        }
        files.apply(&text);
        let table = files.read("var/run/pkd/active/fw4/table-pkd.nft");
        let mut names: Vec<&str> = table
            .lines()
            .filter(|line| line.starts_with("set ") || line.starts_with("chain "))
            .filter_map(|line| line.split(' ').nth(1))
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{mode}: {names:?}");
    }
}

#[test]
fn a_key_in_uci_gets_a_file_of_its_own_and_another_key_another_file() {
    let files = Files::new();
    let with = |key: &str| GOOD.replace("option window '10'", &format!("option key {}", uci::quoted(key)));
    let mut seen = Vec::new();
    for key in ["it's a secret 5417", "it's a secret 5418"] {
        files.apply(&with(key));
        let rules = files.read("var/run/pkd/active/iptables");
        let file = rules.split('"').nth(1).unwrap().to_owned();
        let digits = hex(key.as_bytes());
        assert!(fs::read_to_string(&file).unwrap().starts_with(&format!("0x{digits}00")), "{file}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!rules.contains("secret"));
        seen.push(file);
    }
    assert_ne!(seen[0], seen[1]);
}

#[test]
fn a_user_whose_last_day_has_ended_is_noticed_once() {
    let files = Files::new();
    files.apply(GOOD);
    assert!(files.run(&["expired"], "").is_err());
    // What was rendered while the user was still active.
    let rendered = files.read("var/run/pkd/active/iptables");
    files.apply(&GOOD.replace("option window '10'", "option expires '2020-12-31'"));
    let ended = files.read("var/run/pkd/active/iptables");
    assert!(!ended.contains("-m pkd"), "{ended}");
    files.write("var/run/pkd/active/iptables", &rendered);
    files.run(&["expired"], "").unwrap();
    files.write("var/run/pkd/active/iptables", &ended);
    assert!(files.run(&["expired"], "").is_err());
}

#[test]
fn the_first_start_accepts_at_once_and_later_boots_wait_for_ntp() {
    let files = Files::new();
    files.apply(GOOD);
    files.run(&["time-known"], "").unwrap();
    files.write("proc/net/xt_pkd", "Good packets: 0\n");
    files.run(&["restore-floor"], "").unwrap();
    assert_eq!(files.read("proc/net/xt_pkd"), "floor 0\nfloor2-ms 0\n");
    assert_eq!(files.read("etc/pkd/floor"), "0\n");
    files.run(&["time-known"], "").unwrap();
    // A reboot empties the folder.
    fs::remove_dir_all(files.paths.run("")).unwrap();
    files.apply(GOOD);
    assert!(files.run(&["time-known"], "").is_err());
    files.apply(&GOOD.replace("'ntp'", "'trust'"));
    files.run(&["time-known"], "").unwrap();
}

#[test]
fn a_restored_floor_is_above_everything_that_was_accepted() {
    for (saved, daemon, expected) in [
        ("7\n", "", clock()),
        ("7\n", "99999999999\n", 99_999_999_999),
        ("99999999998\nclean\n", "8\nclean\n", 99_999_999_998),
        ("damaged", "", clock()),
    ] {
        let files = Files::new();
        files.apply(GOOD);
        files.write("etc/pkd/floor", saved);
        if !daemon.is_empty() {
            files.write("etc/pkdd/floor", daemon);
            files.write(
                "etc/pkdd/floor2",
                &format!("milliseconds\n{}000\n", daemon.split('\n').next().unwrap()),
            );
        }
        files.write("proc/net/xt_pkd", "Good packets: 0\n");
        files.run(&["restore-floor"], "").unwrap();
        let written = files.read("proc/net/xt_pkd");
        let floor: u64 = written.lines().next().unwrap()["floor ".len()..].parse().unwrap();
        let format2: u64 = written.lines().nth(1).unwrap()["floor2-ms ".len()..].parse().unwrap();
        assert_eq!(format2 / 1_000, floor, "{written}");
        assert!((expected..expected + NOW + 10).contains(&floor), "{saved:?}, {daemon:?}: {floor}");
        // One that the module has is its own.
        let known = "Floor to save: 5\nFloor of format 2 to save, in ms: 5000\n";
        files.write("proc/net/xt_pkd", known);
        files.run(&["restore-floor"], "").unwrap();
        assert_eq!(files.read("proc/net/xt_pkd"), known);
    }
    let files = Files::new();
    files.apply(GOOD);
    let error = files.run(&["restore-floor"], "").unwrap_err().to_string();
    assert!(error.ends_with("xt_pkd: is the module loaded?"), "{error}");
}

#[test]
fn the_floor_of_one_key_is_restored_for_it_alone() {
    let far = |time: &str| {
        format!(
            "{time}\nother 0 inexact\nkey 0011223344556677 {time} inexact\nkey 8899aabbccddeeff 5 inexact\nend\n"
        )
    };
    let classic = &far("99999999998");
    let format2 = &format!("milliseconds\n{}", far("99999999998000"));
    let (classic_line, format2_line) =
        ("floor 0011223344556677 99999999998", "floor2-ms 0011223344556677 99999999998000");
    // the files, and the lines of keys: those that are later than what any key may have accepted
    for (written_before, expected) in [
        (vec![("etc/pkd/floor", classic.as_str())], vec![classic_line]),
        (vec![("etc/pkdd/floor", classic)], vec![classic_line]),
        (vec![("etc/pkd/floor", "7\n"), ("etc/pkd/floor2", format2)], vec![format2_line]),
        (
            vec![
                ("etc/pkdd/floor2", format2),
                ("etc/pkd/floor2", "milliseconds\n0\n"),
                ("etc/pkd/floor", classic),
            ],
            vec![classic_line, format2_line],
        ),
    ] {
        let files = Files::new();
        files.apply(GOOD);
        for (name, text) in &written_before {
            files.write(name, text);
        }
        files.write("proc/net/xt_pkd", "Good packets: 0\n");
        files.run(&["restore-floor"], "").unwrap();
        let written = files.read("proc/net/xt_pkd");
        let lines: Vec<&str> = written.lines().collect();
        let of_keys: Vec<&str> = lines.iter().copied().filter(|line| line.split(' ').count() == 3).collect();
        assert_eq!(of_keys, expected, "{written_before:?}: {written}");
        let others: u64 = lines[0].strip_prefix("floor ").unwrap().parse().unwrap();
        assert!((clock()..clock() + 100).contains(&others), "{written}");
    }
}

#[test]
fn the_floors_of_keys_are_saved_and_go_to_pkdd_when_the_mode_changes() {
    let files = Files::new();
    files.apply(GOOD);
    files.write("etc/pkd/floor", "7\n");
    files.write("proc/uptime", "10.0 1.0\n");
    files.write(
        "proc/net/xt_pkd",
        "Save: floor 0011223344556677 99999999998\nSave: floor 8899aabbccddeeff 9\nSave: floor 8\n\
         Floor to save: 99999999998\nSave: floor2-ms 0011223344556677 99999999998001\nSave: floor2-ms 0\n\
         Floor of format 2 to save, in ms: 99999999998001\n",
    );
    files.run(&["save-floor"], "").unwrap();
    assert_eq!(
        files.read("etc/pkd/floor"),
        "99999999998\nother 8 inexact\nkey 0011223344556677 99999999998 inexact\nkey 8899aabbccddeeff 9 inexact\nend\n"
    );
    // What an older version saved held for both formats.
    assert_eq!(
        files.read("etc/pkd/floor2"),
        "milliseconds\n99999999998001\nother 7999 inexact\nkey 0011223344556677 99999999998001 inexact\nend\n"
    );
    files.apply(&GOOD.replace("'match'", "'nft'"));
    files.run(&["restore-floor", "--mode-changed"], "").unwrap();
    for (name, end) in [("floor", "99999999998"), ("floor2", "99999999998001")] {
        let text = files.read(&format!("etc/pkdd/{name}"));
        assert!(text.ends_with(&format!("key 0011223344556677 {end} exact\nend\n")), "{text}");
        assert!(text.contains("\nclean\nother "), "{text}");
    }
}

#[test]
fn after_a_change_of_the_mode_pkdd_refuses_what_the_module_has_accepted() {
    let files = Files::new();
    let nft = GOOD.replace("'match'", "'nft'");
    files.apply(&nft);
    files.write("etc/pkd/floor", "7\n");
    files.run(&["restore-floor"], "").unwrap();
    let floor =
        |files: &Files| -> u64 { files.read("etc/pkdd/floor").lines().next().unwrap().parse().unwrap() };
    assert!(floor(&files) >= clock(), "pkdd had none");
    files.write("etc/pkdd/floor", "8\n");
    files.write("var/run/pkdd/journal", "knocks");
    // Within a boot, pkdd has its journal.
    files.run(&["restore-floor"], "").unwrap();
    assert_eq!((floor(&files), files.paths.daemon_run().join("journal").exists()), (8, true));
    files.run(&["restore-floor", "--mode-changed"], "").unwrap();
    assert!(floor(&files) >= clock() && !files.paths.daemon_run().join("journal").exists());
}

#[test]
fn the_modules_floor_is_saved_when_it_has_risen_and_not_too_often() {
    let files = Files::new();
    files.run(&["save-floor"], "").unwrap();
    assert_eq!(files.read("etc/pkd/floor"), "", "there is no module");
    files.write("etc/pkd/floor", "10\n");
    // the module's floor, the uptime, options, what is on flash then
    for (floor, uptime, words, expected) in [
        ("", "100.5", &["save-floor"][..], "10\n"),
        ("Floor to save: 9\n", "100.5", &["save-floor"], "10\n"),
        ("Floor to save: 11\n", "100.5", &["save-floor", "--if-due"], "11\n"),
        ("Floor to save: 12\n", "3699.9", &["save-floor", "--if-due"], "11\n"),
        ("Floor to save: 12\n", "3700.0", &["save-floor", "--if-due"], "12\n"),
        ("Floor to save: 13\n", "3701.0", &["save-floor"], "13\n"),
    ] {
        files.write("proc/net/xt_pkd", &format!("Good packets: 1\n{floor}"));
        files.write("proc/uptime", &format!("{uptime} 1.0\n"));
        files.run(words, "").unwrap();
        assert_eq!(files.read("etc/pkd/floor"), expected, "{floor:?} after {uptime} s");
    }
}

#[test]
fn a_link_in_the_daemons_folder_leads_root_nowhere() {
    let files = Files::new();
    files.apply(&GOOD.replace("'match'", "'nft'"));
    files.write("etc/secret", "untouched");
    fs::create_dir_all(files.paths.daemon_state()).unwrap();
    for name in ["floor", "floor.new"] {
        let link = files.paths.daemon_state().join(name);
        std::os::unix::fs::symlink(files.folder.path().join("etc/secret"), link).unwrap();
    }
    files.run(&["restore-floor", "--mode-changed"], "").unwrap();
    assert_eq!(files.read("etc/secret"), "untouched");
    assert!(files.read("etc/pkdd/floor").ends_with("\nclean\n"));
}

#[test]
fn the_check_is_for_people_and_for_programs() {
    let files = Files::new();
    assert_eq!(files.run(&["check"], GOOD).unwrap(), "");
    let wrong = GOOD.replace("port '22'", "port '0'");
    assert!(files.run(&["check"], &wrong).is_err());
    let json = |text: &str| -> serde_json::Value {
        serde_json::from_str(&files.run(&["check", "--json"], text).unwrap()).unwrap()
    };
    assert_eq!(json(GOOD)["ok"], true);
    let said = json(&wrong);
    assert_eq!(
        said["error"],
        serde_json::json!({ "section": "ssh", "option": "port", "message": "invalid port 0: expected 1–65535" })
    );
    assert_eq!(json("config")["ok"], false);
    // A LuCI login must not learn what a file contains, or whether it exists.
    for file in ["/proc/version", "/none"] {
        let text = GOOD.replace("option window '10'", &format!("option key_file '{file}'"));
        assert_eq!(json(&text)["ok"], true);
        assert!(files.run(&["check"], &text).is_err());
    }
}

#[test]
fn the_status_says_what_the_gate_does() {
    let files = Files::new();
    let status = |input: &str| -> serde_json::Value {
        serde_json::from_str(&files.run(&["status", "--json"], input).unwrap()).unwrap()
    };
    let disabled = GOOD.replacen("enabled '1'", "enabled '0'", 1);
    assert_eq!(status(&disabled)["state"], "disabled");
    let stopped = status(GOOD);
    assert_eq!(
        (&stopped["state"], &stopped["enabled"], &stopped["gate"]),
        (&"stopped".into(), &true.into(), &serde_json::Value::Null)
    );
    files.apply(GOOD);
    assert_eq!(status(GOOD)["reason"], "the firewall is stopped");
    files.write("var/run/fw4.state", "");
    files.write("etc/pkd/floor", "0\n");
    assert_eq!(status(GOOD)["state"], "waiting-for-time");
    files.write("var/run/pkd/time-known", "");
    // No firewall4 is here, so no knock can arrive.
    let deaf = status(GOOD);
    assert_eq!(deaf["state"], "error");
    assert!(deaf["reason"].as_str().unwrap().contains("input_wan does not jump to pkd.input"), "{deaf}");
    files.write("var/run/pkd/error", "/etc/config/pkd: what is wrong\nand more\n");
    assert_eq!(status("nonsense")["reason"], "/etc/config/pkd: what is wrong");
    let text = files.run(&["status"], GOOD).unwrap();
    assert_eq!(
        text,
        "pkd has an error, and the previous configuration stays in force: /etc/config/pkd: what is wrong\n"
    );
}

#[test]
fn a_uri_has_the_users_own_key_which_is_made_if_there_is_none() {
    let files = Files::new();
    let uri = files.run(&["uri", "me", "gw.example.net"], GOOD).unwrap();
    let key = files.read("etc/pkd/keys/me.key");
    assert!(key.len() == 67 && uri.contains(&format!("?key={}", key.trim_end())), "{uri}");
    assert_eq!(files.run(&["uri", "me", "gw.example.net"], GOOD).unwrap(), uri);
    let two = files.run(&["uri", "me", "gw.example.net,192.0.2.1"], GOOD).unwrap();
    assert!(two.contains("//gw.example.net/gw?") && two.contains("&address=192.0.2.1"), "{two}");
    let elsewhere =
        GOOD.replace("config user 'me'\n", "config user 'me'\n\toption key_file '/etc/none.key'\n");
    let error = files.run(&["uri", "me", "gw"], &elsewhere).unwrap_err().to_string();
    assert!(error.contains("/etc/none.key"), "{error}");
    assert!(files.run(&["uri", "you", "gw"], GOOD).unwrap_err().to_string().contains("unknown user"));
}

#[test]
fn a_new_key_leaves_the_old_one_to_a_second_user() {
    let files = Files::new();
    let nft = GOOD.replace("'match'", "'nft'").replace("tag 'PKD0'", "tag 'it'\\''s'");
    files.apply(&nft);
    let moved = files.paths.key_file("me_old").display().to_string();
    let last = |text: &str| {
        text.lines().find_map(|line| line.strip_prefix("set pkd.me_old.expires=")).map(str::to_owned)
    };
    let batch = files.run(&["rotate", "me"], &nft).unwrap();
    let expected = format!(
        "set pkd.me_old='user'\nset pkd.me_old.tag='it'\\''s'\nset pkd.me_old.format='classic'\n\
         add_list pkd.me_old.service='ssh'\nset pkd.me_old.window='10'\nset pkd.me_old.enabled='1'\n\
         set pkd.me_old.replaced_by='me'\nset pkd.me_old.expires={}\nset pkd.me_old.key_file='{moved}'\n",
        last(&batch).unwrap()
    );
    assert_eq!(batch, expected);
    let key_file = files.folder.path().join("my.key").display().to_string();
    files.write("my.key", "my own key, which is long enough\n");
    let user = "config user 'me'\n";
    // what else the user has, the last day that is asked for, the last day, what the new user loses
    let table = [
        ("\toption expires '2100-01-02'\n".to_owned(), "2100-01-03", "'2100-01-02'", ""),
        ("\toption expires '2100-01-02'\n".to_owned(), "2100-01-01", "'2100-01-01'", ""),
        (
            format!("\toption key_file '{key_file}'\n"),
            "2100-01-01",
            "'2100-01-01'",
            "delete pkd.me.key_file\n",
        ),
        (
            "\toption key 'hunter2 hunter2 hunter2'\n".to_owned(),
            "2100-01-01",
            "'2100-01-01'",
            "delete pkd.me.key\n",
        ),
    ];
    for (more, until, expected, lost) in table {
        let text = nft.replace(user, &(user.to_owned() + &more));
        let batch = files.run(&["rotate", "me", until], &text).unwrap();
        assert_eq!(last(&batch).as_deref(), Some(expected), "{batch}");
        assert_eq!(batch.contains(&moved), lost.is_empty(), "{batch}");
        assert!(batch.ends_with(lost) && batch.contains(&key_file) == more.contains(&key_file), "{batch}");
    }
    let old = "\nconfig user 'me_old'\n\toption tag 'PKD0'\n\toption key 'the key that was replaced'\n\
               \tlist service 'ssh'\n\toption replaced_by 'me'\n\npackage firewall";
    let both = nft.replace("\npackage firewall", old);
    for (words, text, expected) in [
        (&["rotate", "me"][..], &both, "was replaced already: pkd user revoke me_old ends the old one"),
        (&["rotate", "me_old"], &both, "\"me_old\" is an old key"),
        (&["rotate", "you"], &nft, "there is no user \"you\""),
        (&["rotate", "me", "soon"], &nft, "invalid --until soon"),
        (
            &["check"],
            &both.replace("'nft'", "'match'"),
            "user \"me_old\": replaced_by works only with mode nft",
        ),
        (&["check"], &both.replace("replaced_by 'me'", "replaced_by 'you'"), "unknown user \"you\""),
        (&["close", "nobody"], &nft, "invalid address nobody"),
        (&["close", "192.0.2.1"], &nft, "pkdd does not respond"),
    ] {
        let error = format!("{:#}", files.run(words, text).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
    // The list needs no key, and shows none.
    let users = files.run(&["users"], &both).unwrap();
    assert!(users.contains("me_old: old key, until that of me was used; opens ssh\n"), "{users}");
    let json = files.run(&["users", "--json"], &both).unwrap();
    assert!(json.contains(r#"{"name":"me","format":"classic","#) && !json.contains("replaced\""), "{json}");
}

#[test]
fn what_is_no_key_file_is_named() {
    let files = Files::new();
    files.write("folder/file", "");
    files.write("long.key", &"x".repeat(46));
    files.write("nul.key", "a key with\0 a NUL byte in it");
    for (name, problem) in [
        ("folder", "cannot read key_file"),
        ("long.key", "too long: 46 bytes, maximum 40"),
        ("nul.key", "it contains a line break or a NUL byte"),
    ] {
        let path = files.folder.path().join(name).display().to_string();
        let text =
            GOOD.replace("config user 'me'\n", &format!("config user 'me'\n\toption key_file '{path}'\n"));
        let error = files.run(&["check"], &text).unwrap_err().to_string();
        assert!(error.contains(&path) && error.contains(problem), "{error}");
    }
}

#[test]
fn the_client_is_told_its_commands() {
    let files = Files::new();
    let text = GOOD.replace("'PKD0'", "'it'\\''s'").replace("port 'any'", "port '40000'");
    let said = files.run(&["client", "me", "gw.example.net"], &text).unwrap();
    assert!(
        said.ends_with("  knock --key-file me.key --tag 'it'\\''s' --port 40000 gw.example.net\n"),
        "{said}"
    );
    assert!(said.starts_with("  (umask 077; ssh root@gw.example.net cat /"), "{said}");
    let error = files.run(&["client", "you"], GOOD).unwrap_err().to_string();
    assert_eq!(error, "unknown user \"you\" in /etc/config/pkd");
}

#[test]
fn an_unknown_command_is_a_usage_error() {
    for words in [&[][..], &["check", "now"], &["render"], &["client"], &["restore-floor", "-x"]] {
        assert!(
            Command::parse(words)
                .unwrap_err()
                .starts_with("openwrt is for the scripts of OpenWrt's package pkd")
        );
    }
}

#[test]
fn a_grant_is_for_the_network_that_the_configuration_names() {
    let files = Files::new();
    for (mode, made) in [("nft", None), ("match", Some("update @pkd_ssh_6"))] {
        let prefixes = format!("option mode '{mode}'\n\toption prefix4 '24'\n\toption prefix6 '64'");
        files.apply(&GOOD.replace("option mode 'match'", &prefixes));
        let table = files.read("var/run/pkd/active/fw4/table-pkd.nft");
        let mut expected = vec![
            "ip saddr & 255.255.255.0 @pkd_ssh_4 accept".to_owned(),
            "ip6 saddr & ffff:ffff:ffff:ffff:: @pkd_ssh_6 accept".to_owned(),
            "ip6 saddr . iif @pkd_ssh_link accept".to_owned(),
        ];
        expected
            .extend(made.map(|made| format!("{made} {{ ip6 saddr & ffff:ffff:ffff:ffff:: timeout 30s }}")));
        for part in expected {
            assert!(table.contains(&part), "{mode}: no {part} in {table}");
        }
    }
    for (wrong, message) in [("prefix4 '8'", "prefix4 8"), ("prefix6 '1'", "prefix6 1")] {
        let text = GOOD.replace("option mode", &format!("option {wrong}\n\toption mode"));
        let error = files.run(&["check"], &text).unwrap_err().to_string();
        assert!(error.contains(&format!("invalid {message}: expected ")), "{error}");
    }
}
