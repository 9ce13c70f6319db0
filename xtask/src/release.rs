//! `make release`: what the other commands have built, in one folder, with checksums and their signature.

use sha2::{Digest, Sha256};

use crate::{clients, debs, firmware, openwrt, packages, prelude::*};

/// The list of checksums, as sha256sum writes and checks it.
const SUMS: &str = "SHA256SUMS";

/// A file or folder below `target`, and what it is called in a release.
struct Artefact {
    /// The command that makes it.
    command: &'static str,
    place: PathBuf,
    name: String,
    /// A file that is there once the command has passed with this version.
    sign: PathBuf,
}

impl Artefact {
    fn file(command: &'static str, place: PathBuf, name: String) -> Self {
        Self { command, sign: place.clone(), place, name }
    }
}

/// All that a release has.
fn artefacts(version: &str) -> Vec<Artefact> {
    let debs = debs::file_names(version);
    let debs = debs.into_iter().map(|name| Artefact::file("debs", Path::new("debs").join(&name), name));
    // Packages for apk have no architecture in their names, so each architecture is an archive.
    let packages = openwrt::ARCHITECTURES.iter().map(|architecture| {
        let place = Path::new("packages").join(architecture.name);
        Artefact {
            command: "packages",
            sign: place.join(format!("pkd_{version}-r1_all.ipk")),
            place,
            name: format!("pkd-{version}-openwrt-{}.tar.gz", architecture.name),
        }
    });
    let clients = clients::all().flat_map(|client| client.artefacts());
    let clients = clients.map(|name| Artefact::file("clients", Path::new("clients").join(&name), name));
    let share = Path::new("clients/share").to_owned();
    let pages = Artefact {
        command: "clients",
        sign: share.join("man/man1/knock.1"),
        place: share,
        name: format!("pkd-{version}-knock-share.tar.gz"),
    };
    let boards = firmware::artefacts().map(|name| {
        let released = format!("pkd-{version}-firmware-{name}");
        Artefact::file("firmware", Path::new("firmware").join(name), released)
    });
    debs.chain(packages).chain(clients).chain([pages]).chain(boards).collect()
}

/// Collects everything into `target/release-files`. `tag`: the tag that it is released as, which has to name this version.
/// `key`: a file with a secret key, as gpg exports it, which signs the checksums.
pub(crate) fn run(tag: Option<&str>, key: Option<&Path>) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    if let Some(tag) = tag {
        ensure!(tag == format!("v{version}"), "the tag is {tag}, but Cargo.toml has version {version}");
    }
    let folder = at("target/release-files");
    let count = collect(version, &at("target"), &folder, key)?;
    println!("{}: {count} files and {SUMS}", folder.display());
    Ok(())
}

/// Answers with the number of files, without checksums and signature.
fn collect(version: &str, target: &Path, to: &Path, key: Option<&Path>) -> Result<usize> {
    let artefacts = artefacts(version);
    // Before anything is copied.
    for Artefact { command, sign, .. } in &artefacts {
        let is_built = target.join(sign).exists();
        ensure!(is_built, "there is no target/{}: run make {command} first", sign.display());
    }
    files::empty(to)?;
    let mut sums = Vec::new();
    for Artefact { place, name, .. } in &artefacts {
        let (from, file) = (target.join(place), to.join(name));
        if from.is_dir() {
            archive(&from, &file)?;
        } else {
            files::copy(&from, &file)?;
        }
        sums.push(format!("{}  {name}\n", files::hex(&Sha256::digest(fs::read(&file)?))));
    }
    sums.sort_by(|one, other| one.split_whitespace().last().cmp(&other.split_whitespace().last()));
    let list = to.join(SUMS);
    fs::write(&list, sums.concat())?;
    match key {
        Some(key) => debs::sign_file(&list, key)?,
        None => progress!("without KEY=FILE the checksums are not signed"),
    }
    Ok(sums.len())
}

