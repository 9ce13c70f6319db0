//! What the figures were measured on.

use std::fs;

use anyhow::{Context, Result};

use crate::run;

/// Today, as ISO 8601 has it.
pub(super) fn date() -> Result<String> {
    Ok(run::output(run::command("date").args(["--utc", "+%Y-%m-%d"]))?.trim().to_owned())
}

/// Processor, kernel, compilers.
pub(super) fn description() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name").and_then(|rest| rest.split(": ").nth(1)))
        .context("no model name in /proc/cpuinfo")?;
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = run::output(run::command("uname").arg("-sr"))?;
    let rustc = run::output(run::command("rustc").arg("--version"))?;
    let qemu = run::output(run::command("qemu-system-x86_64").arg("--version"))?;
    let qemu = qemu.lines().next().unwrap_or_default().trim_start_matches("QEMU emulator version ");
    let rustc = rustc.split(' ').nth(1).unwrap_or_default();
    Ok(format!("{count} of {model}, {}, rustc {rustc}, QEMU {qemu}", kernel.trim()))
}
