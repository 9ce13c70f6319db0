//! The gateway's firmware in QEMU, with the host as everything around it: no root, no KVM, no network but Unix sockets and the loopback.
//!
//! `pkd-firmware-tests PART TOOLS…` prints a line a claim and ends with `firmware: N passed, N failed`; `xtask` builds what it needs and
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
mod link;
mod machine;
mod reboots;
mod report;
mod scenario;
mod time;
mod transfer;
mod user_network;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use inline::Sides;
use machine::Tools;
use report::Report;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut report = Report::default();
    if let Err(error) = run(&mut report, &arguments) {
        report.fail("setting up", &error);
    } else if arguments.first().is_some_and(|part| part == "demo") {
        // A transcript, which makes no claims.
        return;
    }
    report.print_summary();
    if !report.succeeded() {
        std::process::exit(1);
    }
}

fn run(report: &mut Report, arguments: &[String]) -> Result<()> {
    let [part, image, defmt_print, rest @ ..] = arguments else {
        bail!("usage: pkd-firmware-tests PART IMAGE DEFMT_PRINT [KNOCK]");
    };
    let tools = Tools { image: PathBuf::from(image), defmt_print: PathBuf::from(defmt_print) };
    let knock = || rest.first().map(PathBuf::from).context("no KNOCK was given");
    match part.as_str() {
        "one-arm" => {
            knocks::checks(report, &tools);
            counters::checks(report, &tools);
            time::checks(report, &tools);
            reboots::checks(report, &tools);
        }
        "load" => {
            flows::checks(report, &tools);
            transfer::checks(report, &tools);
            flood::checks(report, &tools);
        }
        "faults" => faults::checks(report, &tools),
        "conformance" => conformance::checks(report, &tools),
        "inline" => inline::checks(report, &tools, Sides::Nics),
        "trunk" => inline::checks(report, &tools, Sides::Trunk),
        "user-network" => user_network::checks(report, &tools, &knock()?),
        "demo" => user_network::demo(&tools, &knock()?)?,
        other => bail!("no part is called {other}"),
    }
    Ok(())
}
