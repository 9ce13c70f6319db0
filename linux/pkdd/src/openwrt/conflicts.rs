//! Sections of `/etc/config/firewall` that make the gate useless: they open its ports to everyone, or redirect knocks before
//! these are checked. For servers, `firewall/conflicts/` looks at the rules themselves.

use pktables::{Ports, Protocol};

use super::{router::Router, uci::Section};

/// A line for each.
pub(crate) fn warnings(router: &Router, sections: &[Section]) -> Vec<String> {
    let firewall = || sections.iter().filter(|section| section.package == "firewall");
    let mut lines = Vec::new();
    let input = |section: &&Section| section.get("input").map(str::to_ascii_uppercase);
    let defaults = firewall().find(|section| section.kind == "defaults");
    let default = defaults.as_ref().and_then(input);
    for zone in firewall().filter(|section| section.kind == "zone") {
        let name = zone.get("name").unwrap_or_default();
        if router.zone.as_deref() == Some(name)
            && input(&zone).or_else(|| default.clone()).as_deref() == Some("ACCEPT")
        {
            lines.push(format!(
                "zone \"{name}\" in /etc/config/firewall accepts everything, so all ports are open without a knock: set its input to REJECT"
            ));
        }
    }
    for section in firewall().filter(|section| section.get("enabled") != Some("0")) {
        let rule = Rule { section, router };
        match section.kind.as_str() {
            "rule" => lines.extend(rule.opens()),
            "redirect" => {
                lines.extend(rule.takes_knocks());
                lines.extend(rule.redirects());
            }
            _ => {}
        }
    }
    lines
}

/// A section `rule` or `redirect`.
struct Rule<'a> {
    section: &'a Section,
    router: &'a Router,
}

