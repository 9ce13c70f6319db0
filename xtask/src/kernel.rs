//! Kernels built from Debian's source package, for machines that Debian has no kernel for.

use crate::{
    apt::{self, Apt},
    prelude::*,
};

/// A kernel to build.
pub(crate) struct Source {
    /// The package with the source; a name of a release, so that a newer one does not come unasked.
    pub(crate) package: &'static str,
    /// What `make tinyconfig` lacks, in parts.
    pub(crate) fragments: &'static [&'static str],
    /// Variables for the kernel's make.
    pub(crate) variables: &'static [&'static str],
}

pub(crate) const MIPS_MALTA: Source = built_from(&[include_str!("../kernel/mips-malta.config")], &[]);

/// Reports what other kernels ignore: KASAN, UBSAN, lockdep, kmemleak; and can make allocations fail.
pub(crate) const X86_64_SANITIZERS: Source =
    built_from(&[X86_64, include_str!("../kernel/x86_64-sanitizers.config")], &[]);

/// Reports data races of modules. It leaves itself alone: its own races are not ours, and each access that it watched would be
/// one less of the module's.
pub(crate) const X86_64_KCSAN: Source =
    built_from(&[X86_64, include_str!("../kernel/x86_64-kcsan.config")], &["KCSAN_SANITIZE=n"]);

const X86_64: &str = include_str!("../kernel/x86_64.config");

const fn built_from(fragments: &'static [&'static str], variables: &'static [&'static str]) -> Source {
    Source { package: "linux-source-6.12", fragments, variables }
}

/// A kernel for a machine.
pub(crate) struct Built {
    /// The folder that `make -C` builds modules in.
    pub(crate) headers: PathBuf,
    /// `lib/modules/RELEASE`, of which `depmod` knows already.
    pub(crate) modules: PathBuf,
    /// What QEMU loads.
    pub(crate) image: PathBuf,
    pub(crate) release: String,
}

impl Source {
    /// Builds the kernel for `arch` with the compiler `{cross}gcc`, or takes it from the cache.
    pub(crate) fn build(&self, arch: &str, cross: &str) -> Result<Built> {
        let compiler = cmd!("{cross}gcc --version").read()?;
        let (fragment, compiler) = (self.fragments.concat(), compiler.lines().next().unwrap_or(""));
        let mut inputs = vec![self.package, &fragment, arch, cross, compiler, "1"];
        inputs.extend(self.variables);
        let entry = cache::entry(&format!("kernel-{arch}"), &inputs, |unfinished, _| {
            self.fill(unfinished, arch, cross)
        })?;
        let release = fs::read_to_string(entry.join("kernel-release"))?;
        Ok(Built {
            headers: entry.join("tree"),
            modules: entry.join("lib/modules").join(&release),
            image: entry.join("vmlinux"),
            release,
        })
    }

    fn fill(&self, folder: &Path, arch: &str, cross: &str) -> Result<()> {
        progress!("building a kernel from {} for {arch}; it takes some minutes", self.package);
        let (fetched, unpacked, tree) = (folder.join("fetched"), folder.join("package"), folder.join("tree"));
        fs::create_dir(&fetched)?;
        fs::create_dir(&tree)?;
        Apt::with_sources()?.download(&[self.package], &fetched)?;
        apt::unpack(&fetched, &unpacked)?;
        let archive = unpacked.join("usr/src").join(format!("{}.tar.xz", self.package));
        cmd!("tar --strip-components=1 -xf {archive} -C {tree}").quiet()?;
        fs::remove_dir_all(fetched)?;
        fs::remove_dir_all(unpacked)?;

        let make = |words: &[&str]| {
            let variables = self.variables;
            let mut make = cmd!("make ARCH={arch} CROSS_COMPILE={cross} {variables...} {words...}");
            // The same kernel, on every computer and at any time.
            make.env("KBUILD_BUILD_USER", "pkd").env("KBUILD_BUILD_HOST", "pkd");
            make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").current_dir(&tree).read()
        };
        make(&["tinyconfig"])?;
        let config = tree.join(".config");
        fs::write(&config, fs::read_to_string(&config)? + &self.fragments.concat())?;
        make(&["olddefconfig"])?;
        self.survived(&fs::read_to_string(&config)?)?;
        // What QEMU loads, and make's name of it.
        let (built, target) =
            if arch == "x86" { ("arch/x86/boot/bzImage", "bzImage") } else { ("vmlinux", "vmlinux") };
        make(&[&format!("-j{}", run::jobs()), target, "modules"])?;
        let release = make(&["--silent", "kernelrelease"])?.trim().to_owned();
        let install = format!("INSTALL_MOD_PATH={}", folder.display());
        make(&[&install, "INSTALL_MOD_STRIP=1", "modules_install"])?;

        // Links to the folder that this one will not have for long.
        let modules = folder.join("lib/modules").join(&release);
        cmd!("rm -f build source").current_dir(modules).quiet()?;
        let (image, built) = (folder.join("vmlinux"), tree.join(built));
        if target == "vmlinux" {
            cmd!("{cross}strip -o {image} {built}").quiet()?;
        } else {
            fs::copy(built, &image)?;
        }
        // Of 3 GB of source and objects a module's build reads 100 MB; objtool checks modules of x86_64.
        keep_folders(&tree, &["arch", "include", "scripts", "tools"])?;
        keep_folders(&tree.join("arch"), &[arch])?;
        keep_folders(&tree.join("tools"), &["objtool"])?;
        for file in ["vmlinux", "vmlinux.o", "vmlinux.a"] {
            fs::remove_file(tree.join(file)).with_context(|| format!("no {file} was built"))?;
        }
        Ok(fs::write(folder.join("kernel-release"), release)?)
    }

    /// `olddefconfig` drops silently what lacks something else.
    fn survived(&self, config: &str) -> Result<()> {
        let lines = self.fragments.iter().flat_map(|fragment| fragment.lines());
        let wanted = lines.filter(|line| !line.is_empty() && !is_remark(line));
        let lost: Vec<&str> = wanted.filter(|wanted| !config.lines().any(|line| line == *wanted)).collect();
        ensure!(lost.is_empty(), "the configuration of {} does not take {}", self.package, lost.join(", "));
        Ok(())
    }
}

fn is_remark(line: &str) -> bool {
    line.starts_with('#') && !line.ends_with(" is not set")
}

/// Removes all folders in `folder` but these.
fn keep_folders(folder: &Path, kept: &[&str]) -> Result<()> {
    for path in files::list(folder)? {
        if path.is_dir() && !path.is_symlink() && !kept.iter().any(|name| path.ends_with(name)) {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_the_configuration_dropped_is_named() {
        let source = built_from(&["# why\nCONFIG_A=y\n", "# CONFIG_B is not set\n\n"], &[]);
        source.survived("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=y\n").unwrap();
        for (row, config) in ["CONFIG_A=y\n", "# CONFIG_B is not set\nCONFIG_A=m\n"].iter().enumerate() {
            assert!(source.survived(config).is_err(), "row {row}");
        }
    }
}
