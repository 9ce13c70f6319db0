//! Who may know whom (`docs/architecture.md`), held against what cargo and the sources say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Every member of the workspace, and the members it may know. Nobody but tests may know `pkd-tests`, and nobody `xtask`.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("pkd-core", &[]),
    ("host-knock", &["pkd-packet", "pkd-core", "pkd-netns"]),
    ("pkd-packet", &["pkd-core"]),
    ("pkd-firmware-tests", &["pkd-core", "pkd-gateway", "pkd-tests"]),
    ("pkd-gateway", &["pkd-core"]),
    ("pkd-gateway-config", &["pkd-core", "pkd-gateway"]),
    ("pkd-kmod", &["pkd-core"]),
    ("pkd-netns", &[]),
    ("pkdd", &["pkd-packet", "pkd-core", "pkd-netns", "pktables"]),
    ("pktables", &["pkd-netns"]),
    ("pkd-tests", &["pkd-core"]),
    ("xtask", &[]),
];

/// What tests stand in, and no program.
const ONLY_FOR_TESTS: &str = "pkd-netns";

/// What `pkd-core` is built on. The crates below these are theirs to choose.
const CORE_MAY_USE: &[&str] = &["heapless", "sha2", "subtle"];

/// Licences that the kernel module, GPL-2.0-only, can be made of; Apache-2.0 alone is none.
const FIT_FOR_THE_MODULE: &[&str] = &["MIT", "BSD-3-Clause", "Unlicense"];

/// Where the word may stand that lets code break Rust's promises.
const MAY_BREAK_PROMISES: &[&str] = &["linux/kmod/rust"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO")).args(arguments).arg("--locked").current_dir(root()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo {}: {errors}", arguments.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

/// What the manifests of the workspace say.
struct Member {
    folder: PathBuf,
    /// Package, kind (empty: a normal one), and whether default features are on.
    dependencies: Vec<(String, String, bool)>,
    features: usize,
}

fn members() -> Result<BTreeMap<String, Member>> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut members = BTreeMap::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        let dependencies = package["dependencies"].as_array().context("no dependencies")?;
        let member = Member {
            folder: PathBuf::from(word(&package["manifest_path"])).parent().context("no folder")?.to_owned(),
            dependencies: dependencies
                .iter()
                .map(|d| (word(&d["name"]), word(&d["kind"]), d["uses_default_features"] == true))
                .collect(),
            features: package["features"].as_object().context("no features")?.len(),
        };
        members.insert(word(&package["name"]), member);
    }
    Ok(members)
}

#[test]
fn every_member_has_a_rule_and_knows_only_whom_it_may() -> Result<()> {
    let members = members()?;
    let named: BTreeSet<&str> = MAY_KNOW.iter().map(|(name, _)| *name).collect();
    let present: BTreeSet<&str> = members.keys().map(String::as_str).collect();
    assert_eq!(present, named, "the members of the workspace, and those with a rule");
    for (name, may_know) in MAY_KNOW {
        for (known, kind, _) in &members[*name].dependencies {
            let allowed = !members.contains_key(known) || may_know.contains(&known.as_str());
            assert!(allowed, "{name} must not know {known}, not even as a {kind} dependency");
            assert!(
                known != ONLY_FOR_TESTS || kind == "dev",
                "{name} knows {known}, and not only in its tests"
            );
        }
    }
    Ok(())
}

#[test]
fn pkd_core_uses_few_crates_and_no_features() -> Result<()> {
    let members = members()?;
    let core = &members["pkd-core"];
    assert_eq!(core.features, 0, "pkd-core has features; it is right with none");
    let normal = core.dependencies.iter().filter(|(_, kind, _)| kind != "dev");
    for (name, kind, default_features) in normal {
        assert!(kind.is_empty() && CORE_MAY_USE.contains(&name.as_str()), "pkd-core must not use {name}");
        assert!(!default_features, "pkd-core takes {name} with its default features");
    }
    Ok(())
}

