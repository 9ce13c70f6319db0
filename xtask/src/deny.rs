//! Licences, sources and versions of all that is built on, by cargo-deny and `deny.toml`.

use crate::{installed, prelude::*};

/// `make deny`. Advisories are looked at where their database can be fetched; where not, that is said.
pub(crate) fn run() -> Result<()> {
    let deny = installed::program("cargo-deny", "0.20.2")?;
    cmd!("{deny} check bans licenses sources").show().context("see deny.toml")?;
    let Err(error) = cmd!("{deny} fetch db").quiet() else {
        return cmd!("{deny} check advisories").show();
    };
    let why = error.to_string();
    let line = why.lines().find(|line| line.contains("error") || line.contains("fail")).unwrap_or(&why);
    println!("advisories were NOT looked at: their database cannot be fetched from here ({})", line.trim());
    Ok(())
}
