use super::*;
use crate::{
    iptables::{
        grant::UnixSeconds,
        parsed::{self, expire, parse, read_log, services},
    },
    log::{LogLevel, LogLimit},
    scope::Scope,
};

fn name(text: &str) -> ServiceName {
    text.parse().expect("a name")
}

fn service(text: &str) -> Service {
    Service {
        name: name(text),
        protocol: Protocol::Tcp,
        ports: "22".parse().expect("a port"),
        only_new: false,
        policy: Policy::Drop,
        log: None,
        forward: Vec::new(),
        scope: Scope::default(),
    }
}

fn grant(address: &str, end: Option<u64>) -> GrantRule {
    GrantRule::new(address.parse().expect("an address"), end.map(UnixSeconds))
}

fn forward() -> Forward {
    "192.168.1.10:2222".parse().expect("an address and port")
}

/// What iptables-save prints of rules that `script` makes: `-A` of each, and declared chains.
fn saved(script: &str) -> Saved {
    Saved::parse(script)
}

/// The script that makes a service where there is nothing.
fn made(service: &Service, forward: Option<Forward>, grants: &[GrantRule]) -> String {
    let nothing = ServiceRules::default();
    ServiceRules::script(
        &service.name,
        &nothing,
        &ServiceRules::new(service, forward, false, grants, &nothing),
    )
}

#[test]
fn a_service_is_a_chain_and_a_jump_to_it() {
    let log = Log {
        prefix: "knock:".parse().expect("a prefix"),
        level: LogLevel::Info,
        limit: Some("3/minute".parse().expect("a limit")),
    };
    let input = "-A INPUT -p tcp -m tcp --dport 22";
    // the service, what is in its chain, its jump
    let rows = [
        ("plain", service("ssh"), "-A pk-ssh -j DROP\n".to_owned(), format!("{input} -j pk-ssh\n")),
        (
            "accept",
            Service { policy: Policy::Accept, ..service("ssh") },
            "-A pk-ssh -j ACCEPT\n".to_owned(),
            format!("{input} -j pk-ssh\n"),
        ),
        (
            "only new",
            Service { only_new: true, ..service("ssh") },
            "-A pk-ssh -j DROP\n".to_owned(),
            format!("{input} --tcp-flags FIN,SYN,RST,ACK SYN -j pk-ssh\n"),
        ),
        (
            "only new UDP",
            Service { only_new: true, protocol: Protocol::Udp, ..service("ssh") },
            "-A pk-ssh -j DROP\n".to_owned(),
            "-A INPUT -p udp -m udp --dport 22 -m conntrack --ctstate NEW -j pk-ssh\n".to_owned(),
        ),
        (
            "log",
            Service { log: Some(log), ..service("ssh") },
            "-A pk-ssh -m limit --limit 3/minute --limit-burst 5 -j LOG --log-prefix \"knock:\" --log-level 6\n\
             -A pk-ssh -j DROP\n"
                .to_owned(),
            format!("{input} -j pk-ssh\n"),
        ),
        (
            "usual log",
            Service { log: Some(Log::default()), ..service("ssh") },
            "-A pk-ssh -j LOG --log-level 4\n-A pk-ssh -j DROP\n".to_owned(),
            format!("{input} -j pk-ssh\n"),
        ),
    ];
    for (row, service, rules, jump) in rows {
        let script = made(&service, None, &[]);
        assert_eq!(script, format!("*filter\n:pk-ssh - [0:0]\n{rules}{jump}COMMIT\n"), "{row}");
        let found = parse(&saved(&script), &service.name).expect("it parses").expect("it exists");
        assert_eq!(
            (&found.service, found.is_complete, found.other_family_only),
            (&service, true, false),
            "{row}"
        );
    }
}

