//! Kernels built from Debian's source package, for machines that Debian has no kernel for.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{apt::Apt, cache, run};

/// A kernel to build.
pub(crate) struct Source {
    /// The package with the source; a name of a release, so that a newer one does not come unasked.
    pub(crate) package: &'static str,
    /// What `make tinyconfig` lacks.
    pub(crate) fragment: &'static str,
}

pub(crate) const MIPS_MALTA: Source =
    Source { package: "linux-source-6.12", fragment: include_str!("../kernel/mips-malta.config") };

/// Reports what other kernels ignore: KASAN, UBSAN, lockdep, kmemleak; and can make allocations fail.
pub(crate) const X86_64_SANITIZERS: Source =
    Source { package: "linux-source-6.12", fragment: include_str!("../kernel/x86_64-sanitizers.config") };

/// A kernel that was built.
pub(crate) struct Built {
    /// The folder that `make -C` builds modules in.
    pub(crate) tree: PathBuf,
    /// `lib/modules/RELEASE`, of which `depmod` knows already.
    pub(crate) modules: PathBuf,
    /// What QEMU loads.
    pub(crate) image: PathBuf,
    pub(crate) release: String,
}

impl Source {
    /// Builds the kernel for `arch` with the compiler `{cross}gcc`, or takes it from the cache.
    pub(crate) fn build(&self, arch: &str, cross: &str) -> Result<Built> {
        let compiler = run::output(run::command(format!("{cross}gcc")).arg("--version"))?;
        let inputs = [self.package, self.fragment, arch, cross, compiler.lines().next().unwrap_or(""), "1"];
        let entry = cache::entry(&format!("kernel-{arch}"), &inputs, |unfinished, _| {
            self.fill(unfinished, arch, cross)
        })?;
        let release = fs::read_to_string(entry.join("kernel-release"))?;
        Ok(Built {
            tree: entry.join("tree"),
            modules: entry.join("lib/modules").join(&release),
            image: entry.join("vmlinux"),
            release,
        })
    }

    fn fill(&self, folder: &Path, arch: &str, cross: &str) -> Result<()> {
        run::progress(&format!("building a kernel from {} for {arch}; it takes some minutes", self.package));
        Apt::with_sources()?.download(&[self.package], folder)?;
        let package = only(folder, "deb")?;
        let unpacked = folder.join("package");
        run::quiet(run::command("dpkg-deb").arg("-x").arg(&package).arg(&unpacked))?;
        let archive = only(&unpacked.join("usr/src"), "xz")?;
        let tree = folder.join("tree");
        fs::create_dir(&tree)?;
        run::quiet(
            run::command("tar").args(["--strip-components=1", "-xf"]).arg(archive).arg("-C").arg(&tree),
        )?;
        fs::remove_file(package)?;
        fs::remove_dir_all(unpacked)?;

        let make = |words: &[&str]| {
            let mut make = run::command("make");
            make.args([format!("ARCH={arch}"), format!("CROSS_COMPILE={cross}")]).args(words);
            // The same kernel, on every computer and at any time.
            make.env("KBUILD_BUILD_USER", "pkd").env("KBUILD_BUILD_HOST", "pkd");
            make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").current_dir(&tree);
            run::output(&mut make)
        };
        make(&["tinyconfig"])?;
        let config = tree.join(".config");
        fs::write(&config, fs::read_to_string(&config)? + self.fragment)?;
        make(&["olddefconfig"])?;
        self.survived(&fs::read_to_string(&config)?)?;
        let jobs = format!("-j{}", std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
        let built = image(arch);
        make(&[&jobs, built.rsplit('/').next().unwrap_or(built), "modules"])?;
        let release = make(&["--silent", "kernelrelease"])?.trim().to_owned();
        let install = format!("INSTALL_MOD_PATH={}", folder.display());
        make(&[&install, "INSTALL_MOD_STRIP=1", "modules_install"])?;

        let modules = folder.join("lib/modules").join(&release);
        for link in ["build", "source"] {
            // It names the folder that this one will not have for long.
            if modules.join(link).is_symlink() {
                fs::remove_file(modules.join(link))?;
            }
        }
        let image = folder.join("vmlinux");
        if built == "vmlinux" {
            run::quiet(run::command(format!("{cross}strip")).arg("-o").arg(&image).arg(tree.join(built)))?;
        } else {
            fs::copy(tree.join(built), &image)?;
        }
        keep_what_modules_need(&tree, arch)?;
        fs::write(folder.join("kernel-release"), release)?;
        Ok(())
    }

    /// `olddefconfig` drops silently what lacks something else.
    fn survived(&self, config: &str) -> Result<()> {
        let wanted = self.fragment.lines().filter(|line| !line.is_empty() && !is_remark(line));
        let lost: Vec<&str> = wanted.filter(|wanted| !config.lines().any(|line| line == *wanted)).collect();
        if !lost.is_empty() {
            bail!("the configuration of {} does not take {}", self.package, lost.join(", "));
        }
        Ok(())
    }
}

fn is_remark(line: &str) -> bool {
    line.starts_with('#') && !line.ends_with(" is not set")
}

/// What QEMU loads of a kernel of this architecture, in the tree that it was built in.
fn image(arch: &str) -> &'static str {
    if arch == "x86" { "arch/x86/boot/bzImage" } else { "vmlinux" }
}

/// The one file of `folder` with this ending.
fn only(folder: &Path, ending: &str) -> Result<PathBuf> {
    fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|own| own == ending))
        .with_context(|| format!("{} has no file .{ending}", folder.display()))
}

/// Of 3 GB of source and objects a module's build reads 100 MB.
fn keep_what_modules_need(tree: &Path, arch: &str) -> Result<()> {
    keep_folders(tree, &["arch", "include", "scripts", "tools"])?;
    keep_folders(&tree.join("arch"), &[arch])?;
    // What checks modules of x86_64.
    keep_folders(&tree.join("tools"), &["objtool"])?;
    for file in ["vmlinux", "vmlinux.o", "vmlinux.a"] {
        fs::remove_file(tree.join(file)).with_context(|| format!("no {file} was built"))?;
    }
    Ok(())
}

/// Removes all folders in `folder` but these.
fn keep_folders(folder: &Path, kept: &[&str]) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && !kept.iter().any(|name| entry.file_name() == *name) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_the_configuration_dropped_is_named() {
        let source = Source { package: "x", fragment: "# why\nCONFIG_A=y\n# CONFIG_B is not set\n\n" };
        source.survived("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=y\n").unwrap();
        for (row, config) in ["CONFIG_A=y\n", "# CONFIG_B is not set\nCONFIG_A=m\n"].iter().enumerate() {
            assert!(source.survived(config).is_err(), "row {row}");
        }
    }
}
