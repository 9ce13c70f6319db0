//! apt without touching the host's dpkg: it gets a state of its own in the cache and uses the host's configured sources,
//! which are only read.

use crate::prelude::*;

/// The host's suite.
pub(crate) const SUITE: &str = "bookworm";

/// The suite that what does not fit, or is not there, is taken from.
pub(crate) const BACKPORTS: &str = "bookworm-backports";

/// The suite after the host's.
pub(crate) const NEXT: &str = "trixie";

/// The suite that never stands still.
pub(crate) const UNSTABLE: &str = "sid";

/// Where a host has this suite, backports come from too.
const UPDATES: &str = "bookworm-updates";

/// apt for one architecture.
pub(crate) struct Apt {
    options: Vec<String>,
}

impl Apt {
    pub(crate) fn new(architecture: &str) -> Result<Self> {
        Self::with(architecture, &format!("apt-{architecture}"), &[])
    }

    /// The host's, with source packages and with backports.
    pub(crate) fn with_sources() -> Result<Self> {
        let parts = cache::folder()?.join("apt-sources/sources.list.d");
        derive_sources(&parts)?;
        Self::with("amd64", "apt-sources", &only(&parts))
    }

    /// Another suite, from the host's sources with the suite's name changed.
    pub(crate) fn of_suite(architecture: &str, suite: &str) -> Result<Self> {
        let name = format!("apt-{suite}-{architecture}");
        Self::with(architecture, &name, &only(&sources_of_suite(suite, &name)?))
    }

    fn with(architecture: &str, name: &str, more: &[String]) -> Result<Self> {
        let state = cache::folder()?.join(name);
        for folder in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(state.join(folder))?;
        }
        // Nothing is installed, as far as this apt knows, so dependencies come along.
        fs::write(state.join("status"), "")?;
        let state = state.display();
        let own = [
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
            format!("Dir::State={state}"),
            format!("Dir::State::lists={state}/lists"),
            format!("Dir::State::status={state}/status"),
            format!("Dir::Cache={state}"),
            // Only root may become the user _apt.
            "APT::Sandbox::User=".to_owned(),
            "APT::Get::AllowUnauthenticated=false".to_owned(),
        ];
        let apt = Self { options: options(&[&own[..], more].concat()) };
        // A mirror that is being renewed lacks a list for a while; the others may hold all that is
        // wanted, and what they do not hold is missed by name below.
        if let Err(error) = apt.get(&["update"], Path::new(".")) {
            progress!("going on with the lists that apt has for {architecture}: {error}");
        }
        Ok(apt)
    }

    fn get(&self, words: &[&str], folder: &Path) -> Result<()> {
        let options = &self.options;
        cmd!("apt-get {options...} --quiet {words...}").env("LC_ALL", "C").current_dir(folder).quiet()
    }

    /// The packages that `package` depends on directly.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let options = &self.options;
        let text = cmd!("apt-cache {options...} depends --important {package}").env("LC_ALL", "C").read()?;
        let names =
            text.lines().filter_map(|line| line.trim().trim_start_matches('|').strip_prefix("Depends: "));
        Ok(names.map(str::to_owned).collect())
    }

    pub(crate) fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        self.dependencies(package)?
            .into_iter()
            .find(|name| name.starts_with(prefix) && !name.ends_with("-common"))
            .with_context(|| format!("{package} depends on no {prefix}…"))
    }

    /// The version of a package that would be installed.
    pub(crate) fn version(&self, package: &str) -> Result<String> {
        let options = &self.options;
        let text =
            cmd!("apt-cache {options...} show --no-all-versions {package}").env("LC_ALL", "C").read()?;
        let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
        version.map(str::to_owned).with_context(|| format!("apt knows no version of {package}"))
    }

    pub(crate) fn download(&self, packages: &[&str], folder: &Path) -> Result<()> {
        self.get(&[&["download"], packages].concat(), folder)
    }

    /// Fetches what a package is built from and unpacks it, with Debian's patches, into `folder/PACKAGE`.
    pub(crate) fn source(&self, package: &str, folder: &Path) -> Result<PathBuf> {
        let (fetched, unpacked) = (folder.join(format!("{package}.source")), folder.join(package));
        fs::create_dir_all(&fetched)?;
        self.get(&["source", "--download-only", package], &fetched)
            .with_context(|| format!("Debian's mirror does not give the source of {package}"))?;
        let descriptions = files::with_ending(&fetched, "dsc")?;
        let description = descriptions.first().context("a source without a description")?;
        // apt has checked the signature of the list that has the sums of these files.
        cmd!("dpkg-source --no-check --no-copy -x {description} {unpacked}").quiet()?;
        fs::remove_dir_all(&fetched)?;
        Ok(unpacked)
    }

    /// The packages and all that they depend on.
    pub(crate) fn download_with_dependencies(&self, packages: &[&str], folder: &Path) -> Result<()> {
        fs::create_dir_all(folder.join("partial"))?;
        let archives = format!("Dir::Cache::archives={}", folder.display());
        let words = ["-o", &archives, "--yes", "--download-only", "--no-install-recommends", "install"];
        self.get(&[&words[..], packages].concat(), Path::new("."))
    }
}

/// Unpacks all packages of a folder.
pub(crate) fn unpack(packages: &Path, to: &Path) -> Result<()> {
    files::with_ending(packages, "deb")?
        .iter()
        .try_for_each(|package| cmd!("dpkg-deb -x {package} {to}").quiet())
}