#[test]
fn a_forwarded_service_has_its_grants_in_nat() {
    let nas = Service { forward: vec![forward()], ..service("nas") };
    let script = made(&nas, Some(forward()), &[grant("192.0.2.7/32", None)]);
    let sent = "-m conntrack --ctstate DNAT --ctorigdstport 22 -m comment --comment pk-nas -j ACCEPT";
    let expected = format!(
        "*filter\n:pk-nas - [0:0]\n-A pk-nas -j DROP\n-A INPUT -p tcp -m tcp --dport 22 -j pk-nas\n\
         -I FORWARD -s 192.168.1.10/32 -p tcp -m tcp --sport 2222 {sent}\n\
         -I FORWARD -d 192.168.1.10/32 -p tcp -m tcp --dport 2222 {sent}\nCOMMIT\n\
         *nat\n:pk-nas - [0:0]\n-A pk-nas -s 192.0.2.7/32 -p tcp -j DNAT --to-destination 192.168.1.10:2222\n\
         -A PREROUTING -p tcp -m tcp --dport 22 -m addrtype --dst-type LOCAL -j pk-nas\nCOMMIT\n"
    );
    assert_eq!(script, expected);
    let saved = saved(&script.replace("-I FORWARD", "-A FORWARD"));
    let found = parse(&saved, &nas.name).expect("it parses").expect("it exists");
    assert_eq!((&found.service, found.is_complete, found.other_family_only), (&nas, true, false));
    assert_eq!(found.grants().map(|grant| grant.address.to_string()).collect::<Vec<_>>(), ["192.0.2.7/32"]);
    // In the other family it is marked, and has no grants.
    let script = made(&nas, None, &[grant("2001:db8::7/128", None)]);
    let jump = "-A INPUT -p tcp -m tcp --dport 22 -m comment --comment elsewhere -j pk-nas";
    assert_eq!(script, format!("*filter\n:pk-nas - [0:0]\n-A pk-nas -j DROP\n{jump}\nCOMMIT\n"));
    let found = parse(&Saved::parse(&script), &nas.name).expect("it parses").expect("it exists");
    assert!(found.is_complete && found.other_family_only && found.service.forward.is_empty(), "{found:?}");
}

#[test]
fn several_ports_have_a_jump_each() {
    let ports = || "80,8000-8100".parse().expect("ports");
    let web = Service { ports: ports(), ..service("web") };
    let script = made(&web, None, &[]);
    let jump = |port: &str| format!("-A INPUT -p tcp -m tcp --dport {port} -j pk-web\n");
    let expected =
        format!("*filter\n:pk-web - [0:0]\n-A pk-web -j DROP\n{}{}COMMIT\n", jump("80"), jump("8000:8100"));
    assert_eq!(script, expected);
    let keeps: Forward = "192.168.1.10".parse().expect("an address");
    let nas = Service { forward: vec![keeps], ..web.clone() };
    let before_nat = Service { scope: Scope { before_nat: true, ..Scope::default() }, ..web.clone() };
    let on_two =
        Scope { interfaces: ["a", "b"].map(|name| name.parse().expect("a name")).into(), ..Scope::default() };
    let on_two = Service { scope: on_two, ..web.clone() };
    for (service, forward) in [(&web, None), (&nas, Some(keeps)), (&before_nat, None), (&on_two, None)] {
        let script = made(service, forward, &[]).replace("-I ", "-A ");
        let parsed = |text: &str| parse(&saved(text), &web.name);
        let found = parsed(&script).expect("it parses").expect("it exists");
        assert_eq!((&found.service, found.is_complete), (service, true), "{script}");
        // Without any one rule that leads to it, it has to be made again.
        for line in script.lines().filter(|line| line.starts_with("-A ") && !line.starts_with("-A pk-")) {
            let damaged = parsed(&script.replacen(&format!("{line}\n"), "", 1));
            let is_whole = damaged
                .is_ok_and(|found| found.is_some_and(|found| found.is_complete && found.service == *service));
            assert!(!is_whole, "without {line}: {script}");
        }
    }
}

