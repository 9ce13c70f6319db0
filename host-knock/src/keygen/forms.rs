//! What each kind of gateway needs for a new key, as lines to paste. None contains the key, which goes there as a file.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};
use pkd_core::{Port, Tag};

use crate::model::{Format, Protocol, Service};

/// The port that boards listen at unless the profile has another: they have no port "any".
pub(super) const BOARD_PORT: Port = Port(40_000);

/// A kind of gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    OpenWrt,
    Pkdd,
    Iptables,
    Firmware,
}

impl Kind {
    const ALL: [(Self, &str); 4] = [
        (Self::OpenWrt, "openwrt"),
        (Self::Pkdd, "pkdd"),
        (Self::Iptables, "iptables"),
        (Self::Firmware, "firmware"),
    ];

    /// # Errors
    /// There is no such kind.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind);
        found.with_context(|| format!("invalid --for {text:?}: expected openwrt, pkdd, iptables or firmware"))
    }
}

/// What a form is about.
pub(super) struct Form<'a> {
    /// The key's file here.
    pub(super) file: &'a Path,
    /// The user's name on the gateway.
    pub(super) user: &'a str,
    /// Where ssh logs in; `None`: unknown.
    pub(super) gateway: Option<&'a str>,
    pub(super) tag: Tag,
    pub(super) format: Format,
    pub(super) port: Option<Port>,
    pub(super) services: &'a [Service],
}

