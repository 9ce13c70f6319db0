//! What all packages have in common: the architectures, and how a folder becomes a package.

use std::os::unix::fs::PermissionsExt;

use crate::{packages, prelude::*};

/// Debian's formats want an address; the project has none, and this one cannot exist.
pub(super) const MAINTAINER: &str = "pkd maintainers <maintainers@pkd.invalid>";

/// One of Debian's architectures.
pub(crate) struct Architecture {
    pub(crate) name: &'static str,
    /// A machine of this architecture; its Rust object fits all kernels of the architecture.
    pub(super) machine: &'static str,
    /// `uname -m`.
    pub(super) uname: &'static str,
}

pub(super) const ARCHITECTURES: &[Architecture] = &[
    Architecture { name: "amd64", machine: "x86_64", uname: "x86_64" },
    Architecture { name: "arm64", machine: "arm64", uname: "aarch64" },
    Architecture { name: "armhf", machine: "armhf", uname: "armv7l" },
];

/// The architecture that Debian calls so.
pub(crate) fn find(name: &str) -> Result<&'static Architecture> {
    ARCHITECTURES.iter().find(|architecture| architecture.name == name).with_context(|| {
        let known: Vec<_> = ARCHITECTURES.iter().map(|architecture| architecture.name).collect();
        format!("no architecture of Debian is called {name:?} here: expected {}", known.join(", "))
    })
}

/// What the file of a package is called.
pub(super) fn file_name(name: &str, version: &str, architecture: &str) -> String {
    format!("{name}_{version}-1_{architecture}.deb")
}

/// Packs what is in `work`, and these files of its control archive; all but `control` and `triggers` are scripts.
pub(super) fn finish(work: &Path, control: &[(&str, String)], deb: &Path) -> Result<PathBuf> {
    let sums = "find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum";
    let sums = cmd!("sh -c {sums}").current_dir(work).read()?;
    let folder = work.join("DEBIAN");
    fs::create_dir(&folder)?;
    fs::write(folder.join("md5sums"), sums)?;
    for (name, text) in control {
        fs::write(folder.join(name), text)?;
    }
    // Neither the modes of the checkout nor the times of this build.
    cmd!("chmod --recursive u=rwX,go=rX {work}").quiet()?;
    for (name, _) in control.iter().filter(|(name, _)| !["control", "triggers"].contains(name)) {
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755))?;
    }
    let (epoch, found) = (packages::date(), "{}");
    cmd!("find {work} -exec touch --date=@{epoch} {found} +").quiet()?;
    cmd!("dpkg-deb --root-owner-group -Zxz --build {work} {deb}").env("SOURCE_DATE_EPOCH", epoch).quiet()?;
    fs::remove_dir_all(work)?;
    Ok(deb.to_owned())
}

/// The text with the value for each `@NAME@`.
pub(super) fn filled(text: &str, values: &[(&str, String)]) -> Result<String> {
    let text =
        values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value));
    let is_name =
        |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    match text.split('@').skip(1).find(is_name) {
        Some(name) => bail!("there is no value for @{name}@"),
        None => Ok(text),
    }
}

/// What is installed, as Debian counts it: each file takes whole KiB.
pub(super) fn kib(folder: &Path) -> Result<u64> {
    let sizes = files::below(folder)?.into_iter().map(|path| Ok(fs::metadata(path)?.len().div_ceil(1024)));
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_a_name_that_has_no_value_is_an_error() -> Result<()> {
        let values = [("A", "1".to_owned()), ("LONG_NAME", "2".to_owned())];
        assert_eq!(filled("x@A@y @LONG_NAME@ me@example.org", &values)?, "x1y 2 me@example.org");
        assert!(filled("@A@ and @B@", &values).is_err());
        Ok(())
    }
}
