//! Runs the examples of the README.

use anyhow::{Context as _, Result, ensure};

use crate::netns::{Kind, Netns, on_each_firewall};

pub(crate) const README: &str = include_str!("../../README.md");

/// The code block in this language that contains a text.
pub(crate) fn block(language: &str, text: &str) -> Result<&'static str> {
    let blocks = README.split("\n```").skip(1).step_by(2);
    let mut blocks = blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    blocks.find(|block| block.contains(text)).with_context(|| format!("no {language} block with {text:?}"))
}

on_each_firewall! {
    fn the_example_prints_what_it_shows(netns) {
        let backend = if netns.kind.is_nft() { "nft" } else { "iptables" };
        let mut commands = 0;
        let mut lines = block("text", "$ pktables init")?.lines().peekable();
        while let Some(line) = lines.next() {
            let words = line.strip_prefix("$ pktables ").with_context(|| format!("{line} is no command"))?;
            let words = words.split("   #").next().unwrap_or(words).trim_end();
            let mut shown = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                shown.push(line.split_whitespace().collect::<Vec<_>>().join(" "));
            }
            let words: Vec<&str> = ["--backend", backend].into_iter().chain(words.split(' ')).collect();
            let outcome = Netns::bare(&words)?;
            ensure!(outcome.code == Some(0), "{line}: {outcome:?}");
            // Times are rounded up: iptables ends grants at full seconds.
            let printed = outcome.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            let printed: Vec<String> = printed.map(|line| line.replace(" 31s ", " 30s ")).collect();
            assert_eq!(printed, shown, "{line}");
            commands += 1;
        }
        ensure!(commands > 5, "only {commands} commands");
        Ok(())
    }
}

/// Every option of `--help` is in the table, and no other.
#[test]
fn help_and_readme_name_the_same_options() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::help_and_readme_name_the_same_options"), Kind::Nft, |_| {
        let options = |text: &str| {
            let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-'));
            let mut words: Vec<String> = words
                .filter(|word| word.trim_matches('-').len() > 1 && word.starts_with("--"))
                .map(str::to_owned)
                .collect();
            words.sort_unstable();
            words.dedup();
            words
        };
        let mut help = Netns::bare(&["--help"])?.stdout;
        for command in ["init", "remove", "add", "delete", "list", "flush", "expire"] {
            help.push_str(&Netns::bare(&[command, "--help"])?.stdout);
        }
        let (_, section) = README.split_once("\n## Commands and options\n").context("no section")?;
        let (section, _) = section.split_once("\n## ").context("no end")?;
        let rows: String = section.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(options(&help), options(&rows));
        Ok(())
    })
}