#[test]
fn a_change_touches_only_what_differs() {
    let nas = Service { forward: vec![forward()], ..service("ssh") };
    let ssh = service("ssh");
    let there = made(&nas, Some(forward()), &[]).replace("-I FORWARD", "-A FORWARD");
    let from = ServiceRules::of(&saved(&there), &ssh.name);
    assert_eq!(ServiceRules::script(&ssh.name, &from, &from), "");
    let script = ServiceRules::script(&ssh.name, &from, &ServiceRules::new(&ssh, None, false, &[], &from));
    let sent = "-m conntrack --ctstate DNAT --ctorigdstport 22 -m comment --comment pk-ssh -j ACCEPT";
    let gone = format!(
        "*filter\n-D FORWARD -s 192.168.1.10/32 -p tcp -m tcp --sport 2222 {sent}\n\
         -D FORWARD -d 192.168.1.10/32 -p tcp -m tcp --dport 2222 {sent}\nCOMMIT\n\
         *nat\n-D PREROUTING -p tcp -m tcp --dport 22 -m addrtype --dst-type LOCAL -j pk-ssh\n\
         -F pk-ssh\n-X pk-ssh\nCOMMIT\n"
    );
    assert_eq!(script, gone);
    // All of it.
    let script = ServiceRules::script(&ssh.name, &from, &ServiceRules::default());
    assert!(script.contains("-D INPUT -p tcp -m tcp --dport 22 -j pk-ssh\n"), "{script}");
    assert_eq!(script.matches("-F pk-ssh\n-X pk-ssh\n").count(), 2, "{script}");
    assert!(!script.contains("-A ") && !script.contains(":pk-ssh"), "{script}");
}

#[test]
fn duplicate_jumps_are_removed_one_by_one() {
    let ssh = service("ssh");
    let script = made(&ssh, None, &[]);
    let jump = "-A INPUT -p tcp -m tcp --dport 22 -j pk-ssh\n";
    let twice = script.replace(jump, &format!("{jump}{jump}"));
    let from = ServiceRules::of(&saved(&twice), &ssh.name);
    let again = ServiceRules::script(&ssh.name, &from, &ServiceRules::new(&ssh, None, false, &[], &from));
    assert_eq!(again, format!("*filter\n{}COMMIT\n", jump.replace("-A", "-D")));
}

#[test]
fn foreign_jumps_stay_until_the_service_is_removed() {
    let ssh = service("ssh");
    let there = made(&ssh, None, &[]).replace("COMMIT", "-A OUTPUT -j pk-ssh\n-A other -g pk-ssh\nCOMMIT");
    let from = ServiceRules::of(&saved(&there), &ssh.name);
    let to = ServiceRules::new(&Service { policy: Policy::Accept, ..ssh.clone() }, None, false, &[], &from);
    assert_eq!(
        ServiceRules::script(&ssh.name, &from, &to),
        "*filter\n:pk-ssh - [0:0]\n-A pk-ssh -j ACCEPT\nCOMMIT\n"
    );
    let gone = ServiceRules::script(&ssh.name, &from, &ServiceRules::default());
    assert!(gone.contains("-D OUTPUT -j pk-ssh\n") && gone.contains("-D other -g pk-ssh\n"), "{gone}");
    assert!(parse(&saved(&there), &ssh.name).is_ok_and(|found| found.is_some_and(|found| found.is_complete)));
    assert!(!from.is_empty() && ServiceRules::of(&saved(""), &ssh.name).is_empty());
}

#[test]
fn a_flush_removes_only_grants() {
    let ssh = Service { log: Some(Log::default()), ..service("ssh") };
    let grants = [grant("192.0.2.7/32", None), grant("192.0.2.8/32", Some(7))];
    let there = saved(&made(&ssh, None, &grants));
    assert_eq!(parsed::grants(&there, &ssh.name).len(), 2);
    let (from, to) = (ServiceRules::of(&there, &ssh.name), ServiceRules::without_grants(&there, &ssh.name));
    let expected = "*filter\n:pk-ssh - [0:0]\n-A pk-ssh -j LOG --log-level 4\n-A pk-ssh -j DROP\nCOMMIT\n";
    assert_eq!(ServiceRules::script(&ssh.name, &from, &to), expected);
}

