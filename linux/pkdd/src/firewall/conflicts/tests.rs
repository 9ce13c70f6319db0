//! Listings in `listings/` are what the real programs of Debian 12 print: ufw 0.36.2, firewalld 1.3.3, docker.io 20.10.24,
//! iptables 1.8.9 and nft 1.0.6.

use std::path::Path;

use super::*;

/// A listing of a file with a part for each program.
fn listing(file: &str) -> Listing {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/firewall/conflicts/listings").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let part = |program: &str| {
        let start = text.split_once(&format!("== {program}\n")).map_or("", |(_, rest)| rest);
        start.split_once("== ").map_or(start, |(part, _)| part).to_owned()
    };
    Listing {
        nft: part("nft -j list ruleset"),
        nft_text: part("nft -a list ruleset"),
        iptables: vec![
            (Variant::Nftables, ["iptables-nft-save", "ip6tables-nft-save"].map(part)),
            (Variant::Legacy, ["iptables-legacy-save", "ip6tables-legacy-save"].map(part)),
        ],
        failures: Vec::new(),
        has_v6: true,
    }
}

/// The lines for a configuration: options of the gate, and of the service `s`.
fn found(listing: &Listing, gate: &str, service: &str) -> Vec<String> {
    let text = format!("[gate]\nfirewall = 'nft'\n{gate}\n[service.s]\n{service}\n");
    lines(&Config::parse(&text, Path::new("/")).unwrap(), listing)
}

const STOPPED: &str = "that a knock lets in; allow the port there too, pkdd still guards it";

#[test]
fn each_firewall_that_stops_granted_packets_is_named_with_its_rule_and_what_to_do() {
    let policy = "service \"s\": the policy DROP of chain INPUT in table filter";
    let public = "the rule \"reject with icmpx admin-prohibited\" of chain filter_IN_public in nftables' table inet firewalld";
    let plain = "the policy drop of chain input in nftables' table inet filter";
    // file, service, the lines
    let rows = [
        (
            "ufw.txt",
            "port = 22",
            vec![format!("{policy} (iptables and ip6tables) drops the packets {STOPPED}: ufw allow 22/tcp")],
        ),
        (
            "ufw.txt",
            "port = 1194\nprotocol = 'udp'",
            vec![format!(
                "{policy} (iptables and ip6tables) drops the packets {STOPPED}: ufw allow 1194/udp"
            )],
        ),
        // The default zone lets SSH in.
        ("firewalld.txt", "port = 22", vec![]),
        (
            "firewalld.txt",
            "port = 2222",
            vec![format!(
                "service \"s\": {public} rejects the packets {STOPPED}: firewall-cmd --permanent --add-port=2222/tcp && \
                 firewall-cmd --reload"
            )],
        ),
        // Docker has no rules for packets to this host, and its own for ports that it publishes.
        ("docker.txt", "port = 22", vec![]),
        ("docker.txt", "port = 8022", vec![]),
        ("docker.txt", "port = 2222\nforward = '172.17.0.2:22'", vec![]),
        (
            "docker.txt",
            "port = 2222\nforward = '192.168.1.10:22'",
            vec![format!(
                "service \"s\": the policy DROP of chain FORWARD in table filter (iptables) drops the packets {STOPPED}: \
                 iptables -I DOCKER-USER -p tcp -m conntrack --ctstate DNAT --ctorigdstport 2222 -j ACCEPT"
            )],
        ),
        (
            "nftables.txt",
            "port = 22",
            vec![format!(
                "service \"s\": {plain} drops the packets {STOPPED}: nft insert rule inet filter input tcp dport 22 accept"
            )],
        ),
        ("nftables.txt", "port = 443", vec![]),
        // Some IPv4 addresses are let in, so the rule may be intentional.
        (
            "nftables.txt",
            "port = 2222",
            vec![format!(
                "service \"s\": {plain} drops the IPv6 packets {STOPPED}: nft insert rule inet filter input tcp dport 2222 \
                 accept"
            )],
        ),
        (
            "nftables.txt",
            "port = 8080",
            vec![format!(
                "service \"s\": the rule \"tcp dport 8000-8999 counter reject with tcp reset\" of chain input in nftables' \
                 table inet filter rejects the packets {STOPPED}: nft insert rule inet filter input tcp dport 8080 accept"
            )],
        ),
        (
            "nftables.txt",
            "port = 2222\nforward = '192.168.1.10:22'",
            vec![format!(
                "service \"s\": the policy drop of chain forward in nftables' table inet filter drops the IPv4 packets \
                 {STOPPED}: nft insert rule inet filter forward ct status dnat meta l4proto tcp ct original proto-dst 2222 \
                 accept"
            )],
        ),
        // A limit lets some in.
        ("legacy.txt", "port = 22", vec![]),
        ("legacy.txt", "port = 443", vec![]),
        (
            "legacy.txt",
            "port = 80",
            vec![format!(
                "{policy} (iptables-legacy and ip6tables-legacy) drops the packets {STOPPED}: iptables-legacy -I INPUT -p \
                 tcp --dport 80 -j ACCEPT && ip6tables-legacy -I INPUT -p tcp --dport 80 -j ACCEPT"
            )],
        ),
    ];
    for (file, service, expected) in rows {
        let mut lines = found(&listing(file), "port = 7", service);
        lines.retain(|line| line.starts_with("service "));
        assert_eq!(lines, expected, "{file}: {service}");
    }
}

