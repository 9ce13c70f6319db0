//! OpenWrt's `uci`, from the C sources that a crate brings along, so that what reads and writes a
//! router's configuration can be tried without a router.

use crate::{
    openwrt::{Architecture, Zig},
    prelude::*,
};

/// The crate, and its version, with `uci/` and `libubox/` in it.
const CRATE: (&str, &str) = ("libuci-sys", "1.0.5");

const SOURCES: &str = "uci/cli.c uci/libuci.c uci/file.c uci/util.c uci/delta.c uci/parse.c uci/blob.c \
                       libubox/blob.c libubox/blobmsg.c libubox/utils.c";

/// The program `uci`, static.
pub(crate) fn program(zig: &Zig, architecture: &Architecture) -> Result<PathBuf> {
    let sources = sources()?;
    let inputs = [&zig.cc(architecture), CRATE.1, SOURCES, "1"];
    let entry = cache::entry(&format!("uci-{}", architecture.name), &inputs, |unfinished, _| {
        progress!("building uci for {}", architecture.name);
        // CMake would write it; debugging stays off.
        fs::write(unfinished.join("uci_config.h"), "")?;
        let (zig, target, out) = (zig.program(), architecture.zig.split(' '), unfinished.join("uci"));
        let files = SOURCES.split(' ').map(|file| sources.join(file));
        let mut cc = cmd!(
            "{zig} cc {target...} -Os -s -static -std=gnu99 -ffunction-sections -fdata-sections
                           -Wl,--gc-sections -Wl,-z,norelro '-DUCI_PREFIX=\"\"' -I {unfinished} -I {sources}
                           {files...} -o {out}"
        );
        Zig::environment(&mut cc)?.quiet()
    })?;
    Ok(entry.join("uci"))
}

/// The crate's folder. Cargo fetches it for a package that nobody builds, so it is no dependency of ours.
fn sources() -> Result<PathBuf> {
    let (name, version) = CRATE;
    let entry = cache::entry(&format!("crate-{name}"), &[version, "1"], |unfinished, _| {
        progress!("fetching the crate {name} {version}");
        let throw_away = unfinished.join("throw-away");
        fs::create_dir_all(throw_away.join("src"))?;
        let manifest = format!(
            "[package]\nname = \"throw-away\"\nversion = \"0.0.0\"\n\n\
             [dependencies]\n{name} = \"={version}\"\n\n[workspace]\n"
        );
        fs::write(throw_away.join("Cargo.toml"), manifest)?;
        fs::write(throw_away.join("src/lib.rs"), "")?;
        let vendor = throw_away.join("vendor");
        cmd!("{CARGO} vendor --quiet --versioned-dirs {vendor}").current_dir(&throw_away).quiet()?;
        let fetched = vendor.join(format!("{name}-{version}"));
        fs::rename(fetched, unfinished.join(name)).with_context(|| format!("cargo brought no {name}"))?;
        Ok(fs::remove_dir_all(throw_away)?)
    })?;
    Ok(entry.join(name))
}
