//! The output of `iptables-save`. The text of a rule is kept, because `-D` needs exactly this text.

use std::collections::BTreeMap;

/// The tables of one address family, by name.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    tables: BTreeMap<String, Table>,
}

/// The chains of a table, with their rules.
type Table = BTreeMap<String, Vec<Rule>>;

/// A rule of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The text after `-A CHAIN`.
    pub(crate) text: String,
    options: Vec<RuleOption>,
    /// Packets that matched.
    pub(crate) packets: u64,
}

/// An option with its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RuleOption {
    negated: bool,
    name: String,
    values: Vec<String>,
}

/// Options whose value is free text and may start with anything.
const FREE_TEXT: &[&str] = &["--comment", "--log-prefix"];

impl Saved {
    /// Parses the output of `iptables-save -c`. Other lines than tables, chains and rules are skipped.
    pub(crate) fn parse(output: &str) -> Self {
        let mut saved = Self::default();
        let mut table = String::new();
        for line in output.lines() {
            if let Some(name) = line.strip_prefix('*') {
                name.clone_into(&mut table);
            } else if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
                saved.chain(&table, chain);
            } else if let Some((chain, rule)) = read(line) {
                saved.chain(&table, chain).push(rule);
            }
        }
        saved
    }

    fn chain(&mut self, table: &str, chain: &str) -> &mut Vec<Rule> {
        let table = self.tables.entry(table.to_owned()).or_default();
        table.entry(chain.to_owned()).or_default()
    }

    /// The chains of a table, each with its rules.
    pub(crate) fn chains(&self, table: &str) -> impl Iterator<Item = (&str, &[Rule])> {
        let chains = self.tables.get(table).into_iter().flatten();
        chains.map(|(chain, rules)| (chain.as_str(), rules.as_slice()))
    }

    /// The rules of a chain, if the chain is there.
    pub(crate) fn rules(&self, table: &str, chain: &str) -> Option<&[Rule]> {
        self.tables.get(table)?.get(chain).map(Vec::as_slice)
    }
}

/// `[packets:bytes] -A chain rule`.
fn read(line: &str) -> Option<(&str, Rule)> {
    let (packets, rest) = match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((counters, rest)) => (counters.split(':').next()?.parse().ok()?, rest),
        None => (0, line),
    };
    let (chain, text) = rest.strip_prefix("-A ")?.split_once(' ').unwrap_or((rest.strip_prefix("-A ")?, ""));
    Some((chain, Rule { text: text.to_owned(), options: options(text), packets }))
}

/// Parses the options. A quoted word is never an option.
fn options(text: &str) -> Vec<RuleOption> {
    let mut options: Vec<RuleOption> = Vec::new();
    let mut negated = false;
    for Word { text, unquoted } in words(text) {
        let takes_free_text =
            |last: &&mut RuleOption| last.values.is_empty() && FREE_TEXT.contains(&last.name.as_str());
        if let Some(last) = options.last_mut().filter(takes_free_text) {
            last.values.push(text);
        } else if unquoted && text == "!" {
            negated = true;
        } else if (unquoted && text.starts_with('-')) || options.is_empty() {
            options.push(RuleOption {
                negated: std::mem::take(&mut negated),
                name: text,
                values: Vec::new(),
            });
        } else if let Some(last) = options.last_mut() {
            last.values.push(text);
        }
    }
    options
}

struct Word {
    text: String,
    /// Contains neither quotes nor backslashes.
    unquoted: bool,
}

/// Splits words as iptables does: quotes protect spaces, a backslash protects a quote.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quoted = false;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == ' ' && !quoted {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert(Word { text: String::new(), unquoted: true });
        match letter {
            '"' => (quoted, word.unquoted) = (!quoted, false),
            '\\' => {
                word.text.extend(letters.next());
                word.unquoted = false;
            }
            letter => word.text.push(letter),
        }
    }
    words.extend(word);
    words
}

impl Rule {
    /// The value of an option that occurs once and is not negated.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let mut found = self.options.iter().filter(|option| option.name == name && !option.negated);
        let value = found.next()?.values.first()?;
        found.next().is_none().then_some(value.as_str())
    }

    /// Whether there are only these options, each with one value, so nothing else narrows the match.
    pub(crate) fn has_only(&self, options: &[&str]) -> bool {
        let fits = |option: &RuleOption| {
            !option.negated && option.values.len() == 1 && options.contains(&option.name.as_str())
        };
        self.options.iter().all(fits)
    }

    /// The chain or target of `-j` or `-g`.
    pub(crate) fn target(&self) -> Option<&str> {
        self.value("-j").or_else(|| self.value("-g"))
    }
}

