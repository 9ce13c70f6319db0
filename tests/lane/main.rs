//! What a QEMU guest runs: the router and its clients in one machine, each behind a network card
//! of its own, and every claim about the netfilter match held against the real kernel.
//!
//! Prints a line a claim and ends with `lane: N passed, N failed`. It takes the machine for itself:
//! it sets the clock, flushes rules and unloads the module.

mod conformance;
mod firewall;
mod flood;
mod gate;
mod knocks;
mod lab;
mod lives;
mod malformed;
mod options;
mod packet;
mod readme;
mod report;
mod status;

use anyhow::Result;

use firewall::Back;
use gate::Gate;
use lab::{Family, Lab};
use report::Report;

fn main() {
    let mut report = Report::default();
    if let Err(error) = run(&mut report) {
        report.failed("setting up", &error);
    }
    report.finish();
}

fn run(report: &mut Report) -> Result<()> {
    let lab = Lab::set_up()?;
    report.claim("the module loads under the original's names", || {
        lab::shell("modprobe ip6t_pkd && rmmod xt_pkd && modprobe ipt_pkd")?;
        Ok("ip6t_pkd, ipt_pkd".to_owned())
    });
    for family in [Family::V4, Family::V6] {
        let gate = Gate::new(&lab, family, Back::Legacy);
        knocks::claims(report, &gate);
        malformed::claims(report, &gate);
    }
    let gate = Gate::new(&lab, Family::V4, Back::Legacy);
    let gate_of_ipv6 = Gate::new(&lab, Family::V6, Back::Legacy);
    knocks::claims_of_revision_0(report, &gate);
    knocks::claims_over_nftables(report, &Gate::new(&lab, Family::V4, Back::Nft));
    readme::claims(report, &gate);
    options::claims(report, &gate);
    lives::claims(report, &gate, &gate_of_ipv6);
    flood::claims(report, &gate);
    flood::claims(report, &gate_of_ipv6);
    conformance::claims(report, &gate);
    report.claim("the kernel has nothing to complain about", lab::kernel_is_content);
    Ok(())
}
