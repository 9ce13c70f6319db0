//! Programs for desks as one file for each kind of computer: the client, with all features but the keyring, which is D-Bus on
//! Linux, and the converter of the gateway's configurations.

use crate::{
    openwrt::{self, STATIC, Zig},
    prelude::*,
};

/// Bytes that a file may have.
pub(crate) const LIMIT: u64 = 2 * 1024 * 1024;

/// A program.
struct Program {
    name: &'static str,
    package: &'static str,
    features: &'static str,
}

const KNOCK: Program = Program { name: "knock", package: "host-knock", features: "desktop,pages" };
const GATEWAY_CONFIG: Program =
    Program { name: "gateway-config", package: "pkd-gateway-config", features: "" };

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

    /// The files in `target/clients`.
    pub(crate) fn artefacts(&self) -> [String; 2] {
        [KNOCK, GATEWAY_CONFIG].map(|program| self.artefact(&program))
    }

    fn artefact(&self, program: &Program) -> String {
        format!("{}-{}{}", program.name, self.target, self.ending())
    }

    /// The file of a program where it is built.
    fn file(&self, program: &Program) -> String {
        format!("{}{}", program.name, self.ending())
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
    println!("| target | for | knock | gateway-config |\n|---|---|---:|---:|");
    let chosen = if named.is_empty() { all().collect() } else { named };
    for client in chosen {
        let (knock, config) = (size(&client)?, build_into_target(&client, &GATEWAY_CONFIG)?);
        println!("| {} | {} | {knock} bytes | {config} bytes |", client.target, client.for_whom);
    }
    println!("they lie in target/clients");
    Ok(())
}

/// The file of this client, which is built.
pub(crate) fn build_named(name: &str) -> Result<PathBuf> {
    let client = find(name)?;
    Ok(build(client.target, &KNOCK)?.join(client.file(&KNOCK)))
}

/// Builds `knock` and its pages; returns its size in bytes, which has a limit.
pub(crate) fn size(client: &Client) -> Result<u64> {
    let size = build_into_target(client, &KNOCK)?;
    let (built, folder) = (build(client.target, &KNOCK)?, at("target/clients"));
    // The same for all.
    cmd!("cp -R {built}/share {folder}").quiet()?;
    Ok(size)
}

/// Builds a program into `target/clients`; returns its size in bytes.
fn build_into_target(client: &Client, program: &Program) -> Result<u64> {
    let (built, folder) = (build(client.target, program)?, at("target/clients"));
    fs::create_dir_all(&folder)?;
    let (from, to) = (built.join(client.file(program)), folder.join(client.artefact(program)));
    let name = program.name;
    let size = fs::copy(from, to).with_context(|| format!("no {name} was built"))?;
    ensure!(size < LIMIT, "{name} has {size} bytes; {LIMIT} are allowed");
    Ok(size)
}

fn build(target: &str, program: &Program) -> Result<PathBuf> {
    progress!("building {} for {target}", program.name);
    let libraries = format!("-Lnative={}", empty_libraries()?.display());
    Zig::find()?.build_for(program.package, target, &flags(target, &libraries), program.features)
}

fn flags<'a>(target: &str, libraries: &'a str) -> Vec<&'a str> {
    // A panic is described.
    let panic = "-Cpanic=abort";
    match target {
        // Also musleabihf.
        target if target.contains("-linux-musl") => [STATIC, &[panic]].concat(),
        target if target.contains("-windows-") => vec![panic, libraries],
        // The linker strips: rustc would run a tool that comes with few compilers.
        target if target.ends_with("-apple-darwin") => vec![panic, "-Cstrip=none", "-Clink-arg=-s"],
        _ => vec![panic],
    }
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
    fn every_client_for_linux_is_static_with_the_start_files_of_zig() {
        let linux: Vec<_> = all().filter(|client| client.target.contains("linux")).collect();
        assert!(linux.len() > 4, "{} clients", linux.len());
        for client in linux {
            let flags = flags(client.target, "");
            assert!(STATIC.iter().all(|flag| flags.contains(flag)), "{}: {flags:?}", client.target);
        }
    }

    #[test]
    fn the_guides_name_only_files_that_are_built() -> Result<()> {
        let built: Vec<String> = all().flat_map(|client| client.artefacts()).collect();
        let mut count = 0;
        for guide in ["docs/board.md", "docs/desk.md", "docs/phone.md"] {
            let text = fs::read_to_string(toolchain::root().join(guide))?;
            let words = text.split(|letter: char| letter.is_whitespace() || "`/()|,".contains(letter));
            for word in words.map(|word| word.trim_end_matches(['.', ';'])) {
                let is_file = (word.starts_with("knock-") || word.starts_with("gateway-config-"))
                    && word.matches('-').count() > 2;
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
