//! Where apt fetches from: the host's own sources, and what can be derived from them. The host's
//! are only read.

use std::{fs, path::Path, path::PathBuf};

use anyhow::{Context, Result};

/// The suite that what does not fit, or is not there, is taken from.
pub(crate) const BACKPORTS: &str = "bookworm-backports";

/// What `updates` of a host has, backports come from beside it.
const UPDATES: &str = "bookworm-updates";

/// Writes the host's sources into `parts`, for packages and for what they are built from, and a
/// source for backports beside them.
pub(crate) fn derive(parts: &Path) -> Result<()> {
    fs::create_dir_all(parts)?;
    let mut texts = Vec::new();
    for path in files()? {
        let text = fs::read_to_string(&path)?;
        let name = path.file_name().context("a source without a name")?;
        fs::write(parts.join(name), with_source(&text))?;
        texts.push(text);
    }
    let stanzas: Vec<String> =
        texts.iter().flat_map(|text| text.split("\n\n")).filter_map(backports_stanza).collect();
    let lines: Vec<String> = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| line.starts_with("deb ") && line.contains(&format!(" {UPDATES} ")))
        .map(|line| line.replace(UPDATES, BACKPORTS))
        .collect();
    fs::write(parts.join("pkd-backports.sources"), with_source(&stanzas.join("\n\n")) + "\n")?;
    fs::write(parts.join("pkd-backports.list"), with_source(&lines.join("\n")) + "\n")?;
    Ok(())
}

/// A stanza that has `bookworm-updates`, with backports for its suites.
fn backports_stanza(stanza: &str) -> Option<String> {
    let is_suites = |line: &&str| line.starts_with("Suites:");
    if !stanza.lines().any(|line| is_suites(&line) && line.contains(UPDATES)) {
        return None;
    }
    let suites = format!("Suites: {BACKPORTS}");
    let lines = stanza.lines().map(|line| if is_suites(&line) { suites.as_str() } else { line });
    Some(lines.collect::<Vec<_>>().join("\n"))
}

/// The same sources, for source packages too.
fn with_source(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with("Types:") {
            lines.push("Types: deb deb-src".to_owned());
        } else {
            lines.push(line.to_owned());
            if let Some(rest) = line.strip_prefix("deb ") {
                lines.push(format!("deb-src {rest}"));
            }
        }
    }
    lines.join("\n") + "\n"
}

/// The host's lists of sources, in either of apt's formats.
pub(crate) fn files() -> Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "list" || ending == "sources") {
                files.push(path);
            }
        }
    }
    files.retain(|path| path.is_file());
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_derived_in_both_formats() {
        let stanza = "Types: deb\nURIs: x\nSuites: bookworm bookworm-updates\nComponents: main";
        assert_eq!(
            backports_stanza(stanza).unwrap(),
            "Types: deb\nURIs: x\nSuites: bookworm-backports\nComponents: main"
        );
        assert_eq!(backports_stanza("Types: deb\nSuites: bookworm-security"), None);
        assert_eq!(with_source("Types: deb\nURIs: x"), "Types: deb deb-src\nURIs: x\n");
        assert_eq!(with_source("deb x bookworm main"), "deb x bookworm main\ndeb-src x bookworm main\n");
    }
}