#[test]
fn what_lets_strangers_past_a_guard_is_named_and_the_tables_of_iptables_are_not_told_twice() {
    let gate = "[service.ssh]\nport = 22\n[service.vpn]\nport = 1194\nprotocol = 'udp'";
    let config = Config::parse(gate, Path::new("/")).unwrap();
    let past = "lets everyone past the guard that follows it in that chain";
    let policy = "the policy DROP of chain INPUT in table filter (iptables) drops the packets";
    let rule = "-p tcp -m comment --comment \"a second gate\" -j ACCEPT";
    let expected = [
        format!(
            "service \"ssh\": the rule \"{rule}\" of chain PREROUTING in table mangle (iptables) {past}, so that only the \
             table inet pkdd stops strangers; remove it: iptables -t mangle -D PREROUTING {rule}"
        ),
        format!("service \"ssh\": {policy} {STOPPED}: iptables -I INPUT -p tcp --dport 22 -j ACCEPT"),
        format!("service \"vpn\": {policy} {STOPPED}: iptables -I INPUT -p udp --dport 1194 -j ACCEPT"),
    ];
    let listing = listing("iptables.txt");
    assert!(listing.nft.contains("\"xt\""), "nft shows the rules too");
    assert_eq!(lines(&config, &listing), expected);
    // Its programs are not installed: what nft shows of them has no meaning, and is not guessed at.
    let nft = Listing { iptables: Vec::new(), ..listing };
    assert!(!lines(&config, &nft).iter().any(|line| line.contains("mangle")), "{:#?}", lines(&config, &nft));
}

#[test]
fn what_takes_knocks_or_precedes_the_guard_of_nftables_is_named() {
    // file, port of the gate, whether knocks are taken
    let rows = [
        ("early.txt", "port = 40001", true),
        ("early.txt", "port = 39999", false),
        // Knocks to another port arrive.
        ("early.txt", "", false),
        ("legacy.txt", "", true),
        ("nftables.txt", "", false),
        ("ufw.txt", "", false),
        ("firewalld.txt", "", false),
    ];
    for (file, gate, expected) in rows {
        let lines = found(&listing(file), gate, "port = 443");
        assert_eq!(
            lines.iter().any(|line| line.contains("hears no knock")),
            expected,
            "{file} {gate}: {lines:#?}"
        );
    }
    let lines =
        lines(&Config::parse("[service.ssh]\nport = 22", Path::new("/")).unwrap(), &listing("early.txt"));
    assert_eq!(
        lines,
        [
            "service \"ssh\": the rule \"tcp dport 22 accept\" of chain guard in nftables' table inet pktables lets everyone \
          past the guard that follows it in that chain; remove it: nft -a list chain inet pktables guard shows its handle"
        ]
    );
}

