//! What has to be installed on the host, and installing it.

use std::{
    io::{IsTerminal, Write, stdin, stdout},
    process::Command,
};

use crate::{apt, prelude::*, toolchain::Toolchain};

// Debian's packages, each with what shows that it is there: a program, a file, or a word of `is_there`.

/// For `make demo`: what a gateway and a client in network namespaces run.
const DEMO: &str = "nftables:/usr/sbin/nft iproute2:/sbin/ip openssh-client:ssh openssh-server:/usr/sbin/sshd
    util-linux:unshare mount:/bin/mount";

/// A Rust compiler that builds for other targets.
const RUST: &str = "rustc-web:{rust-src} cargo-web:{rust-src} rust-web-src:{rust-src}";

/// For a guest of MIPS, and what all builds for other machines need.
const GUEST: &str = "gcc:gcc gcc-12:gcc-12 make:make cpio:cpio xz-utils:xz kmod:/sbin/depmod sparse:sparse
    qemu-system-mips:qemu-system-mipsel gcc-mipsel-linux-gnu:mipsel-linux-gnu-gcc-12
    libc6-dev-mipsel-cross:/usr/mipsel-linux-gnu/include/stdio.h";

/// For all guests: their compilers; what builds a kernel, with the objtool of `x86_64`, and judges C; dpkg-source for the
/// userland; what enters the root of the newest kernel's tools.
const GUESTS: &str = "qemu-system-x86:qemu-system-x86_64 qemu-system-arm:qemu-system-aarch64
    gcc-arm-linux-gnueabihf:arm-linux-gnueabihf-gcc-12
    libc6-dev-armhf-cross:/usr/arm-linux-gnueabihf/include/stdio.h
    gcc-aarch64-linux-gnu:aarch64-linux-gnu-gcc-12
    libc6-dev-arm64-cross:/usr/aarch64-linux-gnu/include/stdio.h
    gcc-mips-linux-gnu:mips-linux-gnu-gcc-12
    bc:bc bison:bison flex:flex perl:perl libelf-dev:/usr/include/gelf.h dpkg-dev:dpkg-source
    util-linux:unshare libelf1:/usr/lib/x86_64-linux-gnu/libelf.so.1";

/// For the tests on this computer: firewalls, namespaces, who knocks, whom ssh gets in to, a terminal by script(1), and the
/// shells that complete names.
const TESTS: &str = "nftables:/usr/sbin/nft iptables:/usr/sbin/xtables-legacy-multi knockd:/usr/sbin/knockd
    dropbear-bin:/usr/sbin/dropbear iproute2:/sbin/ip util-linux:unshare openssh-client:ssh
    openssh-server:/usr/sbin/sshd bsdutils:script zsh:zsh fish:fish rustfmt-web:{cargo-fmt} rust-web-clippy:{cargo-clippy}";

/// For `make packages`, besides what a guest needs.
const PACKAGES: &str = "python3-pip:{pip}";

/// For the signatures of both feeds.
const FEED_KEYS: &str = "signify-openbsd:signify-openbsd openssl:openssl";

/// For the recipes of OpenWrt's packages, besides what packages need; objtool checks the module.
const FEED: &str = "shellcheck:shellcheck shfmt:shfmt libxtables-dev:/usr/include/xtables.h
    libelf1:/usr/lib/x86_64-linux-gnu/libelf.so.1";

/// The linker of the gateway's boards, that of Debian's Rust.
pub(crate) const LLD: &str = "ld.lld-22";

/// To build the gateway's boards.
const BOARDS: &str = "lld-22:ld.lld-22";

/// To check and run them; QEMU's riscv32 is in qemu-system-misc.
const FIRMWARE: &str = "qemu-system-arm:qemu-system-arm qemu-system-misc:qemu-system-riscv32 lld-22:ld.lld-22
    openssh-client:ssh openssh-server:/usr/sbin/sshd rustfmt-web:{cargo-fmt} rust-web-clippy:{its-clippy}";

/// libFuzzer is C++.
const FUZZ: &str = "g++:g++";

/// LLVM's tools, of Debian's Rust or of the one that is in use.
const COVERAGE: &str = "llvm-22:llvm-cov-22";

const SYSTEMD: &str = "systemd-container:systemd-nspawn";

/// For a root of a fresh Debian.
const FRESH: &str = "mmdebstrap:mmdebstrap";

