//! The client as one file for each kind of computer, with all features but the keyring, which is D-Bus on Linux.

use crate::{
    openwrt::{self, STATIC, Zig},
    prelude::*,
};

/// Features of host-knock.
const FEATURES: &str = "desktop,pages";
/// Bytes that a file may have.
pub(crate) const LIMIT: u64 = 2 * 1024 * 1024;

/// A kind of computer.
#[derive(Clone)]
pub(crate) struct Client {
    /// As OpenWrt calls it, where it is one of OpenWrt's.
    name: &'static str,
    pub(crate) target: &'static str,
    for_whom: &'static str,
}

impl Client {
    fn ending(&self) -> &'static str {
        if self.name == "windows" { ".exe" } else { "" }
    }

    /// The file in `target/clients`.
    pub(crate) fn artefact(&self) -> String {
        format!("knock-{}{}", self.target, self.ending())
    }

    /// The program's name.
    fn file(&self) -> String {
        format!("knock{}", self.ending())
    }
}

/// Those that OpenWrt does not have.
const OTHERS: [Client; 4] = [
    Client { name: "i686", target: "i686-unknown-linux-musl", for_whom: "Linux, 32 bits; iSH" },
    Client { name: "windows", target: "x86_64-pc-windows-gnu", for_whom: "Windows" },
    Client {
        name: "macos-arm64",
        target: "aarch64-apple-darwin",
        for_whom: "macOS, Apple silicon; never run",
    },
    Client { name: "macos-x86_64", target: "x86_64-apple-darwin", for_whom: "macOS, Intel; never run" },
];

pub(crate) fn all() -> impl Iterator<Item = Client> {
    let routers = openwrt::ARCHITECTURES.iter();
    let routers = routers.map(|one| Client { name: one.name, target: one.rust_target, for_whom: "Linux" });
    routers.chain(OTHERS)
}

/// The client of this name.
pub(crate) fn find(name: &str) -> Result<Client> {
    all().find(|client| client.name == name).with_context(|| {
        let known: Vec<_> = all().map(|client| client.name).collect();
        format!("knock is not built for {name:?}, only for {}", known.join(", "))
    })
}

/// Builds them into `target/clients`, pages beside them, and prints a table of sizes. No name: all.
pub(crate) fn run(named: Vec<Client>) -> Result<()> {
    println!("| target | for | knock |\n|---|---|---:|");
    let chosen = if named.is_empty() { all().collect() } else { named };
    for client in chosen {
        println!("| {} | {} | {} bytes |", client.target, client.for_whom, size(&client)?);
    }
    println!("they lie in target/clients");
    Ok(())
}

/// The file of this client, which is built.
pub(crate) fn build_named(name: &str) -> Result<PathBuf> {
    let client = find(name)?;
    Ok(build(client.target)?.join(client.file()))
}

/// Builds one; returns its size in bytes, which has a limit.
pub(crate) fn size(client: &Client) -> Result<u64> {
    let built = build(client.target)?;
    let folder = at("target/clients");
    fs::create_dir_all(&folder)?;
    let file = folder.join(client.artefact());
    let size = fs::copy(built.join(client.file()), file).context("no knock was built")?;
    // The same for all.
    cmd!("cp -R {built}/share {folder}").quiet()?;
    ensure!(size < LIMIT, "knock has {size} bytes; {LIMIT} are allowed");
    Ok(size)
}

fn build(target: &str) -> Result<PathBuf> {
    progress!("building knock for {target}");
    // A panic is described.
    let panic = "-Cpanic=abort";
    let libraries = format!("-Lnative={}", empty_libraries()?.display());
    let flags = match target {
        target if target.ends_with("-musl") => [STATIC, &[panic]].concat(),
        target if target.contains("-windows-") => vec![panic, &libraries],
        // The linker strips: rustc would run a tool that comes with few compilers.
        target if target.ends_with("-apple-darwin") => vec![panic, "-Cstrip=none", "-Clink-arg=-s"],
        _ => vec![panic],
    };
    Zig::find()?.build_for("host-knock", target, &flags, FEATURES)
}

/// Rust asks for libraries of GCC's for Windows that Zig does not have, and that nothing needs.
fn empty_libraries() -> Result<PathBuf> {
    cache::entry("empty-libraries", &["1"], |folder, _| {
        for name in ["libssp.a", "libssp_nonshared.a"] {
            fs::write(folder.join(name), "!<arch>\n")?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guides_name_only_files_that_are_built() -> Result<()> {
        let built: Vec<String> = all().map(|client| client.artefact()).collect();
        let mut count = 0;
        for guide in ["docs/desk.md", "docs/phone.md"] {
            let text = fs::read_to_string(toolchain::root().join(guide))?;
            let words = text.split(|letter: char| letter.is_whitespace() || "`/()|,".contains(letter));
            for word in words.map(|word| word.trim_end_matches(['.', ';'])) {
                let is_file = word.starts_with("knock-") && word.matches('-').count() > 2;
                ensure!(!is_file || built.iter().any(|name| name == word), "{guide}: {word} is not built");
                let version = format!("pkd-knock_{}-1_", env!("CARGO_PKG_VERSION"));
                let is_package = word.starts_with("pkd-knock_") && files::has_ending(Path::new(word), "deb");
                ensure!(!is_package || word.starts_with(&version), "{guide}: {word} has another version");
                count += usize::from(is_file) + usize::from(is_package);
            }
        }
        ensure!(count > 7, "only {count} files");
        Ok(())
    }
}