impl Rule<'_> {
    /// Whether it is for everyone in the gate's zone.
    fn is_for_all(&self) -> bool {
        let source = self.section.get("src");
        let is_of_zone = match &self.router.zone {
            Some(zone) => source == Some(zone) || source == Some("*"),
            // Who may come from any zone may come from the LAN, where things are usually open.
            None => false,
        };
        let narrows = ["src_ip", "src_mac", "src_port", "ipset", "mark", "start_date", "start_time"];
        is_of_zone && narrows.iter().all(|option| self.section.get(option).is_none())
    }

    fn covers(&self, protocol: Protocol) -> bool {
        let words = self.words("proto");
        let own = if protocol == Protocol::Udp { ["udp", "17"] } else { ["tcp", "6"] };
        let any = ["all", "any", "*", "tcpudp"];
        words.is_empty() || words.iter().any(|word| own.contains(&&**word) || any.contains(&&**word))
    }

    fn words(&self, option: &str) -> Vec<String> {
        let found = self.section.options.iter().find(|found| found.name == option);
        let values = found.map(|found| found.values.join(" ")).unwrap_or_default();
        values.split_whitespace().map(str::to_ascii_lowercase).collect()
    }

    /// The lowest port of these that an option names, or leaves in; without the option, all.
    fn shared(&self, option: &str, ports: &Ports) -> Option<u16> {
        let words = self.words(option);
        if words.is_empty() {
            return Some(ports.first());
        }
        if words.iter().any(|word| word.starts_with('!')) {
            return None;
        }
        let named = words.iter().filter_map(|word| word.replace(':', "-").parse::<Ports>().ok());
        named.filter_map(|named| named.shared(ports)).min()
    }

    fn name(&self) -> String {
        let name = self.section.get("name").unwrap_or(&self.section.name);
        let kind = &self.section.kind;
        if name.is_empty() { format!("a {kind}") } else { format!("{kind} \"{name}\"") }
    }

    /// Ports of services that it opens.
    fn opens(&self) -> Vec<String> {
        let is_accept =
            self.section.get("target").is_some_and(|target| target.eq_ignore_ascii_case("accept"));
        if !is_accept || !self.is_for_all() || self.section.get("dest").is_some() {
            return Vec::new();
        }
        self.each_service("dest_port", |name, port| {
            format!(
                "service \"{name}\": {} in /etc/config/firewall accepts port {port} from everyone, without a knock: remove the rule",
                self.name()
            )
        })
    }

    /// Ports of services that it forwards to a host.
    fn redirects(&self) -> Vec<String> {
        if !self.is_dnat() || !self.is_for_all() {
            return Vec::new();
        }
        self.each_service("src_dport", |name, port| {
            format!(
                "service \"{name}\": {} in /etc/config/firewall forwards port {port} for everyone, without a knock: remove the redirect; dest_ip of the service forwards after a knock",
                self.name()
            )
        })
    }

    /// Whether it sends to a host what may be a knock.
    fn takes_knocks(&self) -> Option<String> {
        if !self.is_dnat() || !self.is_for_all() || !self.covers(Protocol::Udp) {
            return None;
        }
        let advice = match self.router.config.gate.port {
            Some(port) => {
                let port: Ports = port.to_string().parse().ok()?;
                self.shared("src_dport", &port)?;
                format!("have it leave out UDP port {port}")
            }
            // Those that name ports leave enough.
            None if self.section.get("src_dport").is_none() => "give it src_dport, or proto tcp".to_owned(),
            None => return None,
        };
        Some(format!(
            "{} in /etc/config/firewall takes the knocks, so none is checked: {advice}",
            self.name()
        ))
    }

    fn is_dnat(&self) -> bool {
        self.section.get("target").is_none_or(|target| target.eq_ignore_ascii_case("dnat"))
    }

    /// A line for each service with a port that the option covers.
    fn each_service(&self, option: &str, line: impl Fn(&str, u16) -> String) -> Vec<String> {
        let services = self.router.config.services.iter();
        let concerned = services.filter(|(_, config)| self.covers(config.service.protocol));
        concerned
            .filter_map(|(name, config)| {
                let port = self.shared(option, &config.service.ports)?;
                Some(line(name.as_str(), port))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::openwrt::{paths::Paths, read, router::KeyFiles};

    const SERVICES: &str = "
package pkd
config gate 'gate'
	option port '40000'
config service 'ssh'
	option port '22'
config service 'dns'
	option protocol 'udp'
	option port '53'
package firewall
config zone
	option name 'wan'
	option input 'REJECT'
config zone
	option name 'lan'
	option input 'ACCEPT'
";

    fn of(services: &str, firewall: &str) -> Vec<String> {
        let text = format!("{services}{firewall}");
        let router = read(&text, &Paths::below(Path::new("/nowhere")), KeyFiles::Ignore).unwrap();
        router.config.warnings.into_iter().filter(|line| line.contains("/etc/config/firewall")).collect()
    }

    #[test]
    fn what_lets_everyone_in_is_named() {
        let zone = SERVICES.replace("REJECT", "accept");
        assert!(of(&zone, "")[0].starts_with("zone \"wan\" in /etc/config/firewall accepts everything"));
        let default =
            SERVICES.replace("	option input 'REJECT'\n", "") + "config defaults\n\toption input 'ACCEPT'\n";
        assert_eq!(of(&default, "").len(), 1);
        for (rule, expected) in [
            ("option src 'wan'\noption dest_port '22'\noption target 'ACCEPT'", Some("service \"ssh\"")),
            (
                "option src '*'\noption proto 'tcp'\noption dest_port '20-30 443'\noption target 'accept'",
                Some("service \"ssh\""),
            ),
            ("option src 'wan'\noption proto 'udp'\noption target 'ACCEPT'", Some("service \"dns\"")),
            (
                "option src 'wan'\nlist proto 'udp'\nlist proto 'tcp'\noption dest_port '22'\noption target 'ACCEPT'",
                Some("service \"ssh\""),
            ),
            (
                "option src 'wan'\noption dest_port '1 3 5 7 9 11 13 15 17 19 21-22 24 26 28 30 32 34'\noption target 'ACCEPT'",
                Some("service \"ssh\""),
            ),
            // Not these.
            ("option src 'wan'\noption dest_port '22'\noption target 'ACCEPT'\noption enabled '0'", None),
            ("option src 'lan'\noption dest_port '22'\noption target 'ACCEPT'", None),
            ("option src 'wan'\noption dest_port '22'\noption target 'DROP'", None),
            ("option src 'wan'\noption dest_port '22'", None),
            ("option src 'wan'\noption proto 'udp'\noption dest_port '22'\noption target 'ACCEPT'", None),
            ("option src 'wan'\noption proto 'icmp'\noption target 'ACCEPT'", None),
            ("option src 'wan'\noption dest_port '80'\noption target 'ACCEPT'", None),
            (
                "option src 'wan'\noption src_ip '192.0.2.9'\noption dest_port '22'\noption target 'ACCEPT'",
                None,
            ),
            ("option src 'wan'\noption dest 'lan'\noption dest_port '22'\noption target 'ACCEPT'", None),
        ] {
            let lines = of(SERVICES, &format!("config rule\n\toption name 'Mine'\n{rule}\n"));
            let begin = expected
                .map(|service| format!("{service}: rule \"Mine\" in /etc/config/firewall accepts port "));
            assert_eq!(lines.len(), usize::from(expected.is_some()), "{rule}: {lines:?}");
            assert!(begin.is_none_or(|begin| lines[0].starts_with(&begin)), "{rule}: {lines:?}");
        }
    }

    #[test]
    fn a_redirect_that_takes_knocks_or_a_port_is_named() {
        let any = SERVICES.replace("40000", "any");
        for (services, redirect, expected) in [
            // A DMZ.
            (&any[..], "option src 'wan'\noption proto 'all'\noption dest_ip '192.168.1.2'", [true, true]),
            (SERVICES, "option src 'wan'\noption dest_ip '192.168.1.2'", [true, true]),
            (&any, "option src 'wan'\noption proto 'tcp'\noption dest_ip '192.168.1.2'", [false, true]),
            (
                &any,
                "option src 'wan'\noption src_dport '1000-2000'\noption dest_ip '192.168.1.2'",
                [false, false],
            ),
            (
                SERVICES,
                "option src 'wan'\noption src_dport '30000-50000'\noption dest_ip '192.168.1.2'",
                [true, false],
            ),
            (
                SERVICES,
                "option src 'wan'\noption src_dport '2222'\noption dest_port '22'\noption dest_ip '192.168.1.2'",
                [false, false],
            ),
            (
                SERVICES,
                "option src 'wan'\noption target 'SNAT'\noption dest_ip '192.168.1.2'",
                [false, false],
            ),
            (&any, "option src 'wan'\noption enabled '0'\noption dest_ip '192.168.1.2'", [false, false]),
        ] {
            let lines = of(services, &format!("config redirect\n\toption name 'DMZ'\n{redirect}\n"));
            let has = |text: &str| lines.iter().any(|line| line.contains(text));
            assert_eq!([has("takes the knocks"), has("forwards port")], expected, "{redirect}: {lines:?}");
        }
    }
}
