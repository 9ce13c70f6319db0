//! What makes a folder of packages a feed: an index for opkg and one for apk.

use std::{fmt::Write as _, io};

use flate2::bufread::GzDecoder;

use super::pack::{date, digest};
use crate::prelude::*;

/// opkg's index.
pub(super) const OPKG: &str = "Packages";
/// apk's index, in the format of its version 2, which version 3 reads, too, as it does such packages.
pub(super) const APK: &str = "APKINDEX.tar.gz";

/// Writes both.
pub(super) fn write(folder: &Path) -> Result<()> {
    for_opkg(folder)?;
    for_apk(folder)
}

/// `Packages`, and the same compressed: the control file of each package, with what it takes to fetch it.
fn for_opkg(folder: &Path) -> Result<()> {
    let mut index = String::new();
    for path in files::with_ending(folder, "ipk")? {
        let read = "tar -xzOf \"$1\" ./control.tar.gz | tar -xzO ./control";
        let control = cmd!("sh -c {read} sh {path}").read()?;
        let bytes = fs::read(&path)?;
        let name = path.file_name().context("a package without a name")?.to_string_lossy();
        let fetch = format!("Filename: {name}\nSize: {}\nSHA256sum: {}\n", bytes.len(), digest(&bytes));
        // The description, which may have several lines, comes last.
        let at = control.find("Description:").with_context(|| format!("{name} has no description"))?;
        let (head, description) = control.split_at(at);
        let lines = description.split_inclusive('\n');
        let count = 1 + lines.clone().skip(1).take_while(|line| line.starts_with(' ')).count();
        let (description, rest): (String, String) =
            (lines.clone().take(count).collect(), lines.skip(count).collect());
        index = [index, head.to_owned(), rest, fetch, description, "\n".to_owned()].concat();
    }
    // usign signs wrongly where the last block of its hash has just so much room.
    if [110, 111].contains(&((64 + index.len()) % 128)) {
        index += "\n\n";
    }
    fs::write(folder.join(OPKG), index)?;
    cmd!("gzip --keep --no-name --best Packages").current_dir(folder).quiet()
}

/// Which field of the index has what a package says of itself.
const FIELDS: [(&str, char); 7] = [
    ("pkgname", 'P'),
    ("pkgver", 'V'),
    ("size", 'I'),
    ("pkgdesc", 'T'),
    ("url", 'U'),
    ("license", 'L'),
    ("maintainer", 'm'),
];

fn for_apk(folder: &Path) -> Result<()> {
    let architecture = folder.file_name().context("a folder without a name")?.to_string_lossy().into_owned();
    let mut index = String::new();
    for path in files::with_ending(folder, "apk")? {
        let says = cmd!("tar --warning=no-unknown-keyword -xzOf {path} .PKGINFO").read()?;
        let values = |wanted: &str| -> Vec<&str> {
            let pairs = says.lines().filter_map(|line| line.split_once(" = "));
            pairs.filter(|(name, _)| *name == wanted).map(|(_, value)| value).collect()
        };
        let size = fs::metadata(&path)?.len();
        // Where apk looks for it, also if it is for every architecture.
        writeln!(index, "C:Q1{}\nA:{architecture}\nS:{size}", identity(&path)?)?;
        for (name, letter) in FIELDS {
            if let Some(value) = values(name).first() {
                writeln!(index, "{letter}:{value}")?;
            }
        }
        let depends = values("depend").join(" ");
        if !depends.is_empty() {
            writeln!(index, "D:{depends}")?;
        }
        index.push('\n');
    }
    let parts = folder.join("apk-index");
    files::empty(&parts)?;
    fs::write(parts.join("APKINDEX"), index)?;
    fs::write(parts.join("DESCRIPTION"), "pkd\n")?;
    let archive = folder.join(APK);
    let (archive, date) = (archive.display(), date());
    let pack = format!(
        "tar --format=ustar --owner=0 --group=0 --numeric-owner --mode=0644 --mtime=@{date} -c DESCRIPTION APKINDEX | gzip --no-name --best > '{archive}'"
    );
    cmd!("sh -c {pack}").current_dir(&parts).quiet()?;
    Ok(fs::remove_dir_all(parts)?)
}

/// What the index knows a package by: the SHA-1 of its first part, which is compressed by itself and names the SHA-256 of the
/// rest. In base64.
fn identity(package: &Path) -> Result<String> {
    let bytes = fs::read(package)?;
    let mut rest = bytes.as_slice();
    io::copy(&mut GzDecoder::new(&mut rest), &mut io::sink())?;
    let first = bytes.get(..bytes.len() - rest.len()).context("no first part")?;
    ensure!(!rest.is_empty(), "{} has only one part", package.display());
    let sum = "sha1sum | cut -c 1-40 | tr a-f A-F | basenc --decode --base16 | base64";
    let mut child = std::process::Command::new("sh")
        .args(["-c", sum])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    io::Write::write_all(&mut child.stdin.take().context("no standard input")?, first)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "cannot make the checksum of {}", package.display());
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apks_index_has_what_fetches_and_identifies_each_package() {
        let root = std::env::temp_dir().join(format!("pkd-index-{}", std::process::id()));
        let (folder, work) = (root.join("mipsel_24kc"), root.join("work"));
        files::empty(&root).unwrap();
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&work).unwrap();
        let says = "pkgname = pkd\npkgver = 0.1.0-r1\narch = noarch\nsize = 7\npkgdesc = A gate\n\
                    depend = firewall4\ndepend = pkdd\nlicense = MIT\n";
        fs::write(work.join(".PKGINFO"), says).unwrap();
        // Two parts, as apk has them: the index knows a package by the first.
        let pack = "tar --format=ustar -c .PKGINFO | head -c 1024 | gzip -n > first && echo data | gzip -n > rest && cat first rest > ../mipsel_24kc/pkd-0.1.0-r1.apk";
        cmd!("sh -c {pack}").current_dir(&work).quiet().unwrap();
        let hash = "openssl dgst -sha1 -binary first | base64";
        let sum = cmd!("sh -c {hash}").current_dir(&work).read().unwrap();
        for_apk(&folder).unwrap();
        let index = folder.join(APK);
        let found = cmd!("tar -xzOf {index} APKINDEX").read().unwrap();
        let size = fs::metadata(folder.join("pkd-0.1.0-r1.apk")).unwrap().len();
        assert_eq!(
            found.trim(),
            format!(
                "C:Q1{}\nA:mipsel_24kc\nS:{size}\nP:pkd\nV:0.1.0-r1\nI:7\nT:A gate\nL:MIT\nD:firewall4 pkdd",
                sum.trim()
            )
        );
        fs::remove_dir_all(root).unwrap();
    }
}
