//! `make test`: everything that has to hold before a change lands.

use std::time::{Duration, Instant};

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
    own_kernel()?;
    bench::test()?;
    kernel_that_complains(start.elapsed())?;
    let minutes = start.elapsed().as_secs_f32() / 60.0;
    println!("all of `make test` holds, after {minutes:.1} minutes");
    Ok(())
}

/// A run that begins with nothing ends within 90 minutes; a kernel that takes ten to build is not begun after this.
const LATEST: Duration = Duration::from_secs(65 * 60);

/// The quick form of `make test-kernel-debug`, the last step: all else holds by now.
fn kernel_that_complains(elapsed: Duration) -> Result<()> {
    if !is_in_time(elapsed, machine::DEBUG.has_its_kernel()?) {
        println!(
            "lane x86_64-debug was NOT run: its kernel would have to be built, and {} minutes have passed; \
             `make test-kernel-debug` builds it, and then it is a part of `make test`",
            elapsed.as_secs() / 60
        );
        return Ok(());
    }
    lane::run_part(&machine::DEBUG, "debug-quick")
}

fn is_in_time(elapsed: Duration, kernel_is_built: bool) -> bool {
    kernel_is_built || elapsed < LATEST
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_that_has_to_be_built_late_is_left_out() {
        for (elapsed, kernel_is_built, expected) in
            [(Duration::ZERO, false, true), (LATEST, false, false), (LATEST, true, true)]
        {
            assert_eq!(is_in_time(elapsed, kernel_is_built), expected, "{elapsed:?}, {kernel_is_built}");
        }
    }
}
