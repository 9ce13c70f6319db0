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
    fuzz::run(&[], fuzz::USUAL)?;
    luci::test()?;
    feed::test()?;
    firmware::test_in_qemu()?;
    // Before the lanes, which install the same packages.
    packages::check_all()?;
    machine::named(&[])?.into_iter().try_for_each(lane::run)?;
    lane::run_part(machine::find("x86_64")?, "differential")?;
    own_kernel()?;
    let left_out = quick_forms(QUICK_FORMS, || start.elapsed())?;
    let minutes = start.elapsed().as_secs_f32() / 60.0;
    if left_out.is_empty() {
        println!("all of `make test` holds, after {minutes:.1} minutes");
    } else {
        println!(
            "`make test` holds, after {minutes:.1} minutes; NOT run, as it was late: {}",
            left_out.join(", ")
        );
    }
    Ok(())
}

/// A run that begins with nothing ends within 90 minutes; after this, no further quick form is begun.
const LATEST: Duration = Duration::from_secs(70 * 60);

/// The verb of a whole form, and its quick one.
type QuickForm = (&'static str, fn() -> Result<()>);

/// What runs last.
const QUICK_FORMS: &[QuickForm] = &[
    ("deny", deny::run),
    ("bench", bench::test),
    ("seeded", seeded::run_without_lanes),
    ("test-kernel-debug", || lane::run_part(&machine::DEBUG, "debug-quick")),
];

/// Runs these as long as there is time; gives the verbs of those that were not begun.
fn quick_forms(forms: &[QuickForm], elapsed: impl Fn() -> Duration) -> Result<Vec<&'static str>> {
    let mut left_out = Vec::new();
    for (verb, run) in forms {
        if elapsed() < LATEST {
            run()?;
        } else {
            left_out.push(*verb);
        }
    }
    Ok(left_out)
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
    use anyhow::bail;

    use super::*;

    #[test]
    fn no_quick_form_is_begun_late_and_one_that_fails_is_the_end() {
        let forms: &[QuickForm] = &[("one", || bail!("one fails")), ("two", || Ok(()))];
        assert_eq!(quick_forms(forms, || LATEST).unwrap(), ["one", "two"]);
        quick_forms(forms, || Duration::ZERO).unwrap_err();
        assert!(quick_forms(&forms[1..], || Duration::ZERO).unwrap().is_empty());
    }
}
