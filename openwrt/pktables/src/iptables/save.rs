//! What `iptables-save` prints, rule by rule. The text of a rule is kept, because given back it deletes
//! exactly this rule.

use std::collections::BTreeMap;

/// The tables of one address family, by name.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    tables: BTreeMap<String, Table>,
}

/// The chains of a table, each with its rules.
type Table = BTreeMap<String, Vec<Rule>>;

/// A rule of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// What follows `-A CHAIN`.
    pub(crate) text: String,
    /// The text in words, without quotes.
    words: Vec<String>,
    /// Packets that it matched.
    pub(crate) packets: u64,
}

impl Saved {
    /// Reads what `iptables-save -c` prints. Lines that are no tables, chains or rules are left out.
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
    Some((chain, Rule { text: text.to_owned(), words: words(text), packets }))
}

/// Words as iptables splits them: quotes hold spaces, a backslash holds a quote.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(letters.next()),
            ' ' if !quoted => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

impl Rule {
    /// The value of an option, where it comes once and is not negated.
    pub(crate) fn value(&self, option: &str) -> Option<&str> {
        let mut found = None;
        let mut before = "";
        for pair in self.words.windows(2) {
            let [name, value] = pair else { continue };
            if name == option && before != "!" && found.replace(value.as_str()).is_some() {
                return None;
            }
            before = name;
        }
        found
    }

    /// Whether all options are among these, each with one value; so nothing narrows the rule further.
    pub(crate) fn has_only(&self, options: &[&str]) -> bool {
        self.words.chunks(2).all(|pair| pair.first().is_some_and(|name| options.contains(&name.as_str())))
    }

    /// The chain or target that it leads to.
    pub(crate) fn target(&self) -> Option<&str> {
        self.value("-j").or_else(|| self.value("-g"))
    }
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
}
