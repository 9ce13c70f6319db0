//! `make test` and `make test-all`: what has to hold before a change lands, and everything there is.

use std::thread;

use crate::{
    bench,
    debian::Tree,
    deny, dkms, feed, firmware, fresh, fuzz, kernels, kmod, luci,
    machine::{self, Machine},
    mutants, openwrt, packages,
    prelude::*,
    steps::{self, ALL_FILES, Step},
    systemd, vm, wine,
};

/// All code that is built for the host.
const HOST: &str = "pkd-core/ packet/ sntp/ uri/ host-knock/ linux/ openwrt/ firmware/ tests/ rustfmt.toml";

/// What a virtual machine is made of.
const VM: &str =
    "pkd-core/ packet/ sntp/ uri/ host-knock/ openwrt/ linux/ README.md tests/Cargo.toml tests/vm/ tests/src/
    tests/vectors/ tests/fakes/openwrt/ tests/fakes/sdk/";

/// What programs for routers are made of.
const PACKAGES: &str = "pkd-core/ packet/ sntp/ uri/ host-knock/ linux/ openwrt/ tests/fakes/sdk/";

/// What `xt-pkd-dkms` is made of, and the guests that load its module.
const DKMS: &str = "pkd-core/ packet/ sntp/ host-knock/ linux/ LICENSES/ tests/Cargo.toml tests/vm/ tests/src/ tests/vectors/";

const FIRMWARE: &str =
    "pkd-core/ sntp/ uri/ firmware/ host-knock/ tests/firmware/ tests/src/ tests/vectors/ rustfmt.toml";

const FUZZ: &str =
    "pkd-core/ packet/ sntp/ uri/ host-knock/ firmware/gateway/ linux/pkdd/ linux/pktables/ tests/fuzz/";

const OPENWRT: &str =
    "pkd-core/ packet/ sntp/ uri/ host-knock/ openwrt/ linux/ tests/fakes/sdk/ tests/fakes/openwrt/
    .shellcheckrc";

/// `make test`. The goal is 15 minutes on two cores with a filled cache, 40 with an empty one; `tests/README.md` has what it takes.
pub(crate) const QUICK: &[Step] = &[
    FORMAT,
    DOCUMENTS,
    CLIPPY,
    UNIT,
    Step { name: "corpora", inputs: FUZZ, run: fuzz::run_corpora },
    LUCI,
    FEED,
    Step { name: "packages", inputs: PACKAGES, run: two_packages },
    Step { name: "firmware", inputs: FIRMWARE, run: firmware::test_quick },
    Step { name: "vm", inputs: VM, run: three_machines },
    Step { name: "counted", inputs: VM, run: bench::counted },
];

const FORMAT: Step = Step { name: "format", inputs: HOST, run: format };
const DOCUMENTS: Step = Step { name: "documents", inputs: ALL_FILES, run: documents };
const CLIPPY: Step = Step { name: "clippy", inputs: HOST, run: clippy };
const UNIT: Step = Step { name: "unit", inputs: HOST, run: unit };
const LUCI: Step = Step { name: "luci", inputs: "openwrt/feed/ tests/luci/", run: luci::test };
const FEED: Step = Step { name: "feed", inputs: OPENWRT, run: feed::test };

/// `make test-all`: everything, whatever passed before.
pub(crate) const ALL: &[Step] = &[
    FORMAT,
    DOCUMENTS,
    CLIPPY,
    UNIT,
    LUCI,
    FEED,
    Step { name: "deny", inputs: "deny.toml", run: deny::run },
    Step { name: "own-kernel", inputs: VM, run: own_kernel },
    Step { name: "systemd", inputs: HOST, run: systemd::test },
    Step { name: "dkms", inputs: DKMS, run: dkms::test },
    Step { name: "wine", inputs: HOST, run: wine::test },
    Step { name: "chaos", inputs: HOST, run: chaos },
    Step { name: "fuzz", inputs: FUZZ, run: fuzz_all },
    Step { name: "packages-twice", inputs: PACKAGES, run: packages::check_all },
    Step { name: "firmware-all", inputs: FIRMWARE, run: firmware::test_in_qemu },
    Step { name: "vm-all", inputs: VM, run: all_machines },
    Step { name: "sanitizers", inputs: VM, run: vm::run_sanitizers },
    Step { name: "mutants", inputs: ALL_FILES, run: || mutants::run(&[]) },
    Step { name: "bench", inputs: ALL_FILES, run: bench::test },
    Step { name: "fresh", inputs: ALL_FILES, run: || fresh::run(&[]) },
];