#[test]
fn grants_stay_sorted_by_address() {
    /// A name, what is taken out, what comes, the lines.
    type Row<'a> = (&'a str, &'a [usize], &'a [&'a str], &'a [&'a str]);
    let ssh = Service { log: Some(Log::default()), ..service("ssh") };
    let there: Vec<GrantRule> =
        ["192.0.2.4/32", "192.0.2.8/32"].into_iter().map(|address| grant(address, None)).collect();
    let saved = saved(&made(&ssh, None, &there));
    let found = parse(&saved, &ssh.name).expect("it parses").expect("it exists");
    let kept: Vec<GrantRule> = found.grants().cloned().collect();
    let rows: [Row<'_>; 6] = [
        ("nothing", &[], &[], &[]),
        ("the first", &[], &["192.0.2.1/32"], &["-I pk-ssh 1 -s 192.0.2.1/32 -j ACCEPT"]),
        ("one between", &[], &["192.0.2.5/32"], &["-I pk-ssh 2 -s 192.0.2.5/32 -j ACCEPT"]),
        ("the last, before the log", &[], &["192.0.2.9/32"], &["-I pk-ssh 3 -s 192.0.2.9/32 -j ACCEPT"]),
        ("one goes", &[0], &[], &["-D pk-ssh -s 192.0.2.4/32 -j ACCEPT"]),
        (
            "both go, two come",
            &[0, 1],
            &["192.0.2.9/32", "192.0.2.1/32"],
            &[
                "-D pk-ssh -s 192.0.2.4/32 -j ACCEPT",
                "-D pk-ssh -s 192.0.2.8/32 -j ACCEPT",
                "-I pk-ssh 1 -s 192.0.2.9/32 -j ACCEPT",
                "-I pk-ssh 1 -s 192.0.2.1/32 -j ACCEPT",
            ],
        ),
    ];
    for (row, gone, come, lines) in rows {
        let mut wanted = kept.clone();
        for place in gone.iter().rev() {
            wanted.remove(*place);
        }
        wanted.extend(come.iter().map(|address| grant(address, None)));
        let lines = lines.join("\n");
        let expected = if lines.is_empty() { lines } else { format!("*filter\n{lines}\nCOMMIT\n") };
        assert_eq!(found.script(&wanted), expected, "{row}");
    }
}

#[test]
fn incomplete_services_are_errors_or_incomplete() {
    let good = made(&service("ssh"), None, &[]);
    let nas = made(&Service { forward: vec![forward()], ..service("ssh") }, Some(forward()), &[])
        .replace("-I FORWARD", "-A FORWARD");
    let jump = "-A INPUT -p tcp -m tcp --dport 22 -j pk-ssh\n";
    let back = "-A FORWARD -s 192.168.1.10/32";
    let redirect = "-A PREROUTING -p tcp -m tcp --dport 22";
    // from what, what is replaced, by what, what is said or whether it is whole
    let rows = [
        (&good, "", String::new(), Ok(true)),
        (&good, jump, String::new(), Err("no jump from INPUT")),
        (&good, jump, format!("{jump}{jump}"), Err("several jumps from INPUT")),
        (&good, "-p tcp -m tcp", "-p icmp".to_owned(), Err("the jump matches neither tcp nor udp")),
        (&good, "--dport 22", "--sport 22".to_owned(), Err("the jump matches no port")),
        (&good, "-A pk-ssh -j DROP\n", String::new(), Err("does not end with DROP or ACCEPT")),
        (&good, "-j DROP", "-i eth0 -j DROP".to_owned(), Err("does not end with DROP or ACCEPT")),
        (&good, "-j DROP", "-j REJECT".to_owned(), Err("does not end with DROP or ACCEPT")),
        (&nas, "", String::new(), Ok(true)),
        (&nas, back, "-A OTHER -s 192.168.1.10/32".to_owned(), Ok(false)),
        (&nas, redirect, "-A OTHER -p tcp -m tcp --dport 22".to_owned(), Ok(false)),
        (&nas, redirect, format!("{redirect} -j pk-ssh\n{redirect}"), Ok(false)),
    ];
    for (row, (text, from, to, expected)) in rows.into_iter().enumerate() {
        let text = if from.is_empty() { text.clone() } else { text.replacen(from, &to, 1) };
        match (parse(&saved(&text), &name("ssh")), expected) {
            (Ok(Some(found)), Ok(is_complete)) => assert_eq!(found.is_complete, is_complete, "row {row}"),
            (Err(error), Err(part)) => assert_eq!(
                error.to_string(),
                format!(
                    "cannot parse iptables rules: chain pk-ssh: {part}; repair it with pktables init ssh or pktables remove ssh"
                ),
                "row {row}"
            ),
            (found, _) => panic!("row {row}: {found:?}"),
        }
    }
    assert!(parse(&saved(&good), &name("other")).is_ok_and(|found| found.is_none()));
}

#[test]
fn the_policy_counts_and_chains_name_services() {
    let script = made(&service("ssh"), None, &[grant("192.0.2.7/32", None)])
        .replace("-A pk-ssh -j", "[9:1] -A pk-ssh -j")
        .replace(
            "*filter",
            "*filter\n:pk-a - [0:0]\n:INPUT ACCEPT [0:0]\n:pk- - [0:0]\n*nat\n:pk-n - [0:0]\n*filter",
        );
    let saved = saved(&script);
    assert!(
        parse(&saved, &name("ssh")).is_ok_and(|found| found.is_some_and(|found| found.default_packets == 9))
    );
    assert_eq!(services(&saved).collect::<Vec<_>>(), [name("a"), name("ssh")]);
}

#[test]
fn invalid_log_options_are_dropped() {
    let usual = Log::default();
    let limit = |text: &str| Some(text.parse::<LogLimit>().expect("a limit"));
    let rows = [
        ("-j LOG", usual.clone()),
        ("-j LOG --log-level 7", Log { level: LogLevel::Debug, ..usual.clone() }),
        ("-j LOG --log-level 99", usual.clone()),
        ("-j LOG --log-prefix \"a b\"", Log { prefix: "a b".parse().expect("a prefix"), ..usual.clone() }),
        ("-j LOG --log-prefix \"a\\\"b\"", usual.clone()),
        ("-m limit --limit 3/min -j LOG", Log { limit: limit("3/minute"), ..usual.clone() }),
        (
            "-m limit --limit 3/min --limit-burst 7 -j LOG",
            Log { limit: limit("3/minute").and_then(|limit| limit.with_burst("7").ok()), ..usual.clone() },
        ),
        ("-m limit --limit 3/min --limit-burst x -j LOG", usual.clone()),
        ("-m limit --limit 3/week -j LOG", usual),
    ];
    for (text, expected) in rows {
        let saved = saved(&format!("*filter\n-A c {text}\n"));
        assert_eq!(saved.rules("filter", "c").map(|rules| read_log(&rules[0])), Some(expected), "{text}");
    }
}

#[test]
fn expired_grants_are_removed_whatever_else_is_there() {
    let until = |end: u64| format!("-m comment --comment \"pktables until {end}\"");
    let text = format!(
        "*filter\n:pk-ssh - [0:0]\n:pk-foreign - [0:0]\n:other - [0:0]\n\
         -A pk-ssh -s 192.0.2.1/32 {} -j ACCEPT\n\
         -A pk-ssh -s 192.0.2.2/32 {} -j ACCEPT\n\
         -A pk-ssh -s 192.0.2.3/32 -j ACCEPT\n\
         -A pk-foreign -j RETURN\n\
         -A pk-foreign -s 192.0.2.4/32 {} -j ACCEPT\n\
         -A pk-foreign -s 192.0.2.5/32 {} -j LOG\n\
         -A other -s 192.0.2.6/32 {} -j ACCEPT\nCOMMIT\n\
         *mangle\n:pk-web - [0:0]\n-A pk-web -s 192.0.2.7/32 {} -j RETURN\nCOMMIT\n",
        until(10),
        until(11),
        until(9),
        until(9),
        until(9),
        until(1),
    );
    let (script, number) = expire(&saved(&text), UnixSeconds(10));
    let expected = format!(
        "*filter\n-D pk-foreign -s 192.0.2.4/32 {} -j ACCEPT\n-D pk-ssh -s 192.0.2.1/32 {} -j ACCEPT\nCOMMIT\n\
         *mangle\n-D pk-web -s 192.0.2.7/32 {} -j RETURN\nCOMMIT\n",
        until(9),
        until(10),
        until(1),
    );
    assert_eq!((script, number), (expected, 3));
    assert_eq!(expire(&saved(&text), UnixSeconds(0)), (String::new(), 0));
}
