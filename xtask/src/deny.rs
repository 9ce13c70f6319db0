//! Licences, sources and versions of all that is built on, by cargo-deny and `deny.toml`.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{cache, run, toolchain};

/// The version of cargo-deny, which is built once for all clones.
const VERSION: &str = "0.20.2";

/// `make deny`. Advisories are looked at where their database can be fetched; where not, that is said.
pub(crate) fn run() -> Result<()> {
    let program = program()?;
    let check = |what: &[&str]| {
        let mut deny = run::command(&program);
        run::shown(deny.arg("check").args(what).current_dir(toolchain::root()))
    };
    check(&["bans", "licenses", "sources"]).context("see deny.toml")?;
    let mut fetch = run::command(&program);
    match run::quiet(fetch.args(["fetch", "db"]).current_dir(toolchain::root())) {
        Ok(()) => check(&["advisories"]),
        Err(error) => {
            let why = error.to_string();
            println!(
                "advisories were NOT looked at: their database cannot be fetched from here ({})",
                why.lines()
                    .find(|line| line.contains("error") || line.contains("fail"))
                    .unwrap_or(&why)
                    .trim()
            );
            Ok(())
        }
    }
}

fn program() -> Result<PathBuf> {
    let folder = cache::entry("cargo-deny", &[VERSION], |unfinished, _| {
        run::progress("building cargo-deny, which takes some minutes");
        let mut cargo = run::command(env!("CARGO"));
        cargo.args(["install", "--quiet", "--locked", "--version", VERSION, "--root"]).arg(unfinished);
        let target = unfinished.join("target");
        run::quiet(cargo.arg("--target-dir").arg(&target).arg("cargo-deny"))?;
        Ok(std::fs::remove_dir_all(target)?)
    })?;
    Ok(folder.join("bin/cargo-deny"))
}
