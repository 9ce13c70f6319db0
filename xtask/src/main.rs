//! The commands behind the Makefile. Each calls existing tools; there is no product logic here.

mod apt;
mod bench;
mod cache;
mod clients;
mod coverage;
mod debian;
mod demo;
mod demo_router;
mod deny;
mod document;
mod elf;
mod feed;
mod firmware;
mod fresh;
mod fuzz;
mod guest;
mod host;
mod installed;
mod kernel;
mod kmod;
mod luci;
mod machine;
mod mutants;
mod mutants_sample;
mod openwrt;
mod packages;
mod pypi;
mod qemu;
mod router;
mod row;
mod run;
mod sources;
mod steps;
mod systemd;
mod test;
mod toolchain;
mod uci;
mod userland;
mod vm;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use steps::Stamps;

const USAGE: &str = "\
usage: cargo xtask COMMAND
  demo              a gateway in network namespaces: closed, knock, open
  demo-router       the same with the kernel module, on a MIPS router in QEMU
  test [--all-steps] [--from STEP]
                    what has to hold before a change lands; steps whose inputs are unchanged
                    since they passed are skipped unless --all-steps is given
  test-all [--from STEP]
                    everything, whatever passed before
  test-fresh COMMAND...
                    commands of make on an empty Debian 12 (default: those of the README)
  coverage          lines that the tests run, by crate; written to docs/testing.md
  mutants-sample [--seed N] CRATE...
                    how many small changes of the code the tests notice; written to docs/testing.md
  ci                the judge of a landing: test, or test-all if the last commit asks for it
  bench             instructions, packets a second, times, sizes; written to docs/benchmarks.md
  bench PART        only checks, packets, times, constant-time, sizes or firmware
  deny              licences, sources and versions of the dependencies, by cargo-deny
  feed              the recipes of the OpenWrt packages, with a fake SDK, and router scripts
  feed --opkg PROGRAM
                    the packages, installed and removed by a given opkg
  luci              the LuCI pages, in a headless browser
  vm MACHINE...     boot a machine and run the tests inside it (default: all machines)
  vm --packages MACHINE
                    only the tests of the packages; --nft: those of them in mode nft
  vm --part PARTS MACHINE
                    these parts: match, flood, packages, nft, short, differential, sanitizers,
                    sanitizers-quick; several in quotes
  kmod MACHINE...   build xt_pkd.ko for the machine's kernel and check it (default: all machines)
  kmod --kernel DIR MACHINE
                    build it for a built kernel, or its headers, of the machine's kind
  packages ARCH...  build the packages for OpenWrt routers (default: all architectures)
  packages --kernel DIR ARCH
                    the same with the module, for a built kernel of that kind
  clients ARCH...   build knock as one static file (default: all architectures)
  firmware          build the gateway's boards
  test-firmware     test the gateway on the host, and its boards in QEMU
  demo-firmware     a gateway board in QEMU: ssh fails, knock, ssh works
  fuzz [--seconds N | --hours N] TARGET...
                    fuzz parsers of untrusted bytes, 60 s each (default: all targets)
  fuzz --keep --seconds N TARGET...
                    the same, and the inputs that reach most become tests/fuzz/corpus
  mutants NAME...   bugs introduced on purpose, and the tests that must catch them (default: all)
  differential      verdicts of the kernel and parsing by the extension, compared with pkd-core
  test-sanitizers   the match under KASAN, UBSAN, lockdep and kmemleak
  gateway-config FILE
                    convert a TOML file to the gateway's binary configuration
  uci ARCH          build OpenWrt's uci
  userland ARCH     build musl, busybox, dropbear and iptables for guests
  setup COMMAND     install what a command needs, nothing else