/// For Debian packages; the archives of Rust objects are read by the architecture's own binutils.
const DEBS: &str = "binutils:nm binutils-aarch64-linux-gnu:aarch64-linux-gnu-nm
    binutils-arm-linux-gnueabihf:arm-linux-gnueabihf-nm xz-utils:xz";

/// For a repository of them, and its signature.
const APT_REPO: &str = "apt-utils:apt-ftparchive dpkg-dev:dpkg-scanpackages gnupg:gpg";

/// For a release, and the check of its signature.
const RELEASE: &str = "gnupg:gpg gpgv:gpgv";

/// For the judgement of Debian packages by Debian.
const LINTIAN: &str = "lintian:lintian";

/// For `make bench`: who else lets in after a knock, and what draws a plot.
const BENCH: &str = "fwknop-client:fwknop fwknop-server:/usr/sbin/fwknopd gnuplot-nox:gnuplot";

/// For the pages of `LuCI`; Node.js 18 or newer.
const LUCI: &str = "nodejs:node npm:npm chromium:/usr/bin/chromium";

/// What a command needs. One that is not listed here does not exist, so that none can be added without its needs.
fn needs(command: &str) -> Result<Vec<&'static str>> {
    const TEST: [&str; 11] =
        [RUST, GUEST, GUESTS, TESTS, PACKAGES, FEED_KEYS, FEED, FIRMWARE, FUZZ, LUCI, RELEASE];
    Ok(match command {
        // Cargo and a C compiler, which built this program.
        "deny" | "docs" | "gateway-config" | "setup" => vec![],
        "mutants-sample" => vec![RUST, GUEST, GUESTS, TESTS],
        "demo" | "picture" => vec![DEMO],
        "demo-router" => vec![RUST, GUEST],
        "test-fresh" => vec![FRESH],
        "systemd" | "server" => vec![RUST, GUEST, PACKAGES, DEBS, APT_REPO, FRESH, SYSTEMD, DEMO],
        "packages" => vec![RUST, GUEST, PACKAGES, FEED_KEYS],
        "clients" => vec![RUST, GUEST, PACKAGES],
        "debs" => vec![RUST, GUEST, PACKAGES, DEBS],
        "wine" => vec![RUST, GUEST, PACKAGES, FRESH],
        "release" => vec![RELEASE],
        "apt-repo" => vec![RUST, GUEST, PACKAGES, DEBS, APT_REPO],
        "dkms" => vec![RUST, PACKAGES, DEBS, GUEST, GUESTS, FRESH, LINTIAN],
        "feed" => vec![RUST, GUEST, PACKAGES, FEED],
        "luci" => vec![LUCI],
        "fuzz" => vec![FUZZ],
        "firmware" => vec![RUST, BOARDS],
        "test-firmware" | "demo-firmware" => vec![RUST, FIRMWARE],
        "coverage" => vec![DEMO, GUESTS, TESTS, COVERAGE],
        "bench" => [&TEST[..], &[BENCH]].concat(),
        "test-all" => [&TEST[..], &[BENCH, FRESH, SYSTEMD, DEBS, APT_REPO, LINTIAN]].concat(),
        "ci" | "test" | "mutants" | "differential" | "test-sanitizers" | "vm" | "kmod" | "uci"
        | "userland" => TEST.to_vec(),
        _ => bail!("unknown command {command:?}: `cargo xtask` lists the commands"),
    })
}

fn is_there(sign: &str) -> bool {
    match sign {
        "{rust-src}" => Toolchain::find().is_ok(),
        // rustup has its own way to a missing component, and says which.
        "{cargo-fmt}" => run::path_of("rustup").is_some() || cmd!("{CARGO} fmt --version").read().is_ok(),
        "{cargo-clippy}" => {
            run::path_of("rustup").is_some() || cmd!("{CARGO} clippy --version").read().is_ok()
        }
        // The boards are checked by the clippy of the compiler that builds them.
        "{its-clippy}" => Toolchain::find()
            .and_then(|toolchain| toolchain.programs())
            .is_ok_and(|(_, cargo)| cargo.with_file_name("cargo-clippy").exists()),
        "{pip}" => cmd!("python3 -m pip --version").read().is_ok(),
        file if file.starts_with('/') => Path::new(file).exists(),
        program => run::path_of(program).is_some(),
    }
}

