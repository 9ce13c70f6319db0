//! A Rust compiler for targets that are not the host's.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    cache,
    run::{self, Run, cmd},
};

/// A compiler that has the standard library's source, which every foreign target is built from.
pub(crate) struct Toolchain {
    rustc: &'static str,
    cargo: &'static str,
    /// What the compiler says about itself.
    pub(crate) version: String,
}

impl Toolchain {
    /// The compiler on the PATH if it has `rust-src`, else Debian's with the package `rust-web-src`.
    pub(crate) fn find() -> Result<Self> {
        for (rustc, cargo) in [("rustc", "cargo"), ("/usr/bin/rustc", "/usr/bin/cargo")] {
            let Ok(sysroot) = cmd!("{rustc} --print sysroot").read() else { continue };
            if Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir() {
                return Ok(Self { rustc, cargo, version: cmd!("{rustc} -vV").read()? });
            }
        }
        bail!(
            "no Rust compiler here has the standard library's source: \
             `rustup component add rust-src`, or install rustc-web, cargo-web and rust-web-src"
        )
    }

    /// `cargo build` of one package, as routers have it, for `target`. `crates`: what to build of the standard library.
    /// Answers with the folder of the artefacts.
    pub(crate) fn build(
        &self,
        package: &str,
        target: &str,
        profile: &str,
        crates: &str,
        flags: &[&str],
        linker: &str,
    ) -> Result<PathBuf> {
        // Cargo itself rebuilds what changed in there; compilers and flags get folders of their own.
        let inputs = [target, &self.version, &flags.join(" ")];
        let folder = cache::entry(&format!("cargo-{target}"), &inputs, |_, _| Ok(()))?;
        let cargo = self.cargo;
        let mut build = cmd!(
            "{cargo} build --quiet --locked --package {package} --profile {profile}
                              --no-default-features --target {target} -Z build-std={crates}"
        );
        build.current_dir(root()).env(linker_of(target), linker);
        let _lock = self.environment(&mut build, &folder, flags)?;
        build.quiet().with_context(|| format!("cannot build {package} for {target}"))?;
        Ok(folder.join(target).join(profile))
    }

    /// Another name for the target that lets code be instrumented against data races, which rustc has no runtime for there;
    /// a kernel is one.
    pub(crate) fn with_thread_sanitizer(&self, target: &str) -> Result<String> {
        let (rustc, name) = (self.rustc, format!("{target}-tsan"));
        let text = cmd!("{rustc} -Z unstable-options --print target-spec-json --target {target}")
            .env("RUSTC_BOOTSTRAP", "1")
            .read()?;
        let mut spec: serde_json::Value = serde_json::from_str(&text)?;
        let sanitizers = spec["supported-sanitizers"].as_array_mut();
        sanitizers.with_context(|| format!("{target} has no sanitizers"))?.push("thread".into());
        let folder = own_targets()?;
        fs::create_dir_all(&folder)?;
        // Renamed into place: another run may be reading the last.
        let unfinished = folder.join(format!("{name}.{}", std::process::id()));
        fs::write(&unfinished, spec.to_string())?;
        fs::rename(unfinished, folder.join(format!("{name}.json")))?;
        Ok(name)
    }

    /// Makes `cargo` use this compiler, with `flags`, and build into `folder`, which is this clone's until the answer is dropped.
    pub(crate) fn environment(&self, cargo: &mut Command, folder: &Path, flags: &[&str]) -> Result<fs::File> {
        let lock = locked(folder)?;
        forget_other_clones(folder)?;
        let without_places = self.without_places(folder)?;
        let flags: Vec<&str> =
            flags.iter().copied().chain(without_places.iter().map(String::as_str)).collect();
        cargo
            .env("CARGO", self.cargo)
            .env("RUSTC", self.rustc)
            // -Z flags on a stable compiler: the same source that the kernel and OpenWrt build so.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", folder)
            .env("RUST_TARGET_PATH", own_targets()?)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTFLAGS");
        Ok(lock)
    }

    /// Flags that shorten the names of files in programs, where panics have them. In full they say who has built a program and
    /// where, so that nobody else could build the same one; on a board they take 2.5 KB.
    fn without_places(&self, target: &Path) -> Result<Vec<String>> {
        let rustc = self.rustc;
        let source = Path::new(cmd!("{rustc} --print sysroot").read()?.trim()).join("lib/rustlib/src/rust");
        let mut flags = vec![
            format!("--remap-path-prefix={}=/rust", source.display()),
            format!("--remap-path-prefix={}=target", target.display()),
        ];
        let home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(env::home_dir()?.join(".cargo"))).context("no home folder")?;
        // xtask's own crates come from there.
        let sources = home.join("registry/src");
        for registry in fs::read_dir(&sources).with_context(|| sources.display().to_string())? {
            flags.push(format!("--remap-path-prefix={}=", registry?.path().display()));
        }
        flags.sort();
        Ok(flags)
    }

    /// Where its rustc and its cargo are.
    pub(crate) fn programs(&self) -> Result<(PathBuf, PathBuf)> {
        let find = |name| run::path_of(name).with_context(|| format!("{name} is not in the PATH any more"));
        Ok((find(self.rustc)?, find(self.cargo)?))
    }
}

