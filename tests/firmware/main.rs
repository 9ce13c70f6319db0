//! Tests of the gateway's firmware in QEMU. The host plays all other machines. They need no root, no KVM, and no network
//! except Unix sockets and the loopback interface.
//!
//! `pkd-firmware-tests PART IMAGE DEFMT_PRINT [KNOCK]` prints a line for each check and ends with
//! `firmware: N passed, N failed`. `xtask` builds what it needs and runs it. Parts: `one-arm`, `format2`, `faults` (with its own image),
//! `load`, `time`, `http`, `update`, `conformance`, `inline`, `trunk`, `user-network`, and `demo`, which prints a transcript instead of checks.

#[allow(clippy::unwrap_used, reason = "a test of the library, too")]
#[path = "../../firmware/gateway/tests/gateway/attacks.rs"]
mod attacks;
mod conformance;
mod counters;
mod faults;
mod flood;
mod flows;
mod format2;
#[path = "../../firmware/gateway/tests/gateway/frame.rs"]
mod frame;
#[allow(clippy::unwrap_used, dead_code, reason = "a test of the library, too, which uses all of it")]
#[path = "../../firmware/gateway/tests/gateway/frame6.rs"]
mod frame6;
mod http;
mod inline;
mod knocks;
mod link;
mod machine;
mod reboots;
mod scenario;
mod time;
mod time_sources;
mod transfer;
mod updates;
mod user_network;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use inline::Sides;
use machine::Tools;
use pkd_tests::Report;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut report = Report::new("firmware");
    if let Err(error) = run(&mut report, &arguments) {
        report.fail("setup", &error);
    } else if arguments.first().is_some_and(|part| part == "demo") {
        // A transcript has no checks.
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
    let knock = || rest.first().map(PathBuf::from).context("missing argument KNOCK");
    match part.as_str() {
        "one-arm" => {
            knocks::checks(report, &tools);
            counters::checks(report, &tools);
            http::checks(report, &tools);
            time::checks(report, &tools);
            time_sources::checks(report, &tools);
            reboots::checks(report, &tools);
        }
        "load" => {
            flows::checks(report, &tools);
            transfer::checks(report, &tools);
            flood::checks(report, &tools);
        }
        "format2" => format2::checks(report, &tools),
        "http" => http::checks(report, &tools),
        "time" => time_sources::checks(report, &tools),
        "faults" => faults::checks(report, &tools),
        "conformance" => conformance::checks(report, &tools),
        "inline" => {
            inline::checks(report, &tools, Sides::Interfaces);
            updates::checks(report, &tools);
        }
        "update" => updates::checks(report, &tools),
        "trunk" => inline::checks(report, &tools, Sides::Trunk),
        "user-network" => user_network::checks(report, &tools, &knock()?),
        "demo" => user_network::demo(&tools, &knock()?)?,
        other => bail!("unknown part \"{other}\""),
    }
    Ok(())
}
