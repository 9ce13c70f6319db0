//! The dependency rules of `docs/architecture.md`, checked with cargo and the sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Every workspace member, and the members that it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("pkd-core", &[]),
    ("host-knock", &["pkd-packet", "pkd-sntp", "pkd-uri", "pkd-core", "pkd-netns"]),
    ("pkd-packet", &["pkd-core"]),
    ("pkd-firmware-tests", &["pkd-core", "pkd-gateway", "pkd-netns", "pkd-tests"]),
    ("pkd-board", &["pkd-core", "pkd-gateway"]),
    ("pkd-gateway", &["pkd-sntp", "pkd-core"]),
    ("pkd-gateway-config", &["pkd-board", "pkd-core", "pkd-gateway"]),
    ("pkd-kmod", &["pkd-core"]),
    ("pkd-netns", &[]),
    ("pkd-sntp", &[]),
    ("pkd-uri", &[]),
    ("pkdd", &["pkd-packet", "pkd-uri", "pkd-core", "pkd-netns", "pktables"]),
    ("pktables", &["pkd-netns"]),
    ("pkd-tests", &["pkd-core", "pkd-packet", "pkdd", "pktables"]),
    ("xtask", &[]),
];

/// A dev-dependency only.
const ONLY_FOR_TESTS: &str = "pkd-netns";

/// The direct dependencies of `pkd-core`.
const CORE_DEPENDENCIES: &[&str] = &["heapless", "sha2", "subtle", "zeroize"];

/// Licences compatible with the GPL-2.0-only kernel module; Apache-2.0 alone is not.
const MODULE_LICENCES: &[&str] = &["MIT", "BSD-3-Clause", "Unlicense"];

/// Folders whose code may opt out of memory safety.
const UNCHECKED_FOLDERS: &[&str] = &["linux/kmod/rust"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO")).args(arguments).arg("--locked").current_dir(root()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo {}: {errors}", arguments.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

/// A workspace member, from its manifest.
struct Member {
    folder: PathBuf,
    /// Package, kind (empty for a normal dependency), and whether default features are enabled.
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
fn every_member_has_a_rule_and_obeys_it() -> Result<()> {
    let members = members()?;
    let named: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    let present: BTreeSet<&str> = members.keys().map(String::as_str).collect();
    assert_eq!(present, named, "the members of the workspace, and those with a rule");
    for (name, allowed) in ALLOWED {
        for (other, kind, _) in &members[*name].dependencies {
            let is_allowed = !members.contains_key(other) || allowed.contains(&other.as_str());
            assert!(is_allowed, "{name} must not depend on {other}, not even as a {kind} dependency");
            assert!(
                other != ONLY_FOR_TESTS || kind == "dev",
                "{name} must depend on {other} only in its tests"
            );
        }
    }
    Ok(())
}

/// OpenWrt's recipe copies these folders; without one of them, cargo finds no workspace.
#[test]
fn the_recipe_for_openwrt_copies_every_member() -> Result<()> {
    let recipe = fs::read_to_string(root().join("openwrt/feed/net/pkd/Makefile"))?;
    let copied =
        recipe.lines().find_map(|line| line.strip_prefix("PKD_MEMBERS:=")).context("no PKD_MEMBERS")?;
    let copied: Vec<PathBuf> = copied.split(' ').map(|folder| root().join(folder)).collect();
    for (name, member) in members()? {
        let is_copied =
            member.folder.ancestors().any(|folder| copied.iter().any(|copied| same(copied, folder)));
        assert!(is_copied, "PKD_MEMBERS lacks the folder of {name}");
    }
    Ok(())
}

#[test]
fn pkd_core_uses_few_crates_and_no_features() -> Result<()> {
    let members = members()?;
    let core = &members["pkd-core"];
    assert_eq!(core.features, 0, "pkd-core must not have features");
    let normal = core.dependencies.iter().filter(|(_, kind, _)| kind != "dev");
    for (name, kind, default_features) in normal {
        assert!(
            kind.is_empty() && CORE_DEPENDENCIES.contains(&name.as_str()),
            "pkd-core must not use {name}"
        );
        assert!(!default_features, "pkd-core must use {name} without default features");
    }
    Ok(())
}

/// `cargo tree` for pkd-core alone, so that features of other members do not count.
#[test]
fn dependencies_of_pkd_core_are_no_std_and_have_a_compatible_licence() -> Result<()> {
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
        let [package, features, licence] = parts[..] else {
            anyhow::bail!("unexpected output of cargo tree: {line:?}")
        };
        let unfit = features.split(',').find(|feature| matches!(*feature, "std" | "alloc"));
        assert!(unfit.is_none(), "{package} has the feature {unfit:?}");
        let words: Vec<&str> = licence.split([' ', '/', '(', ')']).collect();
        let fits = MODULE_LICENCES.iter().any(|fit| words.contains(fit)) && !words.contains(&"AND");
        assert!(fits, "{package}: licence {licence:?} is not compatible with xt_pkd.ko");
        crates += 1;
    }
    ensure!(crates > CORE_DEPENDENCIES.len(), "too few crates: {tree:?}");
    Ok(())
}

/// In its own target folder, so that features of other members are not unified with it.
#[test]
fn pkd_core_builds_alone() -> Result<()> {
    let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/pkd-core-alone");
    cargo(&["check", "--quiet", "--package", "pkd-core", "--no-default-features", "--target-dir", folder])?;
    Ok(())
}

#[test]
fn published_crates_have_what_a_registry_shows_and_can_be_packaged() -> Result<()> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])?)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    for (name, source) in [("pkd-core", "src/lib.rs"), ("pktables", "src/lib.rs")] {
        let package = packages.iter().find(|package| package["name"] == name).context(name)?;
        for field in ["description", "license", "readme", "rust_version"] {
            ensure!(package[field].is_string(), "{name} has no {field}");
        }
        for field in ["keywords", "categories"] {
            // A registry takes up to five.
            let count = package[field].as_array().map_or(0, Vec::len);
            ensure!((1..=5).contains(&count), "{name} has {count} {field}");
        }
        ensure!(package["publish"].is_null(), "{name} must not be published, by its manifest");
        let files = cargo(&["package", "--list", "--allow-dirty", "--offline", "--package", name])?;
        for file in [source, "README.md"] {
            ensure!(
                files.lines().any(|line| line == file),
                "{file} is not in the package of {name}: {files}"
            );
        }
    }
    Ok(())
}