/// `make test`. `all`: also the steps that passed with the same inputs.
pub(crate) fn run(from: Option<&str>, all: bool) -> Result<()> {
    steps::run(QUICK, from, all)
}

/// `make test-all`.
pub(crate) fn run_all(from: Option<&str>) -> Result<()> {
    let ended = steps::run(ALL, from, true);
    // After all steps, because it is an input of some.
    kernels::write()?;
    ended
}

/// What a landing is judged by ends within 90 minutes.
const LANDING: Duration = Duration::from_mins(80);

/// The word in a commit's message that asks for `make test-all`.
const ASKS_FOR_ALL: &str = "[test-all]";

/// `.ci/run`: `make test` without stamps, or `make test-all` if the last commit asks for it and it is known to end in time.
pub(crate) fn run_ci() -> Result<()> {
    // Dependencies are built once for all landings; our own crates belong to one clone.
    toolchain::forget_other_clones(&toolchain::target())?;
    let message = cmd!("git log -1 --format=%B").read()?;
    if message.contains(ASKS_FOR_ALL) {
        match steps::known_time(ALL)? {
            Some(time) if time < LANDING => return run_all(None),
            Some(time) => progress!(
                "`make test-all` took {} minutes here and does not fit into {}: running `make test`",
                time.as_secs() / 60,
                LANDING.as_secs() / 60
            ),
            None => progress!("how long `make test-all` takes here is unknown: running `make test`"),
        }
    }
    run(None, true)
}

fn format() -> Result<()> {
    progress!("formatting");
    cmd!("{CARGO} fmt --all --check").show()
}

fn clippy() -> Result<()> {
    progress!("clippy");
    cmd!("{CARGO} clippy --locked --all-targets -- --deny warnings").show()?;
    // It has its own panic handler, so it is not a default member.
    progress!("clippy for the kernel module");
    cmd!("{CARGO} clippy --locked --package pkd-kmod -- --deny warnings").show()
}

/// The texts of the project, and which crate uses which.
fn documents() -> Result<()> {
    let tests = "--package pkd-tests --test documents --test dependency_rule --test mutants";
    tests_pass("documents and dependency rules", tests.split(' ').collect())
}

fn unit() -> Result<()> {
    tests_pass("unit, property and namespace tests, known answers", Vec::new())
}

fn fuzz_all() -> Result<()> {
    fuzz::run(&[], Duration::from_secs(fuzz::USUAL), false)
}

/// A thousand random disturbances on each firewall, and a stranger who tries to connect during all of them; then ten thousand
/// changes by programs that run at the same time.
fn chaos() -> Result<()> {
    progress!("1,000 random disturbances on each firewall");
    let said = cmd!("{CARGO} test --locked --package pkdd --test net -- --nocapture chaos::")
        .env("PKD_CHAOS", "1000")
        .show_and_read()
        .context("the random disturbances")?;
    on_three_firewalls(&said)?;
    progress!("10,000 concurrent changes on each firewall");
    let said = cmd!("{CARGO} test --locked --package pktables --test firewall -- concurrent_changes")
        .env("PKD_CHANGES", "10000")
        .show_and_read()
        .context("the concurrent changes")?;
    on_three_firewalls(&said)
}

fn on_three_firewalls(said: &str) -> Result<()> {
    ensure!(said.contains("test result: ok. 3 passed"), "not on three firewalls");
    Ok(())
}