/// A name that every gateway accepts: UCI has only these characters.
pub(super) fn plain(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

impl Form<'_> {
    /// The lines for one kind, or for all.
    pub(super) fn text(&self, kind: Option<Kind>) -> String {
        let kinds = Kind::ALL.iter().map(|(kind, _)| *kind);
        let wanted = kinds.filter(|one| kind.is_none_or(|kind| kind == *one));
        wanted.map(|kind| "\n".to_owned() + &self.of(kind)).collect()
    }

    fn of(&self, kind: Kind) -> String {
        match kind {
            Kind::OpenWrt => self.openwrt(),
            Kind::Pkdd => self.pkdd(),
            Kind::Iptables => self.iptables(),
            Kind::Firmware => self.firmware(),
        }
    }

    /// As text only where no shell or file could read it otherwise.
    fn tag(&self) -> String {
        let text = self.tag.to_string();
        let is_plain = text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
        if is_plain {
            return text;
        }
        self.tag.0.iter().fold("0x".to_owned(), |digits, byte| digits + &format!("{byte:02x}"))
    }

    fn is_classic(&self) -> bool {
        self.format != Format::Two
    }

    /// The line that brings the key to the gateway, through ssh: dropbear has no SFTP.
    fn copy(&self, folder: &str, after: &str) -> String {
        let Self { user, .. } = self;
        let gateway = word(self.gateway.unwrap_or("GATEWAY"));
        let file = quoted(&self.file.display().to_string());
        format!(
            "ssh root@{gateway} 'umask 077; mkdir -p {folder} && cat > {folder}/{user}.key{after}' < {file}\n"
        )
    }

    fn openwrt(&self) -> String {
        let Self { user, services, .. } = self;
        let mut text = "For OpenWrt. Here:\n".to_owned() + &self.copy("/etc/pkd/keys", "");
        text += "and on the router:\nuci -q batch <<'EOF'\n";
        for service in *services {
            let name = plain(&service.name);
            let _ = writeln!(text, "set pkd.{name}=service");
            let _ = writeln!(text, "set pkd.{name}.port='{}'", service.port.0);
            if service.protocol == Protocol::Udp {
                let _ = writeln!(text, "set pkd.{name}.protocol='udp'");
            }
        }
        // A section has one type, and a service may be called like a user.
        let is_taken = services.iter().any(|service| plain(&service.name) == *user);
        let section = if is_taken { format!("{user}_user") } else { (*user).to_owned() };
        let _ = writeln!(text, "set pkd.{section}=user");
        let _ = writeln!(text, "set pkd.{section}.tag='{}'", self.tag());
        if is_taken {
            let _ = writeln!(text, "set pkd.{section}.key_file='/etc/pkd/keys/{user}.key'");
        }
        if self.is_classic() {
            let _ = writeln!(text, "set pkd.{section}.format='classic'");
        }
        for service in *services {
            let _ = writeln!(text, "add_list pkd.{section}.service='{}'", plain(&service.name));
        }
        if let Some(Port(port)) = self.port {
            let _ = writeln!(text, "set pkd.gate.port='{port}'");
        }
        text + "set pkd.gate.enabled='1'\ncommit pkd\nEOF\n/etc/init.d/pkd enable; /etc/init.d/pkd reload\n"
    }

    fn pkdd(&self) -> String {
        let Self { user, services, .. } = self;
        let folder = "/etc/pkdd/keys";
        let share = format!(
            " && if chgrp pkdd {folder} {folder}/{user}.key 2>/dev/null; then chmod 750 {folder}; chmod 640 {folder}/{user}.key; fi"
        );
        let mut text = "For pkdd. Here:\n".to_owned() + &self.copy(folder, &share);
        text += "and on the server, at the end of /etc/pkdd/pkdd.toml, without a service that is there already:\n";
        for service in *services {
            let _ = write!(text, "[service.{}]\nport = {}\n", plain(&service.name), service.port.0);
            if service.protocol == Protocol::Udp {
                text += "protocol = 'udp'\n";
            }
        }
        let _ = writeln!(text, "[user.{user}]");
        if self.is_classic() {
            text += "format = 'classic'\n";
        }
        let _ = writeln!(text, "tag = '{}'\nkey_file = 'keys/{user}.key'", self.tag());
        let names: Vec<String> =
            services.iter().map(|service| format!("'{}'", plain(&service.name))).collect();
        let _ = writeln!(text, "services = [{}]", names.join(", "));
        text + "then, in its shell:\npkdd check && pkdd reload\n"
    }

    fn iptables(&self) -> String {
        let Self { user, services, .. } = self;
        let mut text = "For iptables with xt_pkd. Here:\n".to_owned() + &self.copy("/etc/pkd/keys", "");
        text += "and on the gateway, where the ports are open for a minute after a knock:\n";
        let format = if self.is_classic() { "" } else { " --format 2" };
        let port = self.port.map_or(String::new(), |Port(port)| format!(" --dport {port}"));
        let tag = self.tag();
        for program in ["iptables", "ip6tables"] {
            // Writing to a String cannot fail.
            let rule = |text: &mut String, rest: &str| {
                let _ = writeln!(text, "{program} -A INPUT {rest}");
            };
            let entrances: Vec<String> = services
                .iter()
                .map(|service| {
                    let protocol = if service.protocol == Protocol::Udp { "udp" } else { "tcp" };
                    format!("-p {protocol} --dport {}", service.port.0)
                })
                .collect();
            for entrance in &entrances {
                rule(&mut text, &format!("{entrance} -m conntrack --ctstate ESTABLISHED -j ACCEPT"));
            }
            rule(
                &mut text,
                &format!(
                    "-p udp{port} -m pkd{format} --key-file /etc/pkd/keys/{user}.key --tag {tag} -m recent --name pkd --set -j DROP"
                ),
            );
            for entrance in &entrances {
                rule(&mut text, &format!("{entrance} -m recent --name pkd --rcheck --seconds 60 -j ACCEPT"));
                rule(&mut text, &format!("{entrance} -j DROP"));
            }
        }
        text
    }

    fn firmware(&self) -> String {
        let services = self.services;
        let Port(port) = self.port.unwrap_or(BOARD_PORT);
        let mut text = format!(
            "For the firmware, in its TOML file; knock with --port {port}, unless the profile has it. At its start:\nknock_port = {port}\n\
             and at its end, with the hosts that the services are really on:\n"
        );
        for service in services {
            let protocol = if service.protocol == Protocol::Udp { "udp" } else { "tcp" };
            let Port(port) = service.port;
            let _ = write!(
                text,
                "[[service]]\nname = \"{}\"\nprotocol = \"{protocol}\"\nport = {port}\ninside = \"192.168.1.20:{port}\"\n",
                plain(&service.name)
            );
        }
        let names: Vec<String> =
            services.iter().map(|service| format!("\"{}\"", plain(&service.name))).collect();
        let format = if self.is_classic() { "format = \"classic\"\n" } else { "" };
        let file = toml_edit::Value::from(self.file.display().to_string());
        let _ = write!(
            text,
            "[[rule]]\n{format}tag = \"{}\"\nkey_file = {}\nwindow = 10\nttl = 60\nservices = [{}]\n",
            self.tag(),
            file.to_string().trim(),
            names.join(", ")
        );
        text
    }
}

/// A word as a shell reads it, in quotes only if it needs them.
pub(super) fn word(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { quoted(text) }
}

/// What a shell reads as this text.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