#[test]
fn pkd_core_is_declared_no_std_and_safe() -> Result<()> {
    let source = fs::read_to_string(root().join("pkd-core/src/lib.rs"))?;
    for line in ["#![no_std]", "#![forbid(unsafe_code)]"] {
        assert!(source.lines().any(|other| other == line), "pkd-core/src/lib.rs has no line {line}");
    }
    Ok(())
}

/// The boards are in another workspace; the code that they share is safe, too.
#[test]
fn code_shared_by_boards_is_declared_safe() -> Result<()> {
    let files = ["sntp", "firmware/board", "firmware/gateway", "firmware/boards/runtime"];
    for file in files.map(|folder| format!("{folder}/src/lib.rs")) {
        let source = fs::read_to_string(root().join(&file))?;
        let line = concat!("#![forbid(un", "safe_code)]");
        assert!(source.lines().any(|other| other == line), "{file} has no line {line}");
    }
    Ok(())
}

#[test]
fn only_allowed_folders_opt_out_of_memory_safety() -> Result<()> {
    // Split, so that this file passes.
    let forbidden = concat!("un", "safe");
    let allowed: Vec<PathBuf> = UNCHECKED_FOLDERS.iter().map(|folder| root().join(folder)).collect();
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

/// The project's workspaces.
const WORKSPACES: &[&str] = &["Cargo.toml", "firmware/boards/Cargo.toml", "tests/fuzz/Cargo.toml"];

#[test]
fn all_workspaces_have_the_same_rust_version() -> Result<()> {
    let mut found = BTreeMap::new();
    for workspace in WORKSPACES {
        let metadata =
            cargo(&["metadata", "--format-version", "1", "--no-deps", "--manifest-path", workspace])?;
        let metadata: Value = serde_json::from_str(&metadata)?;
        for package in metadata["packages"].as_array().context("no packages")? {
            let name = package["name"].as_str().unwrap_or_default().to_owned();
            found.entry(package["rust_version"].to_string()).or_insert_with(Vec::new).push(name);
        }
    }
    ensure!(found.len() == 1 && !found.contains_key("null"), "{found:#?}");
    // The Makefile says it before cargo would.
    let version = found.keys().next().map(|version| version.trim_matches('"').to_owned());
    let minor = version.as_deref().and_then(|version| version.strip_prefix("1.")).context("no 1.x")?;
    let makefile = fs::read_to_string(root().join("Makefile"))?;
    ensure!(
        makefile.contains(&format!("v[2] < {minor}")),
        "the Makefile asks for another version than 1.{minor}"
    );
    Ok(())
}

#[test]
fn docs_dependencies_md_lists_exactly_the_dependencies() -> Result<()> {
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
    assert_eq!(named, explained, "dependencies in the manifests, and in docs/dependencies.md");
    Ok(())
}
