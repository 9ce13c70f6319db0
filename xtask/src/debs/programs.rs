//! The packages with programs: `pkdd`, `pktables` and `pkd-knock`. The programs are static, so one package fits every Debian.

use super::{
    manual,
    pack::{Architecture, MAINTAINER, file_name, filled, finish, kib},
};
use crate::{
    openwrt::{self, Panics, Zig},
    packages,
    prelude::*,
};

/// A package.
struct Program {
    name: &'static str,
    /// Cargo's package, its binary, and what is built into it.
    cargo: &'static str,
    binary: &'static str,
    features: &'static str,
    /// Where the program is installed.
    path: &'static str,
    /// What dpkg runs, and when it does.
    scripts: &'static [&'static str],
}

const PROGRAMS: &[Program] = &[
    Program {
        name: "pkdd",
        cargo: "pkdd",
        binary: "pkdd",
        features: "events,manage,replay,rules",
        path: "usr/sbin/pkdd",
        scripts: &["postinst", "prerm", "postrm"],
    },
    Program {
        name: "pktables",
        cargo: "pktables",
        binary: "pktables",
        features: "command",
        path: "usr/sbin/pktables",
        scripts: &[],
    },
    Program {
        name: "pkd-knock",
        cargo: "host-knock",
        binary: "knock",
        features: "desktop,pages",
        path: "usr/bin/pkd-knock",
        scripts: &["postinst", "prerm", "triggers"],
    },
];

/// Files of pkdd's package, and where they go.
const UNITS: [(&str, &str); 4] = [
    ("pkdd.service", "usr/lib/systemd/system/pkdd.service"),
    ("pkdd-guard.service", "usr/lib/systemd/system/pkdd-guard.service"),
    ("pkdd.sysusers", "usr/lib/sysusers.d/pkdd.conf"),
    ("pkdd.tmpfiles", "usr/lib/tmpfiles.d/pkdd.conf"),
];

/// Their names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|program| program.name)
}

/// Builds them for this architecture in `folder`; answers with the packages.
pub(super) fn build(architecture: &Architecture, version: &str, folder: &Path) -> Result<Vec<PathBuf>> {
    PROGRAMS.iter().map(|program| build_one(program, architecture, version, folder)).collect()
}

/// Builds the package of this name.
pub(super) fn build_named(
    name: &str,
    architecture: &Architecture,
    version: &str,
    folder: &Path,
) -> Result<PathBuf> {
    let program = PROGRAMS.iter().find(|program| program.name == name);
    build_one(program.with_context(|| format!("no package {name}"))?, architecture, version, folder)
}

