//! The gateway's firmware in QEMU, with the host as everything around it: no root, no KVM, no network but Unix sockets and the loopback.
//!
//! `pkd-firmware-lane PART TOOLS…` prints a line a claim and ends with `firmware: N passed, N failed`; `xtask` builds what it needs and
//! calls it. Parts: `one-arm`, `faults` (an image of its own), `load`, `conformance`, `inline`, `trunk`, `slirp`, and `demo`, which tells the job as a transcript.

mod conformance;
mod counters;
mod faults;
mod flood;
mod flows;
#[path = "../../firmware/gateway/tests/gateway/frame.rs"]
mod frame;
mod inline;
mod knocks;
mod lives;
mod machine;
mod report;
mod scene;
mod slirp;
mod time;
mod transfer;
mod wire;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use inline::Sides;
use machine::Tools;
use report::Report;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut report = Report::default();
    if let Err(error) = run(&mut report, &arguments) {
        report.failed("setting up", &error);
    } else if arguments.first().is_some_and(|part| part == "demo") {
        // A transcript, which makes no claims.
        return;
    }
    report.finish();
    if !report.is_content() {
        std::process::exit(1);
    }
}

fn run(report: &mut Report, arguments: &[String]) -> Result<()> {
    let [part, image, defmt_print, rest @ ..] = arguments else {
        bail!("usage: pkd-firmware-lane PART IMAGE DEFMT_PRINT [KNOCK]");
    };
    let tools = Tools { image: PathBuf::from(image), defmt_print: PathBuf::from(defmt_print) };
    let knock = || rest.first().map(PathBuf::from).context("no KNOCK was given");
    match part.as_str() {
        "one-arm" => {
            knocks::claims(report, &tools);
            counters::claims(report, &tools);
            time::claims(report, &tools);
            lives::claims(report, &tools);
        }
        "load" => {
            flows::claims(report, &tools);
            transfer::claims(report, &tools);
            flood::claims(report, &tools);
        }
        "faults" => faults::claims(report, &tools),
        "conformance" => conformance::claims(report, &tools),
        "inline" => inline::claims(report, &tools, Sides::Nics),
        "trunk" => inline::claims(report, &tools, Sides::Trunk),
        "slirp" => slirp::claims(report, &tools, &knock()?),
        "demo" => slirp::tell(&tools, &knock()?)?,
        other => bail!("no part is called {other}"),
    }
    Ok(())
}
