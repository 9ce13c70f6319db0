//! A small userland built from Debian's source packages for one of OpenWrt's architectures: musl, and
//! what a guest runs besides ours. iptables loads extensions as it does on OpenWrt.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    apt::Apt,
    cache,
    openwrt::{Architecture, Zig},
    run,
};

/// A source package, and the shell commands that build it and install it into `$OUT`.
struct Component {
    package: &'static str,
    recipe: &'static str,
}

const COMPONENTS: &[Component] = &[
    Component { package: "musl", recipe: include_str!("../userland/musl.sh") },
    Component { package: "busybox", recipe: include_str!("../userland/busybox.sh") },
    Component { package: "dropbear", recipe: include_str!("../userland/dropbear.sh") },
    Component { package: "iptables", recipe: include_str!("../userland/iptables.sh") },
];

/// The root of the userland; `usr/include` in it has what an extension is compiled against.
pub(crate) fn build(zig: &Zig, architecture: &Architecture) -> Result<PathBuf> {
    let parts =
        COMPONENTS.iter().map(|component| component.build(zig, architecture)).collect::<Result<Vec<_>>>()?;
    let names: Vec<_> = parts.iter().map(|part| part.to_string_lossy()).collect();
    let inputs: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    cache::entry(&format!("userland-{}", architecture.name), &inputs, |unfinished, _| {
        for part in &parts {
            run::quiet(run::command("cp").arg("-a").arg(part.join(".")).arg(unfinished))?;
        }
        Ok(())
    })
}

impl Component {
    fn build(&self, zig: &Zig, architecture: &Architecture) -> Result<PathBuf> {
        let Self { package, recipe } = self;
        let cc = zig.cc(architecture);
        let name = format!("userland-{}-{package}", architecture.name);
        cache::entry(&name, &[&cc, recipe, "1"], |unfinished, _| {
            run::progress(&format!("building {package} for {}", architecture.name));
            let work = unfinished.join("work");
            fs::create_dir(&work)?;
            let source = Apt::with_sources()?.source(package, &work)?;
            let installed = work.join("installed");
            fs::create_dir(&installed)?;
            self.run(zig, architecture, &source, &installed)?;
            for entry in fs::read_dir(&installed)? {
                let entry = entry?;
                fs::rename(entry.path(), unfinished.join(entry.file_name()))?;
            }
            fs::remove_dir_all(&work)?;
            Ok(())
        })
    }

    fn run(&self, zig: &Zig, architecture: &Architecture, source: &Path, out: &Path) -> Result<()> {
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut shell = run::command("sh");
        shell
            .args(["-e", "-c", self.recipe])
            .current_dir(source)
            .env("HOST", architecture.rust_target())
            .env("CC", zig.cc(architecture))
            .env("AR", zig.tool("ar"))
            .env("RANLIB", zig.tool("ranlib"))
            .env("ZIG", zig.program())
            .env("ZIG_TARGET", architecture.zig_words())
            .env("BINUTILS", architecture.binutils)
            // Zig would otherwise have undefined behaviour trap, for which musl's own code is not made.
            .env("CFLAGS", "-Os -fno-sanitize=undefined")
            .env("JOBS", jobs.to_string())
            .env("OUT", out)
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL");
        Zig::environment(&mut shell)?;
        run::quiet(&mut shell)
            .with_context(|| format!("cannot build {} for {}", self.package, architecture.name))
    }
}
