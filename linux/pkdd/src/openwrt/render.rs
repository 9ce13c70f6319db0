//! What the gate's configuration becomes: rules for firewall4 to include, rules for iptables, and pkdd's own
//! configuration.

use std::{fmt::Write as _, net::IpAddr, path::Path};

use pkd_core::format2::Bindings;
use pktables::LeasePrefix;

use super::{
    behind::Senders,
    files::hex,
    place::{Jump, Place},
    router::{KeyPlace, Marked, Mode, Router},
    uci,
};
use crate::{
    config::{User, UserRule},
    firewall::{
        firewall4::Kind,
        nflog_chain::{NflogChain, PREFIX},
        ports::in_nft,
    },
};

/// A service's set in kernels that hold no more.
const MAX_GRANTS: u32 = 4096;

/// How nft writes a set, and what is compared with it.
struct SetText {
    kind: Kind,
    /// The type of its elements.
    elements: &'static str,
    nfproto: &'static str,
    /// The sender of a packet, or its network.
    sender: &'static str,
    /// Which senders of the family are in it.
    which: &'static str,
}

const SETS: [SetText; 3] = [
    SetText { kind: Kind::V4, elements: "ipv4_addr", nfproto: "ipv4", sender: "ip saddr", which: "" },
    SetText {
        kind: Kind::V6,
        elements: "ipv6_addr",
        nfproto: "ipv6",
        sender: "ip6 saddr",
        which: "ip6 saddr != fe80::/10 ",
    },
    SetText {
        kind: Kind::Link,
        elements: "ipv6_addr . iface_index",
        nfproto: "ipv6",
        sender: "ip6 saddr . iif",
        which: "ip6 saddr fe80::/10 ",
    },
];

impl SetText {
    /// What is looked up in the set: the sender of a packet, or its network. A link-local address stays whole.
    fn key(&self, prefix: LeasePrefix) -> String {
        let any = match self.kind {
            Kind::V4 => IpAddr::from([0; 4]),
            Kind::V6 => IpAddr::from([0; 16]),
            Kind::Link => return self.sender.to_owned(),
        };
        let network = prefix.network(any);
        if network.prefix_len() == network.max_prefix_len() {
            return self.sender.to_owned();
        }
        format!("{} & {}", self.sender, network.netmask())
    }
}

/// What `libxt_pkd`'s option `--require` is called with; `None`: nothing is required.
fn required(bindings: Bindings) -> Option<String> {
    let names = [(Bindings::SOURCE, "source"), (Bindings::DESTINATION, "destination")];
    let words: Vec<&str> =
        names.into_iter().filter(|(one, _)| bindings.contains(*one)).map(|(_, name)| name).collect();
    (!words.is_empty()).then(|| words.join(","))
}

