//! The commands behind the Makefile. Each calls existing tools; there is no product logic here.

mod apt;
mod bench;
mod book;
mod cache;
mod checkpatch;
mod clients;
mod coverage;
mod debian;
mod debs;
mod demo;
mod demo_router;
mod deny;
mod dkms;
mod document;
mod elf;
mod feed;
mod files;
mod firmware;
mod fresh;
mod fuzz;
mod guest;
mod host;
mod installed;
mod kernel;
mod kernels;
mod kmod;
mod luci;
mod machine;
mod mutants;
mod mutants_sample;
mod openwrt;
mod packages;
#[cfg(feature = "picture")]
mod picture;
mod prelude;
mod pypi;
mod qemu;
mod release;
mod root;
mod router;
mod row;
mod run;
mod sdk;
mod steps;
mod systemd;
mod test;
mod toolchain;
mod uci;
mod unstable;
mod userland;
mod vm;
mod wine;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser};
use clients::Client;
use host::Missing;
use machine::Machine;
use openwrt::{Architecture, Zig};
use run::{CARGO, Run, cmd};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(
    after_help = "machines: mipsel, x86_64, x86_64-6.12, x86_64-5.10, x86_64-unstable, armhf, arm64, mips"
)]
enum Cli {
    /// a gateway in network namespaces: closed, knock, open
    Demo,
    /// the same with the kernel module, on a MIPS router in QEMU
    DemoRouter,
    /// docs/demo.svg, from a run of the demo
    #[cfg(feature = "picture")]
    Picture,
    /// what has to hold before a change lands; steps whose inputs are unchanged since they passed are skipped
    Test {
        /// run these steps too
        #[arg(long)]
        all_steps: bool,
        /// the step to start at
        #[arg(long, value_name = "STEP")]
        from: Option<String>,
    },
    /// everything, whatever passed before
    TestAll {
        /// the step to start at
        #[arg(long, value_name = "STEP")]
        from: Option<String>,
    },
    /// commands of make on an empty Debian 12 (default: those of the README)
    TestFresh { command: Vec<String> },
    /// lines that the tests run, by crate; written to docs/testing.md
    Coverage,
    /// how many small changes of the code the tests notice; written to docs/testing.md
    MutantsSample {
        /// another sample
        #[arg(long, default_value_t = 0)]
        seed: usize,
        name: Vec<String>,
    },
    /// the judge of a landing: test, or test-all if the last commit asks for it
    Ci,
    /// instructions, packets a second, times, sizes; written to docs/benchmarks.md
    Bench {
        /// only checks, packets, times, constant-time, sizes or firmware
        part: Option<String>,
    },
    /// licences, sources and versions of the dependencies, by cargo-deny
    Deny,
    /// the recipes of the OpenWrt packages, with a fake SDK, and router scripts
    Feed {
        /// instead: the packages, installed and removed by this opkg
        #[arg(long, value_name = "PROGRAM", value_parser = program)]
        opkg: Option<PathBuf>,
    },
    /// the pages of the web interface, in a headless browser
    Luci,
    /// pkdd's units, under a real systemd
    Systemd,
    /// the first ten minutes of a server: the package, pkdd init, knock pair, knock ssh
    Server,
    /// boot machines and run the tests inside them (default: all machines); what passed whole is written to
    /// linux/kmod/README.md
    Vm {
        /// only the tests of the packages
        #[arg(long, requires = "machines", conflicts_with_all = ["nft", "part"])]
        packages: bool,
        /// only those of them in mode nft
        #[arg(long, requires = "machines", conflicts_with = "part")]
        nft: bool,
        /// only these parts, in quotes where they are several; an unknown one has the known ones printed
        #[arg(long, requires = "machines", value_name = "PARTS")]
        part: Option<String>,
        #[arg(value_name = "MACHINE", value_parser = machine::find)]
        machines: Vec<&'static Machine>,
    },
    /// build `xt_pkd.ko` for the machines' kernels and check it (default: all machines)
    Kmod {
        /// build it for this built kernel, or its headers, of the machine's kind
        #[arg(long, requires = "machines", value_name = "DIR", value_parser = absolute)]
        kernel: Option<PathBuf>,
        #[arg(value_name = "MACHINE", value_parser = machine::find)]
        machines: Vec<&'static Machine>,
    },
    /// build the packages for OpenWrt routers (default: all architectures)
    Packages {
        /// with the module, for this built kernel of the architecture's kind
        #[arg(long, value_name = "DIR", value_parser = absolute)]
        kernel: Option<PathBuf>,
        /// a file with a secret key of usign or signify, to sign the index for opkg with; the public key is beside it
        #[arg(long, value_name = "FILE", value_parser = absolute)]
        opkg_key: Option<PathBuf>,
        /// a file with a private key in PEM, to sign the index for apk with
        #[arg(long, value_name = "FILE", value_parser = absolute)]
        apk_key: Option<PathBuf>,
        #[arg(value_name = "ARCH", value_parser = openwrt::find)]
        architectures: Vec<&'static Architecture>,
    },
    /// build the Debian packages, in target/debs (default: all architectures)
    Debs {
        #[arg(value_name = "ARCH", value_parser = debs::find)]
        architectures: Vec<&'static debs::Architecture>,
    },
    /// the Debian packages as a repository for apt, in target/apt (default: all architectures)
    AptRepo {
        /// a file with a secret key, as gpg exports it, to sign it with
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        #[arg(value_name = "ARCH", value_parser = debs::find)]
        architectures: Vec<&'static debs::Architecture>,
    },
    /// all documents as one book, in target/book, its links checked
    Docs,
    /// xt-pkd-dkms: built twice, and installed, upgraded and removed on a Debian 12 with two kernels
    Dkms,
    /// what debs, packages, clients and firmware have built, in target/release-files, with checksums
    Release {
        /// the tag, which has to name this version
        #[arg(long)]
        tag: Option<String>,
        /// a file with a secret key, as gpg exports it, to sign the checksums with
        #[arg(long, value_name = "FILE", value_parser = absolute)]
        key: Option<PathBuf>,
    },
    /// build knock as one static file (default: all architectures)
    Clients {
        #[arg(value_name = "ARCH", value_parser = clients::find)]
        clients: Vec<Client>,
    },
    /// knock for Windows, run in Wine
    Wine,
    /// build the gateway for boards, in target/firmware (default: all boards)
    Firmware {
        #[arg(value_name = "BOARD")]
        boards: Vec<String>,
    },
    /// test the gateway on the host, and its boards in QEMU
    TestFirmware,
    /// a gateway board in QEMU: ssh fails, knock, ssh works
    DemoFirmware,
    /// fuzz parsers of untrusted bytes, 60 s each (default: all targets)
    Fuzz {
        /// the inputs that reach most become tests/fuzz/corpus
        #[arg(long)]
        keep: bool,
        /// how long each target runs
        #[arg(long)]
        seconds: Option<u64>,
        /// how long each target runs
        #[arg(long, conflicts_with = "seconds")]
        hours: Option<u64>,
        #[arg(value_name = "TARGET", value_parser = fuzz::TARGETS)]
        targets: Vec<String>,
    },
    /// bugs introduced on purpose, and the tests that must catch them (default: all)
    Mutants { name: Vec<String> },
    /// verdicts of the kernel and parsing by the extension, compared with pkd-core
    Differential,
    /// the match under KASAN, UBSAN, lockdep and kmemleak, and under KCSAN
    TestSanitizers,
    /// convert a TOML file to the gateway's binary configuration
    GatewayConfig {
        #[arg(value_parser = absolute)]
        file: PathBuf,
    },
    /// build OpenWrt's uci
    Uci {
        #[arg(value_name = "ARCH", value_parser = openwrt::find)]
        architecture: &'static Architecture,
    },
    /// build musl, busybox, dropbear and iptables for guests
    Userland {
        #[arg(value_name = "ARCH", value_parser = openwrt::find)]
        architecture: &'static Architecture,
    },
    /// install what a command needs, nothing else
    Setup { command: String },
}

