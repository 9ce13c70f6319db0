//! The packages as a repository for apt, in `target/apt`.

use std::os::unix::fs::DirBuilderExt;

use super::pack::Architecture;
use crate::{packages, prelude::*};

/// The repository's name for its only suite, and its only component.
const SUITE: &str = "stable";
const COMPONENT: &str = "main";

/// Makes a repository of the packages in `debs`, for these architectures, and signs it with a secret key, as gpg exports it if
/// there is one.
pub(crate) fn build(debs: &Path, architectures: &[&Architecture], key: Option<&Path>) -> Result<PathBuf> {
    let root = at("target/apt");
    files::empty(&root)?;
    let pool = Path::new("pool").join(COMPONENT);
    for deb in files::with_ending(debs, "deb")? {
        let name = deb.file_name().context("a package without a name")?;
        files::copy(&deb, &root.join(&pool).join(name))?;
    }
    let suite = root.join("dists").join(SUITE);
    let names: Vec<_> = architectures.iter().map(|architecture| architecture.name).collect();
    for name in &names {
        let folder = suite.join(COMPONENT).join(format!("binary-{name}"));
        fs::create_dir_all(&folder)?;
        let list = cmd!("dpkg-scanpackages --multiversion --arch {name} {pool}").current_dir(&root).read()?;
        ensure!(!list.is_empty(), "there are no packages for {name}");
        let file = folder.join("Packages");
        fs::write(&file, list)?;
        cmd!("gzip --no-name --best --keep {file}").quiet()?;
    }
    let fields = [
        ("Origin", "pkd".to_owned()),
        ("Label", "pkd".to_owned()),
        ("Suite", SUITE.to_owned()),
        ("Codename", SUITE.to_owned()),
        ("Components", COMPONENT.to_owned()),
        ("Architectures", names.join(" ")),
    ];
    let fields: Vec<_> = fields
        .iter()
        .flat_map(|(name, value)| ["-o".to_owned(), format!("APT::FTPArchive::Release::{name}={value}")])
        .collect();
    let release = cmd!("apt-ftparchive {fields...} release {suite}")
        .env("SOURCE_DATE_EPOCH", packages::date())
        .read()?;
    fs::write(suite.join("Release"), release)?;
    match key {
        Some(key) => sign(&root, &suite, key)?,
        None => progress!("without a key: apt takes the repository only with [trusted=yes]"),
    }
    Ok(root)
}

/// Signs the suite, and puts the public key beside it.
fn sign(root: &Path, suite: &Path, key: &Path) -> Result<()> {
    let [release, inline, beside] = ["Release", "InRelease", "Release.gpg"].map(|name| suite.join(name));
    let public = root.join("pkd.gpg");
    with_key(key, |own| {
        cmd!("gpg {own...} --output {inline} --clearsign {release}").quiet()?;
        cmd!("gpg {own...} --output {beside} --armor --detach-sign {release}").quiet()?;
        cmd!("gpg {own...} --output {public} --export").quiet()
    })
}

/// Signs a file with a secret key, as gpg exports it: the signature is beside it, and so is the public key, `pkd.gpg`.
pub(crate) fn sign_file(file: &Path, key: &Path) -> Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".asc");
    let public = file.with_file_name("pkd.gpg");
    with_key(key, |own| {
        cmd!("gpg {own...} --yes --output {beside} --armor --detach-sign {file}").quiet()?;
        cmd!("gpg {own...} --yes --output {public} --export").quiet()
    })
}

/// Lets `work` run gpg with this secret key and no other.
fn with_key(key: &Path, work: impl FnOnce(&[String]) -> Result<()>) -> Result<()> {
    with_gpg(|own| {
        cmd!("gpg {own...} --import {key}").quiet().with_context(|| {
            format!("{}: expected a secret key, as gpg --export-secret-keys writes it", key.display())
        })?;
        work(own)
    })
}

/// Writes a new secret key, for tests: it has no passphrase.
pub(crate) fn make_key(file: &Path) -> Result<()> {
    with_gpg(|own| {
        let (passphrase, name) = ("", "pkd test");
        let options = ["--passphrase", passphrase, "--quick-gen-key", name, "ed25519", "sign", "never"];
        cmd!("gpg {own...} {options...}").quiet()?;
        cmd!("gpg {own...} --output {file} --export-secret-keys").quiet()
    })
}

/// Lets `work` run gpg with a home of its own, which begins empty and goes with its agent.
fn with_gpg(work: impl FnOnce(&[String]) -> Result<()>) -> Result<()> {
    // The agent has a socket there, and paths of sockets are short.
    let home = std::env::temp_dir().join(format!("pkd-gnupg-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&home)?;
    let done = work(&["--homedir", &home.to_string_lossy(), "--batch", "--quiet"].map(str::to_owned));
    let stopped = cmd!("gpgconf --homedir {home} --kill all").quiet();
    fs::remove_dir_all(&home)?;
    done.and(stopped)
}