/// Packs a folder so that the same files give the same bytes.
fn archive(folder: &Path, to: &Path) -> Result<()> {
    let (above, name) = (folder.parent().context("no folder above")?, folder.file_name().context("no name")?);
    let (tar, date) = (to.with_extension(""), packages::date());
    cmd!(
        "tar --create --file {tar} --sort=name --mtime=@{date} --owner=0 --group=0 --numeric-owner
             --mode=a+rX,u+w,go-w --directory {above} {name}"
    )
    .quiet()?;
    cmd!("gzip --no-name --best {tar}").quiet()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with an empty file for each artefact.
    fn built(name: &str) -> Result<PathBuf> {
        let target = std::env::temp_dir().join(format!("pkd-release-{}-{name}", std::process::id()));
        files::empty(&target)?;
        for (row, artefact) in artefacts("9.8.7").iter().enumerate() {
            let file = target.join(&artefact.sign);
            fs::create_dir_all(file.parent().context("no folder")?)?;
            fs::write(file, format!("{row}\n"))?;
        }
        Ok(target)
    }

    #[test]
    fn a_release_has_every_file_with_a_checksum_that_a_key_has_signed() -> Result<()> {
        let target = built("signed")?;
        let [key, other] = ["key", "other"].map(|name| target.join(name));
        debs::make_key(&key)?;
        let to = target.join("release");
        let count = collect("9.8.7", &target, &to, Some(&key))?;
        // Debian's packages, OpenWrt's architectures, two clients, their pages, and boards: ELF, BIN and UF2, of one also for updates.
        assert_eq!(count, 4 * 3 + 5 + 2 * 9 + 1 + (7 + 5 + 3 + 3));
        let names: Vec<String> = files::list(&to)?
            .iter()
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        assert_eq!(names.len(), count + 3, "{names:?}");
        let packed =
            cmd!("tar --list --file pkd-9.8.7-openwrt-mipsel_24kc.tar.gz").current_dir(&to).read()?;
        assert!(packed.lines().any(|line| line == "mipsel_24kc/pkd_9.8.7-r1_all.ipk"), "{packed}");

        let is_whole = || cmd!("sha256sum --check --strict --quiet {SUMS}").current_dir(&to).quiet().is_ok();
        let is_signed =
            || cmd!("gpgv --keyring ./pkd.gpg {SUMS}.asc {SUMS}").current_dir(&to).quiet().is_ok();
        assert!(is_whole() && is_signed());
        // Built again at another time, it has the same bytes.
        let before = fs::read(to.join(SUMS))?;
        cmd!("touch --date=@1000000000 packages/mipsel_24kc/pkd_9.8.7-r1_all.ipk")
            .current_dir(&target)
            .quiet()?;
        collect("9.8.7", &target, &to, Some(&key))?;
        assert_eq!(fs::read(to.join(SUMS))?, before);
        // What somebody changes on the way is noticed, in a file or in the list.
        fs::write(to.join("pkdd_9.8.7-1_amd64.deb"), "another\n")?;
        assert!(!is_whole() && is_signed());
        fs::write(to.join(SUMS), "")?;
        assert!(!is_signed());
        // A signature of somebody else does not fit the public key.
        fs::write(to.join(SUMS), &before)?;
        let public = fs::read(to.join("pkd.gpg"))?;
        debs::make_key(&other)?;
        debs::sign_file(&to.join(SUMS), &other)?;
        assert!(is_signed());
        fs::write(to.join("pkd.gpg"), public)?;
        assert!(!is_signed());
        Ok(fs::remove_dir_all(target)?)
    }

    #[test]
    fn what_was_not_built_is_named_and_nothing_is_collected() -> Result<()> {
        for (name, command) in [
            ("debs/pkdd_9.8.7-1_armhf.deb", "debs"),
            ("packages/mips_24kc/pkd_9.8.7-r1_all.ipk", "packages"),
            ("clients/knock-x86_64-pc-windows-gnu.exe", "clients"),
            ("clients/share/man/man1/knock.1", "clients"),
            ("firmware/nucleo-h743zi.elf", "firmware"),
            ("firmware/w5500-evb-pico2.uf2", "firmware"),
        ] {
            let target = built("incomplete")?;
            fs::remove_file(target.join(name))?;
            let error = collect("9.8.7", &target, &target.join("release"), None).unwrap_err().to_string();
            let expected = format!("there is no target/{name}: run make {command} first");
            assert_eq!(error, expected);
            assert!(!target.join("release").exists());
            fs::remove_dir_all(target)?;
        }
        let error = run(Some("v0.0.0"), None).unwrap_err().to_string();
        assert!(error.starts_with("the tag is v0.0.0, but Cargo.toml has version "), "{error}");
        Ok(())
    }

    #[test]
    fn the_workflow_makes_what_the_makefile_has_and_is_plain_yaml() -> Result<()> {
        let root = toolchain::root();
        let workflow = fs::read_to_string(root.join(".github/workflows/release.yml"))?;
        let makefile = fs::read_to_string(root.join("Makefile"))?;
        let has = |target: &str| {
            let rules = makefile.lines().filter_map(|line| line.strip_suffix(": need"));
            rules.into_iter().any(|names| names.split(' ').any(|name| name == target))
        };
        let commands = workflow.split(|letter| "\n;&".contains(letter)).map(str::trim);
        let made: Vec<&str> =
            commands.filter_map(|command| command.strip_prefix("make ")?.split(' ').next()).collect();
        for target in &made {
            ensure!(has(target), "the Makefile has no target {target}");
        }
        assert_eq!(made, ["debs", "packages", "clients", "firmware", "release"]);
        // Every action is named by a whole commit.
        for (_, action) in workflow.lines().filter_map(|line| line.split_once("uses: ")) {
            let commit = action.split(['@', ' ']).nth(1).unwrap_or_default();
            let is_whole = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            ensure!(is_whole, "{action}: expected a commit of 40 digits after @");
        }
        for (row, line) in (1..).zip(workflow.lines()) {
            let indent = line.len() - line.trim_start_matches(' ').len();
            ensure!(!line.contains('\t') && indent % 2 == 0, "line {row} is not indented by pairs of spaces");
        }
        Ok(())
    }
}