fn main() -> ExitCode {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Nothing is left to be done where it cannot be shown.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let run = || -> Result<()> {
        // What the user named is absolute by now.
        std::env::set_current_dir(toolchain::root())?;
        let missing = host::missing_for(matches.subcommand_name().unwrap_or_default())?;
        dispatch(Cli::from_arg_matches(&matches)?, &missing)
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli, missing: &Missing) -> Result<()> {
    // The demo installs while it builds.
    if !matches!(cli, Cli::Demo) {
        missing.install()?;
    }
    match cli {
        Cli::Demo => demo::run(missing),
        Cli::DemoRouter => demo_router::run(),
        #[cfg(feature = "picture")]
        Cli::Picture => picture::draw(),
        Cli::Test { all_steps, from } => test::run(from.as_deref(), all_steps),
        Cli::TestAll { from } => test::run_all(from.as_deref()),
        Cli::TestFresh { command } => fresh::run(&command),
        Cli::Coverage => coverage::run(),
        Cli::MutantsSample { seed, name } => mutants_sample::run(seed, &name),
        Cli::Ci => test::run_ci(),
        Cli::Bench { part } => bench::run(part.as_deref()),
        Cli::Deny => deny::run(),
        Cli::Feed { opkg: None } => feed::test(),
        Cli::Feed { opkg: Some(program) } => feed::opkg::test_with_opkg(&program),
        Cli::Luci => luci::test(),
        Cli::Systemd => systemd::test(),
        Cli::Server => systemd::packages(),
        Cli::Vm { packages, nft, part, machines } => {
            let part = part.as_deref().or(packages.then_some("packages")).or(nft.then_some("nft"));
            if let Some(part) = part {
                return machines.into_iter().try_for_each(|machine| vm::run_part(machine, part).map(drop));
            }
            written(machine::or_all(machines).into_iter().try_for_each(vm::run_whole))
        }
        Cli::Kmod { kernel: Some(kernel), machines } => {
            machines.into_iter().try_for_each(|machine| kmod::build_for_own(machine, &kernel))
        }
        Cli::Kmod { kernel: None, machines } => {
            machine::or_all(machines).into_iter().try_for_each(kmod::show)
        }
        Cli::Packages { kernel, opkg_key, apk_key, architectures } => {
            let keys = packages::Keys { opkg: opkg_key, apk: apk_key };
            packages::run(architectures, kernel.as_deref(), &keys)
        }
        Cli::Debs { architectures } => debs::run(&architectures),
        Cli::AptRepo { key, architectures } => debs::repository(&architectures, key.as_deref()),
        Cli::Docs => book::build(),
        Cli::Dkms => dkms::test(),
        Cli::Clients { clients } => clients::run(clients),
        Cli::Release { tag, key } => release::run(tag.as_deref(), key.as_deref()),
        Cli::Wine => wine::test(),
        Cli::Firmware { boards } => firmware::build_named(&boards),
        Cli::TestFirmware => firmware::test(),
        Cli::DemoFirmware => firmware::demo(),
        Cli::Fuzz { keep, seconds, hours, targets } => {
            let seconds = seconds.or(hours.map(|hours| hours.saturating_mul(3_600))).unwrap_or(fuzz::USUAL);
            fuzz::run(&targets, Duration::from_secs(seconds), keep)
        }
        Cli::Mutants { name } => mutants::run(&name),
        Cli::Differential => {
            cmd!("{CARGO} test --quiet --locked --package pkd-tests --test iptables_extension random_texts")
                .show()?;
            vm::run_part(machine::find("x86_64")?, "differential").map(drop)
        }
        Cli::TestSanitizers => written(vm::run_sanitizers()),
        Cli::GatewayConfig { file } => firmware::configure(&file),
        Cli::Uci { architecture } => uci::program(&Zig::find()?, architecture).map(|path| print(&path)),
        Cli::Userland { architecture } => {
            userland::build(&Zig::find()?, architecture).map(|path| print(&path))
        }
        Cli::Setup { command } => host::missing_for(&command)?.install(),
    }
}

/// What virtual machines came to; those that have passed are in the table of kernels.
fn written(ended: Result<()>) -> Result<()> {
    kernels::write()?;
    ended
}

fn print(path: &Path) {
    println!("{}", path.display());
}

/// A program: a name alone is looked for in the PATH.
fn program(path: &str) -> Result<PathBuf> {
    if path.contains('/') { absolute(path) } else { Ok(path.into()) }
}

/// A path as it counts in any folder.
fn absolute(path: &str) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}
