//! The project's files: links work, and nothing names a particular computer or a registry.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

/// Folders that do not belong to the project.
const EXCLUDED: &[&str] = &[".git", "target"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every file of the tree, relative to its root.
fn files() -> Result<Vec<PathBuf>> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let is_excluded = EXCLUDED.iter().any(|name| entry.file_name() == *name);
            match entry.file_type()? {
                kind if kind.is_dir() && !is_excluded => walk(&entry.path(), found)?,
                kind if kind.is_file() => found.push(entry.path().strip_prefix(root())?.to_owned()),
                _ => {}
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(root(), &mut found)?;
    found.sort();
    ensure!(found.len() > 50, "only {} files", found.len());
    Ok(found)
}

/// The targets of `[text](target)` outside of fenced blocks, each with its line.
fn links(text: &str) -> Vec<(usize, &str)> {
    prose(text)
        .into_iter()
        .flat_map(|(row, line)| {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            targets.map(move |target| (row, target))
        })
        .collect()
}

#[test]
fn every_relative_link_of_a_document_leads_to_a_file() -> Result<()> {
    let mut checked = 0;
    let mut broken = Vec::new();
    for file in files()?.iter().filter(|file| file.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(root().join(file))?;
        for (row, link) in links(&text) {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            let folder = root().join(file);
            if !folder.with_file_name("").join(path).exists() {
                broken.push(format!("{}:{row}: {link}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
    ensure!(checked > 10, "only {checked} links");
    Ok(())
}

/// The lines outside of fenced blocks, each with its number.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let lines = (1..).zip(text.lines());
    lines
        .filter(|(_, line)| {
            let is_fence = line.trim_start().starts_with("```");
            fenced ^= is_fence;
            !fenced && !is_fence
        })
        .collect()
}

/// What links to the headings end with: small letters, hyphens for spaces, and no other punctuation.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).into_iter().filter_map(|(_, line)| line.strip_prefix('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        heading.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_anchor_of_a_link_is_a_heading() -> Result<()> {
    let (mut checked, mut broken) = (0, Vec::new());
    for file in files()?.iter().filter(|file| file.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(root().join(file))?;
        for (row, link) in links(&text).into_iter().filter(|(_, link)| !link.contains("://")) {
            let Some((path, anchor)) = link.split_once('#') else { continue };
            let folder = root().join(file);
            let target = if path.is_empty() { folder } else { folder.with_file_name("").join(path) };
            checked += 1;
            if !anchors(&fs::read_to_string(&target)?).iter().any(|heading| heading == anchor) {
                broken.push(format!("{}:{row}: {link}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links to headings that are not there:\n{}", broken.join("\n"));
    ensure!(checked > 10, "only {checked} links");
    Ok(())
}

/// The numbers of rows that follow no header, which would be shown as text with bars.
fn rows_without_table(text: &str) -> Vec<usize> {
    let lines = prose(text);
    let is_row = |index: usize| lines.get(index).is_some_and(|(_, line)| line.starts_with('|'));
    let begins = (0..lines.len()).filter(|index| is_row(*index) && (*index == 0 || !is_row(index - 1)));
    let is_header = |index: usize| is_row(index + 1) && lines[index + 1].1.starts_with("|-");
    begins.filter(|index| !is_header(*index)).map(|index| lines[index].0).collect()
}

#[test]
fn every_table_of_a_document_has_a_header() -> Result<()> {
    let (mut tables, mut broken) = (0, Vec::new());
    for file in files()?.iter().filter(|file| file.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(root().join(file))?;
        tables += text.lines().filter(|line| line.starts_with("|-")).count();
        let rows = rows_without_table(&text);
        broken.extend(rows.iter().map(|row| format!("{}:{row}", file.display())));
    }
    assert!(broken.is_empty(), "rows without a table:\n{}", broken.join("\n"));
    ensure!(tables > 10, "only {tables} tables");
    Ok(())
}

/// Why this line must not be in the project; `None` if it may.
fn fault(line: &str) -> Option<&'static str> {
    // Split, so that this file passes.
    let homes = [concat!("/ro", "ot/"), concat!("/ho", "me/")];
    if homes.iter().any(|home| line.contains(home)) {
        return Some("a path of one computer");
    }
    let registries =
        [concat!("crates", ".io"), concat!("debian", ".org"), concat!("py", "pi"), concat!("npm", "js")];
    let mut addresses = line.split("://").skip(1).filter_map(|rest| rest.split(char::is_whitespace).next());
    addresses
        .any(|address| registries.iter().any(|registry| address.contains(registry)))
        .then_some("the address of a registry")
}

#[test]
fn no_file_names_a_registry_or_a_path_of_one_computer() -> Result<()> {
    let mut faults = Vec::new();
    // Cargo writes its registry into Cargo.lock itself.
    for file in files()?.iter().filter(|file| !file.ends_with("Cargo.lock")) {
        let Ok(text) = fs::read_to_string(root().join(file)) else {
            continue;
        };
        for (row, line) in text.lines().enumerate() {
            faults
                .extend(fault(line).map(|fault| format!("{}:{}: {fault}: {line}", file.display(), row + 1)));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[test]
fn faults_and_links_are_found() {
    let table = [
        (concat!("cp /ro", "ot/key ."), true),
        (concat!("in /ho", "me/me/src"), true),
        (concat!("deb https://deb.debian", ".org/debian"), true),
        (concat!("https://static.crates", ".io/x (a crate)"), true),
        ("https://example.org/ and Debian", false),
        ("root:x:0:0:root:/root:/bin/sh", false),
    ];
    for (row, (line, expected)) in table.iter().enumerate() {
        assert_eq!(fault(line).is_some(), *expected, "row {row}: {line}");
    }
    assert_eq!(links("[a](b.md) [c](d.md#e)\n```\n[x](y)\n```"), [(1, "b.md"), (1, "d.md#e")]);
    assert_eq!(anchors("# Format 2\n```\n# x\n```\n## How, and `why_not`?"), ["format-2", "how-and-why_not"]);
    assert_eq!(rows_without_table("| a |\n|---|\n| 1 |\n\n| 2 |\n```\n| 3 |\n```\n"), [5]);
}

/// The lines of a document's `sh` blocks, without comments.
fn commands(text: &str) -> Vec<&str> {
    let mut shell = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            shell = line == "```sh";
        } else if shell {
            found.push(line.split("  #").next().unwrap_or(line).trim());
        }
    }
    found
}

#[test]
fn every_command_of_the_readme_is_tested() -> Result<()> {
    let read = |file: &str| fs::read_to_string(root().join(file));
    // CI runs the `make` commands; the tests of the client's README run the commands in it.
    let (page, client, makefile) = (read("README.md")?, read("host-knock/README.md")?, read("Makefile")?);
    let targets: Vec<&str> = makefile
        .lines()
        .find_map(|line| line.strip_prefix(".PHONY:"))
        .unwrap_or_default()
        .split(' ')
        .collect();
    let commands = commands(&page);
    ensure!(commands.len() > 5, "only {commands:?}");
    for command in commands {
        let known = match command.strip_prefix("make ") {
            Some(target) => targets.contains(&target),
            None => client.lines().any(|line| line == command),
        };
        ensure!(known, "no test runs {command:?}");
    }
    Ok(())
}

/// No man page comes with OpenWrt's packages, so this page is the manual.
#[test]
fn the_routers_guide_has_every_command_of_pkd() -> Result<()> {
    let files = root().join("openwrt/feed/net/pkd/root");
    let program = fs::read_to_string(files.join("usr/sbin/pkd"))?;
    let usage =
        program.split("\t\tusage: pkd COMMAND\n").nth(1).and_then(|rest| rest.split("\t\tUsed by").next());
    let lines = usage.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("\t\t  "));
    // What a command does stands behind it, or alone on the next lines.
    let commands = lines.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split("  ").next());
    let commands: Vec<_> = commands.map(|command| format!("| `pkd {}` |", command.trim_end())).collect();
    ensure!(commands.len() > 5, "only {commands:?}");
    let guide = fs::read_to_string(root().join("docs/router.md"))?;
    let rows: Vec<_> = guide.lines().filter(|line| line.starts_with("| `pkd ")).collect();
    let is_listed = |command: &&String| rows.iter().any(|row| row.starts_with(command.as_str()));
    let missing: Vec<_> = commands.iter().filter(|command| !is_listed(command)).collect();
    assert!(missing.is_empty(), "docs/router.md lacks {missing:?}");
    assert_eq!(rows.len(), commands.len(), "docs/router.md has commands that pkd has not: {rows:?}");
    Ok(())
}
