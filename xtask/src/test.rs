//! `make test`: everything that has to hold before a change lands.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::{
    bench, debian::Tree, deny, feed, firmware, fuzz, kmod, lane, luci, machine, packages, run, seeded,
    toolchain,
};

/// Runs all of it; ends at the first step that fails.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    cargo("formatting", &["fmt", "--all", "--check"])?;
    cargo("clippy", &["clippy", "--locked", "--all-targets", "--", "--deny", "warnings"])?;
    // It has a panic handler of its own, so it is no default member.
    cargo(
        "clippy of the kernel's part",
        &["clippy", "--locked", "--package", "pkd-kmod", "--", "--deny", "warnings"],
    )?;
    cargo("unit tests, properties, vectors, dependency rule", &["test", "--locked"])?;
    deny::run()?;
    fuzz::run(&[], fuzz::USUAL)?;
    seeded::run_without_lanes()?;
    luci::test()?;
    feed::test()?;
    firmware::test_in_qemu()?;
    // Before the lanes, which install the same packages.
    packages::check_all()?;
    machine::named(&[])?.into_iter().try_for_each(lane::run)?;
    lane::run_part(machine::find("x86_64")?, "differential")?;
    // `make test-kernel-debug` makes all of it, which takes a quarter of an hour.
    lane::run_part(&machine::DEBUG, "debug-quick")?;
    own_kernel()?;
    bench::test()?;
    let minutes = start.elapsed().as_secs_f32() / 60.0;
    println!("all of `make test` holds, after {minutes:.1} minutes");
    Ok(())
}

/// The way to a module for a kernel that no lane boots, with one that is at hand.
fn own_kernel() -> Result<()> {
    run::progress("building xt_pkd.ko for a kernel of one's own");
    let machine = machine::find("x86_64")?;
    kmod::build_for_own(machine, &Tree::of(machine)?.headers().to_string_lossy())
}

fn cargo(what: &str, arguments: &[&str]) -> Result<()> {
    run::progress(what);
    let mut cargo = run::command(env!("CARGO"));
    run::shown(cargo.args(arguments).current_dir(toolchain::root())).with_context(|| what.to_owned())
}