/// Where rustc finds targets that it does not know.
fn own_targets() -> Result<PathBuf> {
    Ok(cache::folder()?.join("targets"))
}

/// An error if a program contains a path in the home folder of the user who built it.
pub(crate) fn names_no_place(program: &Path) -> Result<()> {
    // A hidden folder of it: the name alone may be a word of the program.
    let place = format!("{}/.", env::home_dir().context("no home folder")?.display());
    let bytes = fs::read(program).with_context(|| program.display().to_string())?;
    if let Some(at) = bytes.windows(place.len()).position(|piece| piece == place.as_bytes()) {
        let name: Vec<u8> = bytes[at..].iter().copied().take_while(u8::is_ascii_graphic).collect();
        bail!("{} names {}", program.display(), String::from_utf8_lossy(&name));
    }
    Ok(())
}

/// The variable that names a target's linker to cargo.
pub(crate) fn linker_of(target: &str) -> String {
    format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace(['-', '.'], "_"))
}

/// Keeps other clones out of a folder that all of them build in, as long as the file is open. Cargo has a lock for its builds
/// alone, and [`forget_other_clones`] would remove what a build of another clone is about to write.
fn locked(folder: &Path) -> Result<fs::File> {
    let path = folder.join("lock");
    let lock = fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(lock)
}

/// Cargo tells a changed source by its time alone, and by no path: what another clone has built later than
/// ours was edited would pass for ours. The standard library is the same for all; our own crates are not.
pub(crate) fn forget_other_clones(folder: &Path) -> Result<()> {
    let marker = folder.join("built-for");
    let ours = root().canonicalize()?.to_string_lossy().into_owned();
    if fs::read_to_string(&marker).is_ok_and(|whose| whose == ours) {
        return Ok(());
    }
    let found = "{}";
    cmd!("find {folder} -maxdepth 4 -path '*/.fingerprint/*' ( -name 'pkd-*' -o -name 'pkdd-*' -o -name 'pktables-*'
          -o -name 'host-knock-*' -o -name 'xtask-*' ) -prune -exec rm -r {found} +")
    .quiet()?;
    fs::write(&marker, ours).with_context(|| format!("cannot write {}", marker.display()))
}

/// Where cargo puts what it builds for this computer.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| at("target"), PathBuf::from)
}

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A place in it.
pub(crate) fn at(path: &str) -> PathBuf {
    root().join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_clone_has_built_is_forgotten_and_the_rest_is_kept() -> Result<()> {
        let folder = env::temp_dir().join(format!("pkd-clones-{}", std::process::id()));
        let known = folder.join("some-target/tiny/.fingerprint");
        let make = || -> Result<()> {
            let names = ["pkd-core-1", "host-knock-2", "pkdd-4", "pktables-5", "std-3"];
            Ok(names.iter().try_for_each(|name| fs::create_dir_all(known.join(name).join("inside")))?)
        };
        let left = || -> Result<usize> { Ok(fs::read_dir(&known)?.count()) };
        make()?;
        fs::write(folder.join("built-for"), "elsewhere")?;
        forget_other_clones(&folder)?;
        assert_eq!(left()?, 1);
        make()?;
        forget_other_clones(&folder)?;
        assert_eq!(left()?, 5, "our own are kept");
        let lock = locked(&folder)?;
        let other = fs::File::open(folder.join("lock"))?;
        assert!(other.try_lock().is_err(), "two clones build there");
        drop(lock);
        other.try_lock()?;
        Ok(fs::remove_dir_all(&folder)?)
    }

    #[test]
    fn a_program_that_names_a_home_folder_is_refused_with_what_it_names() -> Result<()> {
        let file = env::temp_dir().join(format!("pkd-places-{}", std::process::id()));
        let home = env::home_dir().context("no home folder")?;
        let named = home.join(".cargo/registry/src/lib.rs");
        for (bytes, names) in [
            (b"png-0.18/src/encoder.rs".to_vec(), None),
            (home.display().to_string().into_bytes(), None),
            ([b"\0\x01", named.as_os_str().as_encoded_bytes(), b"\0more"].concat(), Some(&named)),
        ] {
            fs::write(&file, &bytes)?;
            let error = names_no_place(&file).err().map(|error| error.to_string());
            let expected = names.map(|named| format!("{} names {}", file.display(), named.display()));
            assert_eq!(error, expected);
        }
        Ok(fs::remove_file(file)?)
    }
}