impl Router {
    /// Sets and chains for firewall4's table. The chain `pkd.input` is for the chain of the zone to jump to.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for name in self.config.services.keys() {
            for SetText { kind, elements, .. } in SETS {
                let set = kind.set(name);
                let _ = writeln!(
                    text,
                    "set {set} {{ type {elements}; size {MAX_GRANTS}; flags dynamic,timeout; }}"
                );
            }
        }
        text += &match self.mode {
            Mode::Nft => self.nflog(),
            Mode::Match => self.marks(),
        };
        text += &self.begun();
        let [mut input, mut dstnat, mut forward] = [const { String::new() }; 3];
        for (name, config) in &self.config.services {
            let (protocol, ports) = (config.service.protocol, in_nft(&config.service.ports));
            let behind = self.behind.get(name).filter(|behind| !behind.is_here());
            for text_of in SETS {
                let (SetText { kind, nfproto, .. }, sender) =
                    (&text_of, text_of.key(self.config.gate.prefix));
                let set = kind.set(name);
                if let Some(behind) = behind {
                    // Nobody is forwarded from a link-local address.
                    if *kind != Kind::Link {
                        let senders = Senders { v6: *kind == Kind::V6, sender: &sender, set: &set };
                        let rules = behind.rules(name.as_str(), protocol, &ports, &senders);
                        dstnat += &rules.dstnat;
                        forward += &rules.forward;
                    }
                    continue;
                }
                let _ = writeln!(
                    input,
                    "\tmeta nfproto {nfproto} {protocol} dport {ports} ct state new {sender} @{set} accept comment \"pkd: {name}\""
                );
            }
        }
        let _ = writeln!(text, "chain {PREFIX}input {{\n\tjump {PREFIX}knocks\n{input}}}");
        if self.forwards() {
            let _ =
                writeln!(text, "chain {PREFIX}dstnat {{\n{dstnat}}}\nchain {PREFIX}forward {{\n{forward}}}");
        }
        text
    }

    /// The chain against answers to packets of this host that belong to a forgotten connection: firewall4 would take them
    /// for a connection that this host has begun. Only for services that want it.
    fn begun(&self) -> String {
        let mut rules = String::new();
        for (name, config) in self.config.services.iter().filter(|(_, config)| config.end_connections) {
            let (protocol, ports) = (config.service.protocol, in_nft(&config.service.ports));
            let _ =
                writeln!(rules, "\t{protocol} dport {ports} ct direction reply drop comment \"pkd: {name}\"");
        }
        if rules.is_empty() {
            return rules;
        }
        format!("chain {PREFIX}begun {{\n\ttype filter hook input priority -1; policy accept;\n{rules}}}\n")
    }

    /// Whether a service is on a host behind the router.
    pub(crate) fn forwards(&self) -> bool {
        self.behind.values().any(|behind| !behind.is_here())
    }

    /// The rules of ours in firewall4's own chains: where each is, the name of the file that it is included from, and the rule.
    pub(crate) fn jumps(&self) -> Vec<Jump> {
        let mut places = vec![Place::Input];
        if self.forwards() {
            places.extend([Place::Dstnat, Place::Forward]);
        }
        let jump = |place: Place| Jump {
            chain: place.chain(self.zone.as_deref()),
            file: place.file(),
            rule: format!("jump {PREFIX}{}", place.word()),
        };
        places.into_iter().map(jump).collect()
    }

    /// A table that includes the rendered files as firewall4's does, for `nft --check`.
    pub(crate) fn check_table(&self, folder: &Path) -> String {
        let folder = folder.display();
        let mut text = format!("table inet pkd_check {{\n\tinclude \"{folder}/fw4/table-pkd.nft\"\n");
        for (number, Jump { chain, file, .. }) in self.jumps().iter().enumerate() {
            let kind = if chain == "dstnat" { "\t\ttype nat hook prerouting priority dstnat;\n" } else { "" };
            let _ = writeln!(
                text,
                "\tchain check{number} {{\n{kind}\t\tinclude \"{folder}/fw4/{file}-pkd.nft\"\n\t}}"
            );
        }
        text + "}\n"
    }

    /// The chain that passes possible knocks to pkdd.
    fn nflog(&self) -> String {
        let gate = &self.config.gate;
        let users = || self.config.users.values().filter(|user| user.enabled);
        let is_classic = |user: &&User| matches!(user.rule, UserRule::Classic(_));
        let chain = NflogChain {
            prefix: PREFIX,
            tags: users().filter(is_classic).map(|user| u32::from_be_bytes(user.tag.0)).collect(),
            has_hints: !users().all(|user| is_classic(&user)),
            port: gate.port,
            group: gate.group,
            rate: gate.rate,
            rate_beyond: gate.rate_beyond(),
        };
        let rules = chain.rules().into_iter().fold(String::new(), |rules, rule| rules + "\t" + &rule + "\n");
        format!("{}chain {PREFIX}knocks {{\n{rules}}}\n", chain.definitions())
    }

    /// The chains that turn the marks of accepted knocks into grants.
    fn marks(&self) -> String {
        let mut text = String::new();
        let mut knocks = String::new();
        for (number, Marked { name, user, closes }) in (1..).zip(self.marked()) {
            let _ = writeln!(text, "chain {PREFIX}user_{number} {{");
            text += &self.grants(user, closes);
            text += "\tdrop\n}\n";
            let (mask, value) = (self.mask.text(), self.mask.mark(number));
            let what = if closes { "closes for user" } else { "user" };
            let _ = writeln!(
                knocks,
                "\tmeta l4proto udp meta mark & {mask} == {value} goto {PREFIX}user_{number} comment \"pkd: {what} {name}\""
            );
        }
        let _ = write!(text, "chain {PREFIX}knocks {{\n{knocks}}}\n");
        text
    }

    /// The rules that make a user's grants, or end them: here a grant of another user ends with them.
    fn grants(&self, user: &User, closes: bool) -> String {
        let mut text = String::new();
        for config in self.config.services_of(user) {
            for text_of in SETS {
                let (SetText { kind, nfproto, which, .. }, sender) =
                    (&text_of, text_of.key(self.config.gate.prefix));
                let (set, seconds) = (kind.set(&config.service.name), config.ttl.as_secs());
                let change = if closes {
                    format!("delete @{set} {{ {sender} }}")
                } else {
                    format!("update @{set} {{ {sender} timeout {seconds}s }}")
                };
                let _ = writeln!(text, "\tmeta nfproto {nfproto} {which}{change}");
            }
        }
        text
    }

    /// Rules for `iptables-restore` and `ip6tables-restore`: a valid knock gets its user's mark. `inline` is the folder
    /// with the files of keys that are in UCI.
    pub(crate) fn iptables(&self, inline: &Path) -> String {
        let mask = self.mask.text();
        // A mark that another program set must not pass for an accepted knock.
        let mut text = format!("*mangle\n:pkd - [0:0]\n-A pkd -j MARK --set-xmark 0x0/{mask}\n");
        for (number, Marked { name, user, closes }) in (1..).zip(self.marked()) {
            let place = self.keys.iter().find(|(user, _)| user == name).map(|(_, place)| place);
            let file = match place {
                Some(KeyPlace::File(path)) => path.clone(),
                Some(KeyPlace::Inline) | None => inline.join(Self::inline_key_file(name, user)),
            };
            let mut format = String::new();
            if matches!(user.rule, UserRule::Format2(_)) {
                format.push_str(" --format 2");
                if let Some(require) = required(user.require) {
                    let _ = write!(format, " --require {require}");
                }
                if closes {
                    format.push_str(" --request close");
                }
            }
            // What has just opened is no replay.
            let first = if closes { format!("-m mark --mark 0x0/{mask} ") } else { String::new() };
            let (tag, window, value) = (user.tag.0, user.rule.window().as_secs(), self.mask.mark(number));
            let _ = writeln!(
                text,
                "-A pkd -p udp {first}-m pkd --key-file \"{}\" --tag {:#010x} --window {window}{format} -j MARK --set-xmark {value}/{mask}",
                file.display(),
                u32::from_be_bytes(tag)
            );
        }
        text + "COMMIT\n"
    }

    /// The name of the file for a key that is in UCI. It differs for another key, as the rules in force may have to be
    /// restored from the old one.
    pub(crate) fn inline_key_file(name: &str, user: &User) -> String {
        format!("{name}-{}.key", user.cache)
    }

    /// The configuration in force, in UCI's form. For pkdd every key is in it: pkdd may not read `/etc/pkd`, and a
    /// changed key must change this text, by which procd sees that pkdd has to start again.
    pub(crate) fn active_config(&self, text: &str) -> String {
        if self.mode == Mode::Match {
            return text.to_owned();
        }
        let mut config = String::new();
        let mut package = String::new();
        for section in uci::parse(text).unwrap_or_default() {
            if section.package != package {
                let _ = writeln!(config, "package {}", section.package);
                package.clone_from(&section.package);
            }
            let _ = writeln!(config, "config {} {}", section.kind, uci::quoted(&section.name));
            let user = (section.package == "pkd" && section.kind == "user")
                .then(|| self.config.users.get(&section.name))
                .flatten();
            for option in &section.options {
                if user.is_some() && matches!(option.name.as_str(), "key" | "key_file") {
                    continue;
                }
                for value in &option.values {
                    let _ = writeln!(config, "\tlist {} {}", option.name, uci::quoted(value));
                }
            }
            if let Some(user) = user {
                let digits = hex(user.key.as_bytes());
                let _ = writeln!(config, "\toption key '0x{digits}'");
            }
        }
        config
    }

    /// What the service's scripts need to know, for the shell to read. No value needs quotes.
    pub(crate) fn variables(&self) -> String {
        format!(
            "pkd_enabled={}\npkd_mode={}\npkd_zone={}\n",
            u8::from(self.enabled),
            self.mode.word(),
            self.zone.as_deref().unwrap_or("any"),
        )
    }
}
