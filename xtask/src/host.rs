//! What has to be installed on the host, and installing it.

use std::{
    fs,
    io::{IsTerminal, Write, stdin, stdout},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{cache, run, sources, toolchain::Toolchain};

/// A program or a file, and the Debian package that brings it.
struct Need {
    package: &'static str,
    is_there: fn() -> bool,
}

macro_rules! program {
    ($package:literal, $program:literal) => {
        Need { package: $package, is_there: || run::exists($program) }
    };
}

macro_rules! file {
    ($package:literal, $file:literal) => {
        Need { package: $package, is_there: || std::path::Path::new($file).exists() }
    };
}

/// For `make demo`: what a gateway and a client in network namespaces run.
const DEMO: &[Need] = &[
    file!("nftables", "/usr/sbin/nft"),
    file!("iproute2", "/sbin/ip"),
    program!("openssh-client", "ssh"),
    file!("openssh-server", "/usr/sbin/sshd"),
    program!("util-linux", "unshare"),
    file!("mount", "/bin/mount"),
];

/// For a guest of MIPS, and what all builds for other machines need.
const GUEST: &[Need] = &[
    program!("gcc", "gcc"),
    program!("gcc-12", "gcc-12"),
    program!("make", "make"),
    program!("cpio", "cpio"),
    program!("xz-utils", "xz"),
    file!("kmod", "/sbin/depmod"),
    program!("qemu-system-mips", "qemu-system-mipsel"),
    program!("gcc-mipsel-linux-gnu", "mipsel-linux-gnu-gcc-12"),
    file!("libc6-dev-mipsel-cross", "/usr/mipsel-linux-gnu/include/stdio.h"),
    Need { package: "rustc-web", is_there: a_compiler_has_its_source },
    Need { package: "cargo-web", is_there: a_compiler_has_its_source },
    Need { package: "rust-web-src", is_there: a_compiler_has_its_source },
];

/// For all guests, and the tests on this computer.
const TEST_ALONE: &[Need] = &[
    program!("qemu-system-x86", "qemu-system-x86_64"),
    program!("qemu-system-arm", "qemu-system-aarch64"),
    program!("gcc-arm-linux-gnueabihf", "arm-linux-gnueabihf-gcc-12"),
    file!("libc6-dev-armhf-cross", "/usr/arm-linux-gnueabihf/include/stdio.h"),
    program!("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc-12"),
    file!("libc6-dev-arm64-cross", "/usr/aarch64-linux-gnu/include/stdio.h"),
    program!("gcc-mips-linux-gnu", "mips-linux-gnu-gcc-12"),
    // the kernel that is built from source
    program!("bc", "bc"),
    program!("bison", "bison"),
    program!("flex", "flex"),
    // objtool, which the build of a kernel of x86_64 makes for itself
    file!("libelf-dev", "/usr/include/gelf.h"),
    // what the userland that is built from source comes as
    program!("dpkg-dev", "dpkg-source"),
    // objtool, with which kernels of x86_64 check modules
    file!("libelf1", "/usr/lib/x86_64-linux-gnu/libelf.so.1"),
    // pktables and its tests: firewalls, namespaces, and who knocks
    file!("nftables", "/usr/sbin/nft"),
    file!("iptables", "/usr/sbin/xtables-legacy-multi"),
    file!("knockd", "/usr/sbin/knockd"),
    file!("dropbear-bin", "/usr/sbin/dropbear"),
    file!("iproute2", "/sbin/ip"),
    program!("util-linux", "unshare"),
    // knock gets in by ssh, and its tests have somebody who lets it; script(1) shows them a terminal
    program!("openssh-client", "ssh"),
    file!("openssh-server", "/usr/sbin/sshd"),
    program!("bsdutils", "script"),
    Need { package: "rustfmt-web", is_there: || cargo_has("fmt") },
    Need { package: "rust-web-clippy", is_there: || cargo_has("clippy") },
];

/// For `make packages`, besides what a guest needs.
const PACKAGES_ALONE: &[Need] = &[Need {
    package: "python3-pip",
    is_there: || run::output(run::command("python3").args(["-m", "pip", "--version"])).is_ok(),
}];

/// For the recipes of `OpenWrt`'s packages, besides what packages need.
const FEED: &[Need] = &[
    program!("shellcheck", "shellcheck"),
    program!("shfmt", "shfmt"),
    file!("libxtables-dev", "/usr/include/xtables.h"),
    // objtool, with which kernels of x86_64 check modules
    file!("libelf1", "/usr/lib/x86_64-linux-gnu/libelf.so.1"),
];

/// The linker of the gateway's boards, that of Debian's Rust.
pub(crate) const LLD: &str = "ld.lld-22";

/// For the gateway's boards; QEMU's riscv32 is in qemu-system-misc.
const FIRMWARE: &[Need] = &[
    program!("qemu-system-arm", "qemu-system-arm"),
    program!("qemu-system-misc", "qemu-system-riscv32"),
    program!("lld-22", "ld.lld-22"),
    program!("openssh-client", "ssh"),
    file!("openssh-server", "/usr/sbin/sshd"),
    Need { package: "rustc-web", is_there: a_compiler_has_its_source },
    Need { package: "cargo-web", is_there: a_compiler_has_its_source },
    Need { package: "rust-web-src", is_there: a_compiler_has_its_source },
    Need { package: "rustfmt-web", is_there: || cargo_has("fmt") },
    Need { package: "rust-web-clippy", is_there: the_compiler_has_its_clippy },
];

/// For fuzzers: libFuzzer is C++.
const FUZZ: &[Need] = &[program!("g++", "g++")];

/// For `make coverage`: LLVM's tools, of Debian's Rust or of the one that is in use.
const COVERAGE: &[Need] = &[program!("llvm-22", "llvm-cov-22")];

/// For pkdd's units.
const SYSTEMD: &[Need] = &[program!("systemd-container", "systemd-nspawn")];

/// For a root of a fresh Debian.
const FRESH: &[Need] = &[program!("mmdebstrap", "mmdebstrap")];

/// For `make bench`: who else lets in after a knock.
const BENCH: &[Need] = &[program!("fwknop-client", "fwknop"), file!("fwknop-server", "/usr/sbin/fwknopd")];

/// For the pages of `LuCI`; Node.js 18 or newer.
const LUCI: &[Need] =
    &[program!("nodejs", "node"), program!("npm", "npm"), file!("chromium", "/usr/bin/chromium")];

fn a_compiler_has_its_source() -> bool {
    Toolchain::find().is_ok()
}

/// The boards are checked by the clippy of the compiler that builds them.
fn the_compiler_has_its_clippy() -> bool {
    Toolchain::find()
        .and_then(|toolchain| toolchain.programs())
        .is_ok_and(|(_, cargo)| cargo.with_file_name("cargo-clippy").exists())
}

/// rustup has its own way to a missing component, and says which.
fn cargo_has(command: &str) -> bool {
    run::exists("rustup") || run::output(run::command(env!("CARGO")).args([command, "--version"])).is_ok()
}

/// Installs what a command needs and is missing, before the command starts.
pub(crate) fn install_for(command: &str) -> Result<()> {
    install(needs(command)?.iter().copied().flatten())
}

/// A command that is not listed here does not exist, so that none can be added without its needs.
fn needs(command: &str) -> Result<&'static [&'static [Need]]> {
    Ok(match command {
        // Cargo and a C compiler, which built this program.
        "deny" | "gateway-config" => &[],
        "mutants-sample" => &[GUEST, TEST_ALONE],
        "demo" => &[DEMO],
        "demo-router" => &[GUEST],
        "test-fresh" => &[FRESH],
        "systemd" => &[FRESH, SYSTEMD, DEMO],
        "packages" | "clients" => &[GUEST, PACKAGES_ALONE],
        "feed" => &[GUEST, PACKAGES_ALONE, FEED],
        "luci" => &[LUCI],
        "fuzz" => &[FUZZ],
        "firmware" | "test-firmware" | "demo-firmware" => &[FIRMWARE],
        "bench" => &[GUEST, PACKAGES_ALONE, TEST_ALONE, FEED, FIRMWARE, FUZZ, LUCI, BENCH],
        "coverage" => &[DEMO, TEST_ALONE, COVERAGE],
        "test-all" => &[GUEST, PACKAGES_ALONE, TEST_ALONE, FEED, FIRMWARE, FUZZ, LUCI, BENCH, FRESH, SYSTEMD],
        "ci" | "test" | "mutants" | "differential" | "test-sanitizers" | "vm" | "kmod" | "uci"
        | "userland" => &[GUEST, PACKAGES_ALONE, TEST_ALONE, FEED, FIRMWARE, FUZZ, LUCI],
        _ => bail!("unknown command {command:?}: `cargo xtask` lists the commands"),
    })
}

