//! `/etc/config/pkd`: its sections become those of pkdd's own configuration and are checked as these are. Only what a
//! router alone has is checked here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use pktables::ServiceName;

use super::{
    behind::Behind,
    options::{gate_options, service_section, user_section},
    paths::Paths,
    uci,
};
use crate::config::{
    Config, Error, User, UserRule,
    error::Section,
    sections::{File, GateSection, Names},
    values::Number,
};

const UCI: Names = Names { services: "service", tags: "tag" };
const GATE: Section = Section::GATE;
/// The NFLOG group; no other program may use it.
pub(crate) const GROUP: i64 = 5_644;
/// Seconds between two writes to flash while the router runs.
const SAVE: i64 = 3_600;
/// The user that pkdd runs as.
const DAEMON_USER: &str = "nobody";
const DEFAULT_MASK: &str = "0x00ff0000";

/// A router's configuration.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    pub(crate) enabled: bool,
    pub(crate) mode: Mode,
    /// The firewall zone that knocks come from; `None`: any.
    pub(crate) zone: Option<String>,
    pub(crate) clock: Clock,
    pub(crate) mask: Mask,
    pub(crate) config: Config,
    /// Where each service is.
    pub(crate) behind: BTreeMap<ServiceName, Behind>,
    /// Where the key of each user is.
    pub(crate) keys: Vec<(String, KeyPlace)>,
}

/// Who checks knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The kernel module.
    Match,
    /// pkdd.
    Nft,
}

impl Mode {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Nft => "nft",
        }
    }
}

/// Whether the clock is right after a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Once NTP has set it.
    Ntp,
    /// At once.
    Trust,
}

/// The bits of a packet's mark that are pkd's. Each user's mark is another number within them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mask(u32);

impl Mask {
    fn parse(text: &str) -> Result<Self, Error> {
        let digits = text.strip_prefix("0x");
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let bits = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let bits = bits.ok_or_else(|| {
            GATE.invalid("mark", text, format!("expected a hexadecimal mask such as {DEFAULT_MASK}"))
        })?;
        let run = bits.checked_shr(bits.trailing_zeros()).unwrap_or_default();
        if run & run.wrapping_add(1) != 0 || !(2..=8).contains(&run.count_ones()) {
            return Err(GATE.invalid("mark", text, "expected 2 to 8 adjacent bits"));
        }
        Ok(Self(bits))
    }

    /// How many users have a mark of their own.
    fn room(&self) -> usize {
        (self.0 >> self.0.trailing_zeros()) as usize
    }

    /// The mark of a user, counted from 1.
    pub(crate) fn mark(&self, number: usize) -> String {
        format!("{:#x}", number << self.0.trailing_zeros())
    }

    pub(crate) fn text(&self) -> String {
        format!("{:#010x}", self.0)
    }
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyPlace {
    File(PathBuf),
    /// In UCI itself.
    Inline,
}

/// Whether the gate is enabled in a text, even if the text has errors.
pub(crate) fn is_enabled(text: &str) -> bool {
    let sections = uci::parse(text).unwrap_or_default();
    let gate = sections.iter().find(|section| section.package == "pkd" && section.name == "gate");
    gate.is_some_and(|gate| gate.get("enabled") == Some("1"))
}

/// Whether the files of keys are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyFiles {
    Read,
    /// For a caller who must not learn what is in files of their choice.
    Ignore,
}

/// Checks the packages `pkd` and `firewall` of a text in the form of `uci export`. A missing key in its default place
/// counts as one that is there: a start makes it.
pub(crate) fn check(text: &str, paths: &Paths, files: KeyFiles) -> Result<Router, Error> {
    let sections = uci::parse(text)?;
    let mut file = File::default();
    let mut behind = BTreeMap::new();
    let mut gate = None;
    for section in sections.iter().filter(|section| section.package == "pkd") {
        let name = section.name.clone();
        match section.kind.as_str() {
            "gate" if name == "gate" => gate = Some(gate_options(&section.options)?),
            "service" => {
                let place = Section::service(&name);
                let parsed = service_section(&place, &section.options)?;
                behind.insert(name.clone(), Behind::read(&place, &section.options)?);
                file.service.insert(name, parsed);
            }
            "user" => {
                let parsed = user_section(&Section::user(&name), &section.options)?;
                file.user.insert(name, parsed);
            }
            other => {
                let expected = "expected gate 'gate', service or user";
                return Err(Error::new(format!("section \"{name}\": unknown type \"{other}\": {expected}")));
            }
        }
    }
    let gate = gate.ok_or_else(|| Error::new("missing section gate 'gate'".to_owned()))?;

    let mut keys = Vec::new();
    for (name, user) in &mut file.user {
        if user.key.is_some() {
            keys.push((name.clone(), KeyPlace::Inline));
            continue;
        }
        let default = paths.key_file(name);
        let path = user.key_file.clone().unwrap_or_else(|| default.clone());
        check_key_file(&Section::user(name), &path)?;
        if files == KeyFiles::Ignore || path == default && !path.exists() {
            // Any key will do: the one that a start makes is as good.
            user.key = Some(format!("a key for user {name}"));
            user.key_file = None;
        } else {
            user.key_file = Some(path.clone());
        }
        keys.push((name.clone(), KeyPlace::File(path)));
    }

    let port = gate.port.filter(|port| port != "any");
    file.gate = GateSection {
        port: port.as_deref().map(Number::from),
        firewall: Some("fw4".to_owned()),
        group: Some(GROUP.into()),
        rate: gate.rate,
        prefix4: gate.prefix4,
        prefix6: gate.prefix6,
        run: Some(paths.daemon_run()),
        state: Some(paths.daemon_state()),
        save: Some(SAVE.into()),
        user: Some(DAEMON_USER.to_owned()),
        metrics: None,
        ..GateSection::default()
    };
    let config = Config::check(file, Path::new("/"), UCI)?;
    let behind = config.services.iter().map(|(name, service)| {
        let behind = behind.remove(name.as_str()).unwrap_or_default();
        behind.check(&Section::service(name.as_str()), service)?;
        Ok((name.clone(), behind))
    });
    let router = Router {
        enabled: gate.enabled.map_or(Ok(false), |flag| flag.check(&GATE, "enabled"))?,
        mode: match gate.mode.as_deref() {
            None | Some("nft") => Mode::Nft,
            Some("match") => Mode::Match,
            Some(other) => return Err(GATE.invalid("mode", other, "expected nft or match")),
        },
        zone: zone(gate.zone.as_deref().unwrap_or("wan"), &sections)?,
        clock: match gate.clock.as_deref() {
            None | Some("ntp") => Clock::Ntp,
            Some("trust") => Clock::Trust,
            Some(other) => return Err(GATE.invalid("clock", other, "expected ntp or trust")),
        },
        mask: Mask::parse(gate.mark.as_deref().unwrap_or(DEFAULT_MASK))?,
        behind: behind.collect::<Result<_, Error>>()?,
        config,
        keys,
    };
    router.check_marks()?;
    router.check_ends()?;
    Ok(router)
}