/// Packages that the user agrees to have installed; root's rights for that are there.
pub(crate) struct Missing {
    packages: Vec<&'static str>,
    is_root: bool,
}

/// What a command needs and is missing. Asks where there is a terminal.
pub(crate) fn missing_for(command: &str) -> Result<Missing> {
    let needs = needs(command)?;
    let mut packages: Vec<&str> = needs
        .iter()
        .flat_map(|group| group.split_whitespace())
        .filter_map(|need| need.split_once(':'))
        .filter(|(_, sign)| !is_there(sign))
        .map(|(package, _)| package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    let is_root = cmd!("id -u").read()?.trim() == "0";
    if !packages.is_empty() {
        ask(&packages, is_root)?;
    }
    Ok(Missing { packages, is_root })
}

fn by_hand(missing: &[&str]) -> String {
    format!("sudo apt-get install --no-install-recommends {}", missing.join(" "))
}

fn ask(missing: &[&str], is_root: bool) -> Result<()> {
    let list = missing.join(" ");
    if run::path_of("apt-get").is_none() {
        bail!("apt-get is missing: install the programs of these Debian 12 packages yourself: {list}");
    }
    let by_hand = by_hand(missing);
    if !is_root && run::path_of("sudo").is_none() {
        bail!(
            "missing packages, and neither root nor sudo to install them; ask an administrator to run:\n  {by_hand}"
        );
    }
    let terminal = stdin().is_terminal();
    if terminal {
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
        progress!("installing {list}");
    }
    if !is_root {
        // sudo asks for its password now, where somebody can type it.
        let mut sudo = Command::new("sudo");
        sudo.args(if terminal { &["--validate"][..] } else { &["--non-interactive", "true"] });
        sudo.show().with_context(|| format!("to do it yourself:\n  {by_hand}"))?;
    }
    Ok(())
}

impl Missing {
    pub(crate) fn install(&self) -> Result<()> {
        let (missing, is_root) = (&self.packages[..], self.is_root);
        if missing.is_empty() {
            return Ok(());
        }
        let apt_get = |words: &[&str]| {
            let root = if is_root { "env" } else { "sudo" };
            cmd!("{root} DEBIAN_FRONTEND=noninteractive apt-get --quiet {words...}").read()
        };
        apt_get(&["update"])?;
        let mut options = Vec::new();
        if apt_get(&[&["install", "--simulate"], missing].concat()).is_err() {
            // Where a part of QEMU came from backports, the rest must too.
            options = backports()?;
            apt_get(&words(&options, &["update"]))?;
        }
        let install = [&["install", "--yes", "--no-install-recommends"], missing].concat();
        apt_get(&words(&options, &install))
            .map(drop)
            .with_context(|| format!("to do it yourself: {}", by_hand(missing)))
    }
}

fn words<'a>(options: &'a [String], words: &[&'a str]) -> Vec<&'a str> {
    options.iter().map(String::as_str).chain(words.iter().copied()).collect()
}

/// apt's options for taking what does not fit from backports, of which apt need not know yet.
fn backports() -> Result<Vec<String>> {
    let folder = cache::folder()?.join("apt-backports");
    let (parts, lists) = (folder.join("sources.list.d"), folder.join("lists"));
    fs::create_dir_all(lists.join("partial"))?;
    apt::derive_sources(&parts)?;
    Ok(apt::options(&[
        "Dir::Etc::SourceList=/dev/null".to_owned(),
        format!("Dir::Etc::SourceParts={}", parts.display()),
        format!("Dir::State::Lists={}", lists.display()),
        format!("APT::Default-Release={}", apt::BACKPORTS),
    ]))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_needs_of_each_command_are_known() {
        let cli = crate::Cli::command();
        let listed: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
        assert!(listed.len() > 15, "{listed:?}");
        let makefile = include_str!("../../Makefile");
        let made = makefile.lines().find_map(|line| line.strip_prefix(".PHONY: ")).unwrap();
        for command in listed.into_iter().chain(made.split(' ')).filter(|command| *command != "need") {
            for need in needs(command).unwrap().iter().flat_map(|group| group.split_whitespace()) {
                assert!(need.split_once(':').is_some_and(|(_, sign)| !sign.is_empty()), "{command}: {need}");
            }
        }
        assert!(needs("tset").is_err());
    }
}