fn install(needs: impl Iterator<Item = &'static Need>) -> Result<()> {
    let mut missing: Vec<&str> = needs.filter(|need| !(need.is_there)()).map(|need| need.package).collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !run::exists("apt-get") {
        bail!("apt-get is missing: install the programs of these Debian 12 packages yourself: {list}");
    }
    let by_hand = format!("sudo apt-get install --no-install-recommends {list}");
    let Some(root) = Root::find()? else {
        bail!(
            "missing packages, and neither root nor sudo to install them; ask an administrator to run:\n  {by_hand}"
        );
    };
    if stdin().is_terminal() {
        println!("To be installed: {list}");
        if missing.contains(&"openssh-server") {
            println!(
                "Note: Debian starts the SSH server of openssh-server at once; `sudo systemctl disable --now ssh` stops it."
            );
        }
        print!("Install with apt-get now? [Y/n] ");
        stdout().flush()?;
        let mut answer = String::new();
        stdin().read_line(&mut answer)?;
        if !matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes") {
            bail!("nothing was installed; to do it yourself:\n  {by_hand}");
        }
    } else {
        run::progress(&format!("installing {list}"));
    }
    root.is_granted().with_context(|| format!("to do it yourself:\n  {by_hand}"))?;
    run::quiet(&mut root.apt_get(&["update"]))?;
    let options =
        if run::output(&mut root.apt_get(&[&["install", "--simulate"], &missing[..]].concat())).is_ok() {
            Vec::new()
        } else {
            backports(&root)?
        };
    let mut words: Vec<&str> = options.iter().map(String::as_str).collect();
    words.extend(["install", "--yes", "--no-install-recommends"]);
    words.extend(&missing);
    run::quiet(&mut root.apt_get(&words)).with_context(|| format!("to do it yourself: {by_hand}"))
}

