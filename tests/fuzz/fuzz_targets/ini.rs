//! The ini file of the original, as `knock` reads it, held against a reader that goes letter by letter.

#![no_main]

use std::{collections::BTreeMap, fs, path::PathBuf};

use libfuzzer_sys::fuzz_target;
use pkd_core::{Key, Tag};

// The client's own modules, as they are in the program.
#[allow(dead_code, missing_docs)]
#[path = "../../../host-knock/src/host.rs"]
mod host;
#[allow(dead_code, missing_docs)]
#[path = "../../../host-knock/src/ini.rs"]
mod ini;
#[allow(dead_code, missing_docs)]
#[path = "../../../host-knock/src/key.rs"]
mod key;
#[allow(dead_code, missing_docs)]
#[path = "../../../host-knock/src/notice.rs"]
mod notice;
#[allow(dead_code, missing_docs)]
#[path = "../../../host-knock/src/secret_file.rs"]
mod secret_file;
#[allow(dead_code, missing_docs)]
#[path = "../../../host-knock/src/value.rs"]
mod value;

/// Nobody is there to be asked.
#[allow(dead_code)]
mod terminal {
    pub(crate) fn ask(_question: &str) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotConnected.into())
    }
}

/// So long that no other word of a message is like it.
const KEY: &str = "kEyKeYkEyKeYkEyKeYkEyKeYkEyKeY";

type Sections = BTreeMap<String, BTreeMap<String, String>>;

fuzz_target!(|text: &str| {
    let text = text.replace("KEY", KEY);
    let path = file(&text);
    let read = ini::Ini::read(&path, notice::Notices { quiet: true });
    let slow = sections(text.strip_prefix('\u{feff}').unwrap_or(&text));
    // Where a key stands is known only if all of it is the value of key.
    let hidden = text.lines().filter(|line| line.contains(KEY)).all(|line| line == format!("key = {KEY}"));
    let secret = |said: &str| assert!(!hidden || !said.contains(KEY), "it tells a key: {said}");
    let ini = match (read, &slow) {
        (Ok(ini), Some(_)) => ini,
        (Err(error), None) => return secret(&format!("{error:#}")),
        (read, _) => panic!("{:?}, not {slow:?} of {text:?}", read.map_err(|error| format!("{error:#}"))),
    };
    let slow = slow.unwrap_or_default();
    let defaults = slow.get("DEFAULT").cloned().unwrap_or_default();
    assert!(!ini.has("DEFAULT"), "the defaults are no host");
    for (name, own) in slow.iter().filter(|(name, _)| *name != "DEFAULT") {
        assert!(ini.has(name), "[{name}] is missing of {text:?}");
        let value = |option: &str| own.get(option).or_else(|| defaults.get(option)).map(String::as_str);
        match ini.profile(name) {
            None => panic!("[{name}] says nothing"),
            Some(Err(error)) => secret(&format!("{error:#}")),
            Some(Ok(profile)) => {
                assert_eq!(Some(profile.key), value("key").and_then(|text| Key::parse(text).ok()));
                assert_eq!(profile.tag, value("tag").map(|text| Tag::parse(text).expect("a tag")));
                let port = profile.port.map(|port| port.0.to_string());
                let given = value("port").map(|text| text.trim_start_matches('0').to_owned());
                assert_eq!(port, given, "the port of {text:?}");
                let known = ["host", "key", "tag", "port", "old"];
                assert!(own.keys().all(|option| known.contains(&option.as_str())), "{own:?}");
            }
        }
    }
});

/// What the file says; `None`: it is refused.
fn sections(text: &str) -> Option<Sections> {
    let mut sections = Sections::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let line = line.trim();
        let first = line.chars().next();
        if first.is_none() || first == Some('#') || first == Some(';') {
            continue;
        }
        if first == Some('[') {
            let end = line.find(']')?;
            let name = line[1..end].to_owned();
            let behind = line[end + 1..].trim_start();
            let comment = behind.is_empty() || behind.starts_with('#') || behind.starts_with(';');
            if name.is_empty() || !comment || sections.contains_key(&name) {
                return None;
            }
            sections.insert(name.clone(), BTreeMap::new());
            current = Some(name);
            continue;
        }
        let place = line.find(|letter| letter == '=' || letter == ':')?;
        let option: String =
            line[..place].trim_end().chars().map(|letter| letter.to_ascii_lowercase()).collect();
        let value = line[place + 1..].trim_start();
        let mut before = ' ';
        for (at, letter) in value.char_indices() {
            if letter == ';' && at > 0 && (before == ' ' || before == '\t') {
                return None;
            }
            before = letter;
        }
        let section = sections.get_mut(current.as_ref()?)?;
        if section.insert(option, value.to_owned()).is_some() {
            return None;
        }
    }
    Some(sections)
}

/// In memory, where there is such a place, and written anew each time.
fn file(text: &str) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let path = base.join(format!("pkd-fuzz-ini-{}", std::process::id()));
    fs::write(&path, text).expect("a file");
    path
}
