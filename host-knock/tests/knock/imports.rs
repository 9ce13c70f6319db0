//! Imports between the files of `src` run one way: arguments, profile, key, request, datagram.

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
                "main" | "mod" => place.clone(),
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
            break;
        }
        place = child;
    }
    (place != *from).then_some(place)
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

#[test]
fn no_two_files_import_each_other() -> Result<()> {
    let mut found = BTreeMap::new();
    modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &Vec::new(), &mut found)?;
    ensure!(found.len() > 30, "only {:?}", found.keys());
    let edges: BTreeMap<Module, BTreeSet<Module>> = found
        .iter()
        .map(|(module, text)| {
            let targets = paths(text).iter().filter_map(|path| target(&found, module, path)).collect();
            (module.clone(), targets)
        })
        .collect();
    let imports = |from: &str, to: &str| edges[&vec![from.to_owned()]].contains(&vec![to.to_owned()]);
    ensure!(imports("request", "key") && imports("send", "datagram"), "imports are not found");
    let mut done = BTreeSet::new();
    for module in edges.keys() {
        walk(&edges, module, &mut Vec::new(), &mut done).map_err(anyhow::Error::msg)?;
    }
    Ok(())
}