/// Settings as apt's arguments.
pub(crate) fn options(settings: &[String]) -> Vec<String> {
    settings.iter().flat_map(|setting| ["-o".to_owned(), setting.clone()]).collect()
}

/// The host's lists of sources, in either of apt's formats.
pub(crate) fn sources() -> Vec<PathBuf> {
    let mut lists = vec![PathBuf::from("/etc/apt/sources.list")];
    lists.extend(files::list(Path::new("/etc/apt/sources.list.d")).unwrap_or_default());
    lists.retain(|path| {
        path.is_file() && (files::has_ending(path, "list") || files::has_ending(path, "sources"))
    });
    lists
}

/// A folder in the cache with the lists of sources of another suite.
pub(crate) fn sources_of_suite(suite: &str, name: &str) -> Result<PathBuf> {
    let parts = cache::folder()?.join(name).join("sources.list.d");
    derive(&parts, |text| of_suite(text, suite))?;
    Ok(parts)
}

/// Settings for these sources alone.
fn only(parts: &Path) -> [String; 2] {
    ["Dir::Etc::SourceList=/dev/null".to_owned(), format!("Dir::Etc::SourceParts={}", parts.display())]
}

/// Writes the host's sources into `parts`, with source packages and backports.
pub(crate) fn derive_sources(parts: &Path) -> Result<()> {
    derive(parts, derived)
}

/// Writes the host's sources into `parts`, changed.
fn derive(parts: &Path, change: impl Fn(&str) -> String) -> Result<()> {
    fs::create_dir_all(parts)?;
    let lists = sources();
    for path in &lists {
        fs::write(parts.join(path.file_name().unwrap_or_default()), change(&fs::read_to_string(path)?))?;
    }
    // What the host has no more; another run may be reading the rest.
    let is_stale = |part: &PathBuf| !lists.iter().any(|list| list.file_name() == part.file_name());
    Ok(files::list(parts)?.into_iter().filter(is_stale).try_for_each(fs::remove_file)?)
}

/// Both formats: stanzas with `Types:` and `Suites:`, and lines that begin with `deb`.
fn derived(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with("Types:") {
            lines.push("Types: deb deb-src".to_owned());
        } else if line.starts_with("Suites:") && line.contains(UPDATES) {
            lines.push(format!("{line} {BACKPORTS}"));
        } else if let Some(source) = line.strip_prefix("deb ") {
            let own = [source.to_owned(), source.replace(UPDATES, BACKPORTS)];
            let count = if own[0] == own[1] { 1 } else { 2 };
            lines
                .extend(own[..count].iter().flat_map(|own| [format!("deb {own}"), format!("deb-src {own}")]));
        } else {
            lines.push(line.to_owned());
        }
    }
    lines.join("\n") + "\n"
}

/// The sources of another suite, without updates, which it may not have, and without backports. [`UNSTABLE`] has no security
/// updates either.
fn of_suite(text: &str, suite: &str) -> String {
    let security = format!("{SUITE}-security");
    let separator = if text.contains("Suites:") { "\n\n" } else { "\n" };
    let entries = text.split(separator).filter(|entry| suite != UNSTABLE || !entry.contains(&security));
    let text = entries.collect::<Vec<_>>().join(separator);
    let is_wanted =
        |line: &&str| !(line.starts_with("deb") && (line.contains(UPDATES) || line.contains(BACKPORTS)));
    let without = |line: &str| line.replace(&format!(" {UPDATES}"), "").replace(&format!(" {BACKPORTS}"), "");
    text.lines().filter(is_wanted).map(|line| without(line).replace(SUITE, suite) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_another_suite_are_derived_in_both_formats() {
        for (own, expected) in [
            (
                "Types: deb\nURIs: x\nSuites: bookworm bookworm-updates bookworm-backports\nComponents: main",
                "Types: deb\nURIs: x\nSuites: bullseye\nComponents: main\n",
            ),
            ("Suites: bookworm-security\n", "Suites: bullseye-security\n"),
            (
                "deb x bookworm main\ndeb x bookworm-updates main\ndeb y bookworm-security main",
                "deb x bullseye main\ndeb y bullseye-security main\n",
            ),
        ] {
            assert_eq!(of_suite(own, "bullseye"), expected);
        }
        for (own, expected) in [
            (
                "Types: deb\nSuites: bookworm bookworm-updates\n\nTypes: deb\nSuites: bookworm-security\n",
                "Types: deb\nSuites: sid\n",
            ),
            ("deb x bookworm main\ndeb y bookworm-security main\n", "deb x sid main\n"),
        ] {
            assert_eq!(of_suite(own, UNSTABLE), expected);
        }
    }

    #[test]
    fn sources_are_derived_in_both_formats() {
        for (own, expected) in [
            (
                "Types: deb\nURIs: x\nSuites: bookworm bookworm-updates\nComponents: main",
                "Types: deb deb-src\nURIs: x\nSuites: bookworm bookworm-updates bookworm-backports\nComponents: main\n",
            ),
            ("Types: deb\nSuites: bookworm-security", "Types: deb deb-src\nSuites: bookworm-security\n"),
            ("deb x bookworm main", "deb x bookworm main\ndeb-src x bookworm main\n"),
            (
                "deb x bookworm-updates main",
                "deb x bookworm-updates main\ndeb-src x bookworm-updates main\n\
                 deb x bookworm-backports main\ndeb-src x bookworm-backports main\n",
            ),
        ] {
            assert_eq!(derived(own), expected);
        }
    }
}
