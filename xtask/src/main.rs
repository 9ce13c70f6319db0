//! The verbs behind the Makefile. Each calls existing tools; no product logic lives here.

mod cache;
mod debian;
mod demo;
mod elf;
mod guest;
mod host;
mod kmod;
mod lane;
mod machine;
mod qemu;
mod run;
mod sizes;
mod test;
mod toolchain;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask VERB
  demo              a MIPS router in QEMU: closed, knock, open
  test              everything that has to hold before a change lands
  bench             sizes of what goes onto a router, as built here
  lane MACHINE...   boot the machine and run the tests inside it (no name: all)
  kmod MACHINE...   build xt_pkd.ko for the machine's kernel and check it (no name: all)
  kmod --kernel DIR MACHINE
                    build it for a built kernel, or its headers, of the machine's kind
  setup VERB        install what demo or test needs, nothing else
machines: mipsel, x86_64, x86_64-6.12, armhf, arm64
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
        ["demo"] => demo::run(),
        ["test"] => test::run(),
        ["bench"] => sizes::run(),
        ["lane", names @ ..] => machine::named(names)?.into_iter().try_for_each(lane::run),
        ["kmod", "--kernel", kernel, name] => kmod::build_for_own(machine::find(name)?, kernel),
        ["kmod", names @ ..] => machine::named(names)?.into_iter().try_for_each(kmod::show),
        ["setup", "demo"] => host::install_for_demo(),
        ["setup", "test"] => host::install_for_test(),
        _ => bail!("no such verb\n{USAGE}"),
    }
}