fn build_one(
    program: &Program,
    architecture: &Architecture,
    version: &str,
    folder: &Path,
) -> Result<PathBuf> {
    let Program { name, path, .. } = program;
    progress!("building {name} {version} for {}", architecture.name);
    let machine = |one: &&openwrt::Architecture| one.machine == architecture.machine;
    let target = openwrt::ARCHITECTURES.iter().find(machine).context("a machine without programs")?;
    let built = Zig::find()?.build(program.cargo, target, Panics::Described, program.features)?;
    let work = folder.join("work");
    files::empty(&work)?;
    install(&built.join(program.binary), &work.join(path), 0o755)?;
    match *name {
        "pkdd" => {
            for (file, place) in UNITS {
                install(&at("linux/debian").join(file), &work.join(place), 0o644)?;
            }
            let readme = fs::read_to_string(at("linux/pkdd/README.md"))?;
            page(
                &work,
                "pkdd.8",
                &manual::of_help("pkdd", 8, "opens a port to who has just knocked", &help("pkdd")?),
            )?;
            page(
                &work,
                "pkdd.toml.5",
                &manual::of_table("pkdd.toml", 5, "the configuration of pkdd", &readme)?,
            )?;
        }
        "pktables" => {
            let what = "says which address may reach which service";
            page(&work, "pktables.8", &manual::of_help("pktables", 8, what, &help("pktables")?))?;
        }
        _ => client(&built.join("share"), &work)?,
    }
    let documents = work.join("usr/share/doc").join(name);
    fs::create_dir_all(&documents)?;
    let epoch = packages::date();
    let (package, features, triple) = (program.cargo, program.features, target.rust_target);
    let mut tree = cmd!(
        "{CARGO} tree --locked --package {package} --no-default-features --features {features} --edges normal
                         --prefix none --target {triple}"
    );
    let crates = tree.args(["--format", "{p} ({l})"]).current_dir(toolchain::root()).read()?;
    // A path of this computer stands behind the name of a member.
    let mut crates: Vec<String> = crates
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|line| !line.contains(" (/"))
        .map(str::to_owned)
        .collect();
    crates.sort();
    crates.dedup();
    ensure!(crates.len() > 5, "{name} has {} crates", crates.len());
    let values = [
        ("PACKAGE", (*name).to_owned()),
        ("VERSION", version.to_owned()),
        ("PACKAGE_VERSION", format!("{version}-1")),
        ("ARCHITECTURE", architecture.name.to_owned()),
        ("MAINTAINER", MAINTAINER.to_owned()),
        ("DATE", cmd!("date --utc --rfc-email --date=@{epoch}").env("LC_ALL", "C").read()?.trim().to_owned()),
        ("MIT", fs::read_to_string(at("LICENSES/MIT.txt"))?.trim().to_owned()),
        ("CRATES", crates.join("\n")),
        ("KIB", kib(&work)?.to_string()),
    ];
    let text = |file: &str| -> Result<String> {
        let path = at("linux/debian").join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        filled(&text, &values).with_context(|| format!("linux/debian/{file}"))
    };
    fs::write(documents.join("copyright"), text("copyright")?)?;
    let overrides = work.join("usr/share/lintian/overrides");
    fs::create_dir_all(&overrides)?;
    let mut own = text("lintian-overrides")?;
    let more = format!("{name}/lintian-overrides");
    if at("linux/debian").join(&more).exists() {
        own += &text(&more)?;
    }
    fs::write(overrides.join(name), own)?;
    let changelog = documents.join("changelog.Debian");
    fs::write(&changelog, text("changelog")?)?;
    cmd!("gzip --no-name --best {changelog}").quiet()?;
    let mut control = vec![("control", text(&format!("{name}/control"))?)];
    for script in program.scripts {
        control.push((script, text(&format!("{name}/{script}"))?));
    }
    finish(&work, &control, &folder.join(file_name(name, version, architecture.name)))
}

fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let mode = format!("{mode:o}");
    cmd!("install -D --mode={mode} {from} {to}").quiet()
}

/// Writes a page of the manual, compressed as Debian wants it.
fn page(work: &Path, name: &str, text: &str) -> Result<()> {
    let section = name.rsplit('.').next().unwrap_or_default();
    let folder = work.join(format!("usr/share/man/man{section}"));
    fs::create_dir_all(&folder)?;
    let path = folder.join(name);
    fs::write(&path, text)?;
    cmd!("gzip --no-name --best {path}").quiet()
}

/// What a program of this computer prints.
fn help(package: &str) -> Result<String> {
    cmd!("{CARGO} run --quiet --locked --package {package} --bin {package} -- --help")
        .current_dir(toolchain::root())
        .read()
}

/// The client's pages and completions. Its pages have names of their own, because knockd has a knock(1).
fn client(share: &Path, work: &Path) -> Result<()> {
    for file in files::list(&share.join("man/man1"))? {
        let name = file.file_name().and_then(|name| name.to_str()).context("a page without a name")?;
        page(work, &format!("pkd-{name}"), &fs::read_to_string(&file)?)?;
    }
    for (from, to) in [
        ("bash-completion/completions/knock", "bash-completion/completions/knock"),
        ("zsh/site-functions/_knock", "zsh/vendor-completions/_knock"),
        ("fish/vendor_completions.d/knock.fish", "fish/vendor_completions.d/knock.fish"),
    ] {
        install(&share.join(from), &work.join("usr/share").join(to), 0o644)?;
    }
    Ok(())
}
