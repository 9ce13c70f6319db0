//! `make picture`: the middle of what `make demo` prints, as a picture for the first page.

use crate::{demo, prelude::*};

/// Where the picture begins and what comes after it, in the transcript.
const FROM: &str = "The SSH port before a knock:";
const TO: &str = "What pkdd has counted:";

const BOLD: &str = "\x1b[1m";
const CYAN: &str = "\x1b[36m";
const GREEN: &str = "\x1b[32m";
const END: &str = "\x1b[0m";

/// Runs the demo and draws it.
pub(crate) fn draw() -> Result<()> {
    let said = demo::command()?.read().context("the demo failed")?;
    let begin = said.find(FROM).with_context(|| format!("the demo does not print {FROM:?}"))?;
    let end = said.find(TO).with_context(|| format!("the demo does not print {TO:?}"))?;
    let lines = said[begin..end].trim_end().lines().map(|line| match line {
        line if line.starts_with("  client$") => format!("{BOLD}{line}{END}\n"),
        line if line.starts_with("    logged in") => format!("{GREEN}{line}{END}\n"),
        line if line.starts_with(' ') => format!("{line}\n"),
        line => format!("{CYAN}{line}{END}\n"),
    });
    let picture = anstyle_svg::Term::new().render_svg(&lines.collect::<String>());
    fs::write(at("docs/demo.svg"), picture + "\n")?;
    progress!("docs/demo.svg is new");
    Ok(())
}
