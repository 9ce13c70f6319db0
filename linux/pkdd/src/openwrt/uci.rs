//! Text in the form of `uci export`: what OpenWrt's configuration files contain, with every value in single quotes.

use crate::config::Error;

/// A section, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) package: String,
    pub(crate) kind: String,
    /// Empty: anonymous.
    pub(crate) name: String,
    pub(crate) options: Vec<UciOption>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UciOption {
    pub(crate) name: String,
    /// More than one: a list.
    pub(crate) values: Vec<String>,
}

impl Section {
    /// The value of an option, or the first of a list.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let option = self.options.iter().find(|option| option.name == name)?;
        option.values.first().map(String::as_str)
    }
}

/// Parses the packages of a text.
pub(crate) fn parse(text: &str) -> Result<Vec<Section>, Error> {
    let mut package = String::new();
    let mut sections: Vec<Section> = Vec::new();
    let mut rest = Scanner { text, line: 1 };
    while let Some(words) = rest.line()? {
        let error = |what: &str| Error::new(format!("line {}: {what}", rest.line));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            [] => {}
            ["package", name] => name.clone_into(&mut package),
            ["config", kind] => sections.push(section(&package, kind, "")),
            ["config", kind, name] => sections.push(section(&package, kind, name)),
            ["option" | "list", name, value] => {
                let last = sections.last_mut().ok_or_else(|| error("an option before any section"))?;
                let value = value.to_owned();
                match last.options.iter_mut().find(|option| option.name == name) {
                    Some(option) => option.values.push(value),
                    None => last.options.push(UciOption { name: name.to_owned(), values: vec![value] }),
                }
            }
            _ => return Err(error("expected package, config, option or list, and its words")),
        }
    }
    Ok(sections)
}

fn section(package: &str, kind: &str, name: &str) -> Section {
    Section { package: package.to_owned(), kind: kind.to_owned(), name: name.to_owned(), options: Vec::new() }
}

struct Scanner<'a> {
    text: &'a str,
    line: usize,
}

impl Scanner<'_> {
    /// The words of the next line; `None` at the end. A value in quotes may contain line breaks.
    fn line(&mut self) -> Result<Option<Vec<String>>, Error> {
        if self.text.is_empty() {
            return Ok(None);
        }
        let begin = self.line;
        let mut words: Vec<String> = Vec::new();
        let mut word: Option<String> = None;
        let mut is_quoted = false;
        let mut letters = self.text.char_indices();
        let mut end = self.text.len();
        while let Some((at, letter)) = letters.next() {
            self.line += usize::from(letter == '\n');
            match letter {
                '\'' => {
                    is_quoted = !is_quoted;
                    word.get_or_insert_default();
                }
                _ if is_quoted => word.get_or_insert_default().push(letter),
                // A quote in a value, as in 'it'\''s'.
                '\\' => match letters.next() {
                    Some((_, escaped)) => word.get_or_insert_default().push(escaped),
                    None => {
                        return Err(Error::new(format!("line {begin}: nothing follows the last backslash")));
                    }
                },
                '\n' => {
                    end = at + 1;
                    break;
                }
                _ if letter.is_ascii_whitespace() => words.extend(word.take()),
                _ => word.get_or_insert_default().push(letter),
            }
        }
        if is_quoted {
            return Err(Error::new(format!("line {begin}: a quote is not closed")));
        }
        words.extend(word);
        self.text = self.text.get(end..).unwrap_or_default();
        Ok(Some(words))
    }
}

/// A value as `uci export` writes it.
pub(crate) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_export_is_parsed() {
        let text = "package pkd\n\nconfig gate 'gate'\n\toption port 'any'\n\nconfig user 'me'\n\toption tag 'it'\\''s'\n\
                    \tlist service 'ssh'\n\tlist service 'a b\nc'\n\npackage firewall\n\nconfig zone\n\toption name 'wan'\n";
        let sections = parse(text).unwrap();
        let shown: Vec<_> =
            sections.iter().map(|s| (s.package.as_str(), s.kind.as_str(), s.name.as_str())).collect();
        assert_eq!(shown, [("pkd", "gate", "gate"), ("pkd", "user", "me"), ("firewall", "zone", "")]);
        assert_eq!(sections[0].get("port"), Some("any"));
        assert_eq!(sections[1].get("tag"), Some("it's"));
        assert_eq!(sections[1].options[1].values, ["ssh", "a b\nc"]);
        assert_eq!(sections[2].get("name"), Some("wan"));
        assert_eq!(sections[2].get("port"), None);
    }

    #[test]
    fn what_is_no_export_is_refused_with_its_line() {
        for (text, expected) in [
            ("package pkd\noption port '1'\n", "line 3: an option before any section"),
            ("package pkd\nconfig gate 'ga", "line 2: a quote is not closed"),
            ("package pkd\nconfig\n", "line 3: expected package, config, option or list, and its words"),
            ("config a b c\n", "line 2: expected package, config, option or list, and its words"),
            ("config a\\", "line 1: nothing follows the last backslash"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_quoted_value_is_read_back(value in any::<String>()) {
            let text = format!("package p\nconfig t 'n'\n\toption o {}\n", quoted(&value));
            let sections = parse(&text).unwrap();
            prop_assert_eq!(sections[0].get("o"), Some(value.as_str()));
        }

        #[test]
        fn no_text_causes_a_panic(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