/// The fate of a TCP packet to port 22 in the chain INPUT, whose policy drops.
fn dropped_with(rules: &[&str]) -> bool {
    let rules: Vec<String> = rules.iter().map(|rule| format!("-A INPUT {rule}\n")).collect();
    let text = format!(
        "*filter\n:INPUT DROP [0:0]\n:USER - [0:0]\n:LOOP - [0:0]\n-A LOOP -j LOOP\n{}COMMIT\n",
        rules.concat()
    );
    let listing = Listing { iptables: vec![(Variant::Legacy, [text, String::new()])], ..Listing::default() };
    !found(&listing, "", "port = 22").is_empty()
}

#[test]
fn only_what_is_certain_is_reported() {
    // rules before the policy, whether all packets are certainly dropped
    let rows: [(&[&str], bool); 36] = [
        (&[], true),
        (&["-j ACCEPT"], false),
        (&["-p tcp -j ACCEPT"], false),
        (&["-p udp -j ACCEPT"], true),
        (&["! -p udp -j ACCEPT"], false),
        (&["-p tcp -m tcp --dport 22 -j ACCEPT"], false),
        (&["-p tcp -m tcp --dport 23 -j ACCEPT"], true),
        (&["-p tcp -m tcp ! --dport 22 -j ACCEPT"], true),
        (&["-p tcp -m tcp --dport 20:25 -j ACCEPT"], false),
        (&["-p tcp -m tcp --dport 23:25 -j ACCEPT"], true),
        (&["-p tcp -m multiport --dports 21,22 -j ACCEPT"], false),
        (&["-p tcp -m multiport --dports 80,1:30 -j ACCEPT"], false),
        (&["-p tcp -m multiport --dports 80,443 -j ACCEPT"], true),
        (&["-p tcp -m multiport --ports 80,443 -j ACCEPT"], false),
        (&["-p tcp -m tcp --sport 80 -j ACCEPT"], false),
        (&["-i lo -j ACCEPT"], true),
        (&["! -i lo -j ACCEPT"], false),
        (&["-i eth0 -j ACCEPT"], false),
        (&["-i docker0 -j ACCEPT"], true),
        (&["-s 10.0.0.0/8 -j ACCEPT"], false),
        (&["-s 127.0.0.0/8 -j ACCEPT"], true),
        (&["-d 224.0.0.251/32 -j ACCEPT"], true),
        (&["-d 192.0.2.1/32 -j ACCEPT"], false),
        (&["-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"], true),
        (&["-m conntrack --ctstate NEW -j ACCEPT"], false),
        (&["-m conntrack ! --ctstate INVALID -j ACCEPT"], false),
        (&["-m state --state INVALID,NEW -j ACCEPT"], false),
        (&["-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT"], false),
        (&["-p tcp -m tcp ! --tcp-flags SYN,ACK SYN -j ACCEPT"], true),
        (&["-m addrtype --dst-type BROADCAST -j ACCEPT"], true),
        (&["-m set --match-set friends src -j ACCEPT"], false),
        (&["-m something --unheard-of 7 -j ACCEPT"], false),
        (&["-m comment --comment \"-j ACCEPT\" -j DROP"], true),
        (&["-j USER"], true),
        (&["-j LOOP"], false),
        (&["-j UNHEARD --of it"], false),
    ];
    for (rules, expected) in rows {
        assert_eq!(dropped_with(rules), expected, "{rules:?}");
    }
    // A rule that may drop does not make it less certain; one that may go elsewhere does.
    assert!(dropped_with(&[
        "-s 10.0.0.0/8 -j DROP",
        "-m limit --limit 3/min -j LOG --log-prefix \"no -j ACCEPT\""
    ]));
    assert!(!dropped_with(&["-j NFQUEUE --queue-num 0"]));
    assert!(dropped_with(&["-s 10.0.0.0/8 -j RETURN", "-j DROP", "-j ACCEPT"]));
}

