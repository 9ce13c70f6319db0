//! The ini file of the original, as `knock` reads it, held against a reader that goes letter by letter.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;

// The client's own module, as it is in the program.
#[allow(missing_docs)]
#[path = "../../../host-knock/src/ini/text.rs"]
mod text;

/// So long that no other word of a message is like it.
const KEY: &str = "kEyKeYkEyKeYkEyKeYkEyKeYkEyKeY";

type Sections = BTreeMap<String, BTreeMap<String, String>>;

fuzz_target!(|text: &str| {
    let text = text.replace("KEY", KEY);
    let (read, slow) = (text::parse(&text), sections(&text));
    let read = match (read, &slow) {
        (Ok(read), Some(_)) => read,
        (Err(error), None) => {
            let lines = text.lines().count();
            assert!((1..=lines).contains(&error.line), "line {} of {lines}", error.line);
            // Where a key stands is known only if all of it is the value of key.
            let hidden =
                text.lines().filter(|line| line.contains(KEY)).all(|line| line == format!("key = {KEY}"));
            assert!(!hidden || !error.problem.contains(KEY), "it tells a key: {}", error.problem);
            return;
        }
        (read, _) => panic!("{:?}, not {slow:?} of {text:?}", read.map_err(|error| error.problem)),
    };
    let read: Sections = read
        .into_iter()
        .map(|section| {
            let entries = section.entries.into_iter().map(|entry| {
                assert!(text.lines().nth(entry.line - 1).is_some(), "line {}", entry.line);
                (entry.option, entry.value)
            });
            (section.name, entries.collect())
        })
        .collect();
    assert_eq!(Some(read), slow, "of {text:?}");
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
