//! Debian's kernels and userland for the machines, of any architecture, without touching the host's dpkg.

use crate::{
    apt::{self, Apt},
    kernel,
    machine::{Machine, System},
    openwrt::{self, Zig},
    prelude::*,
    unstable, userland,
};

/// What the guests run, besides the kernel and what is ours.
const USERLAND: &[&str] = &["busybox", "dropbear-bin", "iptables", "nftables"];

/// A single program of a larger package, which needs nothing of the rest: its busybox has no `flock`.
const ALONE: (&str, &str) = ("util-linux", "./usr/bin/flock");

/// What `libxt_pkd.so` is compiled against.
const EXTENSION_HEADERS: &str = "libxtables-dev";

/// The host's compiler, in the place of the one that another suite's kernel names.
const COMPILER: &str = "gcc-12";

/// What there is for one machine.
pub(crate) struct Tree {
    /// Root of the userland.
    pub(crate) root: PathBuf,
    pub(crate) kernel: kernel::Built,
}

impl Tree {
    /// Kernel, headers and userland of `machine`; fetched or built once, then from the cache.
    pub(crate) fn of(machine: &Machine) -> Result<Self> {
        let build = |kernel: &kernel::Source| kernel.build(machine.kernel_arch, machine.cross);
        match &machine.system {
            System::Packages { .. } => Self::unpacked(machine),
            System::NewestKernel { userland_of } => {
                Ok(Self { kernel: unstable::kernel()?, root: Self::unpacked(userland_of)?.root })
            }
            System::BuiltKernel { kernel, userland_of } => {
                Ok(Self { kernel: build(kernel)?, root: Self::unpacked(userland_of)?.root })
            }
            System::Sources { kernel, architecture } => Ok(Self {
                kernel: build(kernel)?,
                root: userland::build(&Zig::find()?, openwrt::find(architecture)?)?,
            }),
        }
    }

    fn unpacked(machine: &Machine) -> Result<Self> {
        let Machine { name, system: System::Packages { architecture, suite, kernel, headers }, .. } = machine
        else {
            bail!("the userland of {} is not Debian's", machine.name);
        };
        let userland = USERLAND.join(" ");
        let mut inputs = vec![*architecture, *kernel, *headers, &userland, ALONE.1, EXTENSION_HEADERS, "1"];
        inputs.extend(*suite);
        let root = cache::entry(&format!("debian-{name}"), &inputs, |unfinished, entry| {
            progress!("fetching Debian's kernel and userland for {name}");
            fill(architecture, *suite, [kernel, headers], unfinished, entry)
        })?;
        let release = fs::read_to_string(root.join("kernel-release"))?;
        let kernel = kernel::Built {
            headers: root.join("usr/src").join(format!("linux-headers-{release}")),
            image: root.join("boot").join(format!("vmlinuz-{release}")),
            modules: root.join("lib/modules").join(&release),
            release,
        };
        Ok(Self { root, kernel })
    }

    /// Where xtables.h is, with nothing of any C library beside it.
    pub(crate) fn include(&self) -> PathBuf {
        self.root.join("usr/include")
    }
}

/// `suite`: that of the kernel.
fn fill(
    architecture: &str,
    suite: Option<&str>,
    [kernel, headers]: [&str; 2],
    unfinished: &Path,
    entry: &Path,
) -> Result<()> {
    let guest = Apt::new(architecture)?;
    let apt = |architecture| match suite {
        Some(suite) => Apt::of_suite(architecture, suite),
        None => Apt::new(architecture),
    };
    let (kernels, host) = (apt(architecture)?, apt("amd64")?);
    let image = kernels.dependency(kernel, "linux-image-")?;
    let headers = kernels.dependency(headers, "linux-headers-")?;
    let common = kernels.dependencies(&headers)?;
    let common = common.iter().find(|name| name.ends_with("-common")).context("headers without -common")?;
    // The tools that build modules run here, so they are the host's.
    let kbuild = kernels.dependency(&headers, "linux-kbuild-")?;

    let (fetched, alone) = (unfinished.join("packages"), unfinished.join("alone"));
    fs::create_dir_all(&fetched)?;
    kernels.download(&[&image, &headers, common], &fetched)?;
    guest.download(&[EXTENSION_HEADERS], &fetched)?;
    host.download(&[&kbuild], &fetched)?;
    guest.download_with_dependencies(USERLAND, &fetched)?;
    apt::unpack(&fetched, unfinished)?;
    fs::create_dir_all(&alone)?;
    guest.download(&[ALONE.0], &alone)?;
    let unpack = format!("dpkg-deb --fsys-tarfile *.deb | tar -x -C .. {}", ALONE.1);
    cmd!("sh -c {unpack}").current_dir(&alone).quiet()?;
    for folder in [fetched, alone] {
        fs::remove_dir_all(folder)?;
    }

    // The header packages name each other by the path they have once installed.
    let makefile = unfinished.join("usr/src").join(&headers).join("Makefile");
    let moved = format!("{}/usr/src/", entry.display());
    fs::write(&makefile, fs::read_to_string(&makefile)?.replace("/usr/src/", &moved))?;
    if suite.is_some() {
        let variables = unfinished.join("usr/src").join(&headers).join(".kernelvariables");
        fs::write(&variables, with_compiler(&fs::read_to_string(&variables)?)?)?;
    }
    Ok(fs::write(unfinished.join("kernel-release"), image.trim_start_matches("linux-image-"))?)
}

/// The variables of a kernel's headers with [`COMPILER`] instead of another gcc.
fn with_compiler(variables: &str) -> Result<String> {
    const PREFIX: &str = "$(CROSS_COMPILE)gcc-";
    let (before, rest) = variables.split_once(PREFIX).context("kernel headers that name no compiler")?;
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    Ok(format!("{before}$(CROSS_COMPILE){COMPILER}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_compiler_replaces_that_of_the_headers() -> Result<()> {
        let of = |compiler: &str| format!("A = x\nCC = $(CROSS_COMPILE){compiler}\nB = gcc-9\n");
        for compiler in ["gcc-9", "gcc-10", "gcc-15"] {
            assert_eq!(with_compiler(&of(compiler))?, of(COMPILER), "{compiler}");
        }
        assert!(with_compiler("CC = clang").is_err());
        Ok(())
    }
}
