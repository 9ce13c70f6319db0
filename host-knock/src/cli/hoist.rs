//! Commands wherever they stand: `knock -v ssh gw` means what `knock ssh -v gw` does.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// Moves a command that stands after options to the front, and makes `help` an option. After `--` everything is a host.
pub(super) fn hoist(knock: &Command, mut line: Vec<OsString>) -> Vec<OsString> {
    let Some(place) = first_word(knock, &line) else { return line };
    let Some(word) = line.get(place).and_then(|word| word.to_str()).map(str::to_owned) else { return line };
    if word == "help" {
        line.remove(place);
        line.push(OsString::from("--help"));
        return hoist(knock, line);
    }
    if place > 1 && knock.find_subcommand(&word).is_some() {
        let command = line.remove(place);
        line.insert(1, command);
    }
    line
}

/// The first word that is neither an option nor the value of one.
fn first_word(knock: &Command, line: &[OsString]) -> Option<usize> {
    let mut words = line.iter().enumerate().skip(1);
    while let Some((place, word)) = words.next() {
        let text = word.to_string_lossy();
        if text == "--" {
            return None;
        }
        let has_value = match text.strip_prefix("--") {
            Some(long) => !long.contains('=') && takes_value(find(knock, |arg| arg.get_long() == Some(long))),
            None => match text.strip_prefix('-').filter(|letters| !letters.is_empty()) {
                Some(letters) => last_takes_value(knock, letters),
                None => return Some(place),
            },
        };
        if has_value {
            words.next();
        }
    }
    None
}

/// Whether the value of the last of these short options is the next word: `-vp 40000`, but not `-p40000`.
fn last_takes_value(knock: &Command, letters: &str) -> bool {
    let mut letters = letters.chars();
    while let Some(letter) = letters.next() {
        if takes_value(find(knock, |arg| arg.get_short() == Some(letter))) {
            return letters.as_str().is_empty();
        }
    }
    false
}

fn find(knock: &Command, is_wanted: impl Fn(&Arg) -> bool) -> Option<&Arg> {
    knock.get_arguments().find(|arg| is_wanted(arg))
}

fn takes_value(arg: Option<&Arg>) -> bool {
    arg.is_some_and(|arg| arg.get_action().takes_values())
}

/// The command that somebody may have meant by a word: it has one letter more, less or other, or two in the wrong order.
pub(crate) fn similar_command(knock: &Command, word: &OsStr) -> Option<String> {
    let word: Vec<char> = word.to_str()?.chars().collect();
    let names = knock.get_subcommands().map(Command::get_name);
    names
        .filter(|name| name.len() > 3)
        .find(|name| is_near(&name.chars().collect::<Vec<_>>(), &word))
        .map(str::to_owned)
}

fn is_near(name: &[char], word: &[char]) -> bool {
    let same = name.iter().zip(word).take_while(|(one, other)| one == other).count();
    let (name, word) = (&name[same..], &word[same..]);
    match (name, word) {
        ([], []) => false,
        ([first, second, name @ ..], [third, fourth, word @ ..]) if first == fourth && second == third => {
            name == word
        }
        ([_, name_rest @ ..], [_, word_rest @ ..]) => {
            name_rest == word_rest || name_rest == word || name == word_rest
        }
        ([_, rest @ ..], []) | ([], [_, rest @ ..]) => rest.is_empty(),
    }
}

#[cfg(test)]
#[cfg(feature = "desktop")]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Args;

    #[test]
    fn a_command_is_found_behind_options_and_their_values() {
        for (line, expected) in [
            ("knock ssh gw", "knock ssh gw"),
            ("knock -v ssh gw", "knock ssh -v gw"),
            ("knock -vp 40000 ssh gw", "knock ssh -vp 40000 gw"),
            ("knock -p40000 --tag=A ssh gw", "knock ssh -p40000 --tag=A gw"),
            ("knock --key-file wait gw", "knock --key-file wait gw"),
            ("knock --json list", "knock list --json"),
            ("knock -- list", "knock -- list"),
            ("knock -v -- list", "knock -v -- list"),
            ("knock gw list", "knock gw list"),
            ("knock help", "knock --help"),
            ("knock help ssh", "knock ssh --help"),
            ("knock -v help ssh", "knock ssh -v --help"),
            ("knock", "knock"),
        ] {
            let words = line.split(' ').map(OsString::from).collect();
            let hoisted = hoist(&Args::command(), words);
            let texts: Vec<_> = hoisted.iter().map(|word| word.to_string_lossy()).collect();
            assert_eq!(texts.join(" "), expected, "{line}");
        }
    }

    #[test]
    fn a_mistyped_command_is_recognized_and_a_host_is_not() {
        for (word, expected) in [
            ("keygne", Some("keygen")),
            ("keyge", Some("keygen")),
            ("keeygen", Some("keygen")),
            ("doctro", Some("doctor")),
            ("lost", Some("list")),
            ("keygen", None),
            ("gateway", None),
            ("nas", None),
            ("office", None),
            ("", None),
        ] {
            let similar = similar_command(&Args::command(), OsStr::new(word));
            assert_eq!(similar.as_deref(), expected, "{word}");
        }
    }
}
