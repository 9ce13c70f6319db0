//! Debian packages, in `target/debs`.

mod manual;
mod pack;
mod programs;
mod repository;

use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    kmod,
    machine::{self, Machine},
    mutants::mirror,
    packages,
    prelude::*,
};

use pack::{ARCHITECTURES, MAINTAINER, filled, finish, kib};
pub(crate) use pack::{Architecture, find};
pub(crate) use repository::{make_key, sign_file};

/// The package with the source of the module.
const DKMS: &str = "xt-pkd-dkms";

/// The texts of the package, with `@NAME@` for what differs.
const TEXTS: &str = "linux/debian/dkms";

/// `debs ARCH...`: builds the packages of these architectures, or of all.
pub(crate) fn run(named: &[&'static Architecture]) -> Result<()> {
    let folder = at("target/debs");
    fs::create_dir_all(&folder)?;
    for architecture in named_or_all(named) {
        let version = env!("CARGO_PKG_VERSION");
        let mut debs = programs::build(architecture, version, &folder)?;
        debs.push(dkms(architecture, version, &folder)?);
        for deb in debs {
            println!("{}: {} bytes", deb.display(), fs::metadata(&deb)?.len());
        }
    }
    Ok(())
}

fn named_or_all(named: &[&'static Architecture]) -> Vec<&'static Architecture> {
    if named.is_empty() { ARCHITECTURES.iter().collect() } else { named.to_vec() }
}

/// `apt-repo ARCH...`: the packages of these architectures, or of all, as a repository for apt in `target/apt`, signed with
/// this key.
pub(crate) fn repository(named: &[&'static Architecture], key: Option<&Path>) -> Result<()> {
    files::empty(&at("target/debs"))?;
    run(named)?;
    let built = repository::build(&at("target/debs"), &named_or_all(named), key)?;
    println!("{}: put it on a web server; README.md has what its users type", built.display());
    Ok(())
}

/// The files that `debs` makes of this version.
pub(crate) fn file_names(version: &str) -> Vec<String> {
    let names = || programs::names().chain([DKMS]);
    let of_one = |architecture: &'static Architecture| {
        names().map(|name| pack::file_name(name, version, architecture.name))
    };
    ARCHITECTURES.iter().flat_map(of_one).collect()
}

/// Builds `pkdd` of a version to come, for an upgrade; the package.
pub(crate) fn newer_pkdd(architecture: &Architecture) -> Result<PathBuf> {
    let folder = at("target/debs-newer");
    files::empty(&folder)?;
    programs::build_named("pkdd", architecture, "99.0.0", &folder)
}

/// Builds the packages of all architectures, and a second time in another folder from nothing: the same bytes must come
/// out. So they hold no object but that of the source. Answers with the first ones.
pub(crate) fn run_twice() -> Result<Vec<PathBuf>> {
    files::empty(&at("target/debs"))?;
    run(&[])?;
    progress!("building the packages again, in another clone and with nothing in the cache");
    let (ours, copy) = (toolchain::root().canonicalize()?, at("target/debs-again"));
    files::empty(&copy)?;
    cmd!("git clone --quiet --no-hardlinks {ours} {copy}").quiet()?;
    // What is not committed, too.
    mirror(&ours, &copy)?;
    cmd!("{CARGO} xtask debs")
        .current_dir(&copy)
        .env_remove("CARGO_TARGET_DIR")
        .env("XDG_CACHE_HOME", copy.canonicalize()?.join("target/cache"))
        .quiet()?;
    let [first, again] = [at("target/debs"), copy.join("target/debs")].map(|folder| files::list(&folder));
    let (first, again) = (first?, again?);
    ensure!(
        first.len() == 4 * ARCHITECTURES.len() && again.len() == first.len(),
        "not all packages were built"
    );
    for (one, other) in first.iter().zip(&again) {
        ensure!(
            one.file_name() == other.file_name() && fs::read(one)? == fs::read(other)?,
            "{} has other bytes when it is built elsewhere: {}",
            one.display(),
            other.display()
        );
    }
    fs::remove_dir_all(copy)?;
    Ok(first)
}

/// Builds `xt-pkd-dkms` of this version, the source of `xt_pkd.ko` and its Rust object, in `folder`.
pub(crate) fn dkms(architecture: &Architecture, version: &str, folder: &Path) -> Result<PathBuf> {
    progress!("building xt-pkd-dkms {version} for {}", architecture.name);
    let machine = machine::find(architecture.machine)?;
    let work = folder.join("work");
    files::empty(&work)?;
    let source = work.join("usr/src").join(format!("xt-pkd-{version}"));
    let documents = work.join("usr/share/doc/xt-pkd-dkms");
    let overrides = work.join("usr/share/lintian/overrides");
    for folder in [&source, &documents, &overrides] {
        fs::create_dir_all(folder)?;
    }
    kmod::copy_sources(&source)?;
    let object = source.join(kmod::OBJECT);
    let toolchain = kmod::rust_object(machine, &object)?;
    let sum = files::hex(&Sha256::digest(fs::read(&object)?));

    let epoch = packages::date();
    let values = [
        ("VERSION", version.to_owned()),
        ("PACKAGE_VERSION", format!("{version}-1")),
        ("ARCHITECTURE", architecture.name.to_owned()),
        ("MACHINE", architecture.uname.to_owned()),
        ("MAINTAINER", MAINTAINER.to_owned()),
        ("DATE", cmd!("date --utc --rfc-email --date=@{epoch}").env("LC_ALL", "C").read()?.trim().to_owned()),
        ("COMMIT", commit()),
        ("COMPILER", toolchain.version.lines().next().unwrap_or_default().to_owned()),
        ("TARGET", machine.kernel_target.to_owned()),
        ("FLAGS", machine.all_kernel_flags().join("\n           ")),
        ("SHA256", sum.clone()),
        ("KIB", kib(&work)?.to_string()),
    ];
    let text = |name: &str| -> Result<String> {
        let path = at(TEXTS).join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        filled(&text, &values).with_context(|| format!("{TEXTS}/{name}"))
    };
    fs::write(source.join("dkms.conf"), text("dkms.conf")?)?;
    fs::write(source.join("pkd_verify.sha256"), format!("{sum}  {}\n", kmod::OBJECT))?;
    fs::write(documents.join("README.Debian"), text("README.Debian")?)?;
    fs::write(documents.join("copyright"), text("copyright")? + &notices(machine)?)?;
    fs::write(overrides.join("xt-pkd-dkms"), text("lintian-overrides")?)?;
    let changelog = documents.join("changelog.Debian");
    fs::write(&changelog, text("changelog")?)?;
    cmd!("gzip --no-name --best {changelog}").quiet()?;

    let control: Vec<(&str, String)> = ["control", "postinst", "prerm"]
        .into_iter()
        .map(|name| Ok((name, text(name)?)))
        .collect::<Result<_>>()?;
    finish(&work, &control, &folder.join(pack::file_name(DKMS, version, architecture.name)))
}

/// The commit that the package is built from, for people to find it again.
fn commit() -> String {
    let read = |mut git: Command| git.current_dir(toolchain::root()).read();
    match (read(cmd!("git rev-parse HEAD")), read(cmd!("git status --porcelain"))) {
        (Ok(commit), Ok(changes)) if changes.is_empty() => commit.trim().to_owned(),
        (Ok(commit), _) => format!("{}, with changes that are not committed", commit.trim()),
        _ => "unknown, as it was not built in a checkout by git".to_owned(),
    }
}

/// Name, version, licence and the licence's text of each crate that the object for this machine is made of.
fn notices(machine: &Machine) -> Result<String> {
    let target = machine.kernel_target;
    let said = cmd!("{CARGO} metadata --locked --format-version 1 --filter-platform {target}")
        .current_dir(toolchain::root())
        .read()?;
    let said: Value = serde_json::from_str(&said)?;
    let nodes = said["resolve"]["nodes"].as_array().context("cargo metadata has no nodes")?;
    let packages = said["packages"].as_array().context("cargo metadata has no packages")?;
    let named = |name: &str| packages.iter().find(|package| package["name"] == name);
    let mut ids = vec![&named("pkd-kmod").context("there is no pkd-kmod")?["id"]];
    let mut done = 0;
    while let Some(id) = ids.get(done) {
        let node = nodes.iter().find(|node| node["id"] == **id).context("a crate without a node")?;
        for dependency in node["deps"].as_array().into_iter().flatten() {
            let is_built_in = dependency["dep_kinds"]
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()));
            if is_built_in && !ids.contains(&&dependency["pkg"]) {
                ids.push(&dependency["pkg"]);
            }
        }
        done += 1;
    }
    let mut notices = Vec::new();
    // The first is the module itself.
    for id in &ids[1..] {
        let package = packages.iter().find(|package| package["id"] == **id).context("an unknown crate")?;
        let field = |name: &str| package[name].as_str().unwrap_or_default();
        let folder = Path::new(field("manifest_path")).parent().context("a crate in no folder")?;
        let text = if field("name") == "pkd-core" { at("LICENSES/MIT.txt") } else { licence(folder)? };
        let text = fs::read_to_string(text)?;
        notices.push(format!(
            "\n\n--- {} {} ({})\n\n{}\n",
            field("name"),
            field("version"),
            field("license"),
            text.trim()
        ));
    }
    ensure!(notices.len() > 5, "only {} crates are below pkd-kmod", notices.len());
    notices.sort();
    let core = fs::read_to_string(at("LICENSES/MIT.txt"))?;
    let core = core.replace("the pkd authors", "the Rust project contributors");
    Ok(notices.concat() + "\n\n--- Rust's core library (MIT OR Apache-2.0)\n\n" + core.trim() + "\n")
}

/// The text of a crate's licence that goes with the GPL's version 2: MIT where there are several.
fn licence(folder: &Path) -> Result<PathBuf> {
    let names = ["LICENSE-MIT", "LICENSE-MIT.md", "LICENSE.md", "LICENSE.txt", "LICENSE"];
    names
        .map(|name| folder.join(name))
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("{} has no text of a licence that is known here", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So a package has one object for all of them.
    #[test]
    fn all_kernels_of_an_architecture_take_the_same_object() {
        for Architecture { name, machine, .. } in ARCHITECTURES {
            let first = machine::find(machine).unwrap();
            let built = |machine: &Machine| {
                (machine.kernel_target, machine.kernel_profile, machine.all_kernel_flags())
            };
            let same = machine::or_all(Vec::new())
                .into_iter()
                .filter(|machine| machine.kernel_arch == first.kernel_arch)
                .inspect(|machine| assert_eq!(built(machine), built(first), "{}", machine.name));
            assert_eq!(same.count(), if *name == "amd64" { 4 } else { 1 }, "{name}");
        }
    }
}
