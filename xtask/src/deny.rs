//! Licences, sources and versions of all that is built on, by cargo-deny and `deny.toml`.

use anyhow::{Context, Result};

use crate::{installed::Program, run, toolchain};

const CARGO_DENY: Program = Program { name: "cargo-deny", version: "0.20.2" };

/// `make deny`. Advisories are looked at where their database can be fetched; where not, that is said.
pub(crate) fn run() -> Result<()> {
    let program = CARGO_DENY.path()?;
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
