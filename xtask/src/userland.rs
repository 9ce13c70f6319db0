//! A small userland built from Debian's source packages for one of OpenWrt's architectures: musl, and
//! what a guest runs besides ours. iptables loads extensions as it does on OpenWrt.

use crate::{
    apt::Apt,
    machine,
    openwrt::{Architecture, Zig},
    prelude::*,
};

/// Source packages, and the shell commands that build each and install it into `$OUT`.
const COMPONENTS: [(&str, &str); 4] = [
    ("musl", include_str!("../userland/musl.sh")),
    ("busybox", include_str!("../userland/busybox.sh")),
    ("dropbear", include_str!("../userland/dropbear.sh")),
    ("iptables", include_str!("../userland/iptables.sh")),
];

/// The root of the userland; `usr/include` in it has what an extension is compiled against.
pub(crate) fn build(zig: &Zig, architecture: &Architecture) -> Result<PathBuf> {
    let parts = COMPONENTS.iter().map(|(package, recipe)| component(package, recipe, zig, architecture));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let names: Vec<_> = parts.iter().map(|part| part.to_string_lossy()).collect();
    let inputs: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    cache::entry(&format!("userland-{}", architecture.name), &inputs, |unfinished, _| {
        parts.iter().try_for_each(|part| cmd!("cp -a {part}/. {unfinished}").quiet())
    })
}

fn component(package: &str, recipe: &str, zig: &Zig, architecture: &Architecture) -> Result<PathBuf> {
    let name = format!("userland-{}-{package}", architecture.name);
    cache::entry(&name, &[&zig.cc(architecture), recipe, "1"], |unfinished, _| {
        progress!("building {package} for {}", architecture.name);
        let work = unfinished.join("work");
        let installed = work.join("installed");
        fs::create_dir_all(&installed)?;
        let source = Apt::with_sources()?.source(package, &work)?;
        make(recipe, zig, architecture, &source, &installed)
            .with_context(|| format!("cannot build {package} for {}", architecture.name))?;
        for path in files::list(&installed)? {
            fs::rename(&path, unfinished.join(path.file_name().unwrap_or_default()))?;
        }
        Ok(fs::remove_dir_all(&work)?)
    })
}

fn make(recipe: &str, zig: &Zig, architecture: &Architecture, source: &Path, out: &Path) -> Result<()> {
    let mut shell = cmd!("sh -e -c {recipe}");
    shell
        .current_dir(source)
        .env("HOST", architecture.rust_target)
        .env("CC", zig.cc(architecture))
        .env("AR", zig.tool("ar"))
        .env("RANLIB", zig.tool("ranlib"))
        .env("ZIG", zig.program())
        .env("ZIG_TARGET", architecture.zig)
        .env("BINUTILS", machine::find(architecture.machine)?.cross)
        // Zig would otherwise have undefined behaviour trap, for which musl's own code is not made.
        .env("CFLAGS", "-Os -fno-sanitize=undefined")
        .env("JOBS", run::jobs().to_string())
        .env("OUT", out)
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL");
    Zig::environment(&mut shell)?.quiet()
}