/// Quotes a word as `iptables-save` does (`xtables_save_string()`).
#[cfg(fuzzing)]
pub(crate) fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let escape = |letter: char| if "\"\\'".contains(letter) { vec!['\\', letter] } else { vec![letter] };
    format!("\"{}\"", word.chars().flat_map(escape).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_iptables_writes_them() {
        let saved = Saved::parse(
            "# Generated\n*filter\n:INPUT ACCEPT [5:7]\n:pk-ssh - [0:0]\n\
             [12:345] -A INPUT -p tcp -m tcp --dport 22 -j pk-ssh\n\
             [0:0] -A pk-ssh -m comment --comment \"a \\\"b\\\" c\" -j ACCEPT\n-A pk-ssh -j DROP\nCOMMIT\n",
        );
        let input = saved.rules("filter", "INPUT").unwrap_or_default();
        assert_eq!(input.len(), 1);
        assert_eq!((input[0].packets, input[0].target()), (12, Some("pk-ssh")));
        let own = saved.rules("filter", "pk-ssh").unwrap_or_default();
        assert_eq!(own[0].value("--comment"), Some("a \"b\" c"));
        assert_eq!(own[0].text, "-m comment --comment \"a \\\"b\\\" c\" -j ACCEPT");
        assert_eq!(own[1].text, "-j DROP");
        assert_eq!(saved.rules("nat", "pk-ssh"), None);
    }

    #[test]
    fn free_text_is_never_an_option() {
        // a rule, an option, its value
        let rows = [
            ("-A c -j LOG --log-prefix \"!\" --log-level 3", "--log-level", Some("3")),
            ("-A c -j LOG --log-prefix -j --log-level 3", "-j", Some("LOG")),
            ("-A c -j LOG --log-prefix -j --log-level 3", "--log-prefix", Some("-j")),
            ("-A c -s 1.2.3.4/32 -m comment --comment ! -j ACCEPT", "-j", Some("ACCEPT")),
            ("-A c -m comment --comment \"-s 1.2.3.4/32\" -j ACCEPT", "-s", None),
            ("-A c --rcheck -j ACCEPT", "--rcheck", None),
        ];
        for (row, (line, option, expected)) in rows.into_iter().enumerate() {
            let (_, rule) = read(line).expect("a rule");
            assert_eq!(rule.value(option), expected, "row {row}");
        }
    }

    #[test]
    fn a_negated_or_doubled_option_has_no_value() {
        let rows = [
            ("-A c -s 1.2.3.4/32 -j ACCEPT", Some("1.2.3.4/32")),
            ("-A c ! -s 1.2.3.4/32 -j ACCEPT", None),
            ("-A c -i eth0 ! -s 1.2.3.4/32 -j ACCEPT", None),
            ("-A c -s 1.2.3.4/32 -s 1.2.3.5/32 -j ACCEPT", None),
            ("-A c -j ACCEPT", None),
        ];
        for (row, (line, expected)) in rows.into_iter().enumerate() {
            let (_, rule) = read(line).expect("a rule");
            assert_eq!(rule.value("-s"), expected, "row {row}");
        }
    }

    #[test]
    fn other_lines_are_skipped() {
        // a line, its chain, its text, its packets
        let rows = [
            ("-A c -j DROP", Some(("c", "-j DROP", 0))),
            ("[3:9] -A c -j DROP", Some(("c", "-j DROP", 3))),
            ("[3:9] -A c", Some(("c", "", 3))),
            ("-A c", Some(("c", "", 0))),
            ("[x:9] -A c -j DROP", None),
            ("[3:9]-A c -j DROP", None),
            ("-I c -j DROP", None),
            ("-A", None),
            ("# -A c -j DROP", None),
            ("", None),
        ];
        for (line, expected) in rows {
            let found = read(line);
            let found = found.as_ref().map(|(chain, rule)| (*chain, rule.text.as_str(), rule.packets));
            assert_eq!(found, expected, "{line:?}");
        }
    }

    #[test]
    fn words_are_split_where_iptables_splits_them() {
        let rows: [(&str, &[(&str, bool)]); 8] = [
            ("a b", &[("a", true), ("b", true)]),
            (" a  b ", &[("a", true), ("b", true)]),
            ("\"a b\" c", &[("a b", false), ("c", true)]),
            ("a\"b c\"d", &[("ab cd", false)]),
            ("\"\"", &[("", false)]),
            ("a\\\"b", &[("a\"b", false)]),
            ("\"a\\\\ b\"", &[("a\\ b", false)]),
            ("", &[]),
        ];
        for (text, expected) in rows {
            let found = words(text);
            let found: Vec<_> = found.iter().map(|word| (word.text.as_str(), word.unquoted)).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn has_only_rejects_negated_options_and_extra_values() {
        let rows = [
            ("-s 1.2.3.4/32 -j ACCEPT", true),
            ("-j ACCEPT", true),
            ("", true),
            ("-s 1.2.3.4/32 -p tcp -j ACCEPT", false),
            ("! -s 1.2.3.4/32 -j ACCEPT", false),
            ("-s 1.2.3.4/32 more -j ACCEPT", false),
            ("-s -j ACCEPT", false),
        ];
        for (text, expected) in rows {
            let line = format!("-A c {text}");
            let (_, rule) = read(&line).expect("a rule");
            assert_eq!(rule.has_only(&["-s", "-j"]), expected, "{text}");
        }
    }

    #[test]
    fn the_target_is_that_of_jump_or_goto() {
        for (text, expected) in
            [("-j a", Some("a")), ("-g b", Some("b")), ("-j a -g b", Some("a")), ("-p tcp", None)]
        {
            let line = format!("-A c {text}");
            let (_, rule) = read(&line).expect("a rule");
            assert_eq!(rule.target(), expected, "{text}");
        }
    }

    #[test]
    fn chains_belong_to_their_table() {
        let saved = Saved::parse(
            "*filter\n:b - [0:0]\n-A a -j DROP\n-A a -j ACCEPT\n*nat\n:c ACCEPT [0:0]\nCOMMIT\n",
        );
        let chains =
            |table| saved.chains(table).map(|(chain, rules)| (chain, rules.len())).collect::<Vec<_>>();
        assert_eq!(chains("filter"), [("a", 2), ("b", 0)]);
        assert_eq!(chains("nat"), [("c", 0)]);
        assert_eq!(chains("mangle"), []);
    }
}