machines: mipsel, x86_64, x86_64-6.12, armhf, arm64, mips
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[&str]) -> Result<()> {
    match arguments {
        [] | ["setup"] => bail!("missing command\n{USAGE}"),
        ["setup", command] | [command, ..] => host::install_for(command)?,
    }
    match arguments {
        ["demo"] => demo::run(),
        ["demo-router"] => demo_router::run(),
        ["test"] => test::run(None, Stamps::Heed),
        ["test", "--all-steps"] => test::run(None, Stamps::Ignore),
        ["test", "--from", step] => test::run(Some(step), Stamps::Heed),
        ["test", "--all-steps", "--from", step] => test::run(Some(step), Stamps::Ignore),
        ["test-all"] => test::run_all(None),
        ["test-all", "--from", step] => test::run_all(Some(step)),
        ["test-fresh", commands @ ..] => fresh::run(commands),
        ["coverage"] => coverage::run(),
        ["mutants-sample", "--seed", number, names @ ..] => {
            mutants_sample::run(number.parse().with_context(|| format!("invalid seed {number:?}"))?, names)
        }
        ["mutants-sample", names @ ..] => mutants_sample::run(0, names),
        ["ci"] => test::run_ci(),
        ["bench"] => bench::run(),
        ["bench", "firmware"] => firmware::write_figures(),
        ["bench", part] => bench::part(part),
        ["deny"] => deny::run(),
        ["feed"] => feed::test(),
        ["feed", "--opkg", program] => feed::opkg::test_with_opkg(program),
        ["luci"] => luci::test(),
        ["systemd"] => systemd::test(),
        ["vm", "--nft", name] => vm::run_part(machine::find(name)?, "nft"),
        ["differential"] => differential(),
        ["test-sanitizers"] => vm::run_part(&machine::SANITIZERS, "sanitizers"),
        ["vm", "--part", part, name] => vm::run_part(machine::find(name)?, part),
        ["vm", "--packages", name] => vm::run_part(machine::find(name)?, "packages"),
        ["vm", names @ ..] => machine::named(names)?.into_iter().try_for_each(vm::run),
        ["kmod", "--kernel", kernel, name] => kmod::build_for_own(machine::find(name)?, kernel),
        ["kmod", names @ ..] => machine::named(names)?.into_iter().try_for_each(kmod::show),
        ["packages", "--kernel", kernel, names @ ..] => packages::run(names, Some(kernel)),
        ["packages", names @ ..] => packages::run(names, None),
        ["clients", names @ ..] => clients::run(names),
        ["firmware"] => firmware::build_all(),
        ["test-firmware"] => firmware::test(),
        ["demo-firmware"] => firmware::demo(),
        ["fuzz", "--seconds", number, names @ ..] => fuzz::run(names, seconds(number, 1)?),
        ["fuzz", "--hours", number, names @ ..] => fuzz::run(names, seconds(number, 3_600)?),
        ["fuzz", "--keep", "--seconds", number, names @ ..] => fuzz::keep(names, seconds(number, 1)?),
        ["fuzz", names @ ..] => fuzz::run(names, fuzz::USUAL),
        ["mutants", names @ ..] => mutants::run(names),
        ["gateway-config", file] => firmware::configure(file),
        ["uci", name] => openwrt::Zig::find()
            .and_then(|zig| uci::program(&zig, openwrt::find(name)?))
            .map(|program| println!("{}", program.display())),
        ["userland", name] => openwrt::Zig::find()
            .and_then(|zig| userland::build(&zig, openwrt::find(name)?))
            .map(|root| println!("{}", root.display())),
        ["setup", _] => Ok(()),
        _ => bail!("invalid arguments: {}\n{USAGE}", arguments.join(" ")),
    }
}

/// So many times `unit` seconds.
fn seconds(number: &str, unit: u64) -> Result<Duration> {
    let number: u64 = number.parse().with_context(|| format!("invalid number {number:?}"))?;
    Ok(Duration::from_secs(number.saturating_mul(unit)))
}

/// Compares the extension and the kernel with pkd-core, on random input.
fn differential() -> Result<()> {
    let mut cargo = run::command(env!("CARGO"));
    cargo.args([
        "test",
        "--quiet",
        "--locked",
        "--package",
        "pkd-tests",
        "--test",
        "iptables_extension",
        "random_texts",
    ]);
    run::shown(cargo.current_dir(toolchain::root())).context("the extension against pkd-core")?;
    vm::run_part(machine::find("x86_64")?, "differential")
}
