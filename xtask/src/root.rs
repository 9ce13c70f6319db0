//! Root file systems of an empty Debian, for what has to run as on a computer that has nothing else.

use std::process::Command;

use crate::{
    apt::{self, SUITE},
    prelude::*,
};

/// The script that becomes the root's first process. `$1`: the root; `$2`: who; the rest: the command.
const ENTER: &str = include_str!("../scripts/enter.sh");

/// A minimal Debian 12 with these packages, made once. `more`: other arguments of mmdebstrap; `fill` adds what is not in a package.
pub(crate) fn base(
    name: &str,
    packages: &str,
    more: &[&str],
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    base_of(SUITE, name, packages, more, fill)
}

/// The same, of this suite.
pub(crate) fn base_of(
    suite: &str,
    name: &str,
    packages: &str,
    more: &[&str],
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let inputs = [&[suite, packages, "1"], more].concat();
    cache::entry(name, &inputs, |base, _| {
        progress!("making a Debian ({suite}) with {packages}");
        let sources = match suite {
            SUITE => apt::sources(),
            other => files::list(&apt::sources_of_suite(other, &format!("apt-{other}"))?)?,
        };
        let include = packages.replace(' ', ",");
        cmd!(
            "mmdebstrap --variant=minbase --quiet --include={include} {more...} {suite} {base} {sources...}"
        )
        .quiet()?;
        fill(base)
    })
}

/// A copy of `base`, which its user removes.
pub(crate) fn copy(base: &Path, name: &str) -> Result<PathBuf> {
    let root = cache::folder()?.join(format!("{name}-{}", std::process::id()));
    cmd!("cp -aH --reflink=auto {base} {root}").quiet()?;
    Ok(root)
}

/// A command of the shell in the root, as `user`, who has this home, and with an environment of its own. `unshared`: namespaces besides
/// those of mounts and processes, as `unshare` names them.
pub(crate) fn enter(root: &Path, user: &str, home: &str, unshared: &[&str], command: &str) -> Command {
    let mut enter = cmd!(
        "unshare --mount --pid --fork --kill-child --propagation private {unshared...} sh -c {ENTER}
                 sh {root} {user} sh -c {command}"
    );
    enter
        .env_clear()
        .env("HOME", home)
        .env("USER", user)
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8");
    enter
}