/// How to install packages: as root, or by sudo.
enum Root {
    Ourselves,
    Sudo,
}

impl Root {
    fn find() -> Result<Option<Self>> {
        if run::output(run::command("id").arg("-u"))?.trim() == "0" {
            return Ok(Some(Self::Ourselves));
        }
        Ok(run::exists("sudo").then_some(Self::Sudo))
    }

    /// Asks for sudo's password now, where somebody can type it.
    fn is_granted(&self) -> Result<()> {
        let Self::Sudo = self else { return Ok(()) };
        let mut sudo = Command::new("sudo");
        if stdin().is_terminal() {
            sudo.arg("--validate");
        } else {
            sudo.args(["--non-interactive", "true"]);
        }
        run::shown(&mut sudo)
    }

    fn apt_get(&self, words: &[&str]) -> Command {
        let mut command = match self {
            Self::Ourselves => run::command("apt-get"),
            Self::Sudo => {
                let mut sudo = run::command("sudo");
                sudo.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
                sudo
            }
        };
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet").args(words);
        command
    }
}

/// apt's options for taking what does not fit from backports: where a part of QEMU came from there,
/// the rest must too. The source is derived, and stays in the cache.
fn backports(root: &Root) -> Result<Vec<String>> {
    let folder = cache::folder()?.join("apt-backports");
    let parts = folder.join("sources.list.d");
    fs::create_dir_all(folder.join("lists/partial"))?;
    sources::derive(&parts)?;
    let options = [
        format!("Dir::Etc::SourceList={}", "/dev/null"),
        format!("Dir::Etc::SourceParts={}", parts.display()),
        format!("Dir::State::Lists={}", folder.join("lists").display()),
        format!("APT::Default-Release={}", sources::BACKPORTS),
    ];
    let options: Vec<String> = options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect();
    let mut words: Vec<&str> = options.iter().map(String::as_str).collect();
    words.push("update");
    run::quiet(&mut root.apt_get(&words))?;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_needs_of_each_command_are_known() {
        let listed = crate::USAGE.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        let listed: Vec<&str> = listed.filter(|word| !word.is_empty() && *word != "setup").collect();
        assert!(listed.len() > 15, "{listed:?}");
        let makefile = include_str!("../../Makefile");
        let made = makefile.lines().find_map(|line| line.strip_prefix(".PHONY: ")).unwrap();
        for command in listed.into_iter().chain(made.split(' ')).filter(|command| *command != "need") {
            assert!(needs(command).is_ok(), "{command}");
        }
        assert!(needs("tset").is_err());
    }
}
