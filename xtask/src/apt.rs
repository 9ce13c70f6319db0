//! apt without touching the host's dpkg: it gets a state of its own in the cache and uses the host's configured sources.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, run, sources};

/// apt for one architecture.
pub(crate) struct Apt {
    options: Vec<String>,
}

impl Apt {
    pub(crate) fn new(architecture: &str) -> Result<Self> {
        Self::with(architecture, &format!("apt-{architecture}"), None)
    }

    /// The host's, with source packages and with backports, which come last.
    pub(crate) fn with_sources() -> Result<Self> {
        let name = "apt-sources";
        let parts = cache::folder()?.join(name).join("sources.list.d");
        sources::derive(&parts)?;
        Self::with("amd64", name, Some(&parts))
    }

    fn with(architecture: &str, name: &str, parts: Option<&Path>) -> Result<Self> {
        let state = cache::folder()?.join(name);
        for folder in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(state.join(folder))?;
        }
        // Nothing is installed, as far as this apt knows, so dependencies come along.
        fs::write(state.join("status"), "")?;
        let state = state.display();
        let mut options = vec![
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
        if let Some(parts) = parts {
            options.push("Dir::Etc::SourceList=/dev/null".to_owned());
            options.push(format!("Dir::Etc::SourceParts={}", parts.display()));
        }
        let apt = Self { options: options.iter().flat_map(|o| ["-o".to_owned(), o.clone()]).collect() };
        // A mirror that is being renewed lacks a list for a while; the others may hold all that is
        // wanted, and what they do not hold is missed by name below.
        if let Err(error) = run::quiet(apt.get().args(["--quiet", "update"])) {
            run::progress(&format!("going on with the lists that apt has for {architecture}: {error}"));
        }
        Ok(apt)
    }

    fn get(&self) -> Command {
        let mut get = run::command("apt-get");
        get.args(&self.options).env("LC_ALL", "C");
        get
    }

    /// The packages that `package` depends on directly.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let mut command = run::command("apt-cache");
        command.args(&self.options).args(["depends", "--important", package]).env("LC_ALL", "C");
        let text = run::output(&mut command)?;
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

    pub(crate) fn download(&self, packages: &[&str], folder: &Path) -> Result<()> {
        run::quiet(self.get().args(["--quiet", "download"]).args(packages).current_dir(folder))
    }

    /// Fetches what a package is built from and unpacks it, with Debian's patches, into `folder/PACKAGE`.
    pub(crate) fn source(&self, package: &str, folder: &Path) -> Result<PathBuf> {
        let fetched = folder.join(format!("{package}.source"));
        fs::create_dir_all(&fetched)?;
        run::quiet(self.get().args(["--quiet", "source", "--download-only", package]).current_dir(&fetched))
            .with_context(|| format!("Debian's mirror does not give the source of {package}"))?;
        let description = fs::read_dir(&fetched)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|ending| ending == "dsc"))
            .with_context(|| format!("the source of {package} has no description"))?;
        let unpacked = folder.join(package);
        // apt has checked the signature of the list that has the sums of these files.
        run::quiet(
            run::command("dpkg-source")
                .args(["--no-check", "--no-copy", "-x"])
                .arg(description)
                .arg(&unpacked),
        )?;
        fs::remove_dir_all(&fetched)?;
        Ok(unpacked)
    }

    pub(crate) fn download_with_dependencies(&self, packages: &[&str], folder: &Path) -> Result<()> {
        let archives = format!("Dir::Cache::archives={}", folder.display());
        fs::create_dir_all(folder.join("partial"))?;
        let mut get = self.get();
        get.args([
            "-o",
            &archives,
            "--quiet",
            "--yes",
            "--download-only",
            "--no-install-recommends",
            "install",
        ]);
        run::quiet(get.args(packages))?;
        fs::remove_dir_all(folder.join("partial"))?;
        let lock = folder.join("lock");
        if lock.exists() {
            fs::remove_file(lock)?;
        }
        Ok(())
    }
}