fn tests_pass(what: &str, arguments: Vec<&str>) -> Result<()> {
    progress!("{what}");
    // Those in network namespaces wait more than they compute.
    let threads = 3 * thread::available_parallelism()?.get();
    let said = cmd!("{CARGO} test --locked {arguments...}")
        .env("RUST_TEST_THREADS", threads.to_string())
        .show_and_read()
        .with_context(|| what.to_owned())?;
    println!("{what}: {} passed, 0 failed", passed(&said)?);
    Ok(())
}

/// How many tests passed by cargo's own output. An error if a file of tests has none: it tests nothing.
fn passed(said: &str) -> Result<u64> {
    let (mut total, mut program) = (0, "");
    for line in said.lines() {
        if let Some(rest) = line.trim_start().strip_prefix("Running ") {
            program = rest.split(' ').next().unwrap_or_default();
        } else if line.trim_start().starts_with("Doc-tests ") {
            program = "";
        } else if let Some(rest) = line.strip_prefix("test result: ok. ") {
            let count: u64 = rest.split(' ').next().unwrap_or_default().parse().context(line.to_owned())?;
            ensure!(count > 0 || !program.starts_with("tests/"), "{program} has no tests that ran");
            total += count;
        }
    }
    ensure!(total > 0, "no test ran");
    Ok(total)
}

/// One for each order of bytes.
fn two_packages() -> Result<()> {
    for name in ["mips_24kc", "mipsel_24kc"] {
        packages::build(openwrt::find(name)?, None)?;
    }
    Ok(())
}

/// The two kernels, and the two ways of building for them, that differ most; and a short look at the other order of bytes.
fn three_machines() -> Result<()> {
    let machines = [
        (machine::find("x86_64-6.12")?, None),
        (machine::find("mipsel")?, None),
        (machine::find("mips")?, Some(vm::SHORT)),
    ];
    fetch(&machines.map(|(machine, _)| machine))?;
    // The table of kernels stays as it is: a run before a commit changes no file.
    run::at_once(
        2,
        machines
            .map(|(machine, part)| move || vm::run_part(machine, part.unwrap_or(machine.parts)).map(drop)),
    )
}

fn all_machines() -> Result<()> {
    let machines = machine::or_all(Vec::new());
    fetch(&machines)?;
    run::at_once(2, machines.into_iter().map(|machine| move || vm::run_whole(machine)))
}

/// What machines fetch is fetched one after the other.
fn fetch(machines: &[&Machine]) -> Result<()> {
    machines.iter().try_for_each(|machine| Tree::of(machine).map(drop))
}

/// Builds a module for a kernel that is already on the host, as its users do.
fn own_kernel() -> Result<()> {
    progress!("building xt_pkd.ko for a given kernel");
    let machine = machine::find("x86_64")?;
    kmod::build_for_own(machine, &Tree::of(machine)?.kernel.headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_tests_that_runs_none_is_an_error() {
        let good = "     Running unittests src/main.rs (target/debug/deps/a-1)\ntest result: ok. 0 passed; 0 failed;\n     \
                    Running tests/a.rs (target/debug/deps/a-2)\ntest result: ok. 7 passed; 0 failed;\n   Doc-tests a\n\
                    test result: ok. 0 passed;\n";
        assert_eq!(passed(good).unwrap(), 7);
        for broken in ["", &good.replace("7 passed", "0 passed"), "test result: ok. x passed"] {
            assert!(passed(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn both_tiers_know_their_steps_by_name_and_all_has_what_quick_has() {
        for steps in [QUICK, ALL] {
            let names: std::collections::BTreeSet<_> = steps.iter().map(|step| step.name).collect();
            assert_eq!(names.len(), steps.len(), "two steps have one name");
        }
        // Where the full tier has a step by another name, it does more.
        let wider = "corpora:fuzz packages:packages-twice firmware:firmware-all vm:vm-all counted:bench";
        let wider: Vec<_> = wider.split(' ').filter_map(|pair| pair.split_once(':')).collect();
        for step in QUICK {
            let name = wider.iter().find(|(own, _)| *own == step.name).map_or(step.name, |(_, other)| other);
            assert!(ALL.iter().any(|step| step.name == name), "test-all lacks {name}");
        }
        assert_eq!(openwrt::ARCHITECTURES.len(), 5, "two_packages covers both orders of bytes");
    }
}
