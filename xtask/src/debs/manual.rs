//! Man pages of programs that make none themselves, from what they print and what their READMEs say.

use crate::prelude::*;

/// `NAME(SECTION)`: what a program's `--help` prints.
pub(super) fn of_help(name: &str, section: u8, what: &str, help: &str) -> String {
    head(name, section, what) + ".SH DESCRIPTION\n.nf\n" + &escaped(help.trim_end()) + "\n.fi\n"
}

/// `NAME(SECTION)`: the options of a table `| section | option | default | meaning |` in a README.
pub(super) fn of_table(name: &str, section: u8, what: &str, readme: &str) -> Result<String> {
    let mut text = head(name, section, what) + ".SH OPTIONS\n";
    let rows = readme.lines().skip_while(|line| !line.starts_with("| section | option |")).skip(2);
    let mut count = 0;
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<String> = row.trim_matches('|').split(" | ").map(|cell| plain(cell.trim())).collect();
        let [table, option, default, meaning] = &cells[..] else { bail!("no row of four: {row}") };
        let table = table.trim_matches('|').trim();
        if !table.is_empty() {
            text.extend([".SS [", &escaped(table), "]\n"]);
        }
        let (option, meaning, default) = (escaped(option), escaped(meaning), escaped(default));
        text.extend([".TP\n.B ", &option, "\n", &meaning, " (default: ", &default, ")\n"]);
        count += 1;
    }
    ensure!(count > 5, "the table of {name} has {count} rows");
    Ok(text)
}

fn head(name: &str, section: u8, what: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        ".TH {} {section} \"\" \"pkd {version}\"\n.SH NAME\n{} \\- {}\n",
        name.to_uppercase(),
        escaped(name),
        escaped(what)
    )
}

/// Without what Markdown adds: code, links, emphasis.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        match after.split_once("](").and_then(|(label, tail)| Some((label, tail.split_once(')')?.1))) {
            Some((label, tail)) if !label.contains(']') => {
                plain += before;
                plain += label;
                rest = tail;
            }
            _ => {
                plain += before;
                plain.push('[');
                rest = after;
            }
        }
    }
    (plain + rest).replace(['`', '*'], "")
}

/// As troff reads it.
fn escaped(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.replace('\\', "\\e").replace('-', "\\-").replace('–', "\\(en").replace('…', "...");
        if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_troff_or_markdown_would_take_for_their_own_is_text() {
        let page = of_help("x", 8, "does it", ".nf is no request\n'nor this\na\\b --help\n");
        assert!(page.ends_with("\\&.nf is no request\n\\&'nor this\na\\eb \\-\\-help\n.fi\n"), "{page}");
        assert_eq!(plain("`a`: [b c](d.md#e), ['x'] *f*"), "a: b c, ['x'] f");
    }

    #[test]
    fn each_row_of_the_readme_is_an_option() {
        let page =
            of_table("pkdd.toml", 5, "configuration", include_str!("../../../linux/pkdd/README.md")).unwrap();
        for part in [".SS [gate]\n", ".SS [user.NAME]\n", ".TP\n.B expires\n", "(default: \\&'2')\n"] {
            assert!(page.contains(part), "no {part:?} in {page}");
        }
    }
}