/// As `cargo tree` sees it: only pkd-core is asked for, so nobody else's features are in it.
#[test]
fn nothing_below_pkd_core_wants_std_or_a_licence_that_the_module_cannot_have() -> Result<()> {
    let format = "{p}|{f}|{l}";
    let tree = cargo(&[
        "tree",
        "--package",
        "pkd-core",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "-f",
        format,
    ])?;
    let mut crates = 0;
    for line in tree.lines() {
        let parts: Vec<&str> = line.trim_end_matches(" (*)").split('|').collect();
        let [package, features, licence] = parts[..] else { anyhow::bail!("cargo tree says {line:?}") };
        let unfit = features.split(',').find(|feature| matches!(*feature, "std" | "alloc"));
        assert!(unfit.is_none(), "{package} has the feature {unfit:?}");
        let words: Vec<&str> = licence.split([' ', '/', '(', ')']).collect();
        let fits = FIT_FOR_THE_MODULE.iter().any(|fit| words.contains(fit)) && !words.contains(&"AND");
        assert!(fits, "{package} has the licence {licence:?}; it would end up in xt_pkd.ko");
        crates += 1;
    }
    ensure!(crates > CORE_MAY_USE.len(), "{tree:?} holds too little");
    Ok(())
}

/// In a folder of its own, so that no other member's features are there by way of unification.
#[test]
fn pkd_core_builds_alone() -> Result<()> {
    let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/pkd-core-alone");
    cargo(&["check", "--quiet", "--package", "pkd-core", "--no-default-features", "--target-dir", folder])?;
    Ok(())
}

#[test]
fn pkd_core_says_what_it_is() -> Result<()> {
    let source = fs::read_to_string(root().join("pkd-core/src/lib.rs"))?;
    for line in ["#![no_std]", "#![forbid(unsafe_code)]"] {
        assert!(source.lines().any(|given| given == line), "pkd-core/src/lib.rs has no line {line}");
    }
    Ok(())
}

/// The boards are a workspace of their own: what they share, and the library below, break none.
#[test]
fn what_boards_share_breaks_no_promise() -> Result<()> {
    for file in ["firmware/gateway/src/lib.rs", "firmware/boards/runtime/src/lib.rs"] {
        let source = fs::read_to_string(root().join(file))?;
        let line = concat!("#![forbid(un", "safe_code)]");
        assert!(source.lines().any(|given| given == line), "{file} has no line {line}");
    }
    Ok(())
}

#[test]
fn promises_are_broken_only_where_they_may_be() -> Result<()> {
    // In two parts, or this file would be found too.
    let forbidden = concat!("un", "safe");
    let allowed: Vec<PathBuf> = MAY_BREAK_PROMISES.iter().map(|folder| root().join(folder)).collect();
    let mut files = 0;
    for member in members()?.values() {
        for file in sources(&member.folder)? {
            if allowed.iter().any(|folder| same(folder, &member.folder)) {
                continue;
            }
            files += 1;
            for (row, line) in fs::read_to_string(&file)?.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
                assert!(!words.any(|word| word == forbidden), "{}:{}: {line}", file.display(), row + 1);
            }
        }
    }
    ensure!(files > 20, "only {files} files");
    Ok(())
}

fn same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Every Rust file in `folder` and below.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Workspaces of the project: what one brings is in no other's lock.
const WORKSPACES: &[&str] = &["Cargo.toml", "firmware/boards/Cargo.toml", "tests/fuzz/Cargo.toml"];

#[test]
fn every_dependency_has_its_reason_and_every_reason_its_dependency() -> Result<()> {
    let mut named = BTreeSet::new();
    for workspace in WORKSPACES {
        let metadata =
            cargo(&["metadata", "--format-version", "1", "--no-deps", "--manifest-path", workspace])?;
        let metadata: Value = serde_json::from_str(&metadata)?;
        for package in metadata["packages"].as_array().context("no packages")? {
            let dependencies = package["dependencies"].as_array().context("no dependencies")?;
            let foreign = dependencies.iter().filter(|dependency| dependency["path"].is_null());
            named.extend(foreign.filter_map(|dependency| dependency["name"].as_str().map(str::to_owned)));
        }
    }
    let page = fs::read_to_string(root().join("docs/dependencies.md"))?;
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let explained: BTreeSet<String> = rows.filter(|name| *name != "crate").map(str::to_owned).collect();
    assert_eq!(named, explained, "what manifests name, and what docs/dependencies.md has");
    Ok(())
}
