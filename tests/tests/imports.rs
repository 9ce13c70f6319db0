//! Imports between the files of a crate run one way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};

/// A module: the names that lead to it from the root of the crate.
type Module = Vec<String>;

/// The modules of a folder, each with its text.
fn modules(folder: &Path, place: &Module, found: &mut BTreeMap<Module, String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).context("a file without a name")?;
        if path.is_dir() {
            modules(&path, &[place.as_slice(), &[stem.to_owned()]].concat(), found)?;
        } else {
            let module = match stem {
                "lib" | "main" | "mod" => place.clone(),
                _ => [place.as_slice(), &[stem.to_owned()]].concat(),
            };
            // Tests may import whatever they test.
            let text = fs::read_to_string(&path)?;
            found.insert(module, text.split("#[cfg(test)]").next().unwrap_or_default().to_owned());
        }
    }
    Ok(())
}

/// The paths in a text, with the braces of `use` written out. A comment has none.
fn paths(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut paths = BTreeSet::new();
    for statement in code.split(';') {
        match statement.rsplit_once("use ") {
            Some((before, tree)) if before.trim().is_empty() || before.ends_with([']', ' ', ')']) => {
                expand("", &tree.replace(" as ", "::").replace(' ', ""), &mut paths);
            }
            _ => {}
        }
        let words =
            statement.split(|letter: char| !(letter.is_ascii_alphanumeric() || "_:".contains(letter)));
        paths.extend(words.filter(|word| word.contains("::") && !word.ends_with("::")).map(str::to_owned));
    }
    paths
}

/// `a::{b, c::{d}}` is `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut BTreeSet<String>) {
    let Some((head, rest)) = tree.split_once('{') else {
        // Nothing follows the last comma.
        paths.extend((!tree.is_empty()).then(|| format!("{prefix}{tree}")));
        return;
    };
    let prefix = format!("{prefix}{head}");
    let inner = rest.strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &inner[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand(&prefix, &inner[start..], paths);
}

/// The module that a path of this module leads to: the longest beginning that is one.
fn target(modules: &BTreeMap<Module, String>, from: &Module, path: &str) -> Option<Module> {
    let mut names: Vec<&str> = path.split("::").collect();
    let mut place: Module = match *names.first()? {
        "crate" => Vec::new(),
        "super" => from.split_last()?.1.to_vec(),
        "self" => from.clone(),
        first => {
            let child = [from.as_slice(), &[first.to_owned()]].concat();
            modules.contains_key(&child).then_some(())?;
            names.insert(0, "self");
            from.clone()
        }
    };
    for name in names.into_iter().skip(1) {
        let child = [place.as_slice(), &[name.to_owned()]].concat();
        if !modules.contains_key(&child) {
            if place != *from {
                return Some(exported(modules, &place, name)).filter(|place| place != from);
            }
            break;
        }
        place = child;
    }
    (place != *from).then_some(place)
}

/// The module of a name that `place` exports; `place` itself, if the name is its own.
fn exported(modules: &BTreeMap<Module, String>, place: &Module, name: &str) -> Module {
    let exports = modules.get(place).map(|text| paths(text)).unwrap_or_default();
    let child = |path: &&String| {
        let first = path.split("::").next().unwrap_or_default();
        modules.contains_key(&[place.as_slice(), &[first.to_owned()]].concat())
    };
    let found = exports.iter().filter(child).find(|path| path.rsplit("::").next() == Some(name));
    found.and_then(|path| target(modules, place, path)).unwrap_or_else(|| place.clone())
}

/// Walks along the imports; `Err`: the way on which a module is met again.
fn walk<'a>(
    edges: &'a BTreeMap<Module, BTreeSet<Module>>,
    module: &'a Module,
    way: &mut Vec<&'a Module>,
    done: &mut BTreeSet<&'a Module>,
) -> Result<(), String> {
    if let Some(begin) = way.iter().position(|other| *other == module) {
        let circle: Vec<_> = way.iter().skip(begin).map(|module| module.join("::")).collect();
        return Err(circle.join(" -> "));
    }
    if done.contains(module) {
        return Ok(());
    }
    way.push(module);
    for next in edges.get(module).into_iter().flatten() {
        walk(edges, next, way, done)?;
    }
    way.pop();
    done.insert(module);
    Ok(())
}

/// The crates, with an import that is there: a test that finds no imports finds no circle.
const CRATES: &[(&str, &str, &str)] = &[
    ("pkd-core", "verifier", "rule"),
    ("packet", "file", "link"),
    ("host-knock", "request", "key"),
    ("linux/pktables", "service", "service_name"),
    ("linux/pkdd", "daemon", "engine"),
    ("firmware/board", "nic", "frame"),
    ("firmware/gateway", "gateway", "config"),
    ("xtask", "feed", "packages"),
];

#[test]
fn no_two_files_of_a_crate_import_each_other() -> Result<()> {
    for (folder, from, to) in CRATES {
        let mut found = BTreeMap::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("src");
        modules(&root, &Vec::new(), &mut found)?;
        let edges: BTreeMap<Module, BTreeSet<Module>> = found
            .iter()
            .map(|(module, text)| {
                let targets = paths(text).iter().filter_map(|path| target(&found, module, path)).collect();
                (module.clone(), targets)
            })
            .collect();
        let named =
            |name: &str| -> Module { Some(name.to_owned()).into_iter().filter(|n| !n.is_empty()).collect() };
        let has = edges.get(&named(from)).is_some_and(|targets| targets.contains(&named(to)));
        ensure!(has, "{folder}: the import of {to} by {from} is not found");
        let mut done = BTreeSet::new();
        for module in edges.keys() {
            let result = walk(&edges, module, &mut Vec::new(), &mut done);
            result.map_err(|circle| anyhow::anyhow!("{folder}: {circle}"))?;
        }
    }
    Ok(())
}
