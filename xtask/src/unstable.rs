//! The newest kernel of Debian, and the tools that build modules for it: those of its own suite, in a root of their own,
//! because neither they nor their C library fit the host.

use std::{
    os::unix::fs::{PermissionsExt, symlink},
    sync::OnceLock,
};

use crate::{
    apt::{self, Apt},
    kernel::Built,
    prelude::*,
};

/// The packages that depend on the kernel of today and on its headers.
const KERNEL: &str = "linux-image-amd64";
const HEADERS: &str = "linux-headers-amd64";

/// What the headers do not depend on, and the kernel's make runs.
const TOOLS: &[&str] = &[
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "diffutils",
    "dpkg",
    "findutils",
    "grep",
    "libc-bin",
    "make",
    "mawk",
    "perl-base",
    "sed",
    "sparse",
];

/// Shows that a folder is such a root, and names the kernel's release.
const MARK: &str = "kernel-release";

/// The modules are built in this folder of the root.
const BUILD: &str = "build";

/// The kernel of today, with all that builds modules for it, fetched once for each version; then from the cache.
pub(crate) fn kernel() -> Result<Built> {
    // The answer of one moment for all who ask: the suite may move meanwhile.
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let root = if let Some(root) = FOUND.get() {
        root
    } else {
        let root = fetched()?;
        FOUND.get_or_init(|| root)
    };
    let release = fs::read_to_string(root.join(MARK))?;
    let modules = root.join("lib/modules").join(&release);
    Ok(Built {
        headers: root.join("usr/src").join(format!("linux-headers-{release}")),
        image: modules.join("vmlinuz"),
        modules,
        release,
    })
}

fn fetched() -> Result<PathBuf> {
    let apt = Apt::of_suite("amd64", apt::UNSTABLE)?;
    let image = apt.dependency(KERNEL, "linux-image-")?;
    let headers = apt.dependency(HEADERS, "linux-headers-")?;
    // A version may be packaged again under the same name.
    let version = apt.version(&headers)?;
    let tools = TOOLS.join(" ");
    cache::entry("kernel-unstable", &[&image, &headers, &version, &tools, "1"], |unfinished, _| {
        progress!("fetching Linux {version} of Debian unstable, and the tools of that suite");
        fill(&apt, &image, &headers, unfinished)
    })
}

fn fill(apt: &Apt, image: &str, headers: &str, root: &Path) -> Result<()> {
    let fetched = root.join("packages");
    apt.download_with_dependencies(&[&[headers], TOOLS].concat(), &fetched)?;
    // The image depends on what makes an initial RAM file system, which guests have of us.
    let parts = apt.dependencies(image)?;
    let is_kernel = |name: &&String| name.starts_with("linux-binary-") || name.starts_with("linux-modules-");
    let parts: Vec<_> = parts.iter().filter(is_kernel).map(String::as_str).collect();
    apt.download(&[&[image], &parts[..]].concat(), &fetched)?;
    apt::unpack(&fetched, root)?;
    fs::remove_dir_all(fetched)?;

    // A link that installing mawk makes, and unpacking does not.
    symlink("mawk", root.join("usr/bin/awk"))?;
    fs::create_dir(root.join(BUILD))?;
    with_sparse(&root.join("usr/src").join(headers.replace("-amd64", "-common")))?;
    Ok(fs::write(root.join(MARK), image.trim_start_matches("linux-image-"))?)
}

/// Newer kernels ask a script whether sparse is of use, and Debian's headers lack it.
fn with_sparse(headers: &Path) -> Result<()> {
    let script = headers.join("scripts/checker-valid.sh");
    if !script.exists() {
        fs::write(&script, "#!/bin/sh\necho 1\n")?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// The root around a kernel's headers, if it is one.
pub(crate) fn root_around(headers: &Path) -> Option<&Path> {
    let root = headers.ancestors().nth(3)?;
    (root.join(MARK).is_file() && root.join(BUILD).is_dir()).then_some(root)
}

/// What begins a command in the root, and the folder that `folder` is there. The root itself stays as it is: mounts are of
/// the command alone. Neither needs rights on the host.
pub(crate) fn entering(root: &Path, folder: &Path) -> (Vec<String>, PathBuf) {
    const ENTER: &str = "set -eu
        mount --bind \"$2\" \"$1/build\"
        for shared in dev proc; do mount --rbind \"/$shared\" \"$1/$shared\"; done
        mount -t tmpfs none \"$1/tmp\"
        root=$1
        shift 2
        exec chroot \"$root\" /usr/bin/env --ignore-environment PATH=/usr/bin:/usr/sbin \"$@\"";
    let words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ENTER, "enter"];
    let folders = [root, folder].map(|path| path.to_string_lossy().into_owned());
    (words.map(str::to_owned).into_iter().chain(folders).collect(), Path::new("/").join(BUILD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_in_a_root_of_ours_are_built_for_in_it() -> Result<()> {
        let root = std::env::temp_dir().join(format!("pkd-unstable-{}", std::process::id()));
        let headers = root.join("usr/src/linux-headers-7");
        fs::create_dir_all(&headers)?;
        assert_eq!(root_around(&headers), None, "Debian's on the host, or in a root without tools");
        fs::create_dir(root.join(BUILD))?;
        fs::write(root.join(MARK), "7")?;
        assert_eq!(root_around(&headers), Some(root.as_path()));
        let (words, folder) = entering(&root, Path::new("/somewhere"));
        assert!(words.ends_with(&[root.display().to_string(), "/somewhere".to_owned()]), "{words:?}");
        assert_eq!(folder, Path::new("/build"));
        Ok(fs::remove_dir_all(root)?)
    }
}