#[test]
fn redirected_and_untracked_packets_are_not_guessed_at() {
    let mut listing = listing("ufw.txt");
    let nat = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -m tcp --dport 22 -j REDIRECT --to-ports 2200\nCOMMIT\n";
    listing.iptables.push((Variant::Legacy, [nat.to_owned(), nat.to_owned()]));
    assert_eq!(found(&listing, "", "port = 22"), [""; 0]);
    assert_eq!(found(&listing, "", "port = 23").len(), 1);
    let raw = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -m tcp --dport 22 -j CT --notrack\nCOMMIT\n\
               *filter\n:INPUT DROP [0:0]\n-A INPUT -m conntrack --ctstate UNTRACKED -j ACCEPT\nCOMMIT\n";
    let untracked =
        Listing { iptables: vec![(Variant::Legacy, [raw.to_owned(), String::new()])], ..Listing::default() };
    assert_eq!(found(&untracked, "", "port = 22"), [""; 0]);
}

#[test]
fn the_interfaces_of_the_gate_are_where_packets_arrive() {
    let text = "*filter\n:INPUT DROP [0:0]\n-A INPUT -i eth+ -j ACCEPT\nCOMMIT\n";
    let listing =
        Listing { iptables: vec![(Variant::Legacy, [text.to_owned(), String::new()])], ..Listing::default() };
    for (gate, is_dropped) in [
        ("", false),
        ("interfaces = ['eth0']", false),
        ("interfaces = ['ppp0']", true),
        ("interfaces = ['ppp0', 'eth0']", false),
    ] {
        assert_eq!(!found(&listing, gate, "port = 22").is_empty(), is_dropped, "{gate}");
    }
}

#[test]
fn listings_that_are_not_understood_are_no_findings() {
    for text in
        ["", "{", "{}", "{\"nftables\": 7}", "{\"nftables\": [7, {}, {\"rule\": {}}, {\"chain\": []}]}"]
    {
        let nft =
            Listing { nft: text.to_owned(), nft_text: text.to_owned(), has_v6: true, ..Listing::default() };
        assert_eq!(found(&nft, "", "port = 22"), [""; 0], "{text}");
        let iptables = vec![(Variant::Default, [text.to_owned(), "-A\n*\n:\n-A INPUT\n".to_owned()])];
        assert_eq!(found(&Listing { iptables, ..nft }, "", "port = 22"), [""; 0], "{text}");
    }
}

#[test]
fn chains_that_lead_to_each_other_many_ways_take_no_time() {
    let level = |level: usize| {
        let jumps = format!("-A L{level} -s 10.0.0.0/8 -j L{}\n", level + 1).repeat(4);
        format!(":L{level} - [0:0]\n{jumps}")
    };
    let levels: String = (0..22).map(level).collect();
    let ends = ["*filter\n:INPUT DROP [0:0]\n-A INPUT -j L0\n", ":L22 - [0:0]\n-A L22 -j DROP\nCOMMIT\n"];
    let text = ends.join(&levels);
    let listing = Listing { iptables: vec![(Variant::Legacy, [text, String::new()])], ..Listing::default() };
    let begin = std::time::Instant::now();
    assert_eq!(found(&listing, "", "port = 22"), [""; 0]);
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}

/// Each chain of the listing has rules before its policy, which drops; `drops_…` say that all packets are dropped.
#[test]
fn expressions_of_nftables_are_judged_only_where_they_are_certain() {
    let listing = listing("expressions.txt");
    let lines = found(&listing, "", "port = 22");
    let ruleset = Ruleset::parse(&listing.nft, |_, _| false).unwrap();
    assert_eq!(ruleset.bases.len(), 53);
    for base in ruleset.bases {
        let name = base.name;
        let chain = format!(" of chain {name} in nftables' table inet t ");
        let of_it: Vec<&String> = lines.iter().filter(|line| line.contains(&chain)).collect();
        let rules: Vec<&str> =
            listing.nft_text.split(&format!("chain {name} {{")).nth(1).unwrap().lines().take(6).collect();
        assert_eq!(of_it.len(), usize::from(name.starts_with("drops_")), "{rules:#?}: {of_it:#?}");
        // For both address families.
        assert!(of_it.iter().all(|line| line.contains("s the packets that")), "{rules:#?}: {of_it:#?}");
    }
}