/// An accepted knock that the kernel module marks.
#[derive(Clone, Copy)]
pub(crate) struct Marked<'a> {
    pub(crate) name: &'a String,
    pub(crate) user: &'a User,
    /// It ends what it would open otherwise.
    pub(crate) closes: bool,
}

impl Router {
    /// The users whose knocks are accepted now; the first has number 1 in the rules.
    pub(crate) fn active_users(&self) -> impl Iterator<Item = (&String, &User)> {
        let now = crate::date::now();
        self.config.users.iter().filter(move |(_, user)| user.is_active(now))
    }

    /// What needs a mark of its own, in the order of the marks: all active users, then the closes of those of format 2.
    pub(crate) fn marked(&self) -> impl Iterator<Item = Marked<'_>> {
        let closing = self.active_users().filter(|(_, user)| matches!(user.rule, UserRule::Format2(_)));
        let opens = self.active_users().map(|(name, user)| Marked { name, user, closes: false });
        opens.chain(closing.map(|(name, user)| Marked { name, user, closes: true }))
    }

    /// In mode match no program follows grants.
    fn check_ends(&self) -> Result<(), Error> {
        let mut services = self.config.services.iter();
        match services.find(|(_, service)| service.end_connections && self.mode == Mode::Match) {
            Some((name, _)) => {
                let message = "end_connections needs mode nft".to_owned();
                Err(Section::service(name.as_str()).at("end_connections", message))
            }
            None => Ok(()),
        }
    }

    /// In mode match a tag stands for one user in the kernel's status, and each active user needs a mark.
    fn check_marks(&self) -> Result<(), Error> {
        if self.mode == Mode::Nft {
            return Ok(());
        }
        if let Some((name, _)) = self.config.users.iter().find(|(_, user)| user.replaced_by.is_some()) {
            let message =
                "replaced_by works only with mode nft: the kernel does not tell when the new key was used";
            return Err(Section::user(name).at("replaced_by", message.to_owned()));
        }
        for (name, user) in &self.config.users {
            let mut others = self.config.users.iter().take_while(|(other, _)| *other != name);
            let is_twin = |other: &User| other.tag == user.tag && other.rule.format() == user.rule.format();
            if let Some((other, _)) = others.find(|(_, other)| is_twin(other)) {
                let message =
                    format!("same tag as user \"{other}\": with mode match, each user needs a different one");
                return Err(Section::user(name).at("tag", message));
            }
        }
        let (room, text) = (self.mask.room(), self.mask.text());
        if self.marked().count() > room {
            let format2 = if self.marked().any(|marked| marked.closes) {
                ", and those of format 2 count twice"
            } else {
                ""
            };
            let message = format!("\"{text}\" has room for only {room} users{format2}: use more bits");
            return Err(GATE.at("mark", format!("mark: {message}")));
        }
        Ok(())
    }
}

/// The rules of iptables name the file, so its path has only characters that need no quotes there.
fn check_key_file(section: &Section, path: &Path) -> Result<(), Error> {
    let text = path.to_string_lossy();
    if !text.starts_with('/') {
        return Err(section.invalid("key_file", text, "expected an absolute path"));
    }
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_./-".contains(letter);
    if !text.chars().all(is_plain) {
        return Err(section.invalid("key_file", text, "expected only letters, digits and _ . / -"));
    }
    Ok(())
}

/// Checks that firewall4 has this zone and includes rules of other packages; `None`: any zone.
fn zone(name: &str, sections: &[uci::Section]) -> Result<Option<String>, Error> {
    let firewall = || sections.iter().filter(|section| section.package == "firewall");
    let mut defaults = firewall().filter(|section| section.kind == "defaults");
    if defaults.any(|section| section.get("auto_includes") == Some("0")) {
        let what = "option auto_includes is 0 in /etc/config/firewall: firewall4 would leave out pkd's rules";
        return Err(Error::new(what.to_owned()));
    }
    if name == "any" {
        return Ok(None);
    }
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(GATE.invalid("zone", name, "expected the name of a firewall zone, or any"));
    }
    // A chain for a missing zone would silently never be reached.
    if !firewall().any(|section| section.kind == "zone" && section.get("name") == Some(name)) {
        return Err(GATE.at("zone", format!("no zone \"{name}\" in /etc/config/firewall")));
    }
    Ok(Some(name.to_owned()))
}

#[cfg(test)]
pub(super) mod tests;
