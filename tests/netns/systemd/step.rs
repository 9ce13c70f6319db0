//! A step of a way that somebody goes, and how long it takes.

use std::time::Instant;

use anyhow::{Context as _, Result};

pub(crate) fn step<T>(what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let done = act().with_context(|| what.to_owned())?;
    println!("systemd: ok   {what} [{:.1} s]", start.elapsed().as_secs_f32());
    Ok(done)
}
