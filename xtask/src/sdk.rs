//! OpenWrt's recipes without its SDK: GNU make runs those of `openwrt/feed` on the host, with the fakes of
//! `tests/fakes/sdk` for the SDK's own macros.

use std::process::Command;

use crate::prelude::*;

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
pub(crate) const RECIPE: &str = "openwrt/feed/net/pkd";
pub(crate) const LUCI_RECIPE: &str = "openwrt/feed/luci/luci-app-pkd";

/// What the recipes define: the first of them six, the second one.
pub(crate) const PACKAGES: [&str; 7] =
    ["pkd", "iptables-mod-pkd", "pkdd", "pkd-knock", "pktables", "kmod-ipt-pkd", "luci-app-pkd"];

/// make with the recipe in this folder, for this kernel.
pub(crate) fn make(recipe: &Path, kernel: Option<&Path>) -> Result<Command> {
    let sdk = at("tests/fakes/sdk").canonicalize()?;
    let mut make = cmd!("make --no-print-directory -C {recipe} TOPDIR={sdk}");
    if let Some(folder) = kernel {
        let Kernel { release, version, mark } = Kernel::of(folder)?;
        make.arg(format!("LINUX_DIR={}", folder.display()));
        make.arg(format!("LINUX_VERSION={version}")).arg(format!("LINUX_VERMAGIC={mark}"));
        make.arg(format!("LINUX_UNAME_VERSION={release}"));
    }
    // The SDK knows nothing of ours; CARGO_HOME stays, it has the crates.
    for name in
        ["MAKEFLAGS", "MAKELEVEL", "CARGO_TARGET_DIR", "CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC"]
    {
        make.env_remove(name);
    }
    make.env_remove("RUSTUP_TOOLCHAIN");
    Ok(make)
}

/// The value of `NAME: value` in a control file.
pub(crate) fn field(text: &str, name: &str) -> Result<String> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
        .with_context(|| format!("there is no field {name} in\n{text}"))
}

/// A built kernel, or its headers, as packages name it.
pub(crate) struct Kernel {
    /// `uname -r`.
    release: String,
    /// The same as a version.
    version: String,
    /// What tells kernels of one version apart.
    mark: String,
}

impl Kernel {
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        // Not include/config/kernel.release: Debian's headers have another name there.
        let text = fs::read_to_string(folder.join("include/generated/utsrelease.h"))
            .context("this is no built kernel: include/generated/utsrelease.h is missing")?;
        let release = text.split('"').nth(1).context("utsrelease.h names no release")?.to_owned();
        // A hyphen would begin the package's own release.
        Ok(Self { version: release.replace('-', "."), release, mark: mark(folder)? })
    }

    /// The version of the package `kernel` that a module for this kernel depends on.
    pub(crate) fn package_version(&self) -> String {
        format!("{}~{}-r1", self.version, self.mark)
    }
}

/// OpenWrt's build leaves it beside the kernel; elsewhere it is made the same way, of the sorted options that are
/// built in or built as modules.
fn mark(kernel: &Path) -> Result<String> {
    if let Ok(mark) = fs::read_to_string(kernel.join(".vermagic")) {
        return Ok(mark.trim().to_owned());
    }
    let config = fs::read_to_string(kernel.join(".config"))
        .context("this is no built kernel: neither .vermagic nor .config is there")?;
    let mut options: Vec<&str> =
        config.lines().filter(|line| line.ends_with("=y") || line.ends_with("=m")).collect();
    options.sort_unstable();
    let text = options.join("\n") + "\n";
    let digits = String::from_utf8(cmd!("md5sum").read_with(text.as_bytes())?)?;
    Ok(digits.split(' ').next().unwrap_or_default().to_owned())
}
